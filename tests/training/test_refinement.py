import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from keras_tl import freezing
from keras_tl.training.fit import run_phases
from keras_tl.training.model import training_model
from keras_tl.training.phases import Phase
from keras_tl.training.refinement import REFINED_LOSS, RefinedLoss, refined_loss


def made(count=200, classes=3, strength=2.0, seed=0):
    random = np.random.default_rng(seed)
    true = random.integers(0, classes, count)
    logits = random.normal(0, 1, (count, classes))
    logits[np.arange(count), true] += strength
    return logits, np.eye(classes)[true]


def test_it_is_the_loss_at_the_best_temperature():
    logits, targets = made()

    def loss(log_temperature):
        likelihood = (log_softmax(logits / np.exp(log_temperature[0]), axis=1) * targets).sum(1)
        return -likelihood.mean() + log_temperature[0] ** 2 / (2 * len(logits))

    wanted = minimize(loss, [0.0], method="Nelder-Mead", options={"xatol": 1e-8}).fun
    assert refined_loss(softmax(logits, axis=1), targets) == pytest.approx(wanted, abs=1e-6)


def test_being_too_sure_costs_little_and_being_wrong_much():
    logits, targets = made(count=2000)
    right, sure = (refined_loss(softmax(k * logits, axis=1), targets) for k in (2, 6))
    plain = [-(log_softmax(k * logits, axis=1) * targets).sum(1).mean() for k in (2, 6)]
    assert plain[1] > 1.2 * plain[0]
    assert sure == pytest.approx(right, abs=2e-3)
    worse, _ = made(count=2000, strength=1.0)
    assert refined_loss(softmax(worse, axis=1), targets) > 1.2 * right


def test_of_two_epochs_that_are_right_about_all_the_clearer_one_is_better():
    targets = np.eye(2)[[0, 1] * 15]
    near = np.where(targets > 0, 0.6, 0.4)
    clear = np.where(targets > 0, 0.95, 0.05)
    assert 0 < refined_loss(clear, targets) < refined_loss(near, targets)


def with_two_inputs(steps_at_once):
    """A compiled model, and the callback that measures it on batches of seven rows."""
    logits, targets = made(count=7)
    # As a text encoder is cut: the hidden state and the mask beside it.
    hidden, mask = keras.Input((3,)), keras.Input((1,))
    model = keras.Model([hidden, mask], keras.layers.Softmax()(hidden * mask))
    fitted = training_model(model, model)
    how = {"loss": "categorical_crossentropy", "metrics": ["accuracy"]}
    model.compile(**how)
    fitted.compile(**how, steps_per_execution=steps_at_once)
    inputs = (logits.astype(np.float32), np.full((7, 1), 2.0, np.float32))
    batches = tf.data.Dataset.from_tensor_slices((inputs, targets)).batch(2)
    callback = RefinedLoss(targets)
    callback.set_model(fitted)
    return model, fitted, batches, callback, refined_loss(softmax(2 * logits, axis=1), targets)


@pytest.mark.parametrize("steps_at_once", [1, 3, 64])
def test_it_is_measured_on_what_validation_computes(steps_at_once):
    model, fitted, batches, callback, wanted = with_two_inputs(steps_at_once)
    for _ in range(2):
        found = fitted.evaluate(batches, callbacks=[callback], verbose=0)
        assert found == pytest.approx(model.evaluate(batches, verbose=0))
        assert callback.measure() == pytest.approx(wanted, abs=1e-5)


def test_what_other_callbacks_evaluate_does_not_count():
    _, fitted, batches, callback, wanted = with_two_inputs(1)
    fitted.evaluate(batches, callbacks=[callback], verbose=0)
    fitted.evaluate(batches.map(lambda x, y: (x, 1 - y)), verbose=0)
    assert callback.measure() == pytest.approx(wanted, abs=1e-5)


class Evaluating(keras.callbacks.Callback):
    """Evaluates within a validation, and may end that."""

    def __init__(self, batches, ends=False):
        super().__init__()
        self.batches, self.ends = batches, ends

    def on_test_begin(self, logs=None):
        self.model.evaluate(self.batches, verbose=0)

    def on_test_batch_end(self, batch, logs=None):
        self.model.stop_evaluating = self.ends


def test_a_validation_may_be_evaluated_in_and_ended():
    _, fitted, batches, callback, wanted = with_two_inputs(1)
    fitted.evaluate(batches, callbacks=[callback, Evaluating(batches)], verbose=0)
    assert callback.measure() == pytest.approx(wanted, abs=1e-5)
    fitted.evaluate(batches, callbacks=[callback, Evaluating(batches, ends=True)], verbose=0)
    logits, targets = made(count=7)
    first = refined_loss(softmax(2 * logits[:2], axis=1), targets[:2])
    assert callback.measure() == pytest.approx(first, abs=1e-5)


class Counting(keras.layers.Layer):
    """Counts the items that it sees in inference."""

    seen = 0

    def call(self, inputs, training=None):
        def count(items):
            Counting.seen += len(items)
            return items

        if training:
            return inputs
        return tf.ensure_shape(tf.numpy_function(count, [inputs], inputs.dtype), inputs.shape)


def test_validation_is_computed_once_an_epoch(train_val):
    train, val = train_val
    images = keras.Input((16, 16, 3))
    x = Counting()(keras.layers.Conv2D(2, 16)(keras.layers.Rescaling(1 / 255)(images)))
    outputs = keras.layers.Dense(3, activation="softmax")(keras.layers.Flatten()(x))
    model, Counting.seen = keras.Model(images, outputs), 0
    run_phases(model, [Phase(freezing.Nothing(), 3, 0.01)], train, val, batch_size=8, verbose=0)
    assert Counting.seen == (1 + 3) * len(val)


def test_the_best_epoch_is_chosen_by_it(tiny_model, three_colors, train_val):
    train, val = train_val
    phase = Phase(freezing.All(), 6, 0.3)
    history = run_phases(tiny_model, [phase], train, val, batch_size=20, verbose=0).history
    best = min(row[REFINED_LOSS] for row in history)
    outputs = tiny_model.predict(val.batches(60).map(lambda x, y: x), verbose=0)
    assert refined_loss(outputs, val.targets()) == pytest.approx(best, rel=1e-3)
    assert keras.ops.shape(outputs)[1] == 3


@pytest.fixture
def train_val(three_colors):
    from keras_tl.data.arrays import from_arrays
    from keras_tl.data.prepare import prepare

    images, labels = three_colors
    data = prepare(
        from_arrays(images, labels), image_size=16, augment="none", val_fraction=0.3, audit=False
    )
    return data.train, data.val
