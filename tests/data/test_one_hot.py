"""Rows that are made when they are asked for are the rows."""

import tracemalloc

import numpy as np
import pytest

from keras_tl.data import one_hot as module
from keras_tl.data.arrays import from_arrays
from keras_tl.data.image_input import ImageInput
from keras_tl.data.one_hot import OneHotRows, one_hot
from keras_tl.data.pipeline import Samples
from keras_tl.feature_cache import Features
from keras_tl.training.feeds import feature_batches
from keras_tl.training.refinement import refined_loss
from keras_tl.training.sampling import balanced, sample_weights

LABELS = np.array([2, 0, 1, 2, 4])


def test_it_is_what_numpy_makes():
    rows, whole = OneHotRows(LABELS, 5), np.eye(5, dtype=np.float32)[LABELS]
    assert (rows.shape, rows.ndim, rows.dtype, len(rows)) == (whole.shape, 2, whole.dtype, 5)
    for asked in (3, slice(1, 4), slice(None), [0, 4], np.array([2, 2]), LABELS == 2):
        assert rows[asked].dtype == np.float32
        np.testing.assert_array_equal(rows[asked], whole[asked])
    np.testing.assert_array_equal(np.asarray(rows), whole)
    assert np.asarray(rows, np.float64).dtype == np.float64
    assert rows.argmax(axis=1).tolist() == LABELS.tolist()
    with pytest.raises(ValueError, match="axis 1"):
        rows.argmax(axis=0)


def test_small_ones_are_arrays(monkeypatch):
    assert isinstance(one_hot(LABELS, 5), np.ndarray)
    monkeypatch.setattr(module, "MOST_HELD", 24)
    assert isinstance(one_hot(LABELS, 5), OneHotRows)


def test_very_many_classes_of_many_images_take_no_memory():
    labels = np.arange(200_000) % 10_000
    tracemalloc.start()
    rows = one_hot(labels, 10_000)
    np.testing.assert_array_equal(rows[np.array([7, 10_009])].argmax(axis=1), [7, 9])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e6


@pytest.fixture
def both(monkeypatch):
    """The same samples, with an array of targets and with rows that are made."""
    pixels = [np.full((8, 8, 3), i, np.uint8) for i in range(23)]
    names = [f"c{i}" for i in range(4)]
    source = from_arrays(pixels, [i % 3 for i in range(23)], class_names=names)
    held = Samples(source, ImageInput(size=8))
    array = held.targets()
    monkeypatch.setattr(module, "MOST_HELD", 0)
    assert isinstance(array, np.ndarray)
    assert isinstance(held.targets(), OneHotRows)
    return held, array


def test_batches_of_images_are_the_same(both, monkeypatch):
    samples, _ = both
    options = {"seed": 3, "epochs": 2, "drop_remainder": True}
    made = list(samples.batches(4, **options).as_numpy_iterator())
    monkeypatch.setattr(module, "MOST_HELD", 10**6)
    held = list(samples.batches(4, **options).as_numpy_iterator())
    assert len(made) == len(held) == 10
    for one, other in zip(made, held, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_batches_of_features_are_the_same(both, monkeypatch):
    samples, _ = both
    values = np.random.default_rng(0).normal(size=(23, 6)).astype(np.float32)
    where = np.stack([np.zeros(23, np.int64), np.arange(23)], axis=1)
    features = [Features([[values]], where)]
    made = list(feature_batches(features, samples, 4, seed=1, epochs=2).as_numpy_iterator())
    monkeypatch.setattr(module, "MOST_HELD", 10**6)
    held = list(feature_batches(features, samples, 4, seed=1, epochs=2).as_numpy_iterator())
    assert len(made) == len(held)
    for one, other in zip(made, held, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_sampling_and_weights_are_the_same(both):
    samples, array = both
    for epoch in (0, 5):
        made, held = (balanced(t, 1, epoch) for t in (samples.targets(), array))
        assert all((a == b).all() for a, b in zip(made, held, strict=True))
    weights = [1.0, 2.0, 3.0, 4.0]
    np.testing.assert_array_equal(
        sample_weights(samples.targets(), weights), sample_weights(array, weights)
    )


def test_the_refined_loss_takes_classes_and_parts(monkeypatch):
    from keras_tl.training import refinement

    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, 300)
    logits = rng.normal(size=(300, 5)) + 2 * np.eye(5)[labels]
    outputs = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float32)
    wanted = refined_loss(outputs, np.eye(5)[labels])
    assert refined_loss(outputs, labels) == wanted
    monkeypatch.setattr(refinement, "LARGE", 64)
    assert refined_loss(outputs, labels) == pytest.approx(wanted, rel=1e-5)
