import io
import logging

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from keras_tl.data.image_input import ImageInput
from keras_tl.errors import CheckError, InputError
from keras_tl.export import saved_model, verify
from keras_tl.export.saved_model import export_saved_model
from keras_tl.export.verify import default_tolerance, probe_images
from keras_tl.heads import add_head
from keras_tl.model_info import ModelInfo

SIZE = 32
write, decode, described = saved_model._write, saved_model.decode, saved_model.described


def _model(activation="softmax", scale=1 / 127.5, seed=3):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Rescaling(scale, offset=-1)(inputs)
    x = keras.layers.Flatten()(keras.layers.Conv2D(4, 3, strides=2)(x))
    return keras.Model(inputs, keras.layers.Dense(2, activation=activation)(x))


def _info(task="single-label"):
    return ModelInfo(ImageInput(size=SIZE), ("ok", "bad"), task)


def _assert_refused(folder, message, model=None, info=None, **options):
    """The export fails, and leaves nothing at all behind."""
    with pytest.raises(CheckError, match=message):
        export_saved_model(model or _model(), folder / "out", info or _info(), **options)
    assert list(folder.iterdir()) == []


def _quick_decode(contents, image_input):
    pixels = tf.io.decode_image(contents, channels=3, expand_animations=False)
    resized = tf.image.resize(pixels, [SIZE, SIZE], antialias=True)
    return tf.saturate_cast(tf.round(resized), tf.uint8)


@pytest.fixture
def quick(monkeypatch):
    """A small decoder on both sides: tracing the real one takes most of an export's time."""
    monkeypatch.setattr(saved_model, "decode", _quick_decode)
    monkeypatch.setattr(verify, "decode", _quick_decode)


def _decode_with(change):
    return lambda contents, image_input: change(_quick_decode(contents, image_input))


def _without_exif(contents, image_input):
    """Decodes rightly, except that it does not turn what the EXIF segment says to turn."""

    def as_stored():
        pixels = tf.io.decode_jpeg(contents, channels=3, dct_method="INTEGER_ACCURATE")
        resized = tf.image.resize(pixels, [SIZE, SIZE], antialias=True)
        return tf.saturate_cast(tf.round(resized), tf.uint8)

    has_exif = tf.strings.substr(contents, 6, 4) == b"Exif"
    return tf.cond(has_exif, as_stored, lambda: decode(contents, image_input))


def test_a_faithful_export_passes_and_says_so(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="keras_tl")
    file = tmp_path / "a.bmp"
    Image.new("RGB", (50, 40), (200, 10, 90)).save(file)
    export_saved_model(_model(), tmp_path / "out", _info(), sample_files=[file])
    assert "agrees with the Keras model on 5 images" in caplog.text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.bmp", "out"]


def test_skipping_exif_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(saved_model, "decode", _without_exif)
    _assert_refused(tmp_path, "pixels.*a JPEG that EXIF says to turn")


