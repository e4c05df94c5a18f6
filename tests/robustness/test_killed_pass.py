"""A pass and a run that are killed (SIGKILL) and started again."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from keras_tl import freezing, frozen_prefix
from keras_tl.data.arrays import from_arrays
from keras_tl.data.image_input import ImageInput
from keras_tl.data.pipeline import Samples
from keras_tl.feature_cache import FeatureStore
from keras_tl.runs import Run
from keras_tl.shards import leftovers, manifests
from keras_tl.training.passes import PrefixPass

TESTS = str(Path(__file__).parents[1])
PASS = f"""
import sys, time
sys.path.insert(0, {TESTS!r})
import conftest, numpy as np
from keras_tl import feature_cache
from keras_tl.backbones import registry
from keras_tl.engines import TensorFlowEngine
from robustness import test_killed_pass as here
feature_cache.SHARD_BYTES = 1
run = TensorFlowEngine.__call__
TensorFlowEngine.__call__ = lambda self, pixels: time.sleep(0.2) or run(self, pixels)
registry.register(conftest.TINY_NET)
here.features(here.new_model(), sys.argv[1])
"""
# Small shards, so that a short pass has several; else the command as it is.
COMMAND = """
import sys
from keras_tl import cli, feature_cache
feature_cache.SHARD_BYTES = 100_000
sys.exit(cli.main(sys.argv[1:]))
"""
IMAGES = 480


def new_model():
    import keras

    from keras_tl.builders.image import build_image_model

    keras.utils.set_random_seed(1)
    model = build_image_model("TinyNet", outputs=3, weights=None)
    freezing.AllButLast(1).apply(model)
    return model


def features(model, root):
    """Runs the prefix over 480 images: how many were not stored, and all outputs."""
    images = np.random.default_rng(0).integers(0, 255, (IMAGES, 16, 16, 3)).astype("uint8")
    data = Samples(from_arrays(images, np.arange(IMAGES) % 3), ImageInput(size=16))
    prefix = PrefixPass(
        frozen_prefix.split(model).prefix,
        FeatureStore(root, dtype="float32"),
        engine="tensorflow",
        verbose=0,
    )
    found = prefix.features(data)
    return prefix.passes[0].computed, found.gather(np.arange(IMAGES))[0]


def kill_when(command, is_time, seconds=300.0, may_end=False):
    """Starts a command and kills it when it is time; it must not have come to its end before."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        until = time.monotonic() + seconds
        while not is_time() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        process.kill()
        said = process.communicate()[0].decode()
    assert process.returncode in (-signal.SIGKILL, *([0] if may_end else [])), said[-2000:]


def shards_in(root):
    return [name for folder in root.glob("features/*/") for name in manifests(folder)]


@pytest.mark.slow
def test_a_killed_pass_goes_on_where_it_stopped(tmp_path):
    root = tmp_path / "features"
    kill_when([sys.executable, "-c", PASS, str(root)], lambda: len(shards_in(tmp_path)) >= 4)
    whole = 32 * len(shards_in(tmp_path))
    assert whole < IMAGES
    computed, outputs = features(new_model(), root)
    assert computed == IMAGES - whole
    folder = shards_in(tmp_path)[0].parent
    assert not leftovers(folder)
    _, expected = features(new_model(), tmp_path / "other")
    np.testing.assert_allclose(outputs, expected, atol=1e-5)


def pictures(folder):
    random = np.random.default_rng(0)
    for index in range(150):
        name = ("red", "green", "blue")[index % 3]
        pixels = random.normal(110, 50, (40, 40, 3))
        pixels[..., index % 3] += 25
        path = folder / name / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.clip(pixels, 0, 255).astype("uint8")).save(path)
    return folder


def train_command(data, out):
    settings = {
        "image-size": 32,
        "epochs": 2,
        "fine-tune": 2,
        "fine-tune-epochs": 2,
        "engine": "tensorflow",
        "feature-dtype": "float32",
        "seed": 1,
    }
    options = [text for name, value in settings.items() for text in (f"--{name}", str(value))]
    return [sys.executable, "-c", COMMAND, "train", str(data), "--out", str(out), *options]


def to_the_end(command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]


def images_computed(run):
    return sum(phase["images_through_frozen_prefix"] for phase in run.metrics["phases"])


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_ends_as_one_that_was_not(tmp_path, monkeypatch):
    data = pictures(tmp_path / "data")
    monkeypatch.setenv("KERAS_TL_CACHE", str(tmp_path / "calm"))
    calm = Run(tmp_path / "calm_run")
    started = time.monotonic()
    to_the_end(train_command(data, calm.folder))
    seconds = time.monotonic() - started

    cache = tmp_path / "killed"
    monkeypatch.setenv("KERAS_TL_CACHE", str(cache))
    run = Run(tmp_path / "killed_run")
    command = train_command(data, run.folder)
    kill_when(command, lambda: len(shards_in(cache)) >= 3)  # during a pass
    before = len(shards_in(cache))
    kill_when(command, run.path(Run.HISTORY).is_file)  # in the head's training
    assert len(shards_in(cache)) > before
    for moment in np.random.default_rng(int(time.time())).uniform(0.2, 0.9, 1):
        print(f"killed at {moment:.2f} of the run")
        until = time.monotonic() + moment * seconds
        # What is stored makes it faster: it may have come to its end.
        kill_when(command, lambda until=until: time.monotonic() > until, may_end=True)
    if not run.is_whole:
        to_the_end(command)

    # Nothing was computed twice; what a killed start stored, the next one did not compute.
    assert images_computed(run) <= images_computed(calm)
    losses = [
        pd.read_csv(one.path(Run.HISTORY)).filter(like="loss").to_numpy() for one in (run, calm)
    ]
    np.testing.assert_allclose(*losses, atol=1e-3)
    predicted = [pd.read_csv(one.path(Run.PREDICTIONS)) for one in (run, calm)]
    np.testing.assert_array_equal(predicted[0]["predicted"], predicted[1]["predicted"])
    assert not any(leftovers(folder) for folder in cache.glob("features/*/"))
    assert not list(cache.rglob("tmp*"))
    # The page is made from the rest, and may be made again.
    names = [{path.name for path in one.folder.iterdir()} | {Run.REPORT} for one in (run, calm)]
    assert names[0] == names[1]
