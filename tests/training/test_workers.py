"""Several processes on loopback: what they tell each other, and that they train as one does."""

import json
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from keras_tl import ring, workers
from keras_tl.errors import InputError

TESTS = str(Path(__file__).parents[1])
START = f"""
import json, os, sys
import numpy as np, tensorflow as tf, keras
sys.path.insert(0, {TESTS!r})
import conftest
from pathlib import Path
from keras_tl import strategies
from keras_tl.workers import Workers
out, index, *addresses = sys.argv[1:]
tf.config.threading.set_intra_op_parallelism_threads(1)
several = len(addresses) > 1
where = ("multiworker", tuple(addresses), int(index)) if several else ("cpu",)
strategy = strategies.choose(strategies.Place(*where))
workers = Workers(strategy)
"""
TELLING = """
mine = [np.arange(3 + workers.index, dtype="i2"), np.full((workers.index, 2), 0.5, "f2")]
told = [[part.tolist() for part in workers.gather(array)] for array in mine]
folder = Path(out)
found = {
    "told": told,
    "shared": workers.share({"a": [workers.index, None]}),
    "bytes": workers.share_bytes(bytes([7, workers.index]), workers.count - 1).hex(),
    "chief": workers.is_chief,
}
workers.barrier()
(folder / f"{index}.json").write_text(json.dumps(found))
"""
TRAINING = """
from keras_tl import freezing
from keras_tl.backbones import registry
from keras_tl.builders.image import build_image_model
from keras_tl.data import augment
from keras_tl.data.arrays import from_arrays
from keras_tl.data.image_input import ImageInput
from keras_tl.data.pipeline import Samples
from keras_tl.feature_cache import FeatureStore
from keras_tl.training.fit import run_phases
from keras_tl.training.phases import Phase
from keras_tl.training.resume import Checkpoint
registry.register(conftest.TINY_NET)
images = np.random.default_rng(0).integers(0, 255, (83, 16, 16, 3)).astype("uint8")
labels = (images[:, :8, :, 0].mean((1, 2)) > images[:, 8:, :, 0].mean((1, 2))).astype(int)
data = from_arrays(images, labels)
train = Samples(data.take(np.arange(60)), ImageInput(size=16), augment.get("light"))
val = Samples(data.take(np.arange(60, 83)), ImageInput(size=16))
with strategy.scope():
    keras.utils.set_random_seed(1)
    model = build_image_model("TinyNet", outputs=2, weights=None, dropout=0.0)
    for name in ("one_drop", "two_drop"):
        model.get_layer(name).rate = 0.0
own = "" if os.environ["STORES"] == "one" else index
store = os.environ["STORES"] != "none" and FeatureStore(Path(out, "store" + own), dtype="float32")
phases = [
    Phase(freezing.All(), 3, 0.02),
    Phase(freezing.AllButLast(1), 3, 0.003),
]
how = {}
if "KEPT" in os.environ:
    how = kept_in(Path(out, "kept"))
result = run_phases(
    model, phases, train, val, batch_size=8, strategy=strategy, verbose=0, engine="tensorflow",
    feature_store=store, class_weights=[1.0, 2.0], **how,
)
np.savez(Path(out, f"{index}.npz"), *model.get_weights())
found = {
    "history": result.history,
    "passes": [[p.images, p.computed] for phase in result.phases for p in phase.passes],
}
Path(out, f"{index}.json").write_text(json.dumps(found))
"""
# Notes the sums that go through the ring, each of so many arrays; without it if so asked.
NOTING_SUMS = """
from keras_tl.ring import Ring
from keras_tl.training.sharing import Sharing
by_ring, sums = Ring.sum, []
Ring.sum = lambda self, *arrays: sums.append(len(arrays)) or by_ring(self, *arrays)
if os.environ["RING"] == "none":
    Sharing.ring = None
"""
NOTED_SUMS = """
found["sums"] = sums
Path(out, f"{index}.json").write_text(json.dumps(found))
"""
# A signal to the second process behind its 31st step, the third of an epoch, or in the validation
# before that epoch. Nothing is kept at ends of epochs.
STOPPING = """
import logging, signal
from keras_tl.training import resume, saver
saver.SECONDS_AT_EPOCH_ENDS, resume.LEAST_SHARE = 1e9, 0
saver.SECONDS_TO_MEET = float(os.environ["MEET"])
said = []

class Signal(keras.callbacks.Callback):
    steps = 0

    def on_train_batch_end(self, batch, logs=None):
        self.steps += 1
        self.end_if(self.steps == 31)

    def on_test_begin(self, logs=None):
        self.end_if(self.steps == 28 and "IN_VALIDATION" in os.environ)

    def end_if(self, now):
        if now and workers.index == 1 and os.environ["SIGNAL"]:
            os.kill(os.getpid(), int(os.environ["SIGNAL"]))

def kept_in(folder):
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    logging.getLogger("keras_tl").addHandler(handler)
    logging.getLogger("keras_tl").setLevel("INFO")
    own = folder / index
    checkpoint = resume.Checkpoint(own, float(os.environ["KEPT"]), keeps=workers.is_chief)
    checkpoint.share(workers)
    signal.signal(signal.SIGTERM, lambda *_: checkpoint.ask())
    callback = Signal()
    return {"checkpoint": checkpoint, "callbacks": lambda phase: [callback]}
"""
SAYING = """
found["said"] = said
Path(out, f"{index}.json").write_text(json.dumps(found))
"""
# The second process is gone in the midst of a sum; what the others say of it is noted.
LOSING = """
from keras_tl.ring import Ring
by_ring, steps = Ring.sum, []

def noted(kind, error, _):
    Path(out, f"{index}.json").write_text(json.dumps([kind.__name__, str(error)]))
    os._exit(0)

def lost(self, *arrays):
    steps.append(None)
    if workers.index == 1 and len(steps) == 9:
        noted(type(None), "", None)
    return by_ring(self, *arrays)

sys.excepthook, Ring.sum = noted, lost
"""


