import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_tl import freezing
from keras_tl.data.arrays import from_arrays
from keras_tl.data.image_input import ImageInput
from keras_tl.data.pipeline import Samples
from keras_tl.errors import InputError
from keras_tl.training.anchors import L2SP, start_values
from keras_tl.training.fit import run_phases
from keras_tl.training.phases import Phase
from keras_tl.training.schedules import Constant


def phase(epochs=1, **values):
    plain = {"momentum": 0.0, "weight_decay": 0.0}
    return Phase(freezing.AllButLast(1), epochs, 0.05, Constant(), "sgd", **{**plain, **values})


@pytest.fixture
def still_model(tiny_model):
    for layer in tiny_model.layers:
        if hasattr(layer, "rate"):
            layer.rate = 0.0
    return tiny_model


def total_loss(model, images, targets, starts, penalty):
    """The paper's equation 4, written out."""
    loss = keras.losses.CategoricalCrossentropy()(targets, model(images, training=False))
    for weight in model.trainable_weights:
        if id(weight) in starts:
            loss += penalty.alpha / 2 * tf.reduce_sum((weight.value - starts[id(weight)]) ** 2)
        else:
            loss += penalty.beta / 2 * tf.reduce_sum(weight.value**2)
    return loss


@pytest.mark.slow
def test_a_step_in_a_later_phase_goes_along_the_gradient_of_the_penalty(still_model, three_colors):
    """What is drawn to is where the first phase started, not where this one does."""
    images, labels = three_colors
    data = Samples(from_arrays(images, labels), ImageInput(size=16))
    penalty, starts = L2SP(alpha=3.0, beta=0.5), start_values(still_model)
    begin = still_model.get_weights()
    options = {"batch_size": 60, "feature_store": False, "verbose": 0}
    run_phases(still_model, [phase(5)], data, **options)
    freezing.AllButLast(1).apply(still_model)
    with tf.GradientTape() as tape:
        pixels, targets = images.astype("float32"), np.eye(3, dtype="float32")[labels]
        loss = total_loss(still_model, pixels, targets, starts, penalty)
    gradients = tape.gradient(loss, [w.value for w in still_model.trainable_weights])
    before = [w.numpy() for w in still_model.trainable_weights]

    still_model.set_weights(begin)
    run_phases(still_model, [phase(5), phase(1, l2_sp=penalty)], data, **options)
    for weight, old, gradient in zip(still_model.trainable_weights, before, gradients, strict=True):
        np.testing.assert_allclose(weight.numpy(), old - 0.05 * gradient, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_the_losses_that_are_reported_are_the_datas(still_model, three_colors):
    data = Samples(from_arrays(*three_colors), ImageInput(size=16))
    begin = still_model.get_weights()
    rows = []
    for penalty in (None, L2SP(1e-9, 1e-9)):
        still_model.set_weights(begin)
        options = {"batch_size": 60, "feature_store": False, "verbose": 0}
        result = run_phases(still_model, [phase(2, l2_sp=penalty)], data, data, **options)
        rows.append([(row["loss"], row["val_loss"]) for row in result.history])
    np.testing.assert_allclose(*rows, rtol=1e-5)


@pytest.mark.slow
def test_a_strong_pull_keeps_weights_where_they_were(still_model, three_colors):
    data = Samples(from_arrays(*three_colors), ImageInput(size=16))
    kernel, begin = still_model.get_layer("two_conv").kernel, still_model.get_weights()
    start, away = kernel.numpy(), []
    for penalty in (None, L2SP(alpha=10.0, beta=0.0)):
        still_model.set_weights(begin)
        run_phases(still_model, [phase(10, l2_sp=penalty)], data, feature_store=False, verbose=0)
        away.append(np.linalg.norm(kernel.numpy() - start))
    assert away[1] < 0.5 * away[0]


def test_negative_strengths_are_refused():
    with pytest.raises(InputError, match="alpha and beta"):
        L2SP(alpha=-1.0)
