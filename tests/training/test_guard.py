import keras
import numpy as np
import pytest

from keras_tl import freezing
from keras_tl.errors import CheckError
from keras_tl.training.guard import FreezingGuard


def fit(model, data, guard, **options):
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    images, labels = data
    model.fit(images, labels, callbacks=[guard], verbose=0, **options)


def batch(data):
    return data[0][:8].astype("float32"), data[1][:8]


def test_a_sound_phase_passes_and_both_checks_ran(tiny_model, three_colors):
    freezing.AllButLast(1).apply(tiny_model)
    guard = FreezingGuard(tiny_model, batch(three_colors))
    fit(tiny_model, three_colors, guard)
    assert guard.gradients_checked == len(tiny_model.trainable_variables)
    assert guard.frozen_checked == len(tiny_model.non_trainable_weights)


def test_flags_changed_after_compile_are_caught(tiny_model, three_colors):
    """The classic silent failure: compile, then freeze; `fit` trains what it compiled."""
    freezing.AllButLast(1).apply(tiny_model)
    guard = FreezingGuard(tiny_model, batch(three_colors))
    tiny_model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    tiny_model.fit(*three_colors, verbose=0)
    tiny_model.get_layer("top_conv").trainable = False
    with pytest.raises(CheckError, match="top_conv"):
        tiny_model.fit(*three_colors, callbacks=[guard], verbose=0)


def test_a_moving_statistic_is_caught(tiny_model, three_colors):
    class Drift(keras.callbacks.Callback):
        def on_train_batch_begin(self, step, logs=None):
            mean = self.model.get_layer("stem_bn").moving_mean
            mean.assign(mean + 1e-6)

    freezing.All().apply(tiny_model)
    guard = FreezingGuard(tiny_model, batch(three_colors))
    tiny_model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    with pytest.raises(CheckError, match="moving_mean"):
        tiny_model.fit(*three_colors, callbacks=[Drift(), guard], verbose=0)


def test_a_variable_that_cannot_learn_is_caught_unless_it_is_named(three_colors):
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.GlobalAveragePooling2D()(inputs)
    dead = keras.layers.Dense(3, kernel_initializer="zeros", use_bias=False, name="dead")(x)
    zero = keras.layers.Rescaling(0.0)(dead)
    out = keras.layers.Dense(3, activation="softmax", name="out")(x)
    model = keras.Model(inputs, keras.layers.Add()([zero, out]))
    with pytest.raises(CheckError, match="dead/kernel"):
        fit(model, three_colors, FreezingGuard(model, batch(three_colors)))
    fit(model, three_colors, FreezingGuard(model, batch(three_colors), ("dead/kernel",)))


def test_the_gradient_check_changes_nothing(tiny_model, three_colors):
    freezing.Nothing(batch_norm="trained").apply(tiny_model)
    tiny_model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    before = [variable.numpy() for variable in tiny_model.variables]
    guard = FreezingGuard(tiny_model, batch(three_colors))
    guard.set_model(tiny_model)
    guard.on_train_begin()
    for variable, value in zip(tiny_model.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value, err_msg=variable.path)


def test_nothing_to_train_is_said(tiny_model, three_colors):
    freezing.Matching("*").apply(tiny_model)
    with pytest.raises(CheckError, match="all frozen"):
        fit(tiny_model, three_colors, FreezingGuard(tiny_model, batch(three_colors)))
