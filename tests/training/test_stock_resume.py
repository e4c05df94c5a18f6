"""Keras' own callbacks in a training that was stopped in an epoch and goes on.

What they write is compared with what they write in a training that ran through.
"""

import shutil

import keras
import pytest
import tensorflow as tf

from keras_tl import freezing
from keras_tl.builders.image import build_image_model
from keras_tl.data.arrays import from_arrays
from keras_tl.data.image_input import ImageInput
from keras_tl.data.pipeline import Samples
from keras_tl.errors import InputError
from keras_tl.feature_cache import FeatureStore
from keras_tl.training import resume, saver
from keras_tl.training.fit import run_phases
from keras_tl.training.phases import Phase
from keras_tl.training.resume import Checkpoint
from keras_tl.training.schedules import Constant

# Three epochs of five steps: the eighth is the third of the second epoch.
STEPS, STOP = 5, 8


class PowerCutError(Exception):
    pass


class PowerCut(keras.callbacks.Callback):
    """Ends at a step, or when an epoch's validation begins, and leaves `logs` as a kill would."""

    def __init__(self, logs, after=None, validation=None):
        super().__init__()
        self.logs, self.after, self.validation = logs, after, validation
        self.steps = self.validations = 0

    def on_train_batch_end(self, batch, logs=None):
        self.steps += 1
        self._cut(self.steps == self.after)

    def on_test_begin(self, logs=None):
        self.validations += 1
        self._cut(self.validations == self.validation)

    def _cut(self, now):
        if now:
            if self.logs.is_dir():
                shutil.copytree(self.logs, self.logs.with_name(f"{self.logs.name}-left"))
            raise PowerCutError


@pytest.fixture
def run(three_colors, tmp_path, monkeypatch):
    monkeypatch.setattr(resume, "LEAST_SHARE", 0)
    store = FeatureStore(tmp_path / "store", dtype="float32")
    images, labels = three_colors

    def samples(part):
        return Samples(from_arrays(images[part], labels[part]), ImageInput(size=16))

    def run(*callbacks, kept=None, seconds=0.0, each_step=True, phases=1, before=None):
        def begin(phase):
            if phase.name == before:
                raise PowerCutError
            return callbacks

        keras.utils.set_random_seed(1)
        try:
            return run_phases(
                build_image_model("TinyNet", outputs=3, weights=None, dropout=0.3),
                [
                    Phase(freezing.All(), 3, 0.01, Constant(), weight_decay=0.0, name=str(number))
                    for number in range(phases)
                ],
                samples(slice(0, 45)),
                samples(slice(45, 60)),
                batch_size=8,
                feature_store=store,
                engine="tensorflow",
                each_step=each_step,
                callbacks=begin,
                checkpoint=Checkpoint(kept, seconds=seconds) if kept else None,
                verbose=0,
            )
        finally:
            # What a process that is killed takes along: the writers that are TensorFlow's default.
            for board in callbacks:
                while getattr(board, "_prev_summary_state", None):
                    board._pop_writer()

    return run


def board(folder, update_freq):
    return keras.callbacks.TensorBoard(folder, update_freq=update_freq, write_graph=False)


def events(*folders):
    """What was written: folder, tag, step and value."""
    found = set()
    for path in (path for folder in folders for path in folder.rglob("events.*")):
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            event = tf.compat.v1.Event.FromString(record)
            for value in event.summary.value:
                figure = tf.make_ndarray(value.tensor).item()
                found.add((path.parent.name, value.tag, event.step, figure))
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("update_freq", "every"), [("batch", 1), (3, 3)])
def test_tensorboard_goes_on_with_its_steps(run, tmp_path, update_freq, every):
    run(board(tmp_path / "through", update_freq))
    # Behind all steps of the second epoch; the next run sees those again, and two more.
    stops, parts = [{"validation": 2}, {"after": STEPS + 2}], []
    for number, stop in enumerate(stops):
        logs = tmp_path / f"part-{number}"
        with pytest.raises(PowerCutError):
            run(board(logs, update_freq), PowerCut(logs, **stop), kept=tmp_path / "kept")
        parts.append(tmp_path / f"part-{number}-left")
    run(board(tmp_path / "last", update_freq), kept=tmp_path / "kept")
    expected = events(tmp_path / "through")
    losses = {step for _, tag, step, _ in expected if tag == "batch_loss"}
    # Keras 3.12 writes the others too.
    assert losses >= {step for step in range(1, 3 * STEPS + 1) if step % every == 0}
    assert events(*parts, tmp_path / "last") == expected
    # No part has it all.
    assert all(events(part) < expected for part in (*parts, tmp_path / "last"))


