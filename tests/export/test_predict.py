"""The program beside exports: it must see a file as training does, and decide alike."""

import importlib.util
import io
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_tl.data.decoding import decode
from keras_tl.data.image_input import ImageInput
from keras_tl.export import predict
from keras_tl.model_info import ModelInfo

# The files that the decoder itself is tested on.
_path = Path(__file__).parents[1] / "data" / "test_decoding.py"
_spec = importlib.util.spec_from_file_location("decoding_files", _path)
files = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(files)

KINDS = {
    **files.EXACT,
    **files.WITHIN_ONE,
    "bmp 32 bit": files.encode(files.square(4), "BMP"),
    "jpeg, half size": files.encode(files.photograph(131, 200), "JPEG"),
    "jpeg, eighth": files.encode(files.photograph(515, 613), "JPEG"),
    "png 16 bit": files.encode(
        Image.fromarray((np.arange(1024).reshape(32, 32) * 64).astype(np.uint16)), "PNG"
    ),
}


def difference(contents, **settings):
    """Largest difference of the program's pixels from the data pipeline's, and how many differ."""
    image_input = ImageInput(**settings)
    expected = decode(tf.constant(contents), image_input).numpy().astype(int)
    spec = json.loads(ModelInfo(image_input, ("a", "b"), "single-label").to_json())["image_input"]
    received = predict.read_pixels(io.BytesIO(contents), spec)
    assert received.dtype == np.uint8
    apart = np.abs(received - expected)
    return apart.max(), (apart > 0).mean()


@pytest.mark.parametrize("name", KINDS)
def test_reads_every_kind_as_training_does(name):
    largest, share = difference(KINDS[name], size=24)
    assert largest <= 1
    # Lossy formats have a decoder of their own in each library.
    assert share == 0 or "jpeg" in name or "webp" in name


@pytest.mark.parametrize("mode", ["squash", "crop", "pad", "shorter-crop"])
@pytest.mark.parametrize("sides", [(37, 80), (80, 37), (300, 20), (20, 300), (9, 11), (1, 1)])
def test_resizes_as_training_does(mode, sides):
    contents = files.encode(files.picture(3, *sides), "PNG")
    for antialias in (True, False):
        assert difference(contents, size=32, resize=mode, antialias=antialias)[0] <= 1


@pytest.mark.parametrize(
    ("orientation", "mode"), list(itertools.product(range(1, 9), ["squash", "crop"]))
)
def test_turns_a_jpeg_of_a_smaller_scale_upright(orientation, mode):
    exif = files.exif(orientation, "<")
    contents = files.encode(files.photograph(131, 301), "JPEG", exif=exif)
    assert difference(contents, size=32, resize=mode)[0] <= 1


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_turns_other_kinds_upright(kind):
    assert difference(files.oriented(kind, 6), size=32, resize="pad")[0] <= 1


def test_a_file_that_is_not_turned_is_seen(monkeypatch):
    monkeypatch.setattr(predict, "read_orientation", lambda image: 1)
    assert difference(files.oriented("JPEG", 6), size=32)[0] > 20


def test_a_part_of_a_pixel_that_is_forgotten_is_seen(monkeypatch):
    """Flipped, a picture of an odd width begins within a pixel of a smaller scale."""
    contents = files.encode(files.photograph(131, 301), "JPEG", exif=files.exif(3, "<"))
    assert difference(contents, size=32)[0] <= 1
    fit = predict._fit
    monkeypatch.setattr(
        predict, "_fit", lambda p, r, sides, start, i: fit(p, r, sides, 0 * start, i)
    )
    assert difference(contents, size=32)[0] > 3


def test_malformed_exif_is_ignored():
    contents = files.oriented("JPEG", 6)
    damaged = contents.replace(b"II*\0\x08\0\0\0", b"II*\0\xff\xff\xff\xff")
    assert damaged != contents
    assert difference(damaged, size=32)[0] <= 1


def test_too_many_pixels_are_refused_before_they_are_decoded():
    spec = {"size": 8, "resize": "squash", "antialias": True, "max_pixels": 10**8}
    with pytest.raises(ValueError, match="more than 100000000 pixels"):
        predict.read_pixels(io.BytesIO(files.png_bomb(60000, 60000)), spec)


@pytest.mark.parametrize("name", ["empty", "text", "truncated jpeg", "truncated png"])
def test_broken_files_are_errors(name):
    spec = {"size": 8, "resize": "squash", "antialias": True, "max_pixels": 10**8}
    with pytest.raises((OSError, ValueError)):
        predict.read_pixels(io.BytesIO(files.BROKEN[name]), spec)


def test_a_png_whose_chunks_make_no_sense_is_an_error():
    pixels, content = np.random.default_rng(0).integers(0, 256, (300, 300, 3)), io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(content, "PNG")
    damaged = bytearray(content.getvalue())
    second = damaged.index(b"IDAT", damaged.index(b"IDAT") + 4)
    damaged[second - 4 : second + 4] = bytes(8)
    spec = {"size": 8, "resize": "squash", "antialias": True, "max_pixels": 10**8}
    with pytest.raises(OSError, match="damaged image: broken PNG"):
        predict.read_pixels(io.BytesIO(bytes(damaged)), spec)


def info(task, thresholds=(), names=("a", "b")):
    return {"task": task, "class_names": list(names), "thresholds": list(thresholds)}


def test_the_most_probable_class_is_the_answer():
    found = predict.answer(np.array([0.25, 0.75], np.float32), info("single-label"))
    assert found == {"class": "b", "probability": 0.75, "probabilities": {"a": 0.25, "b": 0.75}}


@pytest.mark.parametrize(("threshold", "expected"), [(0.75, "b"), (0.8, "a"), (0.2, "b")])
def test_of_two_classes_the_second_counts_from_its_threshold_on(threshold, expected):
    found = predict.answer(np.array([0.25, 0.75], np.float32), info("single-label", [threshold]))
    assert found["class"] == expected
    assert found["probability"] == {"a": 0.25, "b": 0.75}[expected]


def test_labels_count_from_their_thresholds_on():
    outputs = np.array([0.5, 0.25, 0.75], np.float32)
    found = predict.answer(outputs, info("multi-label", [0.5, 0.5, 0.8], "abc"))
    assert found["classes"] == ["a"]
    assert found["probabilities"] == {"a": 0.5, "b": 0.25, "c": 0.75}


def test_a_regression_answers_with_values():
    found = predict.answer(np.array([1.5], np.float32), info("regression", (), ["age"]))
    assert found == {"values": {"age": 1.5}}


def test_a_gif_whose_first_frame_is_a_part_of_its_canvas_is_that_frame():
    """As training sees it."""
    frame = files.encode(Image.fromarray(files.picture(3, 70, 90)).quantize(16), "GIF")
    # The canvas, in the file's header, is larger than the frame.
    canvas = frame[:6] + (120).to_bytes(2, "little") + (100).to_bytes(2, "little") + frame[10:]
    assert Image.open(io.BytesIO(canvas)).size == (120, 100)
    assert difference(canvas, size=24)[0] <= 1
