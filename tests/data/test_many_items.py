"""What time and memory go with where there are many items, or many classes."""

import time
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from keras_tl import files
from keras_tl.data.audit import candidates, near
from keras_tl.data.audit import looks as looks_module
from keras_tl.data.audit.balance import findings_on_classes
from keras_tl.data.audit.looks import Looks, look
from keras_tl.data.audit.near import near_duplicates
from keras_tl.data.checks import warn_of_untrained_classes
from keras_tl.data.image_input import ImageInput
from keras_tl.data.inspection import inspect
from keras_tl.data.source import SPLITS, Source
from keras_tl.data.splits import _gain, _train_every_class, assign_splits
from keras_tl.files import scratch_array


def source_of(labels, task="single-label", classes=None):
    count = len(labels)
    classes = classes or (labels.max() + 1 if labels.ndim == 1 else labels.shape[1])
    texts = np.array([f"{i:06d}" for i in range(count)], dtype=object)
    names = tuple(f"c{i}" for i in range(classes))
    return Source(texts, texts.tolist(), labels, names, task, hashes=texts)


def traced(function, *args):
    """What it returns, and the most bytes that it held."""
    tracemalloc.start()
    try:
        return function(*args), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_splitting_ten_thousand_classes_makes_no_table_of_them():
    """One-hot rows of these would have 800 MB."""
    source = source_of(np.arange(20_000) % 10_000)
    started = time.process_time()

    def prepared():
        assigned = assign_splits(source)
        list(findings_on_classes(assigned))
        warn_of_untrained_classes(assigned)
        return assigned

    assigned, peak = traced(prepared)
    assert peak < 60e6
    assert time.process_time() - started < 60
    for split in ("train", "test"):
        assert np.bincount(assigned.labels[assigned.splits == split]).tolist() == [1] * 10_000


def test_many_groups_of_many_classes_are_divided_quickly():
    labels = np.random.default_rng(0).integers(0, 10_000, 200_000)
    groups = (np.arange(200_000) // 2).astype(str).astype(object)
    source = replace(source_of(labels), groups=groups)
    started = time.process_time()
    assigned = assign_splits(source)
    assert time.process_time() - started < 25
    assert (assigned.splits[::2] == assigned.splits[1::2]).all()


@pytest.mark.parametrize("seed", range(8))
def test_a_units_gain_is_that_over_all_strata(seed):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 50, 30)
    left = rng.integers(-3, 20, (30, 3))
    here, counts = np.unique(rng.integers(0, 30, 12), return_counts=True)
    table = np.zeros(30, np.int64)
    table[here] = counts
    expected = (table[:, None] * left / sizes[:, None] ** 2).mean(axis=0)
    expected += table.sum() * left.sum(axis=0) / sizes.sum() ** 2
    # To the bit: of equal gains the first decides.
    assert _gain(here, counts, left, left.sum(axis=0), sizes).tolist() == expected.tolist()


@pytest.mark.parametrize("task", ["single-label", "multi-label"])
@pytest.mark.parametrize("seed", range(8))
def test_every_class_is_trained_as_if_looked_at_one_by_one(task, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 12, 60)
    if task == "multi-label":
        labels = (rng.random((60, 12)) < 0.1).astype(np.float32)
    source = source_of(labels, task, 12)
    units = [
        unit for unit in np.split(np.arange(60), np.sort(rng.permutation(60)[:25])) if len(unit)
    ]
    before = rng.choice(SPLITS, 60, p=[0.05, 0.5, 0.45]).astype(object)
    found, wanted = before.copy(), before.copy()
    _train_every_class(source, units, found)
    member = source.targets() > 0
    for c in np.flatnonzero(~member[wanted == "train"].any(axis=0)):
        holding = [unit for unit in units if member[unit, c].any()]
        if holding and not member[wanted == "train", c].any():
            wanted[min(holding, key=len)] = "train"
    assert found.tolist() == wanted.tolist()