@pytest.mark.slow
def test_tensorboard_may_come_and_go(run, tmp_path):
    expected = run()
    logs = tmp_path / "logs"
    with pytest.raises(PowerCutError):
        run(PowerCut(logs, after=STOP), kept=tmp_path / "without")
    with pytest.raises(PowerCutError):
        run(board(logs, "batch"), PowerCut(logs, after=STOP), kept=tmp_path / "with")
    found = run(board(tmp_path / "new", "batch"), kept=tmp_path / "without")
    assert _losses(found) == _losses(expected) == _losses(run(kept=tmp_path / "with"))
    # A new one counts from where it came, and shows nothing of the steps before.
    steps = {step for _, tag, step, _ in events(tmp_path / "new") if tag == "batch_loss"}
    assert steps == set(range(1, 3 * STEPS - (STOP - 1) + 1))


def writers(folder):
    """A rate that falls from what it was, models by step, the best one of an epoch's steps."""
    folder.mkdir(exist_ok=True)
    models = {"save_weights_only": True, "save_freq": 4, "monitor": "loss"}
    return (
        keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2),
        keras.callbacks.CSVLogger(folder / "log.csv", append=True),
        keras.callbacks.ModelCheckpoint(folder / "{epoch}-{batch}.weights.h5", **models),
        keras.callbacks.ModelCheckpoint(
            folder / "best-{epoch}.weights.h5", save_best_only=True, **models
        ),
    )


@pytest.mark.slow
def test_what_was_done_in_an_epoch_is_not_done_twice(run, tmp_path):
    expected = run(*writers(tmp_path / "through"))
    logs = tmp_path / "parts"
    with pytest.raises(PowerCutError):
        run(*writers(logs), PowerCut(logs, after=STOP), kept=tmp_path / "kept")
    found = run(*writers(logs), kept=tmp_path / "kept")
    rates = [row["learning_rate"] for row in found.history]
    assert rates == pytest.approx([0.005, 0.0025, 0.00125])
    assert _losses(found) == _losses(expected)
    names = sorted(path.name for path in logs.iterdir())
    # Behind each fourth step, and no others.
    assert [name for name in names if name[0].isdigit()] == [
        "1-4.weights.h5",
        "2-3.weights.h5",
        "3-2.weights.h5",
    ]
    assert names == sorted(path.name for path in (tmp_path / "through").iterdir())
    assert (logs / "log.csv").read_bytes() == (tmp_path / "through" / "log.csv").read_bytes()


def test_a_phase_that_is_done_again_begins_as_it_did(run, tmp_path, monkeypatch):
    """Where nothing was kept of the phase but how it began."""
    monkeypatch.setattr(saver, "SECONDS_AT_EPOCH_ENDS", 1e9)
    log, best = tmp_path / "log.csv", tmp_path / "best.keras"

    def pair():
        rows = keras.callbacks.CSVLogger(log, append=True)
        return rows, keras.callbacks.ModelCheckpoint(best, save_best_only=True)

    first = pair()
    # As a phase before would leave it: no loss is lower.
    first[1].best = -1.0
    with pytest.raises(PowerCutError):
        run(*first, PowerCut(log, after=STOP), kept=tmp_path / "kept", seconds=1e9)
    assert log.read_text().count("\n") == 2
    run(*pair(), kept=tmp_path / "kept", seconds=1e9)
    assert [row.split(",")[0] for row in log.read_text().splitlines()] == ["epoch", "0", "1", "2"]
    assert not best.exists()


@pytest.mark.slow
def test_what_was_best_in_a_phase_is_known_to_the_next(run, tmp_path):
    """Also where the run is killed between the two."""

    def best(name):
        # The highest loss is an early one's; few epochs of a second phase come up to it.
        kind = {"monitor": "loss", "mode": "max", "save_best_only": True}
        return keras.callbacks.ModelCheckpoint(tmp_path / f"{name}.keras", **kind)

    expected, cut = best("through"), best("cut")
    run(expected, phases=2)
    with pytest.raises(PowerCutError):
        run(cut, phases=2, before="1", kept=tmp_path / "kept")
    written = (tmp_path / "cut.keras").read_bytes()
    again = best("cut")
    found = run(again, phases=2, kept=tmp_path / "kept")
    losses = [loss for loss, _ in _losses(found)]
    assert len(losses) == 6 and losses.index(max(losses)) < 3
    assert again.best == expected.best == pytest.approx(max(losses))
    assert (tmp_path / "cut.keras").read_bytes() == written


def test_a_step_within_those_done_at_once_is_refused(run, tmp_path):
    with pytest.raises(PowerCutError):
        run(PowerCut(tmp_path / "logs", after=STOP), kept=tmp_path / "kept")
    with pytest.raises(InputError, match=r"stopped behind step 2, received 5 at once"):
        run(kept=tmp_path / "kept", each_step=False)


def _losses(result):
    return [(row["loss"], row["val_loss"]) for row in result.history]
