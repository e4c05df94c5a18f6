import hashlib
import io
from typing import ClassVar

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

from keras_tl.data.tfds import from_text_tfds, from_tfds
from keras_tl.errors import InputError

COUNTS = {"train": 6, "validation": 3, "test": 2}


def jpeg(seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


class TinyPhotos(tfds.core.GeneratorBasedBuilder):
    """Photographs with every kind of label."""

    VERSION = tfds.core.Version("1.0.0")
    SPLITS: ClassVar = COUNTS

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "label": tfds.features.ClassLabel(names=["zebra", "ant"]),
            "tags": tfds.features.Sequence(tfds.features.ClassLabel(names=["q", "p", "r"])),
            "size": tf.float32,
            "pixels": tfds.features.Tensor(shape=(2, 2, 3), dtype=tf.uint8),
            "depth": tfds.features.Image(shape=(None, None, 1), dtype=tf.float32),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {name: self._generate_examples(name, count) for name, count in self.SPLITS.items()}

    def _generate_examples(self, split, count):
        for i in range(count):
            yield (
                i,
                {
                    "image": io.BytesIO(jpeg(100 * len(split) + i)),
                    "label": i % 2,
                    "tags": [0, 2] if i == 0 else [1],
                    "size": i + 0.5,
                    "pixels": np.full((2, 2, 3), i, np.uint8),
                    "depth": np.zeros((2, 2, 1), np.float32),
                },
            )


class TinyTrainOnly(TinyPhotos):
    """One split."""

    SPLITS: ClassVar = {"train": 4}


class TinyExtra(TinyPhotos):
    """A split of a name of its own."""

    SPLITS: ClassVar = {"train": 4, "unlabelled": 2}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    for builder in (TinyPhotos, TinyTrainOnly, TinyExtra):
        builder(data_dir=folder).download_and_prepare()
    return str(folder)


def test_prepared_data_set(data_dir):
    source = from_tfds("tiny_photos", data_dir=data_dir, download=False)
    assert {name: int((source.splits == name).sum()) for name in ("train", "val", "test")} == {
        "train": 6,
        "val": 3,
        "test": 2,
    }
    assert source.given_splits == ("train", "val", "test")
    # TFDS' order of classes is kept, not sorted.
    assert source.task == "single-label" and source.class_names == ("zebra", "ant")
    assert len(set(source.ids)) == 11 and all("tiny_photos-" in name for name in source.ids)


def test_images_are_the_very_bytes_with_their_labels(data_dir):
    source = from_tfds("tiny_photos", data_dir=data_dir)
    found = {
        hashlib.sha256(item).hexdigest(): label
        for item, label in zip(source.items, source.labels, strict=True)
    }
    expected = {
        hashlib.sha256(jpeg(100 * len(split) + i)).hexdigest(): i % 2
        for split, count in COUNTS.items()
        for i in range(count)
    }
    assert found == expected


def test_order_is_the_same_each_time(data_dir):
    once, again = (from_tfds("tiny_photos", data_dir=data_dir).ids.tolist() for _ in range(2))
    assert once == again


def test_slices_as_splits(data_dir):
    splits = {"train[:50%]": "train", "train[50%:]": "test", "validation": ""}
    source = from_tfds("tiny_photos", data_dir=data_dir, splits=splits)
    assert source.splits.tolist() == ["train"] * 3 + ["test"] * 3 + [""] * 3
    assert source.given_splits == ("train", "test")


def test_a_lone_train_split_is_to_be_assigned(data_dir):
    source = from_tfds("tiny_train_only", data_dir=data_dir)
    assert set(source.splits) == {""} and source.given_splits == ()


def test_other_labels(data_dir):
    tags = from_tfds("tiny_photos", data_dir=data_dir, label_key="tags")
    assert tags.task == "multi-label" and tags.class_names == ("q", "p", "r")
    assert sorted(tags.labels.tolist()) == [[0, 1, 0]] * 8 + [[1, 0, 1]] * 3
    sizes = from_tfds("tiny_photos", data_dir=data_dir, label_key="size")
    assert sizes.task == "regression" and sizes.class_names == ("size",)
    assert sorted(sizes.labels[:, 0]) == sorted(i + 0.5 for n in COUNTS.values() for i in range(n))


def test_plain_tensors_are_arrays(data_dir):
    source = from_tfds("tiny_photos", data_dir=data_dir, image_key="pixels", label_key="size")
    for item, size in zip(source.items, source.labels[:, 0], strict=True):
        np.testing.assert_array_equal(item, np.full((2, 2, 3), size - 0.5, np.uint8))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_key": "imag"}, r"a feature 'imag'.*Did you mean image\?"),
        ({"label_key": "lable"}, r"Did you mean label\?"),
        ({"image_key": "label"}, "images of integers"),
        ({"image_key": "depth"}, "float32"),
        ({"task": "regression"}, "numbers for a regression"),
        ({"splits": {"trian": "train"}}, "received 'trian'"),
        ({"splits": {"train": "trian"}}, "Did you mean train"),
        ({"splits": {"train": "train", "train[:1]": "test"}}, "share no item"),
    ],
)
def test_what_cannot_be_used_is_refused(data_dir, options, message):
    with pytest.raises(InputError, match=message):
        from_tfds("tiny_photos", data_dir=data_dir, **options)


