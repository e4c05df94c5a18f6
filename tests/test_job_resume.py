"""Runs that are killed, and the same command again."""

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from keras_tl import job
from keras_tl.backbones.load import load_backbone
from keras_tl.config import TrainConfig
from keras_tl.errors import InputError
from keras_tl.runs import Run, load_run

ROOT = Path(__file__).parents[1]
COMMAND = """
import sys
from keras_tl.backbones import registry
from keras_tl.cli import main
from tests import conftest
registry.register(conftest.TINY_NET)
sys.exit(main(["train", *sys.argv[1:]]))
"""


class PowerCutError(Exception):
    pass


@pytest.fixture(scope="module")
def photos(tmp_path_factory, three_colors):
    folder = tmp_path_factory.mktemp("photos")
    for index, (image, label) in enumerate(zip(*three_colors, strict=True)):
        path = folder / ("red", "green", "blue")[label] / f"{index}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(path)
    return str(folder)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.weights.h5"
    keras.utils.set_random_seed(0)
    load_backbone("TinyNet", weights=None).save_weights(path)
    return str(path)


@pytest.fixture
def config(photos, weights, tmp_path):
    sizes = {"epochs": 2, "fine_tune_epochs": 2, "batch_size": 8, "dropout": 0.3}
    out = str(tmp_path / "run")
    return TrainConfig(photos, out, "TinyNet", weights, fine_tune="auto", **sizes)


def stopped(config, monkeypatch, epochs):
    """A run that ends after so many epochs, counted over its phases."""
    write = job._write_csv

    def dying(frame, path):
        write(frame, path)
        if len(frame) == epochs:
            raise PowerCutError

    with monkeypatch.context() as patch:
        patch.setattr(job, "_write_csv", dying)
        with pytest.raises(PowerCutError):
            job.train(config, verbose=0)


@pytest.mark.slow
def test_an_unfinished_run_goes_on_and_says_where(config, monkeypatch, caplog, small_decoder):
    monkeypatch.setattr("keras_tl.training.saver.SECONDS_AT_EPOCH_ENDS", 0.0)
    monkeypatch.setattr("keras_tl.training.resume.LEAST_SHARE", 0)
    stopped(replace(config, fine_tune="2"), monkeypatch, epochs=4)
    run = Run(config.out)
    assert run.path(run.CHECKPOINT).is_dir()
    # What was decided and looked through when it began is not decided and looked through again.
    for name in ("settle_plan", "audit_with_labels"):
        monkeypatch.setattr(job, name, lambda *_, **__: pytest.fail("again"))
    with caplog.at_level("INFO", "keras_tl"):
        run = job.train(replace(config, fine_tune="2", baseline=False, strict=True), verbose=0)
    line = "Goes on with phase 2 of 2, fine-tuning, epoch 2 behind step 5"
    assert line in caplog.messages
    rows = pd.read_csv(run.path(run.HISTORY))
    places = list(zip(rows["phase"], rows["epoch"], strict=True))
    assert places == [(name, epoch) for name in ("head", "fine-tuning") for epoch in (1, 2)]
    assert [phase["name"] for phase in run.metrics["phases"]] == ["head", "fine-tuning"]
    assert run.path(run.AUDIT).is_file()
    assert not run.path(run.CHECKPOINT).exists()


def test_an_unfinished_run_with_other_settings_is_refused(config, monkeypatch):
    stopped(config, monkeypatch, epochs=1)
    before = Run(config.out).path(Run.CONFIG).read_bytes()
    other = replace(config, epochs=3, dropout=0.1)
    with pytest.raises(InputError) as refused:
        job.train(other, verbose=0)
    assert "epochs 3 (it has 2), dropout 0.1 (it has 0.3)" in str(refused.value)
    assert f"delete {Run(config.out).path(Run.CHECKPOINT)} to begin anew" in str(refused.value)
    assert Run(config.out).path(Run.CONFIG).read_bytes() == before
    # Other pictures under the same settings are seen too.
    path = Path(config.data) / "red" / "0.png"
    picture = path.read_bytes()
    try:
        Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(path)
        with pytest.raises(InputError, match="by its data"):
            job.train(config, verbose=0)
    finally:
        path.write_bytes(picture)


