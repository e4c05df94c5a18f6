import io
from functools import partial

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from PIL import ExifTags, Image, ImageCms

from keras_tl.data.arrays import from_arrays, labelled
from keras_tl.data.labels import read_label_columns, read_labels
from keras_tl.data.open import open_data
from keras_tl.data.texts import from_text_folder, from_texts
from keras_tl.errors import InputError

PIXELS = np.arange(4 * 2 * 3 * 3, dtype=np.uint8).reshape(4, 2, 3, 3)
LABELS = ["b", "a", "b", "a"]
SRGB, LAB = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")


def test_series_of_images_is_read_by_position():
    frame = pd.DataFrame({"image": list(PIXELS), "label": LABELS}).iloc[[3, 0, 2]]
    source = from_arrays(frame["image"], frame["label"])
    np.testing.assert_array_equal(source.items, PIXELS[[3, 0, 2]])
    assert source.labels.tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    "images", [tf.constant(PIXELS), tf.data.Dataset.from_tensor_slices(PIXELS), iter(PIXELS)]
)
def test_images_of_tensorflow(images):
    np.testing.assert_array_equal(from_arrays(images, LABELS).items, PIXELS)


def test_images_of_pil_keep_their_colours():
    red = Image.new("RGB", (3, 2), (255, 0, 0))
    clear = red.convert("P")
    clear.info["transparency"] = 0
    grey = red.convert("LA")
    images = [red.convert("P"), red.convert("CMYK"), clear, grey, red.convert("1")]
    items = from_arrays(images, [0, 1, 0, 1, 0]).items
    assert [item.shape[2] for item in items] == [3, 3, 4, 4, 1]
    for item in items[:3]:
        np.testing.assert_array_equal(item[..., :3], np.asarray(red))
    keyed, lab = red.copy(), ImageCms.profileToProfile(red, SRGB, LAB, outputMode="LAB")
    keyed.info["transparency"] = (255, 0, 0)
    items = from_arrays([keyed, lab, red.convert("RGBA").convert("RGBa")], [0, 1, 0]).items
    assert items[0][0, 0].tolist() == [255, 0, 0, 0]
    np.testing.assert_allclose(items[1][0, 0].astype(int), (255, 0, 0), atol=6)
    assert items[2][0, 0].tolist() == [255, 0, 0, 255]


def test_images_of_pil_are_turned_upright():
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    file = io.BytesIO()
    Image.fromarray(PIXELS[0]).resize((80, 40)).save(file, "JPEG", exif=exif)
    upright, plain = from_arrays([Image.open(file), Image.new("RGB", (80, 40))], [0, 1]).items
    assert upright.shape == (80, 40, 3) and plain.shape == (40, 80, 3)
    turned = np.rot90(np.asarray(Image.open(file)), -1)
    np.testing.assert_array_equal(upright, turned)


def pairs():
    return tf.data.Dataset.from_tensor_slices((PIXELS, [0, 1, 0, 1]))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (["a.png", "b.png"], r"'a.png'. Use from_folder, or from_dataframe"),
        (np.array(["a.png", "b.png"]), "from_dataframe"),
        ("photos", "from_folder"),
        (pairs(), r"Pass \[x for x, _ in data\] as images"),
        (pairs().batch(2), r"Pass \[x for x, _ in data.unbatch\(\)\] as images"),
        (pairs().map(lambda x, _: x).batch(2), r"Pass data.unbatch\(\)"),
        (pd.DataFrame({"image": list(PIXELS)}), "Pass its column of images"),
        (pairs().repeat(), r"Leave out repeat"),
    ],
)
def test_what_is_no_image_is_refused(images, message):
    with pytest.raises(InputError, match=message):
        from_arrays(images, [0, 1])


def test_numbers_of_mixed_types_are_a_label_matrix():
    frame = pd.DataFrame({"a": [True, False, True, True], "b": [1, 0, 0, 1]})
    for labels in (frame.values, frame.astype({"b": "Int64"}).values):
        source = from_arrays(PIXELS, labels, class_names=["a", "b"])
        assert source.task == "multi-label"
        assert source.labels.tolist() == [[1, 1], [0, 0], [1, 0], [1, 1]]
    frame["c"] = [0.5, 1.5, 2, 3]
    assert from_arrays(PIXELS, frame.values).task == "regression"
    frame["c"] = [0, 1, None, 1]
    with pytest.raises(InputError, match="1 without one"):
        from_arrays(PIXELS, frame.astype(object).values)


def test_data_frames_of_labels():
    frame = pd.DataFrame({"label": LABELS, "index": [1, 0, 1, 0]})
    source = from_arrays(PIXELS, frame[["label"]])
    assert source.class_names == ("a", "b") and source.labels.tolist() == [1, 0, 1, 0]
    assert from_arrays(PIXELS, frame[["label"]].values).labels.tolist() == [1, 0, 1, 0]
    named = from_arrays(PIXELS, frame[["index"]].astype(object), class_names=["x", "y"])
    assert named.class_names == ("x", "y") and named.labels.tolist() == [1, 0, 1, 0]