def test_unknown_splits_are_refused_unless_named(data_dir):
    with pytest.raises(InputError, match=r"train, unlabelled\. Say what"):
        from_tfds("tiny_extra", data_dir=data_dir)
    assert len(from_tfds("tiny_extra", data_dir=data_dir, splits={"train": ""})) == 4


def test_unknown_data_set(data_dir):
    with pytest.raises(InputError, match="Did you mean cifar10"):
        from_tfds("cifar_10", data_dir=data_dir)


def test_not_prepared(tmp_path):
    with pytest.raises(InputError, match="nothing there"):
        from_tfds("tiny_photos", data_dir=str(tmp_path), download=False)


@pytest.mark.parametrize(
    "failure",
    [tfds.download.DownloadError("404"), ConnectionError("no route"), AssertionError("by hand")],
)
def test_failing_downloads(tmp_path, monkeypatch, failure):
    def fail(self):
        raise failure

    monkeypatch.setattr(TinyPhotos, "download_and_prepare", fail)
    with pytest.raises(InputError, match=f"received {failure}"):
        from_tfds("tiny_photos", data_dir=str(tmp_path))


@pytest.mark.parametrize(("name", "classes"), [("mnist", 10), ("cats_vs_dogs", 2)])
def test_mocked_public_data_sets(tmp_path, name, classes):
    with tfds.testing.mock_data(num_examples=20):
        source = from_tfds(name, data_dir=str(tmp_path), splits={"train": "train"})
    assert len(source) == 20 and len(source.class_names) == classes
    assert all(isinstance(item, bytes) for item in source.items)


class TinyReviews(tfds.core.GeneratorBasedBuilder):
    """Reviews; those of one split have no class, as in imdb_reviews."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "title": tfds.features.Text(),
            "text": tfds.features.Text(),
            "label": tfds.features.ClassLabel(names=["neg", "pos"]),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {name: self._generate_examples(name) for name in ("train", "test", "unsupervised")}

    def _generate_examples(self, split):
        label = -1 if split == "unsupervised" else 1
        yield 0, {"title": "T", "text": f"{split} caf\u00e9", "label": label}
        yield 1, {"title": " ", "text": "", "label": label}
        yield 2, {"title": "U", "text": f"{split} two", "label": min(label, 0)}


@pytest.fixture(scope="module")
def reviews(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("reviews"))
    TinyReviews(data_dir=folder).download_and_prepare()
    return folder


def test_texts(reviews):
    source = from_text_tfds("tiny_reviews", data_dir=reviews)
    assert sorted(source.items) == [
        ("test café",),
        ("test two",),
        ("train café",),
        ("train two",),
    ]
    assert source.given_splits == ("train", "test") and source.class_names == ("neg", "pos")
    classes = {item[0]: int(label) for item, label in zip(source.items, source.labels, strict=True)}
    assert classes["train café"] == 1 and classes["train two"] == 0
    assert [skip.reason for skip in source.skipped] == ["no text"] * 2


def test_two_features_of_texts(reviews):
    joined = from_text_tfds("tiny_reviews", "title,text", data_dir=reviews)
    assert ("T\ntrain café",) in joined.items
    paired = from_text_tfds("tiny_reviews", "title,text", pair=True, data_dir=reviews)
    assert ("T", "train café") in paired.items


def test_a_feature_of_texts_that_is_not_there(reviews):
    with pytest.raises(InputError, match=r"a feature 'txet' in .*Did you mean text"):
        from_text_tfds("tiny_reviews", "txet", data_dir=reviews)


def test_items_without_a_label_are_left_out(reviews, caplog):
    """Test splits of contests have -1, which is no class, and not the last one."""
    splits = {"train": "train", "unsupervised": "test"}
    source = from_text_tfds("tiny_reviews", data_dir=reviews, splits=splits)
    assert sorted(source.items) == [("train café",), ("train two",)]
    assert source.given_splits == ("train",)
    assert "3 items of test have no label and are left out" in caplog.text
    with pytest.raises(InputError, match=r"labels in the feature 'label', received -1 everywhere"):
        from_text_tfds("tiny_reviews", data_dir=reviews, splits={"unsupervised": "train"})