@pytest.mark.parametrize(
    "change",
    [lambda x: x[..., ::-1], lambda x: x // 2, lambda x: x[:, ::-1]],
    ids=["channels swapped", "scaled", "mirrored"],
)
@pytest.mark.usefixtures("quick")
def test_another_decoding_is_refused(tmp_path, monkeypatch, change):
    monkeypatch.setattr(saved_model, "decode", _decode_with(change))
    _assert_refused(tmp_path, "pixels within 1 level")


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("task", ["single-label", "multi-label", "regression"])
def test_another_scaling_inside_the_graph_is_refused(tmp_path, monkeypatch, task):
    activation = {"single-label": "softmax", "multi-label": "sigmoid", "regression": None}[task]
    scaled = _model(activation, scale=1 / 255)
    monkeypatch.setattr(saved_model, "_write", lambda _, *rest: write(scaled, *rest))
    _assert_refused(
        tmp_path, "outputs of signature serving_default", _model(activation), _info(task)
    )


@pytest.mark.usefixtures("quick")
def test_weights_that_are_slightly_off_are_refused_by_the_tolerance(tmp_path, monkeypatch):
    model, other = _model(), _model()
    bias = other.layers[-1].bias
    bias.assign(bias + np.array([0.01, 0.0]))
    monkeypatch.setattr(saved_model, "_write", lambda _, *rest: write(other, *rest))
    _assert_refused(tmp_path, "within 1.0e-04 of the Keras", model)
    export_saved_model(model, tmp_path / "out", _info(), tolerance=0.1)


@pytest.mark.usefixtures("quick")
def test_outputs_that_are_no_numbers_are_refused(tmp_path):
    model = _model()
    model.layers[-1].bias.assign([np.nan, 0.0])
    _assert_refused(tmp_path, "a difference of nan", model)


@pytest.mark.usefixtures("quick")
def test_class_names_in_another_order_are_refused(tmp_path, monkeypatch):
    other = ModelInfo(ImageInput(size=SIZE), ("bad", "ok"), "single-label")
    monkeypatch.setattr(saved_model, "described", lambda outputs, _: described(outputs, other))
    _assert_refused(tmp_path, "class_name of signature serving_default")


@pytest.mark.usefixtures("quick")
def test_a_refused_export_keeps_the_older_one(tmp_path, monkeypatch):
    export_saved_model(_model(), tmp_path / "out", _info())
    before = (tmp_path / "out" / "saved_model.pb").read_bytes()
    monkeypatch.setattr(saved_model, "decode", _decode_with(lambda x: x // 2))
    with pytest.raises(CheckError):
        export_saved_model(_model(), tmp_path / "out", _info())
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "saved_model.pb").read_bytes() == before


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("content", [b"no image", None], ids=["not an image", "no file"])
def test_unusable_sample_files_are_named(tmp_path, content):
    file = tmp_path / "broken.jpg"
    if content:
        file.write_bytes(content)
    with pytest.raises(InputError, match=r"sample files.*broken\.jpg"):
        export_saved_model(_model(), tmp_path / "out", _info(), sample_files=[file])
    assert not (tmp_path / "out").exists()


def test_probe_images_are_what_they_say():
    images = {name: Image.open(io.BytesIO(data)) for name, data in probe_images().items()}
    assert images["a grey JPEG"].mode == "L"
    assert images["a PNG with transparency"].mode == "RGBA"
    turned = images["a JPEG that EXIF says to turn"]
    assert turned.getexif()[0x0112] == 6
    assert turned.size == (64, 48)
    assert ImageOps.exif_transpose(turned).size == (48, 64)


@pytest.mark.usefixtures("quick")
def test_bfloat16_model_passes_with_its_wider_tolerance(tmp_path):
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = _model()
    finally:
        keras.config.set_dtype_policy(previous)
    assert default_tolerance(model) == 3e-2
    assert default_tolerance(_model()) == 1e-4
    export_saved_model(model, tmp_path / "out", _info())
    run = tf.saved_model.load(str(tmp_path / "out")).signatures["pixels"]
    result = run(pixels=tf.zeros([1, SIZE, SIZE, 3], tf.uint8))
    assert result["probabilities"].dtype == tf.float32


def test_each_target_of_a_regression_has_a_scale_of_its_own():
    """A wrong small one must show beside a large one; a large mean has its own roundings."""
    info = ModelInfo(ImageInput(16), ("tiny", "large"), "regression")
    inputs = keras.Input((16, 16, 3))
    features = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(inputs))
    unit = {"target_mean": (0.5, 1e6), "target_scale": (0.1, 2.0)}
    model = add_head(features, 2, task="regression", **unit)
    expected = np.array([[0.4, 1e6 + 1], [0.02, 1e6 - 1]])
    scales = verify.scales_of(model, expected, info)
    np.testing.assert_allclose(scales, [0.4, 1e6 + 1])
    small = np.array([[0.01, 1e6 - 3], [0.02, 1e6 - 1]])
    np.testing.assert_allclose(verify.scales_of(model, small, info), [0.1, 1e6 - 1])
    images = {"one": b"", "two": b""}
    rounded = expected + np.array([1e-7, 0.06])
    assert verify.check_outputs("it", rounded, expected, images, scales, 1e-5) < 1e-6
    wrong = expected + np.array([[0.1, 0], [0, 0]])
    with pytest.raises(CheckError, match=r"a difference of 2\.5e-01 for one"):
        verify.check_outputs("it", wrong, expected, images, scales, 1e-2)
    # Features without a head may be near 0 without saying anything by it.
    np.testing.assert_allclose(verify.scales_of(features, expected, info), [1e6 + 1] * 2)
