import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_tl.backbones import graph
from keras_tl.backbones.graph import in_float32, rebuild
from keras_tl.backbones.layers import (
    FreezableDropout,
    FreezableStochasticDepth,
    freezable,
)
from keras_tl.backbones.load import preprocess

LAYERS = keras.layers


def randomised(model, seed=0):
    rng = np.random.default_rng(seed)
    model.set_weights([rng.uniform(0.1, 0.9, w.shape) for w in model.get_weights()])
    return model


def nested_model():
    """Sequential in functional in functional, a shared layer, sums and a number multiplied."""
    inner_input = keras.Input((8, 8, 4))
    inner = keras.Model(inner_input, LAYERS.Conv2D(4, 1)(LAYERS.ReLU()(inner_input)))
    stem = keras.Sequential([LAYERS.Conv2D(4, 3, padding="same"), LAYERS.BatchNormalization()])
    shared = LAYERS.Conv2D(4, 1, name="_shared.conv")
    inputs = keras.Input((8, 8, 3), name="image")
    x = stem(inputs)
    x = inner(x, training=False) + shared(shared(x))
    x = x * 0.5 + 1.0
    return randomised(keras.Model(inputs, LAYERS.Conv2D(2, 1)(x), name="outer"))


PIXELS = np.random.default_rng(1).uniform(0, 1, (2, 8, 8, 3)).astype(np.float32)


def test_flat_copy_computes_the_same():
    model = nested_model()
    flat = graph.rebuild(model, stable_names=True)
    np.testing.assert_allclose(flat(PIXELS), model(PIXELS), rtol=1e-6)
    assert not [layer for layer in flat.layers if isinstance(layer, keras.Model)]
    assert len(flat.weights) == len(model.weights)


def test_a_wrong_weight_is_seen():
    flat = graph.rebuild(nested_model())
    kernel = flat.weights[0]
    kernel.assign(kernel + 0.01)
    assert not np.allclose(flat(PIXELS), nested_model()(PIXELS), rtol=1e-6)


def test_copies_share_nothing():
    model = nested_model()
    before = np.array(model(PIXELS))
    flat = graph.rebuild(model)
    for weight in flat.weights:
        weight.assign(weight * 0)
    np.testing.assert_array_equal(model(PIXELS), before)


def test_shared_layers_stay_shared():
    flat = graph.rebuild(nested_model(), stable_names=True)
    assert len(flat.get_layer("shared_conv")._inbound_nodes) == 2


def test_names_do_not_depend_on_what_was_built_before():
    first = [layer.name for layer in graph.rebuild(nested_model(), stable_names=True).layers]
    LAYERS.Conv2D(1, 1), LAYERS.ReLU(), LAYERS.BatchNormalization()
    flat = graph.rebuild(nested_model(), stable_names=True)
    assert first == [layer.name for layer in flat.layers]
    assert first[0] == "image"
    # Counted from 1 in the order in which they were made, whatever the order in the graph.
    convs = [layer for layer in flat.layers if isinstance(layer, LAYERS.Conv2D)]
    kernels = {layer.name: layer.kernel.shape for layer in convs}
    assert kernels == {
        "conv2d_1": (1, 1, 4, 4),
        "conv2d_2": (3, 3, 3, 4),
        "shared_conv": (1, 1, 4, 4),
        "conv2d_3": (1, 1, 4, 2),
    }
    # A sum of two tensors is a layer; the sum with a number is not.
    assert [name for name in first if name.startswith("add")] == ["add_1"]


@pytest.mark.parametrize(
    ("class_name", "expected"),
    [
        ("Conv2D", "conv2d"),
        ("ReLU", "re_lu"),
        ("GlobalAveragePooling2D", "global_average_pooling2d"),
        ("CustomScaleLayer", "custom_scale_layer"),
        ("PReLU", "p_re_lu"),
    ],
)
def test_snake_case_is_that_of_keras(class_name, expected):
    assert graph.snake_case(class_name) == expected
    layer_class = getattr(LAYERS, class_name, None)
    if class_name in ("ReLU", "GlobalAveragePooling2D", "PReLU"):
        assert graph.auto_number(layer_class().name, expected) is not None


@pytest.mark.parametrize(
    ("name", "number"),
    [("conv2d", 0), ("conv2d_12", 12), ("conv2d_x", None), ("my_conv2d", None), ("Conv2d", None)],
)
def test_auto_number(name, number):
    assert graph.auto_number(name, "conv2d") == number


def test_clean_name():
    assert graph.clean_name("_blocks.0/_bn1") == "blocks_0__bn1"


def test_flags_are_kept():
    model = nested_model()
    model.get_layer("_shared.conv").trainable = False
    flat = graph.rebuild(model, stable_names=True)
    assert not flat.get_layer("shared_conv").trainable
    assert flat.get_layer("conv2d_3").trainable