def run(code, out, count, timeout=300, codes=None, **environment):
    """Runs code in so many processes; what each wrote, or said if it is to end with a code."""
    import os

    out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", START + code, str(out), str(index), *addresses],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"CUDA_VISIBLE_DEVICES": ""} | environment,
        )
        for index in range(count)
    ]
    try:
        said = [process.communicate(timeout=timeout)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    found = [process.returncode for process in processes]
    assert found == (codes or [0] * count), "\n".join(said)[-6000:]
    return (
        said
        if codes
        else [json.loads((out / f"{index}.json").read_text()) for index in range(count)]
    )


@pytest.mark.slow
def test_each_process_tells_all(tmp_path):
    for index, found in enumerate(run(TELLING, tmp_path, 3)):
        halves = [[], [[0.5, 0.5]], [[0.5, 0.5]] * 2]
        assert found == {
            "told": [[[0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 3, 4]], halves],
            "shared": {"a": [0, None]},
            "bytes": bytes([7, 2]).hex(),
            "chief": index == 0,
        }


@pytest.mark.slow
@pytest.mark.parametrize("stores", ["one", "own", "none"])
def test_two_processes_train_as_one_does(stores, tmp_path):
    [one] = run(TRAINING, tmp_path / "one", 1, STORES=stores)
    both = run(TRAINING, tmp_path / "two", 2, STORES=stores)
    weights = [
        list(np.load(path).values())
        for path in [tmp_path / "one" / "0.npz", *sorted((tmp_path / "two").glob("*.npz"))]
    ]
    start = weights[0]
    for found, own in zip(both, weights[1:], strict=True):
        assert found["passes"] == one["passes"]
        for row, expected in zip(found["history"], one["history"], strict=True):
            for name, value in row.items():
                if name not in ("phase", "seconds"):
                    assert value == pytest.approx(expected[name], abs=2e-5), name
        for mine, expected in zip(own, start, strict=True):
            np.testing.assert_allclose(mine, expected, atol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "seconds", "codes", "step", "where"),
    [
        (signal.SIGTERM, 1e9, [143, 143], 3, {}),
        # They end behind the next step.
        (signal.SIGTERM, 1e9, [143, 143], 1, {"IN_VALIDATION": "1"}),
        # The chief is told by an error of its own.
        (signal.SIGKILL, 0.0, [1, -signal.SIGKILL], 2, {}),
    ],
)
def test_two_processes_go_on_within_an_epoch(number, seconds, codes, step, where, tmp_path):
    [one] = run(TRAINING, tmp_path / "one", 1, STORES="own")
    how = {"STORES": "own", "KEPT": str(seconds), "MEET": "0"}
    stopped = how | where | {"SIGNAL": str(+number)}
    said = run(STOPPING + TRAINING, tmp_path / "two", 2, codes=codes, **stopped)
    assert ("LostWorkerError" in said[0]) == (number == signal.SIGKILL)
    both = run(STOPPING + TRAINING + SAYING, tmp_path / "two", 2, SIGNAL="", **how)
    phase = one["history"][-1]["phase"]
    for found in both:
        assert f"Goes on with phase 2 of 2, {phase}, epoch 2 behind step {step}" in found["said"]
        assert len(found["history"]) == len(one["history"])
        for row, expected in zip(found["history"], one["history"], strict=True):
            assert (row["phase"], row["epoch"]) == (expected["phase"], expected["epoch"])
            for name in ("loss", "accuracy", "val_loss", "val_accuracy", "val_refined_loss"):
                assert row[name] == pytest.approx(expected[name], abs=2e-5), name
    start, *others = [
        list(np.load(path).values())
        for path in [tmp_path / "one" / "0.npz", *sorted((tmp_path / "two").glob("*.npz"))]
    ]
    assert len(others) == 2
    for own in others:
        for mine, expected in zip(own, start, strict=True):
            np.testing.assert_allclose(mine, expected, atol=2e-5)


