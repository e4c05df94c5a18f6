import numpy as np
from audit_pictures import photograph

from keras_tl.data.audit.alignment import WHOLE, align, corner_windows, cut_out


def grey(image):
    return np.asarray(image.convert("L").resize((64, 64)))


def a_crop(seed, left, top, width, height):
    image = photograph(seed, (400, 400))
    box = (400 * left, 400 * top, 400 * (left + width), 400 * (top + height))
    window = (top + height / 2 - 0.5, left + width / 2 - 0.5, height, width)
    return grey(image), grey(image.crop(tuple(map(round, box)))), window


def test_crops_are_found_where_they_are():
    cases = [a_crop(i, 0.01 * i, 0.05 - 0.01 * i, 0.94, 0.92) for i in range(5)]
    wholes, crops, windows = (np.stack(column) for column in zip(*cases, strict=True))
    start = np.tile(corner_windows()[1], (5, 1))
    assert np.abs(start - windows).max() > 0.02
    found = align(wholes, crops, start)
    assert np.abs(found - windows).max() < 0.006


def test_windows_stay_inside():
    rng = np.random.default_rng(0)
    wholes, crops = rng.integers(0, 256, (2, 9, 64, 64))
    found = align(wholes, crops, np.tile(WHOLE, (9, 1)))
    assert (np.abs(found[:, :2]) + found[:, 2:] / 2 <= 0.5 + 1e-6).all()


def test_the_whole_is_averaged_over_squares_nearly():
    smooth = np.add.outer(np.arange(64), 2 * np.arange(64)).astype(np.float32)
    shrunk = cut_out(smooth[None], WHOLE)[0]
    wanted = smooth.reshape(32, 2, 32, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(shrunk[1:-1, 1:-1], wanted[1:-1, 1:-1], atol=1e-3)
