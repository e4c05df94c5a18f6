"""Broken and strange image files, as training, prediction and what is exported see them."""

import io
import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps
from robustness.corpus import pictures
from robustness.corpus.case import EITHER, READ
from robustness.ending import deadline, ended

from keras_tl.data.decoding import decode
from keras_tl.data.folders import from_folder
from keras_tl.data.image_input import ImageInput
from keras_tl.data.inspection import inspect
from keras_tl.errors import InputError
from keras_tl.export.predict import read_pixels

INPUT = ImageInput(size=24, resize="pad")
SPEC = {"size": 24, "resize": "pad", "antialias": True, "max_pixels": INPUT.max_pixels}
# PIL unpacks no more than a megabyte of what stands beside the pixels; libpng passes it over.
TOO_MUCH_FOR_PIL = ("png with 50 MB of packed text", "png with a packed colour profile of 50 MB")
IDS = [case.id for case in pictures.CASES]


def name_of(number):
    return f"{number:03}-{pictures.CASES[number].name or 'x.gif'}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """All cases as one class, and good pictures as another."""
    folder = tmp_path_factory.mktemp("broken")
    for label in ("broken", "good"):
        (folder / label).mkdir()
    for number, case in enumerate(pictures.CASES):
        (folder / "broken" / name_of(number)).write_bytes(case.content)
    for number in range(4):
        content = pictures.encoded(pictures.picture().rotate(90 * number), "PNG")
        (folder / "good" / f"{number}.png").write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def left_out(folder):
    """Why each bad file is left out, of all in one pass."""
    with deadline(120):
        source = inspect(from_folder(folder), INPUT, max_bad_fraction=1.0)
    assert len(source) + len(source.skipped) == len(pictures.CASES) + 4
    return {skipped.id.removeprefix("broken/"): skipped.reason for skipped in source.skipped}


@pytest.fixture(scope="module")
def decode_one():
    """Gives pixels, or None for what cannot be decoded; any other error is raised."""
    function = tf.function(lambda contents: decode(contents, INPUT), autograph=False)
    function = function.get_concrete_function(tf.TensorSpec([], tf.string))

    def decode_one(content):
        try:
            return function(tf.constant(content)).numpy()
        except tf.errors.InvalidArgumentError:
            return None

    return decode_one


@pytest.mark.parametrize("number", range(len(IDS)), ids=IDS)
def test_each_is_read_or_left_out_with_a_reason(number, left_out, decode_one):
    case = pictures.CASES[number]
    reason = left_out.get(name_of(number), "")
    assert case.ends == EITHER or (case.ends == READ) == (not reason), reason
    assert case.said in reason
    assert "\n" not in reason and len(reason) < 200
    # Training and what is exported see what was found good, and only that.
    with deadline():
        pixels = decode_one(case.content)
    assert (pixels is None) == bool(reason), reason
    assert pixels is None or (pixels.shape, pixels.dtype) == ((24, 24, 3), np.uint8)


@pytest.mark.parametrize("number", range(len(IDS)), ids=IDS)
def test_the_exported_program_reads_each_or_says_why_not(number):
    """What is exported beside a LiteRT or ONNX model decodes with PIL."""
    case = pictures.CASES[number]
    try:
        with deadline():
            pixels = read_pixels(io.BytesIO(case.content), SPEC)
    except (OSError, ValueError) as error:
        assert case.ends != READ or case.id in TOO_MUCH_FOR_PIL, error
    else:
        assert (pixels.shape, pixels.dtype) == ((24, 24, 3), np.uint8)


@pytest.mark.parametrize("name", pictures.TURNED)
def test_each_orientation_is_that_of_pil(name, decode_one):
    content = pictures.TURNED[name]
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB")
    expected = decode_one(pictures.encoded(upright, "PNG"))
    for pixels in (decode_one(content), read_pixels(io.BytesIO(content), SPEC)):
        assert np.abs(pixels.astype(int) - expected).max() <= 1
    # The twin: the picture as it is stored looks otherwise, but for orientation 1.
    stored = decode_one(pictures.encoded(Image.open(io.BytesIO(content)).convert("RGB"), "PNG"))
    assert (np.abs(stored.astype(int) - expected).max() > 20) != name.endswith(" 1")


def test_too_many_bad_files_stop_a_run_in_one_line(folder):
    with pytest.raises(InputError, match=r"at most 10% bad images.*--max-bad-fraction") as error:
        inspect(from_folder(folder), INPUT)
    assert "\n" not in str(error.value)


def test_an_audit_lists_what_is_left_out(folder, left_out, tmp_path, capsys):
    code, said = ended(capsys, "audit", folder, "--no-labels", "--json", tmp_path / "found.json")
    assert code == 0, said
    findings = json.loads((tmp_path / "found.json").read_text())["findings"]
    listed = next(found for found in findings if "megapixels, over the limit" in str(found))
    told = {each["ids"][0] for each in listed["sets"]}
    assert told == {f"broken/{name}" for name in left_out}