@pytest.mark.slow
def test_gradients_go_through_the_ring_and_are_those_of_collectives(tmp_path):
    code = NOTING_SUMS + TRAINING + NOTED_SUMS
    by_ring, by_collectives = (
        run(code, tmp_path / how, 2, STORES="own", RING=how) for how in ("own", "none")
    )
    for mine, other in zip(by_ring, by_collectives, strict=True):
        # In each phase 3 epochs of 7 steps; a head has a kernel and a bias, a block more.
        gradients = [arrays for arrays in mine["sums"] if arrays > 1]
        block = gradients[-1]
        assert block > 2 and gradients == [2] * 21 + [block] * 21
        # The loss is one number: behind the gradients of a step, and in validation.
        assert mine["sums"].count(1) > 42 and (mine["sums"] + [0]).count(2) == 21
        assert other["sums"] == []
    weights = [np.load(path) for path in sorted(tmp_path.glob("*/*.npz"))]
    assert len(weights) == 4
    # Two summands have one sum, however it is made.
    for other in weights[1:]:
        for name, value in weights[0].items():
            np.testing.assert_allclose(other[name], value, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_who_is_lost_in_a_sum_is_told_in_a_line(tmp_path):
    (name, said), (gone, _) = run(LOSING + TRAINING, tmp_path, 2, timeout=200, STORES="own")
    assert (name, gone) == ("LostWorkerError", "NoneType")
    assert "received one that does not answer (" in said
    assert ring.GONE in said and "Graph execution error" not in said


def test_what_is_long_is_told_in_parts(monkeypatch):
    """Of a state of more than 2 GB an int32 cannot say how long it is."""
    monkeypatch.setattr(workers, "MOST_BYTES", 8)
    longest = []

    class Two(workers.Workers):
        def __init__(self):
            super().__init__()
            self.count = 2

        def gather(self, array):
            longest.append(array.nbytes)
            return [array, array[:0]]

    for value in (b"", b"12345678", b"a state of a large model"):
        assert Two().share_bytes(value) == value
    assert max(longest) == 8


def test_tensors_of_other_shapes_are_a_line():
    two = workers.Workers()
    two.count = 2
    said = (
        "{{function_node ...}} Collective ops is aborted by: Shape mismatch in the collective "
        "instance 141. Op at device CPU:0 expected shape [16,2] but another member in the group "
        "expected shape [16,3]. This is likely due to different input shapes."
    )
    with pytest.raises(InputError) as told, two.losses_told():
        raise tf.errors.InvalidArgumentError(None, None, said)
    assert str(told.value) == (
        "Expected the same model in all processes, received Op at device CPU:0 expected shape "
        "[16,2] but another member in the group expected shape [16,3]. Give all processes the "
        "same data and settings."
    )
    for count, other in ((1, said), (2, "an image of another size")):
        two.count = count
        with pytest.raises(tf.errors.InvalidArgumentError), two.losses_told():
            raise tf.errors.InvalidArgumentError(None, None, other)
