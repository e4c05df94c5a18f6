from dataclasses import replace

import numpy as np
import pytest

from keras_tl.data.audit.groups import NearGroups
from keras_tl.data.source import Source
from keras_tl.data.splits import assign_splits


def numbered(count, groups=None):
    ids = np.array([f"{i:03d}" for i in range(count)], dtype=object)
    return Source(
        ids, list(ids), np.arange(count) % 2, ("a", "b"), hashes=ids.copy(), groups=groups
    )


def near(names, limit=10):
    return NearGroups(np.array(names, dtype=object), (), limit)


@pytest.mark.parametrize("seed", range(5))
def test_near_duplicates_stay_together(seed):
    names = [f"{i // 4}" for i in range(80)] + [""] * 20
    source = assign_splits(numbered(100), seed=seed, near=near(names))
    for start in range(0, 80, 4):
        assert len(set(source.splits[start : start + 4])) == 1
    assert {"train", "val", "test"} == set(source.splits)
    apart = assign_splits(numbered(100), seed=seed)
    assert any(len(set(apart.splits[i : i + 4])) > 1 for i in range(0, 80, 4))


def test_they_tie_groups_together_only_up_to_the_limit():
    groups = np.array([f"g{i // 5}" for i in range(100)], dtype=object)
    names = np.full(100, "", dtype=object)
    names[[0, 5]] = "pair"  # ties g0 to g1: ten items
    names[[10, 15, 20]] = "three"  # would tie g2, g3 and g4: fifteen
    seen = set()
    for seed in range(8):
        source = assign_splits(numbered(100, groups), seed=seed, near=near(names))
        assert len(set(source.splits[:10])) == 1
        for start in range(0, 100, 5):
            assert len(set(source.splits[start : start + 5])) == 1
        seen.add(tuple(source.splits[[10, 15, 20]]))
    assert any(len(set(splits)) > 1 for splits in seen)


def test_given_splits_stay_and_what_is_not_assigned_joins_them():
    source = numbered(10)
    splits = np.array(["test"] * 3 + [""] * 7, dtype=object)
    source = replace(source, splits=splits, given_splits=("test",))
    names = ["x", "", "", "x"] + [""] * 6
    assigned = assign_splits(source, near=near(names))
    assert assigned.splits[:4].tolist() == ["test"] * 4
    both = replace(source, splits=np.array(["train", "test"] * 5), given_splits=("train", "test"))
    kept = assign_splits(both, val_fraction=0, near=near(["x"] * 4 + [""] * 6))
    assert kept.splits.tolist() == ["train", "test"] * 5


def test_equal_ones_stay_together_beyond_the_limit():
    keys = np.array(["x"] * 30 + [f"k{i}" for i in range(70)], dtype=object)
    groups = NearGroups(np.full(100, "", dtype=object), (), 10, keys)
    source = assign_splits(numbered(100), near=groups)
    assert len(set(source.splits[:30])) == 1
    assert {"train", "val", "test"} == set(source.splits)
