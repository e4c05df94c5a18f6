import numpy as np
import pytest
import tensorflow as tf

from keras_tl.data import augment
from keras_tl.data.augment import Augmentation
from keras_tl.errors import InputError

SIZE = 16


def noise(count, size=SIZE):
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3)).astype(np.uint8)


def view_of(image, augmentation, seed=5, view=0):
    return augment.augment(tf.constant(image), augmentation, seed, view).numpy()


def all_views(images, augmentation, workers, order):
    """Views 0..3 of every image, computed in the given order, put back in the natural one."""
    seeds = augment.image_seeds([f"image {i}" for i in range(len(images))])
    pairs = [(i, v) for i in range(len(images)) for v in range(4)]
    index, view = np.array([pairs[k] for k in order]).T
    dataset = tf.data.Dataset.from_tensor_slices((images[index], seeds[index], view))
    dataset = dataset.map(
        lambda image, seed, view: augment.augment(image, augmentation, seed, view),
        num_parallel_calls=workers,
    )
    views = np.stack(list(dataset.as_numpy_iterator()))
    return views[np.argsort(order)]


@pytest.mark.parametrize("name", ["light", "strong", "dihedral", "randaugment", "trivial"])
def test_the_same_views_whatever_the_workers_and_the_order(name):
    images = noise(6)
    natural = np.arange(24)
    shuffled = np.random.default_rng(1).permutation(24)
    alone = all_views(images, augment.get(name), 1, natural)
    np.testing.assert_array_equal(all_views(images, augment.get(name), 8, shuffled), alone)
    assert len(np.unique(alone, axis=0)) == 24


def test_eager_code_gives_the_same_views():
    images = noise(2)
    seeds = augment.image_seeds(["image 0", "image 1"])
    views = all_views(images, augment.get("strong"), 2, np.arange(8))
    eager = view_of(images[1], augment.get("strong"), seeds[1], 3)
    np.testing.assert_array_equal(eager, views[7])


def test_views_depend_on_image_view_and_settings():
    (image,) = noise(1)
    first = view_of(image, augment.get("strong"), seed=1, view=1)
    for seed, view, name in ((2, 1, "strong"), (1, 2, "strong"), (1, 1, "light")):
        assert (view_of(image, augment.get(name), seed, view) != first).any()


def test_none_is_the_identity():
    (image,) = noise(1)
    for view in range(3):
        np.testing.assert_array_equal(view_of(image, augment.get("none"), view=view), image)


def test_dihedral_views_are_the_eight_symmetries():
    (image,) = noise(1)
    views = [view_of(image, augment.get("dihedral"), view=v) for v in range(8)]
    turned = [np.rot90(image, k) for k in range(4)]
    symmetries = turned + [np.fliplr(one) for one in turned]
    found = {one.tobytes() for one in views}
    assert len(found) == 8
    assert found == {np.ascontiguousarray(one).tobytes() for one in symmetries}
    np.testing.assert_array_equal(views[0], image)
    np.testing.assert_array_equal(view_of(image, augment.get("dihedral"), view=11), views[3])


def test_the_number_of_views():
    assert augment.get("none").views == 1
    assert augment.get("dihedral").views == 8
    assert augment.get("light").views is None
    assert Augmentation("mine", dihedral=True, brightness=0.1).views is None


def test_a_flip_is_exact_and_happens_in_half_of_the_views():
    (image,) = noise(1)
    flip = Augmentation("flip", horizontal_flip=True)
    views = [view_of(image, flip, view=v) for v in range(60)]
    flipped = [np.array_equal(view, image[:, ::-1]) for view in views]
    same = [np.array_equal(view, image) for view in views]
    assert all(a or b for a, b in zip(flipped, same, strict=True))
    assert 18 <= sum(flipped) <= 42


def matrix(size=SIZE, **changes):
    still = {"scale_x": 1.0, "scale_y": 1.0, "angle": 0.0, "shift_x": 0.0, "shift_y": 0.0}
    values = {name: tf.constant(value, tf.float32) for name, value in (still | changes).items()}
    return augment.affine(tf.constant(size, tf.float32), **values)


