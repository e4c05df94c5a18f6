"""Training that is stopped and goes on, compared bit for bit with one that ran through."""

import os
import shutil
import signal
from dataclasses import replace

import keras
import numpy as np
import pytest

from keras_tl import freezing
from keras_tl.data import augment
from keras_tl.data.arrays import from_arrays
from keras_tl.data.image_input import ImageInput
from keras_tl.data.pipeline import Samples
from keras_tl.errors import InputError
from keras_tl.feature_cache import FeatureStore
from keras_tl.training import fit, resume, saver
from keras_tl.training.averaging import EMA, SWA
from keras_tl.training.phases import Phase
from keras_tl.training.resume import TERMINATED, Checkpoint, facts_of, terminable
from keras_tl.training.schedules import Constant, OneCycle
from keras_tl.training.state_files import read_state, write_state
from keras_tl.workers import Workers


class PowerCutError(Exception):
    pass


class PowerCut(keras.callbacks.Callback):
    """Ends at a step, counted over all phases, or when the validation of an epoch begins."""

    def __init__(self, after=None, validation=None):
        super().__init__()
        self.after, self.validation = after, validation
        self.steps = self.validations = 0

    def on_train_batch_end(self, batch, logs=None):
        self.steps += 1
        if self.steps == self.after:
            raise PowerCutError

    def on_test_begin(self, logs=None):
        self.validations += 1
        if self.validations == self.validation:
            raise PowerCutError


HEAD = freezing.All()
LAST = freezing.AllButLast(1)
EACH = {"rates": {"layer_decay": 0.5}, "cycle": {"schedule": OneCycle(), "optimizer": "sgd"}}
# Each is a way of training: its phases, how its images are augmented, and further options.
WAYS = {
    "stored": (
        [
            Phase(HEAD, 2, 0.05, name="head"),
            Phase(LAST, 3, 0.01, mixup=0.4, averaging=EMA(0.8), **EACH["rates"]),
        ],
        "cutmix",
        {"class_weights": [1.0, 2.0, 1.0]},
    ),
    "computed at every step": (
        [Phase(LAST, 4, 0.01, averaging=SWA(0.3), sampling="balanced", **EACH["cycle"])],
        "cutmix",
        {"feature_store": False},
    ),
    "all weights": (
        [Phase(freezing.Nothing(batch_norm="trained"), 4, 0.1, patience=2)],
        "light",
        {},
    ),
}
MORE_WAYS = {
    "adamw": ([Phase(LAST, 3, 0.01)], "none", {}),
    "sgd": ([Phase(LAST, 3, 0.01, **EACH["cycle"])], "none", {}),
    "rmsprop": ([Phase(LAST, 3, 0.001, optimizer="rmsprop", **EACH["rates"])], "none", {}),
    "ema": ([Phase(LAST, 3, 0.01, averaging=EMA(0.8))], "none", {}),
    "swa": ([Phase(LAST, 4, 0.01, averaging=SWA(0.3))], "none", {"feature_store": False}),
    "mixup": ([Phase(LAST, 3, 0.01, mixup=0.4)], "none", {"feature_store": False}),
    "cutmix": ([Phase(LAST, 3, 0.01)], "cutmix", {}),
    "lora": ([Phase(HEAD, 1, 0.05, name="head"), Phase(freezing.LoRA(2), 2, 0.01)], "none", {}),
}


def build():
    """The same tiny model each time, with dropout in head and blocks."""
    from keras_tl.builders.image import build_image_model

    keras.utils.set_random_seed(1)
    model = build_image_model("TinyNet", outputs=3, weights=None, dropout=0.3)
    draws = np.random.default_rng(1)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_mean.assign(draws.normal(size=8) * 0.1)
    return model


def splits(three_colors, augmentation="none"):
    images, labels = three_colors
    row = augment.get("light" if augmentation == "cutmix" else augmentation)
    row = replace(row, cutmix=0.7 * (augmentation == "cutmix"))
    parts = (slice(0, 45), slice(45, 60))
    train, val = (from_arrays(images[part], labels[part]) for part in parts)
    return Samples(train, ImageInput(size=16), row), Samples(val, ImageInput(size=16))


@pytest.fixture(autouse=True)
def _each_step_is_kept(monkeypatch):
    monkeypatch.setattr(resume, "LEAST_SHARE", 0)


