import logging
import urllib.error
from dataclasses import replace

import keras
import numpy as np
import pytest
from keras.src.utils import file_utils

from keras_tl.backbones import registry
from keras_tl.backbones.applications import SECOND_SCALING
from keras_tl.backbones.graph import set_weights
from keras_tl.backbones.load import load_backbone, preprocess
from keras_tl.backbones.spec import Block
from keras_tl.errors import InputError

PIXELS = np.random.default_rng(4).integers(0, 256, (1, 32, 32, 3)).astype(np.float32)


def relative_difference(a, b):
    a, b = np.asarray(a), np.asarray(b)
    return np.abs(a - b).max() / np.abs(b).max()


@pytest.mark.parametrize("mode", ["caffe", "tf", "torch"])
def test_preprocessing_is_that_of_keras(mode):
    expected = keras.applications.imagenet_utils.preprocess_input(PIXELS.copy(), mode=mode)
    pixels = keras.Input((32, 32, 3))
    ours = keras.Model(pixels, preprocess(pixels, mode))(PIXELS)
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-4)
    assert not np.allclose(ours, expected[..., ::-1], atol=1e-2)


def test_the_graph_is_flat_named_and_trainable():
    model = load_backbone("mobilenet_v2", weights=None, image_size=32)
    assert model.name == "MobileNetV2"
    assert model.inputs[0].name == "pixels"
    assert model.input_shape == (None, 32, 32, 3)
    assert model.output_shape == (None, 1, 1, 1280)
    assert all(layer.trainable for layer in model.layers)
    assert not [layer for layer in model.layers if isinstance(layer, keras.Model)]
    assert not [layer.name for layer in model.layers if set(layer.name) & {".", "/"}]


def test_default_size_is_the_row_s():
    assert load_backbone("MobileNet", weights=None).input_shape == (None, 224, 224, 3)


def test_vgg_features_are_taken_at_a_dense_layer():
    model = load_backbone("VGG16", weights=None, image_size=32, features="fc2")
    assert model.output_shape == (None, 4096)
    assert [layer.name for layer in model.layers][-3:] == ["flatten_1", "fc1", "fc2"]


@pytest.mark.slow
def test_vgg_with_its_imagenet_top(tmp_path, monkeypatch):
    path = tmp_path / "top.weights.h5"
    reference = keras.applications.VGG16(weights=None)
    reference.save_weights(path)
    monkeypatch.setattr(file_utils, "get_file", lambda *args, **kwargs: str(path))
    pixels = np.resize(PIXELS, (1, 224, 224, 3))
    fed = keras.applications.vgg16.preprocess_input(pixels.copy())
    expected = keras.Model(reference.input, reference.get_layer("fc2").output)(fed)
    for weights in ("imagenet", path):
        ours = load_backbone("VGG16", weights=weights, features="fc2")
        assert relative_difference(ours(pixels), expected) < 1e-4
        assert relative_difference(ours(pixels[..., ::-1]), expected) > 1e-3


def test_features_at_any_layer():
    model = load_backbone("MobileNetV2", weights=None, image_size=32, features="block_12_add")
    assert model.output_shape == (None, 2, 2, 96)
    assert "block_13_expand" not in [layer.name for layer in model.layers]


def test_unknown_features_are_suggested():
    with pytest.raises(InputError, match=r"Did you mean .*block_12_add"):
        load_backbone("MobileNetV2", weights=None, image_size=32, features="block12_add")


def test_too_small_an_image_names_the_minimum():
    with pytest.raises(InputError, match="at least 75 for InceptionV3, received 64"):
        load_backbone("InceptionV3", weights=None, image_size=64)


def test_the_imagenet_top_fits_one_size_only():
    with pytest.raises(InputError, match="an image size of 224 for VGG16 with its ImageNet top"):
        load_backbone("VGG16", weights="imagenet", image_size=64, features="fc1")


def test_no_network_is_one_line_that_names_the_way_out(monkeypatch, tmp_path):
    def offline(*args, **kwargs):
        raise urllib.error.URLError("Name or service not known")

    # Keras' own get_file raises what it does for a URL that cannot be fetched.
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(file_utils, "urlretrieve", offline)
    with pytest.raises(InputError, match="--weights FILE") as caught:
        load_backbone("MobileNetV2", image_size=96)
    assert "\n" not in str(caught.value)
    assert "MobileNetV2" in str(caught.value)
    assert "Name or service not known" in str(caught.value)


def test_an_error_of_keras_tl_s_own_is_left_alone(monkeypatch):
    def damaged(*args, **kwargs):
        try:
            raise OSError("unreadable")
        except OSError as error:
            raise InputError("a whole file", "half of one", "Get it again.") from error

    monkeypatch.setattr(file_utils, "get_file", damaged)
    with pytest.raises(InputError, match="a whole file"):
        load_backbone("VGG16", image_size=32)


def test_other_failures_are_not_called_a_download(monkeypatch):
    def broken(*args, **kwargs):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(file_utils, "get_file", broken)
    with pytest.raises(ZeroDivisionError):
        load_backbone("VGG16", image_size=32)


def test_a_weights_file_is_reported(tmp_path, caplog):
    path = tmp_path / "body.weights.h5"
    keras.applications.VGG16(weights=None, include_top=False).save_weights(path)
    with caplog.at_level(logging.INFO, "keras_tl"):
        load_backbone("VGG16", weights=str(path), image_size=32)
    assert "body.weights.h5: weights of 13 layers loaded (block1_conv1, " in caplog.text


