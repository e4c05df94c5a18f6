"""Batches that are computed in parts, losses that are scaled, and memory that runs out."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_tl import freezing
from keras_tl.builders.image import build_image_model
from keras_tl.data.arrays import from_arrays
from keras_tl.data.image_input import ImageInput
from keras_tl.data.pipeline import Samples
from keras_tl.errors import InputError
from keras_tl.training import model
from keras_tl.training.fit import run_phases
from keras_tl.training.model import TrainingModel, parts_of
from keras_tl.training.phases import Phase

FITTED = []


@pytest.fixture
def noted(monkeypatch):
    """Notes what is fitted."""
    FITTED.clear()
    fit = TrainingModel.fit
    monkeypatch.setattr(
        TrainingModel, "fit", lambda s, *a, **k: FITTED.append(s) or fit(s, *a, **k)
    )


def trained(images, micro_batches=1, policy=None, weights=None, **options):
    """A model, and its history, after two epochs."""
    labels = np.arange(len(images)) % 3
    data = Samples(from_arrays(images, labels), ImageInput(size=16))
    keras.utils.set_random_seed(1)
    net = build_image_model("TinyNet", outputs=3, weights=None, dropout=0.0)
    for name in ("one_drop", "two_drop"):
        net.get_layer(name).rate = 0.0
    phase = Phase(policy or freezing.AllButLast(1), 2, 1e-3, **options)
    found = run_phases(
        net,
        [phase],
        data,
        data,
        batch_size=12,
        micro_batches=micro_batches,
        class_weights=weights,
        feature_store=False,
        verbose=0,
    )
    return net, found.history


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 255, (36, 16, 16, 3)).astype("uint8")


def test_parts_keep_structure_and_order():
    x, y = tf.reshape(tf.range(12), (6, 2)), tf.range(6)
    parts = parts_of(((x, x + 100), y), 3)
    np.testing.assert_array_equal(parts[1][0][1], x[2:4] + 100)
    np.testing.assert_array_equal(parts[2][1], [4, 5])


@pytest.mark.parametrize("weights", [pytest.param(None, marks=pytest.mark.slow), [1.0, 3.0, 0.5]])
def test_an_update_of_parts_is_that_of_the_whole_batch(images, weights, noted):
    whole, history = trained(images, weights=weights, clip_norm=0.5)
    parts, of_parts = trained(images, 4, weights=weights, clip_norm=0.5)
    assert [each.micro_batches for each in FITTED] == [1, 4]
    for one, other in zip(whole.get_weights(), parts.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)
    for row, other in zip(history, of_parts, strict=True):
        for name in ("loss", "accuracy", "val_loss"):
            assert row[name] == pytest.approx(other[name], abs=1e-4)


@pytest.mark.slow
def test_a_mean_of_some_parts_only_would_be_seen(images, monkeypatch):
    whole, _ = trained(images)
    monkeypatch.setattr(model, "parts_of", lambda batch, count: [parts_of(batch, count)[0]] * count)
    faulty, _ = trained(images, 4)
    moved = [
        np.abs(one - other).max()
        for one, other in zip(whole.get_weights(), faulty.get_weights(), strict=True)
    ]
    assert max(moved) > 1e-4


def test_a_batch_that_has_fewer_images_than_parts_is_refused(images):
    with pytest.raises(InputError, match="at least 40 training images"):
        trained(images, 40)


@pytest.mark.slow
def test_losses_are_scaled_in_float16(images, noted):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        narrow, history = trained(images, 2)
    finally:
        keras.config.set_dtype_policy("float32")
    wide, expected = trained(images, 2)
    assert [type(each.optimizer).__name__ for each in FITTED] == ["LossScaleOptimizer", "AdamW"]
    assert history[-1]["loss"] == pytest.approx(expected[-1]["loss"], abs=0.02)
    kernel = "two_conv"
    start = build_weights(kernel)
    step = wide.get_layer(kernel).get_weights()[0] - start
    other = narrow.get_layer(kernel).get_weights()[0] - start
    assert np.corrcoef(step.ravel(), other.ravel())[0, 1] > 0.9


def build_weights(name):
    keras.utils.set_random_seed(1)
    net = build_image_model("TinyNet", outputs=3, weights=None, dropout=0.0)
    return net.get_layer(name).get_weights()[0]


def test_a_batch_that_does_not_fit_is_said_with_what_to_try(images, monkeypatch):
    def full(self, *arguments, **options):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    monkeypatch.setattr(TrainingModel, "fit", full)
    with pytest.raises(InputError, match=r"batches of 12 .*--micro-batches 4.*--batch-size 6\."):
        trained(images, 2)


def test_a_weight_that_the_loss_does_not_know_is_passed_over():
    inputs = keras.Input((4,))
    idle = keras.layers.Dense(2, name="idle")
    outputs = keras.layers.Dense(3, activation="softmax", name="known")(inputs)
    idle(inputs)
    x = np.random.default_rng(0).normal(size=(12, 4)).astype("float32")
    y = np.eye(3, dtype="float32")[np.arange(12) % 3]
    found = []
    for parts in (1, 3):
        keras.utils.set_random_seed(0)
        net = TrainingModel(inputs, outputs)
        net.get_layer("known").kernel.assign(np.ones((4, 3)))
        net._trainable_variables.append(idle.kernel)
        net.micro_batches = parts
        assert any(weight is idle.kernel for weight in net.trainable_weights)
        net.compile(keras.optimizers.SGD(0.1), "categorical_crossentropy", jit_compile=False)
        net.fit(x, y, batch_size=12, epochs=1, verbose=0)
        found.append(net.get_layer("known").kernel.numpy())
    np.testing.assert_allclose(*found, atol=1e-6)
