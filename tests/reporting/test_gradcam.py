import keras
import numpy as np
import pytest
import tensorflow as tf
from hub_modules import ImageModule

from keras_tl.builders.hub import build_hub_model
from keras_tl.reporting.gradcam import grad_cam, last_feature_map


def build(dtype):
    """A 1x1 convolution with two channels, mean pooling, and two classes."""
    inputs = keras.Input((3, 4, 3))
    x = keras.layers.Conv2D(2, 1, use_bias=False, dtype=dtype, name="features")(inputs)
    x = keras.layers.GlobalAveragePooling2D(keepdims=True, dtype=dtype)(x)
    x = keras.layers.Flatten(dtype=dtype)(x)
    x = keras.layers.Dense(2, "softmax", name="classes")(x)
    model = keras.Model(inputs, x)
    random = np.random.default_rng(0)
    model.set_weights([random.normal(size=w.shape) for w in model.get_weights()])
    return model


@pytest.fixture
def small():
    return build("float32")


def by_hand(model, pixels, k):
    """Behind mean pooling the slope of a class's score is its weight / places."""
    features = pixels @ model.get_layer("features").kernel.numpy()[0, 0]
    weights = model.get_layer("classes").kernel.numpy()[:, k]
    maps = np.maximum(features @ weights / 12, 0)
    return maps / maps.max(axis=(1, 2), keepdims=True)


def test_maps_are_those_worked_out_by_hand(small):
    pixels = np.random.default_rng(1).uniform(-1, 1, (5, 3, 4, 3)).astype(np.float32)
    small.trainable = False
    found = grad_cam(small, pixels, np.array([0, 1, 0, 1, 1]))
    assert found.shape == (5, 3, 4)
    for i, k in enumerate((0, 1, 0, 1, 1)):
        np.testing.assert_allclose(found[i], by_hand(small, pixels, k)[i], atol=1e-5)
    # The twin: the other class's map is another.
    assert not np.allclose(found[0], by_hand(small, pixels, 1)[0], atol=0.05)


def test_the_score_is_the_one_before_the_softmax(small):
    # Where the softmax is sure its slope vanishes, and a map made from it.
    kernel, _ = small.get_layer("classes").get_weights()
    small.get_layer("classes").set_weights([kernel, np.array([80.0, -80.0])])
    pixels = np.random.default_rng(1).uniform(-1, 1, (1, 3, 4, 3)).astype(np.float32)
    np.testing.assert_allclose(
        grad_cam(small, pixels, np.array([0])), by_hand(small, pixels, 0), atol=1e-5
    )


def test_mixed_precision(small):
    pixels = np.random.default_rng(1).uniform(-1, 1, (2, 3, 4, 3)).astype(np.float32)
    found = grad_cam(build("mixed_bfloat16"), pixels, np.array([0, 0]))
    assert found.dtype == np.float32
    # Eight bits of mantissa.
    np.testing.assert_allclose(found, by_hand(small, pixels, 0), atol=0.03)


def test_the_feature_map_is_the_last_with_more_than_one_place(small, tiny_model):
    assert last_feature_map(small).shape == (None, 3, 4, 2)
    assert last_feature_map(tiny_model)._keras_history.operation.name == "top_out"


def test_a_backbone_with_uint8_pixels(tiny_model):
    pixels = np.random.default_rng(0).integers(0, 255, (9, 16, 16, 3)).astype(np.uint8)
    found = grad_cam(tiny_model, pixels, np.arange(9) % 3)
    assert found.shape == (9, 8, 8)
    assert ((found >= 0) & (found <= 1)).all() and found.max() == 1


def test_a_model_of_vectors_has_no_map():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(2, "softmax")(inputs))
    assert grad_cam(model, np.zeros((1, 4), np.float32), np.array([0])) is None


def test_in_front_of_a_hub_module_there_is_no_feature_map(tmp_path):
    """What is there are the pixels, whose colours show nothing of the module."""
    tf.saved_model.save(ImageModule(16), str(tmp_path))
    model = build_hub_model(tmp_path, outputs=2, image_size=16)
    assert last_feature_map(model) is None
    assert grad_cam(model, np.zeros((1, 16, 16, 3), np.float32), np.array([0])) is None