def test_a_missing_weights_file():
    with pytest.raises(InputError, match="imagenett"):
        load_backbone("MobileNetV2", weights="imagenett", image_size=32)


@pytest.mark.slow
def test_preprocessing_is_in_float32_under_mixed_precision():
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        model = load_backbone("EfficientNetB0", weights=None, image_size=32)
        pixels = keras.Input((32, 32, 3))
        assert preprocess(pixels, "torch").dtype == "float32"
    finally:
        keras.mixed_precision.set_global_policy("float32")
    kinds = (keras.layers.Rescaling, keras.layers.Normalization)
    own = [layer.compute_dtype for layer in model.layers if isinstance(layer, kinds)]
    assert own == ["float32"] * 3
    assert model.output.dtype == "bfloat16"


@pytest.fixture(scope="module")
def scratch():
    """An EfficientNetB0 as Keras builds it without weights: without the second scaling."""
    body = keras.applications.EfficientNetB0(
        weights=None, include_top=False, input_shape=(32, 32, 3)
    )
    for layer in body.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            # Random weights alone let the signal die out in the depth.
            layer.momentum = 0.0
    body(np.random.default_rng(0).uniform(0, 255, (16, 32, 32, 3)), training=True)
    return keras.Model(body.input, keras.layers.Dense(2)(body.output))


def features_of(path):
    return load_backbone("EfficientNetB0", weights=path, image_size=32)(PIXELS)


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize("ending", [".keras", ".weights.h5", ".h5"])
def test_an_efficientnet_from_scratch_has_no_second_scaling(scratch, ending, tmp_path):
    path = tmp_path / f"scratch{ending}"
    (scratch.save_weights if ending == ".weights.h5" else scratch.save)(path)
    expected = keras.Model(scratch.input, scratch.layers[-2].output)(PIXELS)
    assert relative_difference(features_of(path), expected) < 1e-4


def test_an_efficientnet_keeps_a_second_scaling_that_its_file_has(scratch, tmp_path):
    ours = load_backbone("EfficientNetB0", weights=None, image_size=32)
    ours.set_weights(scratch.get_weights()[: len(ours.weights)])
    ours.save_weights(tmp_path / "random.weights.h5")
    assert relative_difference(features_of(tmp_path / "random.weights.h5"), ours(PIXELS)) < 1e-4
    scalings = [x for x in ours.layers if isinstance(x, keras.layers.Rescaling)]
    (scaling,) = (layer for layer in scalings if layer.scale == 1.0)
    scaling.scale = list(SECOND_SCALING)
    ours.save(tmp_path / "ours.keras")
    assert relative_difference(features_of(tmp_path / "ours.keras"), ours(PIXELS)) < 1e-4
    normalization = next(x for x in ours.layers if isinstance(x, keras.layers.Normalization))
    set_weights(normalization, [np.full(3, 0.5), np.full(3, 0.25), np.array(0)])
    ours.save_weights(tmp_path / "ours.weights.h5")
    assert relative_difference(features_of(tmp_path / "ours.weights.h5"), ours(PIXELS)) < 1e-4


def test_a_file_of_another_backbone_with_the_same_names_is_refused(tmp_path):
    path = tmp_path / "b0.keras"
    shape = (32, 32, 3)
    keras.applications.EfficientNetB0(weights=None, include_top=False, input_shape=shape).save(path)
    with pytest.raises(InputError, match=r"EfficientNetLite0 in b0.keras.*\(block1a_se_reduce, "):
        load_backbone("EfficientNetLite0", weights=path, image_size=32)


# A row of one's own


@pytest.fixture
def own_row(monkeypatch):
    """Registers a TinyNet with other fields, under another name."""
    monkeypatch.setattr(registry, "_SPECS", dict(registry._SPECS))

    def register(**fields):
        registry.register(replace(registry.get("TinyNet"), name="Own", **fields))

    return register


def test_without_published_weights_imagenet_is_refused(own_row, tmp_path):
    own_row(published=False)
    with pytest.raises(InputError, match="for Own, or none, received 'imagenet', of which none"):
        load_backbone("Own")
    path = tmp_path / "own.weights.h5"
    load_backbone("Own", weights=None).save_weights(path)
    load_backbone("Own", weights=path)


@pytest.mark.parametrize(
    "fields",
    [
        {"stem": "stem_ou"},
        {"blocks": (Block("one", "one_ad"), Block("two", "two_add"))},
        {"output": "topp_out"},
    ],
)
@pytest.mark.parametrize("features", [None, "one_add"])
def test_names_in_a_row_that_no_layer_has_are_refused(own_row, fields, features):
    own_row(**fields)
    with pytest.raises(InputError, match=r"layers of Own in its row, .* Did you mean \w+_"):
        load_backbone("Own", weights=None, features=features)


def test_an_error_without_a_download_is_not_called_one(own_row):
    def factory(image_size, weights, include_top):
        raise OSError("no such table of filters")

    own_row(factory=factory)
    with pytest.raises(OSError, match="table of filters") as caught:
        load_backbone("Own", weights=None)
    assert not isinstance(caught.value, InputError)
    with pytest.raises(InputError, match="to download the ImageNet weights of Own"):
        load_backbone("Own")
