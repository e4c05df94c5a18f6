import numpy as np
import pandas as pd
import pytest

from keras_tl.data.arrays import from_arrays
from keras_tl.errors import InputError

PIXELS = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)


def test_array_of_images_is_not_copied():
    source = from_arrays(PIXELS, ["b", "a"])
    assert source.class_names == ("a", "b") and source.labels.tolist() == [1, 0]
    assert source.ids.tolist() == ["0", "1"]
    assert np.shares_memory(source.items[1], PIXELS)
    np.testing.assert_array_equal(source.items[1], PIXELS[1])


def test_grey_images_get_a_channel():
    assert [item.shape for item in from_arrays(PIXELS[..., 0], [0, 1]).items] == [(4, 5, 1)] * 2


def test_lists_of_any_sizes_and_encoded_images():
    images = [
        PIXELS[0],
        PIXELS[1, :2],
        np.zeros((3, 3), np.uint8),
        np.zeros((1, 1, 4), np.uint8),
        b"x",
    ]
    source = from_arrays(images, [0, 1, 0, 1, 1])
    assert [getattr(item, "shape", item) for item in source.items] == [
        (4, 5, 3),
        (2, 5, 3),
        (3, 3, 1),
        (1, 1, 4),
        b"x",
    ]


def test_indices_into_class_names():
    source = from_arrays(PIXELS, np.array([2, 0]), class_names=("x", "y", "z"))
    assert source.class_names == ("x", "y", "z") and source.labels.tolist() == [2, 0]
    with pytest.raises(InputError, match="1 others, such as 3"):
        from_arrays(PIXELS, [3, 0], class_names=("x", "y", "z"))


@pytest.mark.parametrize("form", [np.array, list])
def test_label_matrix(form):
    source = from_arrays(PIXELS, form([[1, 1], [0, 1]]), class_names=("x", "y"))
    assert source.task == "multi-label" and source.labels.tolist() == [[1, 1], [0, 1]]
    assert from_arrays(PIXELS, form([[0.0, 1.0], [1.0, 0.0]])).labels.tolist() == [1, 0]
    assert from_arrays(PIXELS, form([[0.5, 2], [1, 3]])).task == "regression"


def test_lists_of_words_are_multi_label():
    assert from_arrays(PIXELS, [["b", "a"], ["a"]]).labels.tolist() == [[1, 1], [1, 0]]
    assert from_arrays(PIXELS, [["b"], ["a"]]).labels.tolist() == [[0, 1], [1, 0]]


def test_splits_groups_and_ids():
    source = from_arrays(PIXELS, [0, 1], splits=["valid", ""], groups=[3.0, None], ids=["p", "q"])
    assert source.splits.tolist() == ["val", ""] and source.given_splits == ("val",)
    assert source.groups.tolist() == ["3", ""]
    assert source.ids.tolist() == ["p", "q"]


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        (PIXELS / 255.0, {}, r"float64 in image 0.*astype\('uint8'\)"),
        (PIXELS.astype(np.uint16), {}, "uint16"),
        (np.moveaxis(PIXELS, -1, 1), {}, "np.moveaxis"),
        (PIXELS[..., :2], {}, "shape"),
        (PIXELS[:, :0], {}, "shape"),
        (PIXELS[:0], {}, "at least one image"),
        (PIXELS[:1], {}, "1 labels, received 2"),
        (PIXELS, {"splits": ["train"]}, "2 splits, received 1"),
        (PIXELS, {"groups": ["g"] * 3}, "2 groups, received 3"),
        (PIXELS, {"ids": ["p", "p"]}, "repeated ids"),
        (PIXELS, {"splits": ["trian", ""]}, "Did you mean train"),
    ],
)
def test_what_cannot_be_used_is_refused(images, options, message):
    with pytest.raises(InputError, match=message):
        from_arrays(images, [0, 1], **options)


def test_label_matrices_that_do_not_fit():
    with pytest.raises(InputError, match="2 class names, received 3"):
        from_arrays(PIXELS, np.eye(2), class_names=("x", "y", "z"))
    with pytest.raises(InputError, match=r"shape \[2, 2, 2\]"):
        from_arrays(PIXELS, np.zeros((2, 2, 2)))


def test_a_single_column_of_labels_is_one_for_each_image():
    images = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 3)).astype(np.uint8)
    labels = np.array([[0], [1], [1], [0], [1], [0]])
    for given in (labels, labels.tolist()):
        source = from_arrays(images, given)
        assert (source.task, source.class_names) == ("single-label", ("0", "1"))
        assert source.labels.tolist() == [0, 1, 1, 0, 1, 0]
    named = from_arrays(images, labels, class_names=["cat", "dog"])
    assert named.class_names == ("cat", "dog") and named.labels.tolist() == [0, 1, 1, 0, 1, 0]
    present = from_arrays(images, labels, task="multi-label")
    np.testing.assert_array_equal(present.labels, labels)


def test_missing_groups_are_none_whatever_stands_for_them():
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3)).astype(np.uint8)
    given = ["p", float("nan"), pd.NA, None, ""]
    source = from_arrays(images, ["a", "b", "a", "b", "a"], groups=given)
    assert source.groups.tolist() == ["p", "", "", "", ""]
    with pytest.raises(InputError, match="label"):
        from_arrays(images, ["a", pd.NA, "a", "b", "a"])


@pytest.mark.parametrize("form", [list, pd.Series])
def test_missing_splits_are_to_be_assigned(form):
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3)).astype(np.uint8)
    given = form(["train", float("nan"), None, pd.NA, "test"])
    source = from_arrays(images, ["a", "b", "a", "b", "a"], splits=given)
    assert source.splits.tolist() == ["train", "", "", "", "test"]
    assert source.given_splits == ("train", "test")
