"""Each operation against PIL's or against numbers worked out by hand."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from keras_tl.data import rand_augment
from keras_tl.data.augment import Augmentation, augment, image_seeds
from keras_tl.data.rand_augment import OPERATIONS, apply_drawn

SIZE = 12


def photo(size=SIZE):
    """A dull picture: values from 40 to 200, so that contrast can be stretched."""
    return np.random.default_rng(0).integers(40, 200, (size, size, 3)).astype(np.uint8)


def done(operation, image, *level):
    level = [tf.constant(value, tf.float32) for value in level]
    result = operation(tf.constant(image, tf.float32), *level).numpy()
    np.testing.assert_array_equal(result, np.clip(np.round(result), 0, 255))
    return result


@pytest.mark.parametrize("bits", [1, 4, 7, 8])
def test_posterize_is_pils(bits):
    image = photo()
    expected = ImageOps.posterize(Image.fromarray(image), bits)
    np.testing.assert_array_equal(done(rand_augment.posterize, image, bits), expected)


@pytest.mark.parametrize("threshold", [0, 100, 256])
def test_solarize_is_pils_and_from_0_on_the_negative(threshold):
    image = photo()
    expected = np.asarray(ImageOps.solarize(Image.fromarray(image), threshold))
    np.testing.assert_array_equal(done(rand_augment.solarize, image, threshold), expected)
    negative = np.asarray(ImageOps.invert(Image.fromarray(image)))
    assert np.array_equal(expected, negative) == (threshold == 0)


def test_autocontrast_is_pils():
    image = photo()
    image[..., 2] = 77  # of one value: it stays
    expected = np.asarray(ImageOps.autocontrast(Image.fromarray(image)), int)
    result = done(rand_augment.autocontrast, image)
    # PIL multiplies by a rounded 255 / (high - low), here it is a division of integers.
    np.testing.assert_allclose(result, expected, atol=1)
    assert (result[..., 2] == 77).all()
    assert result[..., 0].min() == 0 and result[..., 0].max() == 255


@pytest.mark.parametrize("size", [SIZE, 40, 64])
def test_equalize_is_pils(size):
    image = photo(size)
    image[..., 1] = np.minimum(image[..., 1], 90)  # many of one value, the last
    expected = ImageOps.equalize(Image.fromarray(image))
    np.testing.assert_array_equal(done(rand_augment.equalize, image), expected)


def test_equalize_leaves_a_channel_of_one_value_alone():
    image = photo(64)
    image[..., 1] = 90
    result = done(rand_augment.equalize, image)
    assert (result[..., 1] == 90).all() and (result[..., 0] != image[..., 0]).any()


@pytest.mark.parametrize("change", [-0.9, -0.3, 0.0, 0.9])
@pytest.mark.parametrize(
    ("operation", "enhance"),
    [
        (rand_augment.colour, ImageEnhance.Color),
        (rand_augment.contrast, ImageEnhance.Contrast),
        (rand_augment.brightness, ImageEnhance.Brightness),
        (rand_augment.sharpness, ImageEnhance.Sharpness),
    ],
)
def test_colours_and_sharpness_are_pils(operation, enhance, change):
    image = photo()
    expected = np.asarray(enhance(Image.fromarray(image)).enhance(1 + change), int)
    # PIL rounds grey and smoothed values down or up, and results down.
    np.testing.assert_allclose(done(operation, image, change), expected, atol=2)
    assert (np.abs(expected - image).max() > 2) == (change != 0)


def test_a_smoothed_image_is_pils():
    image = photo()
    expected = np.asarray(Image.fromarray(image).filter(ImageFilter.SMOOTH), int)
    smoothed = done(rand_augment.sharpness, image, -1.0)
    np.testing.assert_allclose(smoothed[1:-1, 1:-1], expected[1:-1, 1:-1], atol=1)
    np.testing.assert_array_equal(smoothed[0], image[0])


def test_a_translation_moves_the_content_and_mirrors_the_edge():
    image = photo()
    moved = done(rand_augment.translate_x, image, 3 / SIZE)
    np.testing.assert_array_equal(moved[:, :-3], image[:, 3:])
    np.testing.assert_array_equal(moved[:, -3:], image[:, :-4:-1])
    moved = done(rand_augment.translate_y, image, -2 / SIZE)
    np.testing.assert_array_equal(moved[2:], image[:-2])


def test_a_shear_moves_each_row_by_its_distance_from_the_centre():
    image = photo(9)
    sheared = done(rand_augment.shear_x, image, 0.5)
    np.testing.assert_array_equal(sheared[4], image[4])
    # Two rows below the centre: one column to the left.
    np.testing.assert_array_equal(sheared[6, :-1], image[6, 1:])
    np.testing.assert_array_equal(sheared[2, 1:], image[2, :-1])
    turned = done(rand_augment.shear_y, image.transpose(1, 0, 2), 0.5)
    np.testing.assert_array_equal(turned.transpose(1, 0, 2), sheared)


def test_a_turn_is_counter_clockwise():
    image = photo()
    np.testing.assert_allclose(done(rand_augment.rotate, image, 90.0), np.rot90(image), atol=1)


def test_the_papers_fourteen_and_their_ranges():
    assert len(OPERATIONS) == 14
    row = OPERATIONS["posterize"]
    assert (row.start, row.end, row.wide_end) == (8, 4, 2)
    assert OPERATIONS["rotate"].end == 30 and OPERATIONS["rotate"].wide_end == 135


def drawn(image, magnitude, *draws):
    draws = tf.constant(draws, tf.float32)
    return apply_drawn(tf.constant(image, tf.float32), magnitude, draws).numpy()


def draw_of(name, strength=0.0, sign=0.9):
    return ((list(OPERATIONS).index(name) + 0.5) / len(OPERATIONS), strength, sign)


def test_what_is_drawn_is_done_in_that_order():
    image = photo()
    result = drawn(image, 1.0, draw_of("solarize"), draw_of("posterize"))
    np.testing.assert_array_equal(result, (255 - image.astype(int)) // 16 * 16)
    other = drawn(image, 1.0, draw_of("posterize"), draw_of("solarize"))
    np.testing.assert_array_equal(other, 255 - image.astype(int) // 16 * 16)


def test_a_magnitude_that_is_given_or_drawn():
    image = photo()
    # Half of the way from 8 bits to 4, whatever was drawn; and all of the way to 2.
    given = drawn(image, 0.5, draw_of("posterize", strength=0.99))
    np.testing.assert_array_equal(given, image // 4 * 4)
    wide = drawn(image, None, draw_of("posterize", strength=0.99))
    np.testing.assert_array_equal(wide, image // 64 * 64)


def test_a_sign_that_is_drawn():
    image = photo()
    darker = drawn(image, 1.0, draw_of("brightness", sign=0.2))
    brighter = drawn(image, 1.0, draw_of("brightness", sign=0.8))
    np.testing.assert_allclose(darker, image * 0.1, atol=0.51)
    np.testing.assert_allclose(brighter, np.minimum(image * 1.9, 255), atol=0.51)


def test_views_draw_all_operations():
    """With one operation and nothing else, each view is the image after one of the fourteen."""
    image, each = photo(), Augmentation("one", operations=1, magnitude=1.0)
    (seed,) = image_seeds(["an image"])
    alone = {}
    for name, row in OPERATIONS.items():
        for sign in (-1, 1) if row.signed else (1,):
            level = tf.constant(sign * row.end, tf.float32)
            alone[name, sign] = row.apply(tf.constant(image, tf.float32), level).numpy()
    found = set()
    for view in range(200):
        shown = augment(tf.constant(image), each, seed, view).numpy()
        found |= {key for key, expected in alone.items() if np.array_equal(shown, expected)}
    assert found == set(alone)