@pytest.fixture
def run(three_colors, tmp_path):
    store = FeatureStore(tmp_path / "store", dtype="float32")

    def run(way, *callbacks, checkpoint=None, **more):
        """Variables of the model in the end, those of random generators too, and the result."""
        phases, augmentation, options = way
        model = build()
        how = {"batch_size": 8, "feature_store": store, "engine": "tensorflow", "verbose": 0}
        result = fit.run_phases(
            model,
            phases,
            *splits(three_colors, augmentation),
            **{**how, "each_step": True, **options, **more},
            callbacks=lambda phase: callbacks,
            checkpoint=checkpoint,
        )
        return [variable.numpy() for variable in model.variables], result

    return run


def same(found, expected):
    return all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


def figures(result):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in result.history]


def check(run, way, folder, stops, caplog):
    """Stops a training at several places, and compares how it ends with one that ran through."""
    through, expected = run(way)
    for stop in stops:
        with pytest.raises(PowerCutError):
            run(way, stop, checkpoint=Checkpoint(folder, seconds=0))
    with caplog.at_level("INFO", "keras_tl"):
        weights, result = run(way, checkpoint=Checkpoint(folder, seconds=0))
    assert same(weights, through)
    assert figures(result) == figures(expected)
    for report, other in zip(result.phases, expected.phases, strict=True):
        assert (report.name, report.cut) == (other.name, other.cut)
        assert str(report.freezing) == str(other.freezing)
    return [line for line in caplog.messages if "Goes on" in line]


