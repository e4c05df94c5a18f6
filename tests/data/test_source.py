from dataclasses import fields, replace

import numpy as np
import pytest

from keras_tl.data.source import Skipped, Source
from keras_tl.errors import InputError


def texts(*values):
    return np.array(values, dtype=object)


@pytest.fixture
def grouped():
    return Source(
        ids=texts("a", "b"),
        items=["/a.jpg", "/b.jpg"],
        labels=np.array([1, 0]),
        class_names=("x", "y"),
        groups=texts("g", ""),
        splits=texts("test", ""),
        given_splits=("test",),
        hashes=texts("1", "2"),
        skipped=(Skipped("bad", "empty file"),),
    )


def plain(source):
    """Every field as plain Python."""
    found = {field.name: getattr(source, field.name) for field in fields(source)}
    return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in found.items()}


def test_joined_sources_keep_everything(grouped):
    other = Source(
        ids=texts("c"),
        items=[b"jpg"],
        labels=np.array([1]),
        class_names=("x", "y"),
        splits=texts("train"),
        given_splits=("train",),
        hashes=texts("3"),
        skipped=(Skipped("notes.txt", "not an image file", bad=False),),
    )
    assert plain(Source.joined([grouped, other])) == {
        "ids": ["a", "b", "c"],
        "items": ["/a.jpg", "/b.jpg", b"jpg"],
        "labels": [1, 0, 1],
        "class_names": ("x", "y"),
        "task": "single-label",
        "groups": ["g", "", ""],
        "splits": ["test", "", "train"],
        "given_splits": ("train", "test"),
        "hashes": ["1", "2", "3"],
        "skipped": (*grouped.skipped, *other.skipped),
    }
    assert Source.joined([other, grouped]).groups.tolist() == ["", "g", ""]
    assert Source.joined([other, other]).groups is None


def test_joined_parts_are_the_whole(grouped):
    parts = [grouped.take(np.array([0])), grouped.take(np.array([1]))]
    assert plain(Source.joined(parts)) == plain(grouped)
    assert plain(Source.joined([grouped])) == plain(grouped)


def test_joined_labels_of_other_tasks(grouped):
    several = replace(grouped, labels=np.array([[1, 0], [1, 1]], np.float32), task="multi-label")
    joined = Source.joined([several, several])
    assert joined.labels.dtype == np.float32 and joined.task == "multi-label"
    assert joined.labels.tolist() == [[1, 0], [1, 1], [1, 0], [1, 1]]


@pytest.mark.parametrize("other", [{"class_names": ("y", "x")}, {"task": "regression"}])
def test_sources_that_cannot_be_joined_are_refused(grouped, other):
    with pytest.raises(InputError, match="one task and the same classes, received single-label of"):
        Source.joined([grouped, replace(grouped, **other)])