@pytest.mark.slow
def test_a_run_whose_page_fails_is_whole_and_keeps_no_checkpoint(
    config, monkeypatch, small_decoder
):
    def no_page(*_, **__):
        raise FileNotFoundError("gone")

    monkeypatch.setattr(job, "write_report", no_page)
    short = {"fine_tune": "none", "epochs": 1, "audit": False, "baseline": False}
    with pytest.raises(FileNotFoundError):
        job.train(replace(config, **short), verbose=0)
    run = load_run(config.out)
    assert run.metrics["measured_on"] == "test"
    assert not run.path(run.CHECKPOINT).exists()


def test_a_run_in_its_data_is_refused_before_anything_is_written(config, monkeypatch):
    monkeypatch.chdir(config.data)
    before = sorted(Path().rglob("*"))
    with pytest.raises(InputError, match=r"received run, which is in \.\. Try --out \.\./run\.$"):
        job.train(replace(config, data=".", out="run"), verbose=0)
    assert sorted(Path().rglob("*")) == before


@pytest.mark.slow
def test_what_is_measured_decides_nothing_of_a_deterministic_run(config):
    assert replace(config, deterministic=True).engine == "tensorflow"
    assert config.engine == "auto"


def start(config, out, cache):
    options = {"backbone": "TinyNet", "weights": config.weights, "plan": "lp-ft"}
    sizes = {"epochs": 60, "fine-tune-epochs": 25, "batch-size": 4, "dropout": 0.3}
    more = [f"--{name}={value}" for name, value in (options | sizes).items()]
    command = [sys.executable, "-c", COMMAND, config.data, f"--out={out}", *more]
    return subprocess.Popen(
        [*command, "--augment=light", "--averaging=ema", "--deterministic"],
        cwd=ROOT,
        env=os.environ | {"KERAS_TL_CACHE": str(cache), "CUDA_VISIBLE_DEVICES": ""},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def kill(process, run, seconds, how):
    """Ends a run so many seconds after its training has begun, or gone on."""
    begun = time.time()
    files = [run.path(run.CHECKPOINT) / name for name in ("phase.npz", "step.npz")]
    while process.poll() is None and time.time() - begun < 120:
        if any(file.is_file() and file.stat().st_mtime > begun for file in files):
            break
        time.sleep(0.05)
    time.sleep(seconds)
    process.send_signal(how)
    return process.communicate(timeout=120)[1]


@pytest.mark.slow
def test_killed_again_and_again_is_run_through_to_the_bit(config, tmp_path):
    draws = random.Random(0)
    through, often = (Run(tmp_path / name) for name in ("through", "often"))
    process = start(config, through.folder, tmp_path / "cache")
    said = process.communicate(timeout=300)[1]
    assert process.returncode == 0, said[-2000:]
    killed, places = 0, []
    for how in [signal.SIGKILL] * 3 + [signal.SIGTERM] + [signal.SIGKILL] * 2:
        process = start(config, often.folder, tmp_path / "another-cache")
        said = kill(process, often, draws.uniform(0, 3), how)
        places += [line for line in said.splitlines() if line.startswith("Goes on")]
        assert process.returncode in (-signal.SIGKILL, 143, 0), said[-2000:]
        killed += process.returncode != 0
        if process.returncode == 0:
            break
        assert process.returncode == (143 if how == signal.SIGTERM else -how)
    else:
        process = start(config, often.folder, tmp_path / "another-cache")
        said = process.communicate(timeout=300)[1]
        assert process.returncode == 0, said[-2000:]
    assert killed >= 3
    assert len(set(places)) > 1
    values, expected = (load_run(run.folder).model().get_weights() for run in (often, through))
    for value, other in zip(values, expected, strict=True):
        np.testing.assert_array_equal(value, other)
    tables = [
        pd.read_csv(run.path(run.HISTORY)).drop(columns="seconds") for run in (often, through)
    ]
    pd.testing.assert_frame_equal(*tables, check_exact=True)
