import io

import numpy as np
import pytest
from audit_pictures import encoded, photograph
from PIL import Image

from keras_tl.data.audit.sides import sides_of


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "WEBP"])
def test_sides_are_those_that_pil_reads(kind, tmp_path):
    contents = encoded(photograph(0, (61, 37)), kind)
    assert sides_of(contents) == (37, 61)
    path = tmp_path / "any.name"
    path.write_bytes(contents)
    assert sides_of(str(path)) == (37, 61)


@pytest.mark.parametrize("options", [{"lossless": True}, {"exif": Image.Exif()}])
def test_kinds_of_webp(options):
    image = photograph(0, (61, 37))
    if "exif" in options:
        options["exif"][0x010E] = "described"
    assert sides_of(encoded(image, "WEBP", **options)) == (37, 61)


def test_jpeg_with_much_before_its_frame():
    file = io.BytesIO()
    photograph(0, (61, 37)).save(file, "JPEG", icc_profile=bytes(150_000), progressive=True)
    assert sides_of(file.getvalue()) == (37, 61)


def test_top_down_bmp_and_arrays():
    contents = bytearray(encoded(photograph(0, (61, 37)), "BMP"))
    contents[22:26] = (-37).to_bytes(4, "little", signed=True)
    assert sides_of(bytes(contents)) == (37, 61)
    assert sides_of(np.zeros((5, 7, 1), np.uint8)) == (5, 7)


def test_what_is_not_understood_has_no_sides():
    jpeg = encoded(photograph(0))
    for contents in (b"", b"\xff\xd8\xff", jpeg[:30], b"text" * 20, b"\xff\xd8\xff\xff" * 20):
        assert sides_of(contents) == (0, 0)
