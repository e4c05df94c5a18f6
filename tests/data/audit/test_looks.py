from dataclasses import replace

import numpy as np
import pytest
from audit_pictures import encoded, photograph
from PIL import Image, ImageFilter

from keras_tl.data.arrays import from_arrays
from keras_tl.data.audit import looks as looks_module
from keras_tl.data.audit.looks import blur, look
from keras_tl.data.image_input import ImageInput
from keras_tl.data.inspection import inspect


def looks_of(items):
    return look(from_arrays(items, [0] * len(items), class_names=["a"]), ImageInput())


def test_thumbs_and_colours_are_pils():
    image = photograph(1, (256, 256))
    looks = looks_of([encoded(image, "PNG")])
    grey = image.convert("YCbCr").split()[0].resize((64, 64), Image.Resampling.BOX)
    assert np.abs(looks.thumbs[0].astype(int) - np.asarray(grey)).max() <= 12
    assert np.abs(looks.thumbs[0].astype(int) - np.asarray(grey)).mean() < 1.5
    for plane, channel in enumerate(image.convert("YCbCr").split()[1:]):
        wanted = np.asarray(channel.resize((8, 8), Image.Resampling.BOX)).astype(int) - 128
        assert np.abs(looks.colours[0, ..., plane] - wanted).mean() < 2
    upside_down = np.asarray(grey)[::-1]
    assert np.abs(looks.thumbs[0].astype(int) - upside_down).mean() > 10


def test_the_same_pixels_in_other_files_have_one_hash():
    image = photograph(2)
    other = image.copy()
    other.paste((0, 0, 0), (0, 0, 30, 30))
    png, bmp, changed = encoded(image, "PNG"), encoded(image, "BMP"), encoded(other, "PNG")
    hashes = looks_of([png, bmp, changed]).pixel_hashes
    assert hashes[0] == hashes[1] != hashes[2]


def test_light_and_spread():
    steps = np.repeat(np.arange(128, dtype=np.uint8)[None], 128, 0)[..., None]
    looks = looks_of([steps, np.full((40, 30, 3), 9, np.uint8)])
    np.testing.assert_allclose(looks.deviation, [np.arange(128).std(), 0], atol=1e-3)
    np.testing.assert_allclose(looks.dark_end, [1, 9], atol=0.3)
    np.testing.assert_allclose(looks.light_end, [126, 9], atol=0.3)
    assert looks.sides.tolist() == [[128, 128], [40, 30]]


def test_blur_by_hand():
    """Of an edge from 0 to 9, a filter of 3 leaves steps of 3, 3, 3: a third of the change."""
    edge = np.zeros((1, 8, 8), np.float32)
    edge[:, :, 4:] = 9
    np.testing.assert_allclose(blur(edge, 3), [1 - (9 - 3) / 9], atol=1e-6)
    np.testing.assert_allclose(blur(np.ones((1, 8, 8), np.float32)), [1])


def test_blur_rises_with_blurring():
    image = photograph(3, (128, 128)).convert("L")
    blurred = [
        np.asarray(image.filter(ImageFilter.GaussianBlur(r)), np.float32) for r in (0, 1, 2, 4)
    ]
    found = blur(np.stack(blurred))
    assert (np.diff(found) > 0.02).all()


@pytest.fixture
def looked_at(tmp_path, monkeypatch):
    """Collects the ids of images that are looked at rather than recalled."""
    monkeypatch.setenv("KERAS_TL_CACHE", str(tmp_path / "cache"))
    seen = []
    original = looks_module._looked_at

    def watched(source, small):
        seen.extend(source.ids)
        return original(source, small)

    monkeypatch.setattr(looks_module, "_looked_at", watched)
    return seen


def named(seeds):
    items = [encoded(photograph(i, (60 + i, 50))) for i in seeds]
    ids = [str(i) for i in seeds]
    return inspect(from_arrays(items, [0] * len(items), class_names=["a"], ids=ids), ImageInput())


def test_looks_are_remembered_by_content(looked_at):
    first = look(named(range(5)), ImageInput())
    again = look(named([7, 3, 0, 4]), ImageInput(size=50, resize="crop"))
    assert looked_at == [*"01234", "7"]
    fresh = look(named([7]), ImageInput())
    for name, values in vars(again).items():
        np.testing.assert_array_equal(values[1:], getattr(first, name)[[3, 0, 4]])
        np.testing.assert_array_equal(values[:1], getattr(fresh, name))
    assert first.sides.tolist() == [[50, 60 + i] for i in range(5)]


def test_what_was_seen_otherwise_is_looked_at_again(looked_at, monkeypatch):
    look(named(range(3)), ImageInput())
    monkeypatch.setattr(looks_module, "VERSION", looks_module.VERSION + 1)
    look(named(range(3)), ImageInput())
    assert looked_at == [*"012", *"012"]


def test_without_hashes_nothing_is_remembered(looked_at):
    source = replace(named(range(2)), hashes=np.array(["", ""], dtype=object))
    one, two = look(source, ImageInput()), look(source, ImageInput())
    assert looked_at == [*"01", *"01"]
    np.testing.assert_array_equal(one.thumbs, two.thumbs)