def test_which_classes_occur():
    source = replace(
        source_of(np.array([0, 2, 2]), classes=4),
        splits=np.array(["train", "val", "train"], dtype=object),
    )
    assert source.occurring().tolist() == [True, False, True, False]
    assert source.occurring("val").tolist() == [False, False, True, False]
    assert source.occurring("test").tolist() == [False] * 4
    several = source_of(np.array([[1, 0, 1], [0, 0, 1]], np.float32), "multi-label")
    assert several.occurring().tolist() == [True, False, True]


def test_a_large_array_lies_in_a_file(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_TL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(files, "SCRATCH_BYTES", 1000)
    small = scratch_array((10, 10), np.float32)
    large, peak = traced(scratch_array, (1000, 1000), np.float32)
    assert not isinstance(small, np.memmap)
    assert isinstance(large, np.memmap)
    assert peak < 100_000
    large[3] = 7
    assert large.sum() == 7000
    assert list((tmp_path / "cache").iterdir()) == []


def test_without_room_for_a_file_it_lies_in_memory_and_that_is_said(monkeypatch, tmp_path, caplog):
    (tmp_path / "file").touch()
    monkeypatch.setenv("KERAS_TL_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr(files, "SCRATCH_BYTES", 1000)
    array = scratch_array((100, 100), np.float32)
    assert array.shape == (100, 100)
    assert not array.any()
    assert "kept in memory" in caplog.text


def test_looks_in_a_file_and_recalled_in_parts_are_the_same(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_TL_CACHE", str(tmp_path))
    from keras_tl.data.arrays import from_arrays

    rng = np.random.default_rng(0)
    pixels = [rng.integers(0, 255, (20, 30, 3)).astype(np.uint8) for _ in range(7)]
    source = inspect(from_arrays(pixels, [0] * 7, class_names=["a"]), ImageInput())
    first = look(source, ImageInput())
    monkeypatch.setattr(files, "SCRATCH_BYTES", 0)
    monkeypatch.setattr(looks_module, "RECALLED", 2)
    monkeypatch.setattr(
        looks_module, "_looked_at", lambda source, _: iter([]) if not len(source) else 1 / 0
    )
    again = look(source, ImageInput())
    assert isinstance(again.thumbs, np.memmap)
    for name, values in vars(first).items():
        assert (getattr(again, name) == values).all(), name


def made_looks(count):
    """Random smooth thumbnails; each tenth is the one before it with some grain."""
    rng = np.random.default_rng(count)
    thumbs = np.empty((count, 64, 64), np.uint8)
    for i in range(count):
        if i % 10 == 9:
            thumbs[i] = np.clip(thumbs[i - 1] + rng.normal(0, 2, (64, 64)), 0, 255)
        else:
            coarse = rng.uniform(0, 255, (8, 8))
            thumbs[i] = np.kron(coarse, np.ones((8, 8)))
    empty = np.zeros(count, np.float32)
    return Looks(
        thumbs,
        np.zeros((count, 8, 8, 2), np.int8),
        np.full((count, 2), 64, np.int32),
        np.array([str(i) for i in range(count)], dtype=object),
        empty,
        empty,
        np.full(count, 50, np.float32),
        empty,
    )


def found_in(looks):
    names = np.array([f"{i}" for i in range(len(looks))], dtype=object)
    pairs, peak = traced(near_duplicates, looks, names)
    return set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)), peak


def test_memory_of_the_comparison_hardly_grows_with_the_images(monkeypatch):
    """In cells; what is held of an image is its signature, 0.4 KB, and its places."""
    monkeypatch.setattr(candidates, "ALL_PAIRS", 0)
    monkeypatch.setattr(near, "CHUNK", 50)
    monkeypatch.setattr(candidates, "BLOCK", 200)
    peaks = {}
    for count in (500, 1500):
        pairs, peaks[count] = found_in(made_looks(count))
        assert {(i - 1, i) for i in range(9, count, 10)} <= pairs
    assert (peaks[1500] - peaks[500]) / 1000 < 2500


def test_in_cells_the_same_pairs_are_found(monkeypatch):
    looks = made_looks(600)
    wanted, _ = found_in(looks)
    assert len(wanted) >= 60
    monkeypatch.setattr(candidates, "ALL_PAIRS", 0)
    assert found_in(looks)[0] == wanted
