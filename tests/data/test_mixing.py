import hashlib

import numpy as np
import pytest
import tensorflow as tf

from keras_tl.data.arrays import from_arrays
from keras_tl.data.augment import Augmentation, augment, image_seeds
from keras_tl.data.image_input import ImageInput
from keras_tl.data.mixing import Circle, draw_cutmix, paste
from keras_tl.data.pipeline import Samples
from keras_tl.data.source import Source
from keras_tl.errors import InputError

SIZE = 10
OPTIONS = {"probability": 1.0, "settings": 7, "size": SIZE}


def seeds(count):
    return image_seeds(f"image {i}" for i in range(count))


def drawn(count, views=1, **options):
    pairs = [(i, v) for i in range(count) for v in range(views)]
    indices, view = np.array(pairs).T
    return draw_cutmix(Circle(seeds(count)), indices, view, **OPTIONS | options)


def test_a_box_is_what_its_hash_says():
    seed = seeds(5)[3]
    digest = hashlib.blake2b(f"7 {seed} 2".encode(), digest_size=40).digest()
    keep, y, x = (int.from_bytes(digest[8 * i : 8 * i + 8], "little") / 2**64 for i in (2, 3, 4))
    side = int(SIZE * np.sqrt(1 - keep))
    top, left = int(SIZE * y) - side // 2, int(SIZE * x) - side // 2
    mix = draw_cutmix(Circle(seeds(5)), np.array([3]), np.array([2]), **OPTIONS)
    expected = np.clip([top, left, top + side, left + side], 0, SIZE)
    np.testing.assert_array_equal(mix.boxes[0], expected)
    assert mix.areas[0] == (expected[2] - expected[0]) * (expected[3] - expected[1])


def test_boxes_have_the_areas_of_the_paper():
    """Without edges a box would cover half of the image in the mean; the edges take a third."""
    mix = drawn(300, views=10, size=224)
    share = mix.areas / 224**2
    random = np.random.default_rng(0)
    side = 224 * np.sqrt(random.uniform(size=200_000))
    ends = random.uniform(0, 224, (2, 200_000))
    low, high = np.maximum(ends - side / 2, 0), np.minimum(ends + side / 2, 224)
    assert share.mean() == pytest.approx(np.prod(high - low, axis=0).mean() / 224**2, abs=0.02)


def test_so_many_views_have_a_box_as_asked_for():
    assert (drawn(200, views=5, probability=0.25).areas > 0).mean() == pytest.approx(0.25, abs=0.05)
    assert not drawn(50, probability=0.0).areas.any()


def test_every_image_is_a_partner_about_equally_often():
    count, views = 100, 200
    partners = drawn(count, views=views).partners
    times = np.bincount(partners, minlength=count) / views
    assert times.min() > 0.3 and times.max() < 2.0


def test_an_image_that_is_added_changes_few_partners():
    fewer, more = drawn(200, views=4), drawn(201, views=4)
    changed = fewer.partners != more.partners[:800]
    assert 0 < changed.mean() < 0.02
    assert (more.partners[:800][changed] == 200).all()
    np.testing.assert_array_equal(fewer.boxes, more.boxes[:800])


def test_what_is_pasted_lies_within_the_box():
    box = tf.constant([1, 2, 4, 4])
    shown = paste(tf.zeros((5, 5, 3)), tf.ones((5, 5, 3)), box).numpy()
    expected = np.zeros((5, 5, 3))
    expected[1:4, 2:4] = 1
    np.testing.assert_array_equal(shown, expected)


def samples(labels, task="single-label", count=12, **settings):
    """Images of one grey each, so that a pixel says which image it is of."""
    items = [np.full((SIZE, SIZE, 3), 20 * i, np.uint8) for i in range(count)]
    names = ("a", "b", "c")
    ids = np.array([f"{i}" for i in range(count)], dtype=object)
    source = Source(ids, items, labels, names, task)
    return Samples(
        source, ImageInput(size=SIZE), Augmentation("mine", **{"cutmix": 1.0} | settings)
    )


ONE = np.arange(12) % 3
SEVERAL = np.random.default_rng(1).integers(0, 2, (12, 3)).astype(np.float32)


@pytest.mark.parametrize(("labels", "task"), [(ONE, "single-label"), (SEVERAL, "multi-label")])
def test_targets_are_mixed_as_the_pixels_are(labels, task):
    some = samples(labels, task)
    weights = np.linspace(1, 2, 12, dtype=np.float32)
    batches = some.batches(4, seed=3, epochs=3, weights=weights)
    x, y, w = (np.concatenate(part) for part in zip(*batches.as_numpy_iterator(), strict=True))
    whose = x[..., 0].reshape(len(x), -1) // 20
    np.testing.assert_allclose(y, some.targets()[whose].mean(axis=1), atol=1e-6)
    np.testing.assert_allclose(w, weights[whose].mean(axis=1), atol=1e-6)
    assert (y % 1 > 0).any()
    # The same for one view of all images.
    view = np.stack(list(some.images(np.arange(12), 1).as_numpy_iterator()))
    whose = view[..., 0].reshape(12, -1) // 20
    mixed = some.mixed(some.targets(), 1)
    np.testing.assert_allclose(mixed, some.targets()[whose].mean(axis=1), atol=1e-6)


def test_image_and_partner_are_augmented_alike():
    items = np.random.default_rng(0).integers(0, 256, (6, SIZE, SIZE, 3)).astype(np.uint8)
    source = from_arrays(items, np.arange(6) % 2)
    flips = Augmentation("mine", horizontal_flip=True, brightness=0.1, cutmix=1.0)
    some = Samples(source, ImageInput(size=SIZE), flips)
    shown = np.stack(list(some.images(np.arange(6), 2).as_numpy_iterator()))
    whole = [augment(tf.constant(items[i]), flips, some._seeds[i], 2).numpy() for i in range(6)]
    mix = some._cutmix(np.arange(6), np.full(6, 2))
    for index, (top, left, bottom, right) in enumerate(mix.boxes):
        expected = whole[index].copy()
        expected[top:bottom, left:right] = whole[mix.partners[index]][top:bottom, left:right]
        np.testing.assert_array_equal(shown[index], expected)


def test_rows_are_told_apart_by_all_that_they_show():
    some = samples(ONE, cutmix=0.5)
    keys = some.row_keys(2)
    mix = some._cutmix(np.arange(12), np.full(12, 2))
    for key, own, partner, area in zip(keys, some.keys, mix.partners, mix.areas, strict=True):
        assert key == (f"{own} {some.keys[partner]}" if area else own)
    assert some.row_keys(None) == some.keys and 0 < (mix.areas > 0).sum() < 12


def test_it_is_refused_for_a_regression():
    with pytest.raises(InputError, match="cutmix"):
        samples(SEVERAL, "regression")
