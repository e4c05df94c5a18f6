import keras
import numpy as np
import pytest
from keras.src.applications.convnext import StochasticDepth

from keras_tl.backbones.layers import (
    FreezableDropout,
    FreezableStochasticDepth,
    freezable,
    stock,
)

X = np.ones((16, 4, 4, 2), np.float32)

PAIRS = [
    (keras.layers.Dropout, FreezableDropout, {"rate": 0.5, "seed": 3}),
    (
        keras.layers.Dropout,
        FreezableDropout,
        {"rate": 0.5, "seed": 3, "noise_shape": (None, 1, 1, 1)},
    ),
    (StochasticDepth, FreezableStochasticDepth, {"drop_path_rate": 0.5}),
]


def run(layer, training):
    # An older Keras (3.12) goes on with one generator for layers without a seed.
    keras.backend.clear_session()
    keras.utils.set_random_seed(7)
    return keras.ops.convert_to_numpy(layer(X, training=training))


@pytest.mark.parametrize(("stock_class", "freezable_class", "config"), PAIRS)
def test_trainable_gives_the_stock_output(stock_class, freezable_class, config):
    expected = run(stock_class(**config), training=True)
    assert 0 < (expected == 0).mean() < 1
    np.testing.assert_array_equal(run(freezable_class(**config), training=True), expected)
    np.testing.assert_array_equal(run(freezable_class(**config), training=False), X)


@pytest.mark.parametrize(("stock_class", "freezable_class", "config"), PAIRS)
def test_frozen_is_the_identity_and_stock_is_not(stock_class, freezable_class, config):
    ours, theirs = freezable_class(**config), stock_class(**config)
    ours.trainable = theirs.trainable = False
    np.testing.assert_array_equal(run(ours, training=True), X)
    assert (run(theirs, training=True) != X).any()


def test_frozen_dropout_stays_silent_in_fit():
    inputs = keras.Input((4,))
    dropout = FreezableDropout(0.9)
    dropout.trainable = False
    model = keras.Model(inputs, keras.layers.Dense(1, use_bias=False)(dropout(inputs)))
    model.compile("sgd", "mse")
    x = np.ones((8, 4), np.float32)
    target = model.predict(x, verbose=0)
    assert model.fit(x, target, verbose=0).history["loss"][0] < 1e-12
    dropout.trainable = True
    model.compile("sgd", "mse")
    assert model.fit(x, target, verbose=0).history["loss"][0] > 1e-4


@pytest.mark.parametrize(("stock_class", "freezable_class", "config"), PAIRS)
def test_twins_keep_name_flag_and_settings(stock_class, freezable_class, config):
    layer = stock_class(**config, name="drop", trainable=False)
    twin = freezable(layer)
    assert type(twin) is freezable_class
    assert twin.get_config() == layer.get_config()
    assert type(stock(twin)) is stock_class
    assert stock(twin).get_config() == layer.get_config()


def test_other_layers_have_no_twin():
    layer = keras.layers.SpatialDropout2D(0.5)
    assert freezable(layer) is layer
    assert stock(layer) is layer