def warped(image, **changes):
    return augment.warp(tf.constant(image, tf.float32), matrix(len(image), **changes)).numpy()


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_turn_is_counter_clockwise_about_the_centre(quarters):
    (image,) = noise(1)
    turned = warped(image, angle=quarters * np.pi / 2)
    np.testing.assert_allclose(turned, np.rot90(image, quarters), atol=0.01)


def test_a_crop_is_enlarged_about_its_own_centre():
    (image,) = noise(1, 8)
    # Half the side, moved 1 right and 2 up: output x is found at 3.5 + 1 + (x - 3.5) / 2.
    cropped = warped(image, scale_x=0.5, scale_y=0.5, shift_x=1.0, shift_y=-2.0)
    at = 3.5 + (np.arange(8) - 3.5) / 2

    def between(values, at):
        low = np.floor(at).astype(int)
        share = (at - low)[:, None, None]
        # Outside, the image is mirrored at its edge: index -1 is 0.
        return values[abs(low + (low < 0))] * (1 - share) + values[low + 1] * share

    expected = between(image.astype(float), at - 2)
    expected = between(expected.swapaxes(0, 1), at + 1).swapaxes(0, 1)
    np.testing.assert_allclose(cropped, expected, atol=0.01)


def test_a_shift_is_mirrored_at_the_edge():
    row = np.tile(np.arange(4, dtype=np.float32)[None, :, None], (4, 1, 1))
    np.testing.assert_array_equal(warped(row, shift_x=2.0)[0, :, 0], [2, 3, 3, 2])


def test_crops_have_the_area_asked_for():
    ramp = np.tile(np.arange(64, dtype=np.uint8)[None, :, None] * 4, (64, 1, 3))
    half = Augmentation("half", scale=(0.25, 0.25))
    for view in range(5):
        pixels = view_of(ramp, half, view=view)[..., 0].astype(int)
        # Half of the columns: the range shrinks from 252 to 126, and stays within the image.
        assert abs((pixels[0, -1] - pixels[0, 0]) - 126) <= 3


def test_what_is_read_larger_and_not_cropped_is_shrunk_by_means():
    """At twice the size each pixel is the mean of four."""
    (image,) = noise(1, 32)
    twice = view_of(image, Augmentation("twice", oversample=2.0))
    means = image.reshape(16, 2, 16, 2, 3).astype(float).mean(axis=(1, 3))
    assert twice.shape == (16, 16, 3)
    np.testing.assert_allclose(twice, means, atol=0.51)
    turned = view_of(image, Augmentation("t", dihedral=True, oversample=2.0), view=1)
    np.testing.assert_array_equal(turned, np.fliplr(twice))


def test_a_crop_of_a_larger_picture_keeps_its_detail():
    """A quarter of the area at twice the size is the picture's own pixels, none between them."""
    (image,) = noise(1, 32)
    crop = Augmentation("crop", scale=(0.25, 0.25), oversample=2.0)
    shown = view_of(image, crop, view=3).astype(float)
    small = image.reshape(16, 2, 16, 2, 3).mean(axis=(1, 3)).astype(np.uint8)
    blurred = view_of(small, Augmentation("crop", scale=(0.25, 0.25)), view=3).astype(float)
    # Noise halves where four pixels are averaged, and more where pixels are made between them.
    assert shown.std() > 1.3 * blurred.std()
    ramp = np.tile(np.arange(64, dtype=np.uint8)[None, :, None] * 4, (64, 1, 3))
    columns = view_of(ramp, crop, view=3)[0, :, 0].astype(int)
    # 32 of 64 columns, each a step of 4.
    assert abs((columns[-1] - columns[0]) - 31 * 4) <= 2


@pytest.mark.parametrize("factor", [1.0, 1.1, 1.37, 2.0, 3.3])
def test_any_size_is_what_it_was_read_for(factor):
    for size in (15, 16, 224):
        read = Augmentation("o", oversample=factor).read_size(size)
        image = np.zeros((read, read, 3), np.uint8)
        shown = view_of(image, Augmentation("o", oversample=factor, brightness=0.1))
        assert shown.shape == (size, size, 3)


