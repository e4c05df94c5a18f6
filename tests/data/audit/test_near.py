from dataclasses import replace

import numpy as np
import pytest
from audit_pictures import COPIES, encoded, photograph
from PIL import Image

from keras_tl.data.arrays import from_arrays
from keras_tl.data.audit import near
from keras_tl.data.audit.looks import look
from keras_tl.data.audit.near import near_duplicates
from keras_tl.data.image_input import ImageInput
from keras_tl.data.inspection import inspect

# So many photographs are copied in each way.
COPIED = 10
PHOTOGRAPHS = COPIED * len(COPIES)


def compared(items):
    source = inspect(from_arrays(items, [0] * len(items), class_names=["a"]), ImageInput())
    looks = look(source, ImageInput())
    return near_duplicates(looks, source.hashes), looks, source


@pytest.fixture(scope="module")
def planted():
    """Photographs, then a copy of each, made in turn in one of the ways; the comparison."""
    photographs = [photograph(i) for i in range(PHOTOGRAPHS)]
    ways = list(COPIES.values())
    items = [encoded(image, quality=92) for image in photographs]
    items += [ways[i % len(ways)](image) for i, image in enumerate(photographs)]
    return compared(items)


def of_way(name):
    """The photographs that were copied in one way."""
    return set(range(list(COPIES).index(name), PHOTOGRAPHS, len(COPIES)))


@pytest.mark.parametrize("name", COPIES)
def test_copies_are_found(planted, name):
    pairs, *_ = planted
    found = set(pairs.first[pairs.second == pairs.first + PHOTOGRAPHS].tolist())
    # What is cut off at white is not there to be compared.
    assert len(of_way(name) - found) <= (3 if name == "brighter" else 0)


def test_no_other_pairs_are_found(planted):
    pairs, *_ = planted
    assert (pairs.second == pairs.first + PHOTOGRAPHS).all()
    assert len(set(pairs.first.tolist())) == len(pairs)


def test_mirrored_ones_are_said_to_be(planted):
    pairs, *_ = planted
    assert set(pairs.first[pairs.is_mirrored].tolist()) == of_way("mirrored")


def test_the_twin_that_compares_without_laying_over_misses_crops(planted, monkeypatch):
    _, looks, source = planted
    monkeypatch.setattr(near, "align", lambda wholes, crops, windows: windows)
    fewer = near_duplicates(looks, source.hashes)
    cropped = of_way("cropped by 3 %") | of_way("several")
    assert len(cropped - set(fewer.first.tolist())) > COPIED


def test_what_is_like_many_others_must_be_more_alike():
    first, second = np.array([0, 0, 0, 0, 5]), np.array([1, 2, 3, 4, 6])
    assert near._least(first, second).tolist() == [0.9, 0.9, 0.9, 0.9, 0.7]


def test_the_order_of_images_hardly_matters(planted):
    pairs, looks, source = planted
    order = np.random.default_rng(0).permutation(len(looks))
    shuffled = replace(looks, **{name: value[order] for name, value in vars(looks).items()})
    again = near_duplicates(shuffled, source.hashes[order])
    as_sets = {frozenset(order[[i, j]]) for i, j in zip(again.first, again.second, strict=True)}
    wanted = {frozenset((i, j)) for i, j in zip(pairs.first, pairs.second, strict=True)}
    assert len(as_sets ^ wanted) <= 0.02 * len(wanted)


def test_pairs_are_remembered_for_the_same_images_in_the_same_order(planted, monkeypatch, tmp_path):
    pairs, looks, source = planted
    monkeypatch.setenv("KERAS_TL_CACHE", str(tmp_path))
    first = near.remembered_duplicates(looks, source.hashes)
    with monkeypatch.context() as patch:
        patch.setattr(near, "near_duplicates", None)
        again = near.remembered_duplicates(looks, source.hashes)
    for found in (first, again):
        for name, values in vars(pairs).items():
            np.testing.assert_array_equal(getattr(found, name), values)
    calls = []
    monkeypatch.setattr(near, "near_duplicates", lambda *_: calls.append(1) or pairs)
    near.remembered_duplicates(looks, source.hashes[::-1])
    monkeypatch.setattr(near, "VERSION", near.VERSION + 1)
    near.remembered_duplicates(looks, source.hashes)
    assert len(calls) == 2


def test_equal_files_are_left_to_their_hashes():
    items = [encoded(photograph(i)) for i in (0, 0, 1)]
    pairs, *_ = compared(items)
    assert len(pairs) == 0


def test_blank_images_are_no_pairs():
    items = [encoded(Image.new("RGB", (50, 50), (v, v, v)), "PNG") for v in (3, 4, 200)]
    pairs, *_ = compared([*items, encoded(photograph(0))])
    assert len(pairs) == 0


def test_one_shape_in_two_colours_is_two_pictures():
    def car(colour, seed):
        pixels = np.asarray(photograph(5).convert("L").convert("RGB")).astype(np.float32)
        noise = np.random.default_rng(seed).normal(0, 1, pixels.shape)
        return np.clip(pixels * colour + noise, 0, 255).astype(np.uint8)

    grey = np.array([0.299, 0.587, 0.114])
    red, green = np.array([2.0, 0.3, 0.6]), np.array([0.4, 1.1, 0.9])
    red, green = 0.7 * red / (red @ grey), 0.7 * green / (green @ grey)
    others = [encoded(photograph(i)) for i in range(10, 20)]
    pairs, *_ = compared(
        [encoded(Image.fromarray(car(c, i))) for i, c in enumerate((red, red))] + others
    )
    assert len(pairs) == 1
    pairs, *_ = compared(
        [encoded(Image.fromarray(car(c, i))) for i, c in enumerate((red, green))] + others
    )
    assert len(pairs) == 0


def test_one_shape_before_another_background_of_like_colours_is_two_pictures():
    """What is grey in both is the same; the colours are as strong, and lie elsewhere."""
    rng = np.random.default_rng(0)
    one, other = rng.normal(0, 12, (2, 1, 8, 8, 2)).astype(np.float32)
    paler, tinted = 0.5 * one, one + np.float32([6.0, -9.0])
    even = np.float32([9.0, 4.0]) + rng.normal(0, 0.3, one.shape).astype(np.float32)
    colours = np.concatenate((one, other, paler, tinted, even))
    chosen, first = np.arange(5), np.zeros(4, np.int64)
    arguments = colours, chosen, first, np.arange(1, 5), np.zeros(4, bool)
    assert near._same_colours(*arguments).tolist() == [False, True, True, True]
    correlation = np.corrcoef(
        *((side - side.mean(axis=(0, 1, 2))).ravel() for side in (one, other))
    )[0, 1]
    assert abs(correlation) < near.OTHER_PLACES
    mirrored = np.concatenate((one, one[:, :, ::-1]))
    pair = np.array([0]), np.array([1])
    seen = [
        near._same_colours(mirrored, np.arange(2), *pair, np.array([flip]))[0]
        for flip in (True, False)
    ]
    assert seen == [True, False]
