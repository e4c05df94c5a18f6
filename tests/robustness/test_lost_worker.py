"""A training of several processes one of which is killed (SIGKILL), by the command line."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from keras_tl.backbones.load import load_backbone
from keras_tl.runs import Run

TESTS = str(Path(__file__).parents[1])
# The command as it is, on a small backbone, with epochs that take a while and are all kept.
COMMAND = f"""
import sys, time
sys.path.insert(0, {TESTS!r})
from keras_tl import cli, strategies
from keras_tl.place_options import place_of
arguments = sys.argv[1:]
if "--workers" in arguments:
    strategies.choose(place_of(cli._parser().parse_args(arguments)))
import conftest
from keras_tl.backbones import registry
from keras_tl.training import resume, saver
from keras_tl.training.callbacks import PhaseLog
registry.register(conftest.TINY_NET)
saver.SECONDS_AT_EPOCH_ENDS = resume.LEAST_SHARE = 0
end = PhaseLog.on_epoch_end
PhaseLog.on_epoch_end = lambda *arguments: time.sleep(0.3) or end(*arguments)
sys.exit(cli.main(arguments))
"""
SETTINGS = {
    "backbone": "TinyNet",
    "image-size": 16,
    "fine-tune": "none",
    "epochs": 12,
    "dropout": 0,
    "batch-size": 12,
    "engine": "tensorflow",
    "feature-dtype": "float32",
    "augment": "none",
}
# How long those that are left may go on without knowing.
SECONDS = 60


@pytest.fixture
def data(tmp_path):
    random = np.random.default_rng(0)
    for index in range(90):
        name = ("red", "green", "blue")[index % 3]
        pixels = random.normal(110, 40, (20, 20, 3))
        pixels[..., index % 3] += 30
        path = tmp_path / "data" / name / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.clip(pixels, 0, 255).astype("uint8")).save(path)
    keras.utils.set_random_seed(0)
    load_backbone("TinyNet", weights=None).save_weights(tmp_path / "tiny.weights.h5")
    return tmp_path / "data"


def start(data, out, workers, cache):
    """Starts the processes of a run."""
    options = [str(text) for name, value in SETTINGS.items() for text in (f"--{name}", value)]
    command = [sys.executable, "-c", COMMAND, "train", str(data), "--out", str(out), "--no-audit"]
    command += [*options, "--weights", str(data.parent / "tiny.weights.h5")]
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(workers)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        addresses = ",".join(f"127.0.0.1:{each.getsockname()[1]}" for each in sockets)
    processes = []
    for index in range(workers):
        where = ["--strategy", "multiworker", "--workers", addresses, "--worker-index", str(index)]
        processes.append(
            subprocess.Popen(
                command + (where if workers > 1 else []),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "KERAS_TL_CACHE": str(cache)},
            )
        )
    return processes


def ends(processes, timeout):
    """Exit codes of processes and what they said."""
    try:
        said = [process.communicate(timeout=timeout)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], said


@pytest.mark.slow
def test_a_lost_process_ends_the_others_and_all_go_on_where_they_were(data, tmp_path):
    one = Run(tmp_path / "one")
    codes, said = ends(start(data, one.folder, 1, tmp_path / "cache"), 300)
    assert codes == [0], said

    three = Run(tmp_path / "three")
    processes = start(data, three.folder, 3, tmp_path / "caches")
    until = time.monotonic() + 300
    history = three.path(Run.HISTORY)
    while time.monotonic() < until and not (history.is_file() and len(pd.read_csv(history)) > 3):
        assert processes[0].poll() is None, processes[0].communicate()[0]
        time.sleep(0.05)
    lost = time.monotonic()
    processes[2].kill()
    codes, said = ends(processes, SECONDS)
    assert codes == [75, 75, -signal.SIGKILL], said
    assert time.monotonic() - lost < SECONDS
    for text in said[:2]:
        assert "Traceback" not in text
        assert "received one that does not answer" in text.strip().splitlines()[-1]
    assert not three.is_whole

    done = len(pd.read_csv(history))
    assert 3 < done < SETTINGS["epochs"]
    codes, said = ends(start(data, three.folder, 3, tmp_path / "caches"), 300)
    assert codes == [0, 0, 0], said
    assert "Goes on with phase 1 of 1, head, epoch" in said[0]
    rows, expected = (pd.read_csv(run.path(Run.HISTORY)) for run in (three, one))
    assert rows["epoch"].tolist() == list(range(1, SETTINGS["epochs"] + 1))
    for name in ("loss", "val_loss", "val_refined_loss"):
        np.testing.assert_allclose(rows[name], expected[name], atol=5e-5)
    models = [keras.models.load_model(run.path(Run.MODEL), compile=False) for run in (three, one)]
    for mine, other in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_allclose(mine, other, atol=5e-5)
    assert three.metrics["loss"] == pytest.approx(one.metrics["loss"], abs=1e-4)

    # A cluster that starts all again finds it done.
    written = three.path(Run.METRICS).stat().st_mtime_ns
    codes, said = ends(start(data, three.folder, 3, tmp_path / "caches"), 300)
    assert codes == [0, 0, 0], said
    assert "came to its end: nothing is left to do" in said[0]
    assert three.path(Run.METRICS).stat().st_mtime_ns == written
