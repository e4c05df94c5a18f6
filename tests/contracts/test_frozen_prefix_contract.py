"""Every backbone can be cut: suffix(prefix(x)) == model(x), and nothing before the cut trains."""

import gc

import keras
import numpy as np
import pytest

from keras_tl import freezing, frozen_prefix
from keras_tl.backbones import registry
from keras_tl.builders.image import build_image_model

# The smallest row of each family.
ROWS = [
    "ConvNeXtTiny",
    "DenseNet121",
    "EfficientNetB0",
    "EfficientNetLite0",
    "EfficientNetV2B0",
    "InceptionResNetV2",
    "InceptionV3",
    "MobileNet",
    "MobileNetV2",
    "MobileNetV3Small",
    "NASNetMobile",
    "ResNet50",
    "ResNet50V2",
    "VGG16",
    "Xception",
]
FAST = ("EfficientNetLite0", "MobileNetV2")
POLICIES = (freezing.All(), freezing.AllButLast(1), freezing.AllButLast(3), freezing.Fraction(0.5))


def rows():
    for name in ROWS:
        marks = () if name in FAST else pytest.mark.slow
        yield pytest.param(name, marks=marks, id=name)


@pytest.fixture(scope="module", params=rows())
def model(request):
    keras.utils.set_random_seed(0)
    size = max(registry.get(request.param).min_image_size, 64)
    yield build_image_model(request.param, outputs=2, weights=None, image_size=size)
    keras.backend.clear_session()
    gc.collect()


def test_there_is_a_row_for_each_family():
    families = {registry.get(name).family for name in registry.names()} - {"TinyNet"}
    assert {registry.get(name).family for name in ROWS} == families


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_the_two_parts_are_the_whole(model, policy):
    policy.apply(model)
    parts = frozen_prefix.split(model)
    pixels = np.random.default_rng(0).uniform(0, 255, (2, *model.input_shape[1:]))
    pixels = pixels.astype("float32")
    np.testing.assert_array_equal(parts.suffix(parts.prefix(pixels)), model(pixels))
    assert not any(frozen_prefix.is_live(layer) for layer in parts.prefix.layers)
    trained = {weight.path for weight in model.trainable_weights}
    assert {weight.path for weight in parts.suffix.trainable_weights} == trained


def test_a_prefix_of_a_model_with_all_frozen_ends_at_the_pooled_features(model):
    freezing.All().apply(model)
    assert frozen_prefix.split(model).last_layers == ("head_pool",)
