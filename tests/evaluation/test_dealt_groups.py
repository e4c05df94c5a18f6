"""Folds that divide no group; scikit-learn's would need a table of all groups and classes."""

import tracemalloc

import numpy as np
import pytest
from sklearn.model_selection import StratifiedGroupKFold

from keras_tl.evaluation import held_out, probes
from keras_tl.evaluation.linear_fits import deal_groups


def made(count, classes, seed=0):
    """Strata and groups: a third of the items in groups of 2 to 5, of any strata."""
    rng = np.random.default_rng(seed)
    strata = np.arange(count) % classes
    names = np.array([f"single {i}" for i in range(count)], dtype=object)
    items, at = rng.permutation(count)[: count // 3], 0
    while at < len(items):
        size = rng.integers(2, 6)
        names[items[at : at + size]] = f"group {at}"
        at += size
    return strata, names.astype(str)


@pytest.mark.parametrize("folds", [2, 5])
def test_no_group_is_divided_and_strata_are_shared_out(folds):
    strata, groups = made(3000, 7)
    fold_of = deal_groups(strata, groups, folds, 1)
    for name in np.unique(groups):
        assert len(np.unique(fold_of[groups == name])) == 1
    for stratum in range(7):
        counts = np.bincount(fold_of[strata == stratum], minlength=folds)
        assert counts.max() - counts.min() <= 2


def test_another_seed_deals_otherwise_and_the_same_one_equally():
    strata, groups = made(600, 3)
    first, again, other = (deal_groups(strata, groups, 5, seed) for seed in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any()


def test_single_items_alone_and_groups_alone():
    strata = np.arange(40) % 4
    alone = deal_groups(strata, np.arange(40).astype(str), 5, 0)
    for stratum in range(4):
        assert np.bincount(alone[strata == stratum]).tolist() == [2] * 5
    pairs = deal_groups(strata, (np.arange(40) // 2).astype(str), 5, 0)
    assert np.bincount(pairs).tolist() == [8] * 5
    assert (pairs[::2] == pairs[1::2]).all()


def test_strata_that_are_not_there_do_not_matter():
    assert set(deal_groups(np.array([5, 5, 9, 9]), np.array(list("abcc")), 2, 0)) == {0, 1}


@pytest.mark.parametrize("kind", ["of one stratum each", "of any"])
def test_no_fold_is_empty_where_a_few_groups_hold_most(kind):
    rng = np.random.default_rng(0)
    for seed in range(200):
        count = rng.integers(5, 9)
        shares = rng.dirichlet(np.full(count, 0.5))
        groups = np.concatenate([np.arange(count), rng.choice(count, 30, p=shares)])
        strata = groups % 3 if kind == "of one stratum each" else rng.integers(0, 3, len(groups))
        fold_of = deal_groups(strata, groups.astype(str), 5, seed)
        assert len(np.unique(fold_of)) == 5
        assert len(np.unique(np.stack((groups, fold_of)), axis=1).T) == count


def test_they_are_as_even_as_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    uneven = []
    for seed in range(20):
        groups = rng.choice(30, 500, p=rng.dirichlet(np.ones(30)))
        strata = rng.integers(0, 5, 500)
        theirs = np.empty(500, np.int64)
        splitter = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
        for fold, (_, test) in enumerate(splitter.split(strata, strata, groups)):
            theirs[test] = fold
        for fold_of in (deal_groups(strata, groups.astype(str), 5, seed), theirs):
            counts = np.zeros((5, 5))
            np.add.at(counts, (fold_of, strata), 1)
            uneven.append(np.abs(counts / (np.bincount(strata) / 5) - 1).mean())
    assert np.mean(uneven[::2]) < 1.05 * np.mean(uneven[1::2])


def test_their_memory_grows_with_the_items():
    """Of 20,000 groups and 1,000 classes a table would have 160 MB."""
    strata = np.arange(20_000) % 1000
    groups = np.arange(20_000).astype(str)
    tracemalloc.start()
    probes._folds(strata, groups, 5, 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6


def test_what_is_predicted_in_parts_is_the_same(monkeypatch):
    rng = np.random.default_rng(0)
    labels = np.arange(300) % 3
    features = rng.normal(size=(300, 8)) + 2 * np.eye(8)[labels]
    whole = probes.linear_probe(features, labels)
    monkeypatch.setattr(held_out, "PART", 7)
    parts = probes.linear_probe(features, labels)
    np.testing.assert_allclose(parts.outputs, whole.outputs, atol=1e-6)
    assert (parts.score, parts.penalties) == (whole.score, whole.penalties)