def test_brightness_stays_within_its_bounds():
    grey = np.full((4, 4, 3), 128, np.uint8)
    views = [view_of(grey, Augmentation("b", brightness=0.1), view=v) for v in range(40)]
    levels = np.array([view[0, 0, 0] for view in views], int)
    # 0.1 * 255 is 25.5.
    assert levels.min() >= 102 and levels.max() <= 154
    assert levels.min() < 110 and levels.max() > 146
    assert all((view == view[0, 0, 0]).all() for view in views)


def test_contrast_keeps_the_mean_and_scales_the_distance():
    halves = np.full((4, 4, 3), 100, np.uint8)
    halves[:2] = 140
    for view in range(10):
        pixels = view_of(halves, Augmentation("c", contrast=0.5), view=view).astype(int)
        assert abs(pixels.mean() - 120) <= 0.5
        assert 20 <= pixels.max() - pixels.min() <= 60


def test_saturation_leaves_grey_alone():
    grey = np.repeat(noise(1)[0][..., :1], 3, -1)
    strong = Augmentation("s", saturation=1.0)
    np.testing.assert_array_equal(view_of(grey, strong), grey)
    (colours,) = noise(1)
    assert (view_of(colours, strong) != colours).any()


def test_erasing_paints_a_square_in_the_mean_colour():
    image = np.full((20, 20, 3), 10, np.uint8)
    image[:, 10:] = 30
    always = Augmentation("e", erasing=1.0, erasing_area=(0.25, 0.25))
    for view in range(5):
        pixels = view_of(image, always, view=view)
        assert (pixels == 20).all(-1).sum() == 100
    never = Augmentation("e", brightness=1e-9)
    np.testing.assert_array_equal(view_of(image, never), image)


def test_seeds_and_fingerprints_are_the_same_in_every_process():
    # The first eight bytes of BLAKE2b(digest_size=8) of "a".
    expected = int.from_bytes(bytes.fromhex("40f89e395b66422f"), "little", signed=True)
    assert augment.image_seeds(["a", "ä/b.jpg"])[0] == expected
    # Written out, since stored views rely on it.
    assert Augmentation("any", rotation=3.0).fingerprint() == 1661443776458100757
    assert Augmentation("any", rotation=15, scale=(0.5, 1)).fingerprint() == 2764022180186141357
    assert augment.get("light").fingerprint() == 6241872055933357735
    assert augment.get("strong").fingerprint() == 1949186569522523164
    assert augment.get("dihedral").fingerprint() == 811460591039689861


def test_fingerprints_tell_settings_apart_but_not_names():
    prints = {preset.fingerprint() for preset in augment.PRESETS.values()}
    assert len(prints) == len(augment.PRESETS)
    assert (
        Augmentation("a", rotation=3.0).fingerprint()
        == Augmentation("b", rotation=3.0).fingerprint()
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"rotation": -1.0},
        {"scale": (0.9, 0.5)},
        {"scale": (0.0, 1.0)},
        {"brightness": 1.5},
        {"cutmix": 1.1},
        {"oversample": 0.5},
        {"operations": 9},
        {"magnitude": 2.0},
        {"scale": 0.5},
        {"scale": (0.5, 0.7, 1.0)},
        {"scale": ("a", 1.0)},
        {"rotation": "15"},
        {"rotation": None},
        {"rotation": float("nan")},
        {"operations": 1.5},
        {"cycle": 2.5},
        {"dihedral": "no"},
    ],
)
def test_settings_are_checked(settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        Augmentation("mine", **settings)


def test_settings_of_other_types_are_the_same_settings():
    plain = Augmentation("a", horizontal_flip=True, rotation=0.5, scale=(0.5, 1.0), operations=2)
    for scale in ([0.5, 1.0], np.array([0.5, 1.0]), (np.float32(0.5), np.float64(1))):
        other = Augmentation(
            "a",
            horizontal_flip=np.True_,
            rotation=np.float32(0.5),
            scale=scale,
            operations=np.int64(2),
        )
        assert other == plain and hash(other) == hash(plain)
        assert other.fingerprint() == plain.fingerprint()


def test_a_near_miss_is_suggested():
    with pytest.raises(InputError, match="Did you mean strong"):
        augment.get("stronk")