def test_normalization_computes_with_the_copied_weights():
    inputs = keras.Input((3,))
    layer = LAYERS.Normalization()
    model = keras.Model(inputs, layer(inputs))
    layer.adapt(np.array([[0.0, 10.0, 20.0], [2.0, 14.0, 26.0]]))
    out = graph.rebuild(model)(np.array([[1.0, 12.0, 26.0]]))
    np.testing.assert_allclose(out, [[0.0, 0.0, 1.0]], atol=1e-6)


def test_inputs_can_be_given():
    flat = graph.rebuild(nested_model(), inputs=keras.Input((8, 8, 3), name="given"))
    assert flat.layers[0].name == "given"


def with_dropout():
    pixels = keras.Input((8, 8, 3), name="pixels")
    x = preprocess(pixels, "caffe")
    x = LAYERS.Conv2D(4, 3, name="conv")(x)
    x = FreezableDropout(0.5, name="drop", trainable=False)(x)
    x = FreezableStochasticDepth(0.5, name="path")(x)
    return randomised(keras.Model(pixels, x))


def test_swapping_classes_keeps_names_and_flags():
    back = graph.rebuild(graph.to_stock(with_dropout()), replace=freezable)
    assert type(back.get_layer("drop")) is FreezableDropout
    assert not back.get_layer("drop").trainable
    assert type(back.get_layer("path")) is FreezableStochasticDepth


@pytest.mark.slow
def test_to_stock_loads_without_keras_tl(tmp_path):
    model = with_dropout()
    stock = graph.to_stock(model)
    assert [layer.name for layer in stock.layers] == [layer.name for layer in model.layers]
    stock.save(tmp_path / "model.keras")
    np.save(tmp_path / "x.npy", PIXELS)
    np.save(tmp_path / "y.npy", model(PIXELS))
    code = (
        "import sys, keras, numpy as np\n"
        "model = keras.models.load_model('model.keras')\n"
        "np.testing.assert_allclose(model(np.load('x.npy')), np.load('y.npy'), rtol=1e-5)\n"
        "assert not model.get_layer('drop').trainable\n"
        "assert not [name for name in sys.modules if name.startswith('keras_tl')]\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_stock_model_becomes_freezable_again(tiny_model):
    from keras_tl import freezing
    from keras_tl.backbones.graph import to_freezable
    from keras_tl.backbones.layers import FreezableDropout

    freezing.All().apply(tiny_model)
    loaded = to_freezable(graph.to_stock(tiny_model))
    assert type(loaded.get_layer("one_drop")) is FreezableDropout
    flags = [(layer.name, layer.trainable) for layer in tiny_model.layers[1:]]
    assert [(layer.name, layer.trainable) for layer in loaded.layers[1:]] == flags
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 16, 16, 3)).astype("float32")
    np.testing.assert_allclose(loaded(pixels), tiny_model(pixels), atol=1e-6)


def test_a_vocabulary_that_was_learned_is_copied():
    strings = keras.Input((), dtype="string")
    words = keras.layers.TextVectorization(output_sequence_length=3, name="words")
    words.adapt(["cat dog", "cat"])
    x = keras.layers.Embedding(5, 2, name="vectors")(words(strings))
    model = keras.Model(strings, x)
    texts = tf.constant(["dog cat", "cow"])
    np.testing.assert_array_equal(rebuild(model)(texts), model(texts))


@pytest.mark.parametrize("nested", [False, True])
def test_a_model_in_16_bits_is_copied_in_32(nested):
    shift = 3.0
    inputs = keras.Input((4,))
    dense = keras.layers.Dense(2, dtype="mixed_bfloat16", name="dense")
    # What it refers to is not in its configuration.
    moved = keras.layers.Lambda(lambda x: x + shift, dtype="mixed_bfloat16", name="moved")
    outputs = moved(dense(inputs))
    if nested:
        outer = keras.Input((4,))
        inputs, outputs = outer, keras.Model(inputs, outputs, name="inner")(outer)
    model = keras.Model(inputs, outputs)
    copy = in_float32(model)
    assert {layer.compute_dtype for layer in copy.layers} == {"float32"}
    given = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    kernel, bias = model.get_weights()
    np.testing.assert_allclose(copy(given), given @ kernel + bias + shift, rtol=1e-5)
    assert in_float32(copy) is copy


class Halves(keras.regularizers.Regularizer):
    """Not registered, as a class of a script is not."""

    def __call__(self, weight):
        return keras.ops.sum(weight) / 2

    def get_config(self):
        return {}


def test_functions_and_objects_of_ones_own_are_copied():
    inputs = keras.Input((3,))
    x = keras.layers.Dense(4, activation=lambda t: t * 2, kernel_regularizer=Halves())(inputs)
    x = keras.layers.Activation(lambda t: t + 1)(x)
    model = keras.Model(inputs, keras.layers.Dense(2, activation=twice)(x))
    copy = rebuild(model)
    values = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    np.testing.assert_array_equal(copy(values), model(values))
    np.testing.assert_allclose(copy.losses[0], model.losses[0])


def twice(tensor):
    return tensor * 2
