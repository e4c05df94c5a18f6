import numpy as np
from audit_pictures import encoded, photograph
from PIL import Image, ImageFilter

from keras_tl.data.arrays import from_arrays
from keras_tl.data.audit.looks import blur, look
from keras_tl.data.image_input import ImageInput


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
