"""Against averages of the weights of a run without averaging, made by hand."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from keras_tl import freezing
from keras_tl.data.arrays import from_arrays
from keras_tl.data.image_input import ImageInput
from keras_tl.data.pipeline import Samples
from keras_tl.errors import InputError
from keras_tl.training.averaging import EMA, SWA
from keras_tl.training.fit import run_phases
from keras_tl.training.phases import Phase
from keras_tl.training.refinement import REFINED_LOSS
from keras_tl.training.schedules import Constant

EPOCHS = 5


def phase(averaging=None, policy=None, **values):
    return Phase(
        policy or freezing.AllButLast(1),
        EPOCHS,
        0.05,
        Constant(),
        "sgd",
        **{"averaging": averaging, "weight_decay": 0.0, **values},
    )


class Steps(keras.callbacks.Callback):
    """The weights that train after each step and each epoch."""

    def __init__(self):
        super().__init__()
        self.after_steps, self.after_epochs = [], []

    def on_train_batch_end(self, batch, logs=None):
        self.after_steps.append([v.numpy() for v in self.model.trainable_variables])

    def on_epoch_end(self, epoch, logs=None):
        self.after_epochs.append([v.numpy() for v in self.model.trainable_variables])


@pytest.fixture
def train(tiny_model, three_colors):
    """Trains the same model from the same start: history, what was seen, what it ends with."""
    for layer in tiny_model.layers:
        if hasattr(layer, "rate"):
            layer.rate = 0.0
    start = tiny_model.get_weights()
    data = Samples(from_arrays(*three_colors), ImageInput(size=16))
    labels = three_colors[1].copy()

    def run(one_phase, val=False, each_step=True):
        tiny_model.set_weights(start)
        seen = Steps()
        validation = Samples(from_arrays(three_colors[0], labels), ImageInput(size=16))
        result = run_phases(
            tiny_model,
            [one_phase],
            data,
            validation if val else None,
            batch_size=20,
            each_step=each_step,
            callbacks=lambda _: [seen],
            verbose=0,
        )
        return result.history, seen, [v.numpy() for v in tiny_model.trainable_variables]

    run.model, run.data, run.labels = tiny_model, data, labels
    return run


def assert_equal(found, expected):
    for value, want in zip(found, expected, strict=True):
        np.testing.assert_allclose(value, want, rtol=1e-4, atol=1e-6)


def mean(rows):
    return [np.mean(values, axis=0) for values in zip(*rows, strict=True)]


def ema(rows, momentum):
    average = rows[0]
    for row in rows[1:]:
        pairs = zip(average, row, strict=True)
        average = [momentum * a + (1 - momentum) * b for a, b in pairs]
    return average


@pytest.mark.slow
def test_swa_ends_with_the_mean_of_the_last_epochs(train):
    history, plain, _ = train(phase())
    averaged, seen, end = train(phase(SWA(start=0.4)))
    assert_equal(end, mean(plain.after_epochs[2:]))
    assert_equal(seen.after_epochs[1], plain.after_epochs[1])
    assert_equal(seen.after_epochs[3], mean(plain.after_epochs[2:4]))
    # Training went on from the weights' own.
    assert [r["loss"] for r in averaged] == pytest.approx([r["loss"] for r in history], rel=1e-5)


@pytest.mark.parametrize(
    "policy", [freezing.All(), pytest.param(freezing.AllButLast(1), marks=pytest.mark.slow)]
)
def test_ema_ends_with_the_moving_average(train, policy):
    _, plain, _ = train(phase(policy=policy))
    _, _, end = train(phase(EMA(0.8), policy), each_step=False)
    assert_equal(end, ema(plain.after_steps, 0.8))


@pytest.mark.slow
@pytest.mark.parametrize("averaging", [EMA(0.9), pytest.param(SWA(0.0), marks=pytest.mark.slow)])
def test_what_is_validated_and_kept_is_the_average(train, averaging):
    _, plain, _ = train(phase())
    history, seen, end = train(phase(averaging), val=True)
    model = train.model
    model.compile(loss="categorical_crossentropy")
    losses = []
    for epoch in range(EPOCHS):
        average = mean(plain.after_epochs[: epoch + 1])
        if averaging == EMA(0.9):
            average = ema(plain.after_steps[: 3 * (epoch + 1)], 0.9)
        for variable, value in zip(model.trainable_variables, average, strict=True):
            variable.assign(value)
        losses.append(model.evaluate(train.data.batches(20), verbose=0))
    assert [row["val_loss"] for row in history] == pytest.approx(losses, rel=1e-4)
    assert_equal(end, seen.after_epochs[int(np.argmin(losses))])


def test_a_phase_that_stops_early_ends_with_the_best_average(train):
    """Keras' own swap of averages forgets, where a training is stopped, to swap them in."""
    train.labels[::5] += 1  # of validation: the surer the model, the worse it is at these
    train.labels %= 3
    sure = replace(phase(EMA(0.5), freezing.All(), patience=1), epochs=40, learning_rate=3.0)
    history, seen, end = train(sure, val=True)
    assert 2 < len(history) < 40
    assert_equal(end, seen.after_epochs[int(np.argmin([row[REFINED_LOSS] for row in history]))])


def test_moving_statistics_are_refused_before_any_training(train):
    before = train.model.get_weights()
    moving = phase(EMA(), freezing.AllButLast(1, batch_norm="trained"))
    with pytest.raises(InputError, match="whose statistics move"):
        run_phases(train.model, [phase(), moving], train.data, verbose=0)
    assert_equal(train.model.get_weights(), before)


@pytest.mark.parametrize("make", [lambda: EMA(1.0), lambda: SWA(1.0), lambda: SWA(-0.1)])
def test_values_out_of_range_are_refused(make):
    with pytest.raises(InputError):
        make()