def test_columns_of_a_data_frame_name_the_classes():
    dummies = pd.get_dummies(pd.Series(LABELS))
    source = from_arrays(PIXELS, dummies)
    assert source.class_names == ("a", "b") and source.labels.tolist() == [1, 0, 1, 0]
    turned = from_arrays(PIXELS, dummies, class_names=["b", "a"])
    assert turned.class_names == ("b", "a") and turned.labels.tolist() == [0, 1, 0, 1]
    # pandas' own numbers are no names.
    numbered = dummies.set_axis([0, 1], axis=1)
    renamed = from_arrays(PIXELS, numbered, class_names=["x", "y"])
    assert renamed.class_names == ("x", "y") and renamed.labels.tolist() == [1, 0, 1, 0]
    with pytest.raises(InputError, match="different class names"):
        from_arrays(PIXELS, numbered, class_names=["x", "x"])
    with pytest.raises(InputError, match="the label columns b, aa, received a, b"):
        from_arrays(PIXELS, dummies, class_names=["b", "aa"])


def test_cells_of_several_columns_are_numbers_also_as_text():
    digits = pd.DataFrame({"a": list("0110"), "b": list("1001")})
    source = from_arrays(PIXELS, digits)
    assert source.class_names == ("a", "b") and source.labels.tolist() == [1, 0, 0, 1]
    with pytest.raises(InputError, match="'b'"):
        from_arrays(PIXELS, digits.assign(b=list("wxyz")))


def test_the_column_of_a_data_frame_names_the_target():
    ages = pd.DataFrame({"age": [1.5, 2, 3, 4]})
    for task in ("auto", "regression"):
        assert from_arrays(PIXELS, ages, task=task).class_names == ("age",)


def test_a_masked_label_is_a_missing_one():
    masked = np.ma.masked_array([0, 1, 0, 9], mask=[0, 0, 0, 1])
    with pytest.raises(InputError, match="a label for every item"):
        from_arrays(PIXELS, masked)


@pytest.mark.parametrize(
    "labels",
    [
        tf.constant(LABELS),
        [tf.constant(label) for label in LABELS],
        tf.data.Dataset.from_tensor_slices(LABELS),
        pd.Categorical(LABELS),
    ],
)
def test_labels_of_other_types(labels):
    assert from_arrays(PIXELS, labels).class_names == ("a", "b")
    assert from_texts(["p", "q", "r", "s"], labels).labels.tolist() == [1, 0, 1, 0]


def test_texts_with_data_frames_and_tensors():
    texts = ["p", "q", "r", "s"]
    frame = pd.DataFrame({"label": LABELS}, index=[3, 2, 1, 0])
    assert from_texts(texts, frame).labels.tolist() == [1, 0, 1, 0]
    with pytest.raises(InputError, match="Decode"):
        from_texts(tf.constant(texts))


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("hello", "one str. Pass a list"),
        ({"text": ["a"]}, "one dict"),
        (pd.DataFrame({"text": ["a"]}), "from_text_dataframe"),
        (tf.data.Dataset.from_tensor_slices((["a", "b"], [0, 1])), "for x, _ in data"),
    ],
)
def test_what_is_no_list_of_texts_is_refused(texts, message):
    with pytest.raises(InputError, match=message):
        from_texts(texts)


def test_labels_are_as_many_as_items():
    with pytest.raises(InputError, match="a label for each item, received one str"):
        from_arrays(PIXELS, "abab")
    with pytest.raises(InputError, match="4 labels, received 3"):
        from_arrays(PIXELS, pd.DataFrame({"label": LABELS[:3]}))
    options = {"class_names": None, "groups": None, "splits": None, "task": "auto"}
    with pytest.raises(InputError, match="4 labels, received 3"):
        labelled(np.arange(4), list(PIXELS), LABELS[:3], **options)


@pytest.mark.parametrize("form", [list, np.array, pd.Index, pd.Series])
def test_class_names_of_any_kind_of_list(form):
    names = form(["b", "a"])
    for source in (
        from_arrays(PIXELS, LABELS, class_names=names),
        from_arrays(PIXELS, [0, 1, 0, 1], class_names=names),
        from_arrays(PIXELS, np.eye(2)[[0, 1, 0, 1]], class_names=names),
        from_texts(["p", "q", "r", "s"], LABELS, class_names=names),
    ):
        assert source.class_names == ("b", "a") and source.labels.tolist() == [0, 1, 0, 1]
    for name in source.class_names:
        assert type(name) is str
    assert read_labels(LABELS, class_names=names).class_names == ("b", "a")
    columns = {"a": [0, 1], "b": [1, 0]}
    assert read_label_columns(columns, class_names=names).class_names == ("b", "a")


def test_class_names_that_are_numbers_or_one_text():
    source = from_arrays(PIXELS, ["10", "2", "10", "2"], class_names=np.array([2, 10]))
    assert source.class_names == ("2", "10") and source.labels.tolist() == [1, 0, 1, 0]
    with pytest.raises(InputError, match="a list of class names"):
        from_arrays(PIXELS, LABELS, class_names="ab")


@pytest.mark.parametrize("form", [list, np.array, pd.Index])
def test_class_names_of_folders(tmp_path, form):
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "text.txt").write_text(name)
    for opened in (from_text_folder, partial(open_data, text_column="text")):
        source = opened(str(tmp_path), class_names=form(["b", "a"]))
        assert source.class_names == ("b", "a") and source.labels.tolist() == [1, 0]
