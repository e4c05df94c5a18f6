import io
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_tl.data.image_input import ImageInput
from keras_tl.errors import InputError
from keras_tl.export.described import described
from keras_tl.export.saved_model import export_saved_model
from keras_tl.model_info import ModelInfo

SIZE = 32
NAMES = ("Löwe", "猫", "dog")
ACTIVATIONS = {"single-label": "softmax", "multi-label": "sigmoid", "regression": "linear"}


def _model(task="single-label", size=SIZE):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((size, size, 3), name="pixels")
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    x = keras.layers.Conv2D(4, 3, strides=2)(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Dropout(0.5)(keras.layers.Flatten()(x))
    return keras.Model(inputs, keras.layers.Dense(3, activation=ACTIVATIONS[task])(x))


def _info(task="single-label", **options):
    return ModelInfo(ImageInput(size=SIZE), NAMES, task, backbone="Own", **options)


def _png(seed, width=SIZE, height=SIZE):
    """A PNG of the model's size, so that its pixels are known without any resizing."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue(), pixels


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A single-label SavedModel, its Keras model, and four PNGs with their pixels."""
    model = _model()
    files = [_png(seed) for seed in range(4)]
    path = tmp_path_factory.mktemp("export") / "saved_model"
    assert export_saved_model(model, path, _info(), sample_files=[files[0][0]]) == path
    encoded = [content for content, _ in files]
    return path, model, encoded, np.stack([pixels for _, pixels in files])


def _call(path, signature, **inputs):
    return tf.saved_model.load(str(path)).signatures[signature](
        **{name: tf.constant(value) for name, value in inputs.items()}
    )


def test_encoded_images_give_what_keras_gives(exported):
    path, model, encoded, pixels = exported
    result = _call(path, "serving_default", image_bytes=encoded)
    expected = model.predict(pixels.astype(np.float32), verbose=0)
    np.testing.assert_allclose(result["probabilities"], expected, atol=1e-5)
    assert result["probabilities"].dtype == tf.float32
    assert result["class_index"].dtype == tf.int64
    assert result["class_index"].numpy().tolist() == expected.argmax(axis=1).tolist()
    names = [name.decode() for name in result["class_name"].numpy()]
    assert names == [NAMES[index] for index in expected.argmax(axis=1)]


def test_pixels_give_what_keras_gives(exported):
    path, model, _, pixels = exported
    result = _call(path, "pixels", pixels=pixels)
    expected = model.predict(pixels.astype(np.float32), verbose=0)
    np.testing.assert_allclose(result["probabilities"], expected, atol=1e-5)


def test_decode_shows_the_pixels(exported):
    path, _, encoded, pixels = exported
    result = _call(path, "decode", image_bytes=encoded)
    np.testing.assert_array_equal(result["pixels"], pixels)


def test_images_of_several_sizes_and_formats_in_one_batch(exported):
    path, _, encoded, _ = exported
    file = io.BytesIO()
    Image.new("L", (7, 90), 128).save(file, "JPEG")
    result = _call(path, "serving_default", image_bytes=[encoded[0], file.getvalue()])
    assert result["probabilities"].shape == (2, 3)


def test_a_batch_of_no_images(exported):
    path = exported[0]
    loaded = tf.saved_model.load(str(path)).signatures
    result = loaded["serving_default"](image_bytes=tf.zeros([0], tf.string))
    assert result["probabilities"].shape == (0, 3)
    assert result["class_name"].shape == (0,)


def test_description_is_found_in_the_saved_model(exported):
    assert ModelInfo.read(exported[0]) == _info()


def test_runs_where_only_tensorflow_is(exported):
    path, model, encoded, pixels = exported
    (path.parent / "image.png").write_bytes(encoded[0])
    code = """
import sys
sys.modules["keras_tl"] = sys.modules["keras"] = None
import tensorflow as tf
run = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
result = run(image_bytes=tf.reshape(tf.io.read_file(sys.argv[2]), [1]))
print(result["probabilities"].numpy()[0].tolist())
"""
    command = [sys.executable, "-c", code, str(path), str(path.parent / "image.png")]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    received = [float(value) for value in finished.stdout.strip("[]\n").split(",")]
    expected = model.predict(pixels[:1].astype(np.float32), verbose=0)[0]
    np.testing.assert_allclose(received, expected, atol=1e-5)


@pytest.mark.slow
def test_multi_label_outputs(tmp_path):
    model, info = _model("multi-label"), _info("multi-label", thresholds=(0.0, 1.0, 0.0))
    export_saved_model(model, tmp_path / "out", info)
    encoded, pixels = zip(*(_png(seed) for seed in range(2)), strict=True)
    result = _call(tmp_path / "out", "serving_default", image_bytes=list(encoded))
    expected = model.predict(np.stack(pixels).astype(np.float32), verbose=0)
    np.testing.assert_allclose(result["probabilities"], expected, atol=1e-5)
    assert result["predicted"].numpy().tolist() == [[True, False, True]] * 2
    assert [label.decode() for label in result["labels"].numpy()] == ["Löwe|dog"] * 2
    none = _call(tmp_path / "out", "pixels", pixels=np.zeros((0, SIZE, SIZE, 3), np.uint8))
    assert none["labels"].shape == (0,)


def test_labels_of_an_image_with_none_are_empty():
    info = _info("multi-label", thresholds=(0.5, 0.75, 0.5))
    outputs = tf.constant([[0.25, 0.5, 0.25], [0.5, 0.5, 0.75]])
    assert described(outputs, info)["labels"].numpy().tolist() == [b"", "Löwe|dog".encode()]


@pytest.mark.slow
def test_regression_outputs(tmp_path):
    model = _model("regression")
    export_saved_model(model, tmp_path / "out", _info("regression"))
    encoded, pixels = _png(5)
    result = _call(tmp_path / "out", "serving_default", image_bytes=[encoded])
    expected = model.predict(pixels[None].astype(np.float32), verbose=0)
    assert list(result) == ["values"]
    np.testing.assert_allclose(result["values"], expected, rtol=1e-4, atol=1e-5)


def test_model_that_does_not_fit_is_refused(tmp_path):
    with pytest.raises(InputError, match="32x32x3 pixels to 3 outputs, received one from 48x48x3"):
        export_saved_model(_model(size=48), tmp_path / "out", _info())
    two = ModelInfo(ImageInput(size=SIZE), NAMES[:2], "single-label")
    with pytest.raises(InputError, match="to 2 outputs, received one from 32x32x3 to 3"):
        export_saved_model(_model(), tmp_path / "out", two)
    assert list(tmp_path.iterdir()) == []
