import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from keras_tl import freezing
from keras_tl.training import refinement
from keras_tl.training.fit import run_phases
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


def test_a_model_of_several_inputs_is_measured():
    logits, targets = made(count=7)
    # As a text encoder is cut: the hidden state and the mask beside it.
    hidden, mask = keras.Input((3,)), keras.Input((1,))
    model = keras.Model([hidden, mask], keras.layers.Softmax()(hidden * mask))
    inputs = (logits.astype(np.float32), np.full((7, 1), 2.0, np.float32))
    callback = RefinedLoss(tf.data.Dataset.from_tensor_slices((inputs, targets)).batch(4), targets)
    callback.set_model(model)
    wanted = refined_loss(softmax(2 * logits, axis=1), targets)
    assert callback.measure() == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize(
    ("shape", "dtype", "batches"),
    [((3,), "float32", [4, 3]), ((3,), "int32", [2, 2, 2, 1]), ((3, 1), "float32", [2, 2, 2, 1])],
)
def test_features_alone_come_in_large_batches(monkeypatch, shape, dtype, batches):
    monkeypatch.setattr(refinement, "BATCH_NUMBERS", 9)  # three rows of them, and one
    inputs = np.arange(21).reshape(7, *shape).astype(dtype)
    data = tf.data.Dataset.from_tensor_slices((inputs, np.arange(7))).batch(2)
    found = [x.numpy() for x, _ in RefinedLoss(data, np.arange(7)).validation]
    assert [len(x) for x in found] == batches
    np.testing.assert_array_equal(np.concatenate(found), inputs)


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
