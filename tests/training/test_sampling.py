import numpy as np
import pytest

from keras_tl.data.arrays import from_arrays
from keras_tl.data.augment import Augmentation
from keras_tl.data.image_input import ImageInput
from keras_tl.data.pipeline import Samples
from keras_tl.errors import InputError
from keras_tl.features import Features
from keras_tl.training.feeds import feature_batches
from keras_tl.training.phases import Phase
from keras_tl.training.sampling import (
    balanced,
    class_weights,
    order_of,
    sample_weights,
    shuffled,
)

# 20 images of class 0, 7 of class 1, 3 of class 2.
LABELS = np.repeat([0, 1, 2], [20, 7, 3])
TARGETS = np.eye(3)[LABELS]


def test_classes_come_equally_often_in_every_epoch():
    for epoch in range(5):
        indices, rounds = balanced(TARGETS, 3, epoch)
        assert indices.shape == rounds.shape == (30,) and indices.dtype == np.int64
        assert np.bincount(LABELS[indices]).tolist() == [10, 10, 10]


def test_over_the_epochs_all_images_of_a_class_come_equally_often():
    # In 42 epochs each class comes 420 times, which 20, 7 and 3 divide.
    every = np.concatenate([balanced(TARGETS, 3, epoch)[0] for epoch in range(42)])
    np.testing.assert_array_equal(np.bincount(every), np.repeat([21, 60, 140], [20, 7, 3]))


def test_a_round_counts_how_often_an_image_was_shown_before():
    seen = np.zeros(30, int)
    for epoch in range(4):
        indices, rounds = balanced(TARGETS, 3, epoch)
        for image in np.unique(indices):
            mine = np.sort(rounds[indices == image])
            np.testing.assert_array_equal(mine, seen[image] + np.arange(len(mine)))
            seen[image] += len(mine)


def test_an_epoch_depends_on_seed_and_number_alone():
    first = balanced(TARGETS, 3, 2)[0]
    np.testing.assert_array_equal(first, balanced(TARGETS, 3, 2)[0])
    assert (first != balanced(TARGETS, 4, 2)[0]).any()
    assert (first != balanced(TARGETS, 3, 1)[0]).any()
    # The classes are mixed up, not one after the other.
    assert (np.diff(LABELS[first]) != 0).sum() > 10


def test_an_empty_class_and_a_remainder_do_no_harm():
    targets = np.eye(5)[LABELS[:29]]
    indices, _ = balanced(targets, 0, 0)
    counts = np.bincount(LABELS[indices], minlength=5)
    # 3 times 10 are 30, of which one is left out.
    assert sorted(counts) == [0, 0, 9, 10, 10]


def test_with_several_labels_each_label_and_none_come_equally_often():
    targets = np.zeros((40, 2))
    targets[:4, 0] = 1
    targets[4:12, 1] = 1
    indices, _ = balanced(targets, 1, 0)
    # 3 times 14 are 42, of which two are left out.
    counts = [*targets[indices].sum(axis=0), (targets[indices].sum(axis=1) == 0).sum()]
    assert sum(counts) == len(indices) == 40 and min(counts) >= 12


def image_samples(cycle=3):
    images = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 3)).astype(np.uint8)
    augmentation = Augmentation("mine", brightness=0.2, cycle=cycle)
    return Samples(from_arrays(images, LABELS), ImageInput(size=8), augmentation)


def test_the_shuffled_order_is_the_images_own():
    images = image_samples()
    indices, rounds = shuffled(images, 5)(2)
    np.testing.assert_array_equal(indices, images.order(5, 2))
    assert (rounds == 2).all()


@pytest.mark.parametrize("sampling", ["shuffled", "balanced"])
def test_stored_and_computed_views_come_in_the_same_order(sampling):
    """Pixels stand for features: what is read from a store is what is computed."""
    images, epochs = image_samples(), 2
    order = order_of(sampling, images, 4, "single-label")
    views = min(images.views, epochs)
    features = []
    for view in range(views):
        pixels = np.stack(list(images.images(np.arange(30), view).as_numpy_iterator()))
        where = np.stack([np.zeros(30, np.int64), np.arange(30)], axis=1)
        features.append(Features([[pixels.astype(np.float32)]], where))
    weights = np.linspace(1, 2, 30, dtype=np.float32)
    options = {"order": order, "epochs": epochs, "weights": weights}
    stored = list(feature_batches(features, images, 4, **options).as_numpy_iterator())
    computed = list(images.batches(4, drop_remainder=True, **options).as_numpy_iterator())
    assert len(stored) == len(computed) == 14
    for found, expected in zip(stored, computed, strict=True):
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_array_equal(a, b)
    # An image that comes again is another view of it.
    if sampling == "balanced":
        indices, rounds = order(0)
        image = np.argmax(np.bincount(indices))
        assert len(set(rounds[indices == image] % views)) == 2


def test_a_regression_has_no_classes_to_balance():
    with pytest.raises(InputError, match="classes for balanced sampling"):
        order_of("balanced", image_samples(), 0, "regression")


def test_a_near_miss_is_suggested():
    from keras_tl import freezing

    with pytest.raises(InputError, match="Did you mean balanced"):
        Phase(freezing.All(), 1, 0.1, sampling="balance")


def test_weights_by_inverse_numbers_and_by_effective_numbers():
    assert class_weights([40, 10]) == pytest.approx([0.625, 2.5])
    # (1 - 0.9^40) / 0.1 = 9.852, (1 - 0.9^10) / 0.1 = 6.513.
    weights = class_weights([40, 10], beta=0.9)
    assert weights[1] / weights[0] == pytest.approx(9.85219 / 6.51322, rel=1e-4)
    assert 40 * weights[0] + 10 * weights[1] == pytest.approx(50)
    assert class_weights([40, 10], beta=0.0) == pytest.approx([1, 1])
    assert class_weights([40, 10, 0])[:2] == pytest.approx([0.625, 2.5])


def test_a_weight_is_wanted_for_each_class():
    targets = np.eye(3, dtype="float32")
    np.testing.assert_array_equal(sample_weights(targets, [1, 2, 3]), [1, 2, 3])
    with pytest.raises(InputError, match="3 class weights, received 2"):
        sample_weights(targets, [1, 2])