@pytest.mark.parametrize(
    ("name", "step", "where"),
    [
        ("stored", 16, "phase 2 of 2, training, epoch 2 behind step 0"),
        pytest.param(
            "computed at every step",
            12,
            "phase 1 of 1, training, epoch 3 behind step 1",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_stopped_and_gone_on_is_run_through(run, tmp_path, caplog, name, step, where):
    """The callback that stops stands before the one that saves: its own step is lost."""
    lines = check(run, WAYS[name], tmp_path / "kept", [PowerCut(step)], caplog)
    assert lines == [f"Goes on with {where}"]


@pytest.mark.slow
@pytest.mark.parametrize("name", [*WAYS, *MORE_WAYS])
def test_stopped_often_is_run_through(run, tmp_path, caplog, name):
    """In an epoch, before its validation, and in the two after it, perhaps of another phase.

    The third run sees the five steps of the first epoch again, the fourth one of the second.
    """
    way = (WAYS | MORE_WAYS)[name]
    stops = [PowerCut(3), PowerCut(validation=1), PowerCut(5 + 2), PowerCut(1 + 5)]
    check(run, way, tmp_path / "kept", stops, caplog)


@pytest.mark.slow
def test_what_is_kept_is_needed(run, tmp_path):
    """The twin with faults: where a part of the state is lost, the weights are others."""
    way = MORE_WAYS["adamw"]
    through, _ = run(way)
    with pytest.raises(PowerCutError):
        run(way, PowerCut(8), checkpoint=Checkpoint(tmp_path / "kept", seconds=0))
    kept = read_state(tmp_path / "kept" / Checkpoint.STEP)
    faults = {
        "optimizer": [np.zeros_like(value) for value in kept["optimizer"]],
        # What dropout draws from are the only whole numbers among the variables.
        "fitted": [v if v.dtype == np.float32 else np.zeros_like(v) for v in kept["fitted"]],
        "step": kept["step"] - 1,
    }
    for name, fault in faults.items():
        folder = tmp_path / name
        shutil.copytree(tmp_path / "kept", folder)
        write_state(folder / Checkpoint.STEP, kept | {name: fault})
        weights, _ = run(way, checkpoint=Checkpoint(folder))
        assert not same(weights, through), name


def test_sigterm_keeps_the_step_and_ends_with_a_code_of_its_own(run, tmp_path, caplog):
    way, folder = MORE_WAYS["adamw"], tmp_path / "kept"
    through, _ = run(way)
    before = signal.getsignal(signal.SIGTERM)

    class Preempted(PowerCut):
        def on_train_batch_end(self, batch, logs=None):
            self.steps += 1
            if self.steps == self.after:
                os.kill(os.getpid(), signal.SIGTERM)

    checkpoint = Checkpoint(folder, seconds=1e9)
    with pytest.raises(SystemExit) as ended, terminable(checkpoint):
        run(way, Preempted(8), checkpoint=checkpoint)
    assert ended.value.code == TERMINATED == 143
    assert signal.getsignal(signal.SIGTERM) is before
    kept = read_state(folder / Checkpoint.STEP)
    assert (kept["epoch"], kept["step"]) == (1, 3)
    weights, _ = run(way, checkpoint=Checkpoint(folder))
    assert same(weights, through)


class Preempted(PowerCut):
    """SIGTERM in the validation of an epoch; the validation's batches are counted."""

    def on_test_begin(self, logs=None):
        self.validations += 1
        self.batches = 0
        if self.validations == self.validation:
            os.kill(os.getpid(), signal.SIGTERM)

    def on_test_batch_end(self, batch, logs=None):
        self.batches += 1


@pytest.mark.parametrize(
    ("seconds", "epoch", "place", "batches"),
    [
        # Where the last step is kept the validation ends at once, else it is done.
        (0.0, 2, (1, 5), 1),
        pytest.param(1e9, 2, (2, 0), 2, marks=pytest.mark.slow),
        # Behind the last epoch the phase is kept.
        pytest.param(0.0, 3, (2, 5), 1, marks=pytest.mark.slow),
        pytest.param(1e9, 3, None, 2, marks=pytest.mark.slow),
    ],
)
def test_sigterm_in_a_validation_loses_nothing(
    run, tmp_path, monkeypatch, seconds, epoch, place, batches
):
    monkeypatch.setattr(saver, "SECONDS_AT_EPOCH_ENDS", seconds)
    way, folder = MORE_WAYS["adamw"], tmp_path / "kept"
    through, expected = run(way)
    checkpoint, preempted = Checkpoint(folder, seconds=1e9), Preempted(validation=epoch)
    with pytest.raises(SystemExit, match="143"), terminable(checkpoint):
        run(way, preempted, checkpoint=checkpoint)
    assert preempted.batches == batches
    step = folder / Checkpoint.STEP
    kept = read_state(step) if step.is_file() else None
    assert (kept and (kept["epoch"], kept["step"])) == place
    counter = PowerCut()
    weights, result = run(way, counter, checkpoint=Checkpoint(folder))
    # Of an epoch that is gone on with in its validation the steps are seen again.
    assert counter.steps == {(1, 5): 10, (2, 0): 5, (2, 5): 5, None: 0}[place]
    assert same(weights, through)
    assert figures(result) == figures(expected)


def test_sigterm_behind_the_last_step_waits_until_the_phase_is_kept(run, tmp_path, monkeypatch):
    way, folder = MORE_WAYS["adamw"], tmp_path / "kept"
    write, written = Checkpoint._write_phase, []

    def preempted(self, model, history, reports):
        if reports:
            os.kill(os.getpid(), signal.SIGTERM)
        write(self, model, history, reports)
        written.append(len(reports))

    monkeypatch.setattr(Checkpoint, "_write_phase", preempted)
    checkpoint = Checkpoint(folder, seconds=1e9)
    with pytest.raises(SystemExit, match="143"), terminable(checkpoint):
        run(way, checkpoint=checkpoint)
    assert written == [0, 1]


class Two(Workers):
    """This process and another one, which was told to end, or was not."""

    def __init__(self, other):
        super().__init__()
        self.count, self.other, self.gathered = 2, other, 0

    def gather(self, array):
        self.gathered += 1
        return [array, np.full_like(array, self.other)]


def test_several_processes_leave_a_validation_together(tmp_path, tiny_model):
    checkpoint = Checkpoint(tmp_path, keeps=False)
    checkpoint.at_work = True
    tiny_model.compile("sgd")
    one = saver.Saver(checkpoint, 0, 2, 5, (), (), Two(other=False))
    one.set_model(tiny_model)
    one.on_epoch_begin(0)
    one._kept_step = 5
    checkpoint.ask()
    one.on_test_batch_end(0)
    assert one.workers.gathered == 0
    with pytest.raises(SystemExit, match="143"):
        one.on_train_batch_end(4)
    assert one.workers.gathered == 2  # they agree, and wait for the chief


@pytest.mark.parametrize(("asked", "other"), [(True, False), (False, True), (False, False)])
def test_several_processes_leave_behind_a_phase_together(asked, other, tmp_path, tiny_model):
    checkpoint = Checkpoint(tmp_path, keeps=False)
    checkpoint.workers, checkpoint.at_work, checkpoint.asked = Two(other), True, asked
    if asked or other:
        with pytest.raises(SystemExit, match="143"):
            checkpoint.end_phase(tiny_model, [], [])
    else:
        checkpoint.end_phase(tiny_model, [], [])
    assert checkpoint.workers.gathered == 1
    assert not checkpoint.at_work


def test_sigterm_before_training_ends_at_once(tmp_path):
    checkpoint = Checkpoint(tmp_path)
    with pytest.raises(SystemExit, match="143"), terminable(checkpoint):
        os.kill(os.getpid(), signal.SIGTERM)
        pytest.fail("still here")


def test_a_training_that_is_done_trains_nothing_again(run, tmp_path, caplog):
    way, folder = MORE_WAYS["lora"], tmp_path / "kept"
    through, expected = run(way, checkpoint=Checkpoint(folder))
    counter = PowerCut()
    caplog.clear()
    with caplog.at_level("INFO", "keras_tl"):
        weights, result = run(way, counter, checkpoint=Checkpoint(folder))
    assert counter.steps == 0
    assert same(weights, through)
    assert result.history == expected.history
    assert result.phases == expected.phases
    assert not [line for line in caplog.messages if line.startswith("Phase")]


def test_the_checkpoint_of_another_training_is_refused(three_colors, tiny_model, tmp_path):
    def begin(phases, augmentation="none", seed=0):
        facts = facts_of(phases, *splits(three_colors, augmentation), 8, seed)
        return Checkpoint(tmp_path).begin(tiny_model, [], facts)

    begin(MORE_WAYS["adamw"][0])
    begin(MORE_WAYS["adamw"][0])
    with pytest.raises(InputError, match=rf"by its phases and seed\. .*delete {tmp_path}"):
        begin(MORE_WAYS["lora"][0], seed=1)
    with pytest.raises(InputError, match="by its data"):
        begin(MORE_WAYS["adamw"][0], "light")
    # Same names, epochs and rates.
    with pytest.raises(InputError, match="by its phases"):
        begin([replace(phase, label_smoothing=0.1) for phase in MORE_WAYS["adamw"][0]])
    tiny_model = keras.Model(tiny_model.input, tiny_model.layers[-3].output)
    with pytest.raises(InputError, match="other weights"):
        begin(MORE_WAYS["adamw"][0])
    (tmp_path / Checkpoint.PHASE).write_bytes(b"PK nothing")
    with pytest.raises(InputError, match="damaged"):
        begin(MORE_WAYS["adamw"][0])


def test_training_goes_on_with_the_same_model_but_for_what_it_trains(three_colors, tmp_path):
    phases = [Phase(HEAD, 2, 0.05)]

    def go_on(model):
        train, val = splits(three_colors)
        how = {"batch_size": 8, "checkpoint": Checkpoint(tmp_path, seconds=0), "verbose": 0}
        how |= {"each_step": True}
        return fit.run_phases(model, phases, train, val, callbacks=lambda _: [PowerCut(3)], **how)

    def refused(model):
        with pytest.raises(InputError, match=r"received another one's, by its model\. "):
            go_on(model)

    with pytest.raises(PowerCutError):
        go_on(build())
    other_head = build()
    other_head.layers[-1].kernel.assign(np.ones(other_head.layers[-1].kernel.shape))
    with pytest.raises(PowerCutError):
        go_on(other_head)
    other_weights = build()
    frozen = next(layer for layer in other_weights.layers if layer.weights)
    frozen.set_weights([weight + 1 for weight in frozen.get_weights()])
    refused(other_weights)
    other_graph = build()
    next(
        layer for layer in other_graph.layers if "activation" in vars(layer)
    ).activation = keras.activations.tanh
    refused(other_graph)


def test_a_callback_of_ones_own_is_kept(run, tmp_path):
    class Counter(PowerCut):
        def state(self):
            return {"steps": self.steps}

        def restore(self, state):
            self.steps = state["steps"]

        def on_epoch_begin(self, epoch, logs=None):
            self.epochs = [*getattr(self, "epochs", []), epoch]

    way, folder = MORE_WAYS["adamw"], tmp_path / "kept"
    with pytest.raises(PowerCutError):
        run(way, Counter(8), checkpoint=Checkpoint(folder, seconds=0))
    counter = Counter()
    run(way, counter, checkpoint=Checkpoint(folder))
    assert counter.epochs == [1, 2]
    # Seven were kept. It sees the two of the second epoch again, and then those that were left.
    assert counter.steps == 7 + 2 + 8


def stock_callbacks(folder):
    """Each of them has decided or written something before the eighth step, and does after it."""
    folder.mkdir()
    return (
        keras.callbacks.ReduceLROnPlateau("val_loss", 0.5, patience=2, min_delta=100.0),
        keras.callbacks.CSVLogger(folder / "log.csv"),
        keras.callbacks.ModelCheckpoint(folder / "best.keras", save_best_only=True, save_freq=3),
        keras.callbacks.EarlyStopping("val_loss", patience=4, min_delta=100.0),
    )


@pytest.mark.slow
def test_stock_callbacks_are_kept(run, tmp_path):
    way, folder = (
        ([Phase(LAST, 9, 0.01, Constant(), weight_decay=0.0)], "none", {}),
        tmp_path / "kept",
    )
    through, expected = run(way, *stock_callbacks(tmp_path / "through"))
    assert len(expected.history) == 5
    # In the second and in the fourth epoch.
    for number, stop in enumerate((PowerCut(8), PowerCut(8))):
        with pytest.raises(PowerCutError):
            run(
                way,
                *stock_callbacks(tmp_path / f"stopped-{number}"),
                stop,
                checkpoint=Checkpoint(folder, seconds=0),
            )
    last = stock_callbacks(tmp_path / "gone-on")
    weights, found = run(way, *last, checkpoint=Checkpoint(folder, seconds=0))
    assert same(weights, through)
    assert figures(found) == figures(expected)
    rows = [(tmp_path / name / "log.csv").read_bytes() for name in ("through", "gone-on")]
    assert rows[0] == rows[1] and rows[0].count(b"\n") == 6


def test_other_callbacks_than_those_that_were_kept_are_refused(run, tmp_path):
    way, folder = MORE_WAYS["adamw"], tmp_path / "kept"
    first = stock_callbacks(tmp_path / "first")
    with pytest.raises(PowerCutError):
        run(way, *first, PowerCut(8), checkpoint=Checkpoint(folder, seconds=0))
    with pytest.raises(InputError, match=r"CSVLogger, .*received BestWeights, EarlyStopping"):
        run(way, first[-1], checkpoint=Checkpoint(folder, seconds=0))


def test_a_state_is_read_as_it_was_written(tmp_path):
    state = {"a": [np.arange(3, dtype=np.uint32), {"b": np.float32([[0.1]])}], "c": (1, None, 0.1)}
    write_state(tmp_path / "state.npz", state)
    found = read_state(tmp_path / "state.npz")
    assert found["a"][0].dtype == np.uint32
    assert np.array_equal(found["a"][0], [0, 1, 2])
    assert found["a"][1]["b"] == np.float32(0.1)
    assert found["c"] == [1, None, 0.1]


@pytest.mark.parametrize("augmentation", ["none", "cutmix"])
def test_data_from_a_step_on_are_the_rest_of_all_data(three_colors, augmentation):
    train, _ = splits(three_colors, augmentation)
    how = {"seed": 3, "drop_remainder": True, "weights": np.ones(45, np.float32)}
    whole = list(train.batches(8, epochs=3, **how).as_numpy_iterator())
    rest = train.batches(8, epochs=2, first_epoch=1, first_step=2, **how)
    assert len(rest) == 8
    for found, expected in zip(rest.as_numpy_iterator(), whole[5 + 2 :], strict=True):
        for value, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(value, other)


def test_class_weights_belong_to_a_training_and_where_an_object_lies_does_not(three_colors):
    class Falling:
        def build(self, learning_rate, steps, steps_per_epoch):
            return learning_rate

    def facts(class_weights=None):
        phases = [Phase(LAST, 1, 0.1, Falling())]
        return facts_of(phases, *splits(three_colors), 8, 0, class_weights)

    assert facts() == facts()
    assert facts() != facts([1.0, 2.0, 1.0])
    assert facts([1, 2, 1]) == facts(np.array([1.0, 2.0, 1.0]))
