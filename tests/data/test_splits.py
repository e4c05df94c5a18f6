import csv
import logging
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from keras_tl.data.audit.groups import NearGroups
from keras_tl.data.source import SPLITS, Source
from keras_tl.data.splits import assign_splits, kept_together, parse_split, write_splits
from keras_tl.data.stratify import quotas, strata
from keras_tl.errors import InputError

SEEDS = range(5)


def make(labels, *, groups=None, hashes=None, splits=None, task="single-label"):
    labels = np.asarray(labels, np.int64 if task == "single-label" else np.float32)
    count = len(labels)
    classes = labels.max() + 1 if task == "single-label" else labels.shape[1]

    def texts(values):
        return np.array([str(value) for value in values], dtype=object)

    return Source(
        ids=texts(f"item{i:04d}" for i in range(count)),
        items=[f"/data/{i}.jpg" for i in range(count)],
        labels=labels,
        class_names=tuple(f"c{i}" for i in range(classes)),
        task=task,
        groups=None if groups is None else texts(groups),
        hashes=texts(range(count)) if hashes is None else texts(hashes),
        splits=texts([""] * count if splits is None else splits),
        given_splits=tuple(name for name in SPLITS if splits is not None and name in splits),
    )


def sizes(source):
    return [int((source.splits == name).sum()) for name in SPLITS]


def unequal_classes(seed, count=12):
    """Labels of `count` classes of 1 to 60 items, in random order."""
    rng = np.random.default_rng(100 + seed)
    labels = np.repeat(np.arange(count), rng.integers(1, 60, count))
    return rng.permutation(labels)


def test_two_even_classes_by_hand():
    source = assign_splits(make([0] * 20 + [1] * 40), val_fraction=0.2, test_fraction=0.1)
    table = Counter(zip(source.splits, source.labels.tolist(), strict=True))
    assert table == {
        ("train", 0): 14,
        ("val", 0): 4,
        ("test", 0): 2,
        ("train", 1): 28,
        ("val", 1): 8,
        ("test", 1): 4,
    }


def test_small_classes_by_hand():
    source = assign_splits(make([0, 1, 1, 2, 2, 2] + [3] * 20))
    per_class = [Counter(source.splits[source.labels == c]) for c in range(4)]
    assert per_class[0] == {"train": 1}
    assert per_class[1] == {"train": 1, "test": 1}
    assert per_class[2] == {"train": 1, "val": 1, "test": 1}
    assert per_class[3]["train"] == 14


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "fractions", [(0.15, 0.15), (0.1, 0.25), (0.0, 0.3), (0.2, 0.0), (0.4, 0.4)]
)
def test_each_class_and_the_whole_are_within_one_item(seed, fractions):
    labels = unequal_classes(seed)
    source = assign_splits(
        make(labels), val_fraction=fractions[0], test_fraction=fractions[1], seed=seed
    )
    shares = dict(zip(SPLITS, (1 - sum(fractions), *fractions), strict=True))
    assert set(source.splits) <= {name for name in SPLITS if shares[name]}
    for c in range(12):
        count = (labels == c).sum()
        here = Counter(source.splits[labels == c])
        assert here["train"] >= 1
        for name in SPLITS:
            # A class of two or three items has one in val and test even where that is a lot.
            slack = 1 if count > 3 else 2
            assert abs(here[name] - count * shares[name]) < slack + 1e-9
    for name, size in zip(SPLITS, sizes(source), strict=True):
        assert abs(size - len(labels) * shares[name]) < 3


@pytest.mark.parametrize("seed", SEEDS)
def test_totals_are_the_rounded_totals_where_classes_are_not_tiny(seed):
    rng = np.random.default_rng(seed)
    counts = rng.integers(10, 200, 30)
    table = quotas(counts, 0.15, 0.15, rng)
    np.testing.assert_array_equal(table.sum(axis=1), counts)
    np.testing.assert_array_less(np.abs(table - counts[:, None] * [0.7, 0.15, 0.15]), 1)
    assert abs(table[:, 1:].sum() - 0.3 * counts.sum()) <= 0.5
    assert abs(table[:, 2].sum() - 0.15 * counts.sum()) <= 0.5


def test_no_class_misses_a_split_that_it_is_large_enough_for():
    rng = np.random.default_rng(0)
    for _ in range(500):
        counts = rng.integers(1, rng.integers(3, 60), rng.integers(1, 6))
        fractions = rng.dirichlet([1, 1, 1])[:2] if rng.random() < 0.5 else rng.random(2) / 4
        val, test = fractions
        table = quotas(counts, val, test, rng)
        np.testing.assert_array_equal(table.sum(axis=1), counts)
        least = np.stack([counts > 0, counts > 2, counts > 1], axis=1)
        assert (table >= least).all(), (counts, fractions)
        shares = counts[:, None] * [1 - val - test, val, test]
        is_ample = (shares >= 1).all(axis=1)
        assert (np.abs(table - shares)[is_ample] < 1 + 1e-6).all(), (counts, fractions)
    for seed in range(10):
        source = assign_splits(
            make([0] * 11 + [1] * 16 + [2] * 15), val_fraction=0.05, test_fraction=0.2, seed=seed
        )
        assert set(source.labels[source.splits == "val"]) == {0, 1, 2}


@pytest.mark.parametrize("seed", SEEDS)
def test_the_larger_remainder_is_rounded_up(seed):
    # Shares of 2.4 and 3.6 make 6, of 1.2 and 1.8 make 3.
    rng = np.random.default_rng(seed)
    assert quotas(np.array([12, 18]), 0.0, 0.2, rng).tolist() == [[10, 0, 2], [14, 0, 4]]
    assert quotas(np.array([12, 18]), 0.1, 0.0, rng).tolist() == [[11, 1, 0], [16, 2, 0]]


def test_same_seed_same_splits_whatever_the_order():
    source = make(unequal_classes(0), groups=np.arange(len(unequal_classes(0))) // 3)
    once, again, other = (assign_splits(source, seed=seed).splits for seed in (7, 7, 8))
    assert once.tolist() == again.tolist() != other.tolist()
    order = np.random.default_rng(0).permutation(len(source))
    shuffled = assign_splits(source.take(order), seed=7)
    assert shuffled.splits.tolist() == once[order].tolist()


@pytest.mark.parametrize("seed", SEEDS)
def test_groups_and_duplicates_stay_whole(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, 400)
    groups, hashes = rng.integers(0, 80, 400), rng.integers(0, 4000, 400)
    source = assign_splits(make(labels, groups=groups, hashes=hashes), seed=seed)
    assert "" not in source.splits
    for keys in (source.groups, source.hashes):
        for key in set(keys):
            assert len(set(source.splits[keys == key])) == 1
    assert np.abs(np.subtract(sizes(source), [280, 60, 60])).max() <= 5


@pytest.mark.parametrize("seed", SEEDS)
def test_groups_within_classes_are_stratified(seed):
    # Each of 8 classes has 20 groups of 5: 14, 3 and 3 of them is the only right answer.
    labels = np.repeat(np.arange(8), 100)
    source = assign_splits(make(labels, groups=np.arange(800) // 5), seed=seed)
    for c in range(8):
        assert Counter(source.splits[labels == c]) == {"train": 70, "val": 15, "test": 15}


def test_few_large_groups_still_fill_every_split():
    # Two groups in each of 10 classes: no class can be divided as wanted, but the whole can,
    # to within one group.
    source = assign_splits(make(np.repeat(np.arange(10), 20), groups=np.arange(200) // 10))
    assert np.abs(np.subtract(sizes(source), [140, 30, 30])).max() <= 10


def test_duplicates_chain_through_groups():
    # Item 0 is in a group with 1, and 1 has the content of 2: all three belong together.
    source = make(
        [0] * 10 + [1] * 10, groups=["g", "g"] + [""] * 18, hashes=["a", "b", "b", *range(17)]
    )
    for seed in range(20):
        assert len(set(assign_splits(source, seed=seed).splits[:3])) == 1


def test_items_without_group_or_hash_are_on_their_own():
    source = make([0] * 20 + [1] * 20, groups=[""] * 40, hashes=[""] * 40)
    assert sizes(assign_splits(source)) == [28, 6, 6]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_class_inside_one_group_is_trained_on(seed):
    # The group holds all of class 1 and some of class 0.
    labels = [0] * 30 + [1] * 4
    groups = [""] * 27 + ["g"] * 7
    source = assign_splits(
        make(labels, groups=groups), seed=seed, val_fraction=0.3, test_fraction=0.3
    )
    assert set(source.splits[27:]) == {"train"}


def test_given_splits_stay():
    labels = [0, 1] * 30
    splits = ["train"] * 40 + ["val"] * 10 + ["test"] * 10
    source = make(labels, splits=splits)
    assigned = assign_splits(source)
    assert assigned.splits.tolist() == splits
    assert assigned.given_splits == ("train", "val", "test")


def test_val_is_carved_out_of_train_only_and_said(caplog):
    source = make([0, 1] * 30, splits=["train"] * 40 + ["test"] * 20)
    with caplog.at_level(logging.INFO, "keras_tl"):
        assigned = assign_splits(source, val_fraction=0.2, test_fraction=0.2)
    assert Counter(assigned.splits[:40]) == {"train": 32, "val": 8}
    assert Counter(assigned.labels[assigned.splits == "val"]) == {0: 4, 1: 4}
    assert set(assigned.splits[40:]) == {"test"}
    assert assigned.given_splits == ("test",)
    assert "0.2 of the given train split" in caplog.text


def test_a_given_split_without_items_counts_as_not_given_and_that_is_said(caplog):
    source = replace(make([0, 1] * 30, splits=["train"] * 60), given_splits=("train", "val"))
    assigned = assign_splits(source, val_fraction=0.2)
    assert sizes(assigned) == [48, 12, 0] and assigned.given_splits == ()
    assert "The given val split counts as not given" in caplog.text


def test_nothing_is_carved_or_made_up_unasked():
    source = make([0, 1] * 20, splits=["train"] * 40)
    assert sizes(assign_splits(source, val_fraction=0.0, test_fraction=0.2)) == [40, 0, 0]
    assert sizes(assign_splits(source, val_fraction=0.2, test_fraction=0.2)) == [32, 8, 0]


def test_unassigned_items_are_divided_among_what_was_not_given():
    source = make([0, 1] * 30, splits=["test"] * 20 + [""] * 40)
    assigned = assign_splits(source, val_fraction=0.2, test_fraction=0.5)
    assert set(assigned.splits[:20]) == {"test"}
    assert Counter(assigned.splits[20:]) == {"train": 32, "val": 8}
    assert assigned.given_splits == ("test",)


def test_twins_of_given_items_join_them():
    hashes = ["same", *range(38), "same"]
    source = make([0, 1] * 20, splits=["test"] * 10 + [""] * 30, hashes=hashes)
    for seed in SEEDS:
        assert assign_splits(source, seed=seed).splits[-1] == "test"


def test_twin_of_a_test_item_in_a_given_train_split_stays_and_is_warned_of(caplog):
    hashes = ["same", *range(38), "same"]
    source = make([0, 1] * 20, splits=["train"] * 30 + ["test"] * 10, hashes=hashes)
    for seed in SEEDS:
        assigned = assign_splits(source, seed=seed)
        assert assigned.splits[0] == "train"
        assert "share 1 set of exact duplicates" in caplog.text
        assert "'item0000' = 'item0039'" in caplog.text
        caplog.clear()


def test_group_across_given_splits_is_warned_of(caplog):
    source = make([0, 1] * 2, splits=["train", "train", "val", "val"], groups=["g", "h", "g", "i"])
    assign_splits(source)
    assert "Given splits share 1 set of members of a group" in caplog.text


def test_empty_split_is_warned_of(caplog):
    source = make([0, 1] * 5, groups=["g"] * 5 + ["h"] * 5)
    assert assign_splits(source).splits.tolist().count("train") >= 5
    assert "split is empty" in caplog.text


@pytest.mark.parametrize("seed", SEEDS)
def test_multi_label_combinations_are_stratified(seed):
    rng = np.random.default_rng(seed)
    labels = np.zeros((220, 4))
    labels[:100, 0] = 1
    labels[100:200, [0, 1]] = 1
    labels[200:215, 2] = 1
    labels[215:220, :3] = 1
    labels[219, 3] = 1
    order = rng.permutation(220)
    source = assign_splits(make(labels[order], task="multi-label"), seed=seed)
    for rows in (range(100), range(100, 200)):
        here = source.splits[np.isin(order, rows)]
        assert Counter(here) == {"train": 70, "val": 15, "test": 15}
    # The only item of class 3 is trained on.
    assert source.splits[order == 219].tolist() == ["train"]


def test_every_label_is_trained_on():
    # Label 3 occurs only beside 2, 4 and 5, each of which stratifies two items: left to chance,
    # all three could be in test.
    pairs = [(2, 3), (2,), (4, 3), (4,), (5, 3), (5,)]
    labels = np.zeros((46, 6))
    labels[:20, 0] = labels[20:40, 1] = 1
    for row, pair in enumerate(pairs, 40):
        labels[row, list(pair)] = 1
    source = make(labels, task="multi-label")
    for seed in range(40):
        trained = assign_splits(source, seed=seed).split("train").labels
        assert trained.any(axis=0).all()


def test_rare_combinations_count_as_their_rarest_label():
    labels = np.zeros((31, 3), np.float32)
    labels[:20, 0] = 1
    labels[20:30, 1] = 1
    labels[30, :2] = 1
    numbers = strata(labels, "multi-label")
    assert numbers[30] == numbers[20] != numbers[0]
    labels[21:30, 0] = 1
    assert len(set(strata(labels, "multi-label")[20:])) == 2


@pytest.mark.parametrize("seed", SEEDS)
def test_regression_is_stratified_by_quantiles(seed):
    values = np.random.default_rng(seed).normal(size=(400, 1))
    source = assign_splits(make(values, task="regression"), seed=seed)
    assert sizes(source) == [280, 60, 60]
    for low in range(10):
        decile = np.argsort(np.argsort(source.labels[:, 0])) // 40 == low
        assert Counter(source.splits[decile]) == {"train": 28, "val": 6, "test": 6}


def test_constant_target_is_one_stratum():
    assert sizes(assign_splits(make(np.ones((40, 2)), task="regression"))) == [28, 6, 6]


@pytest.mark.parametrize(
    ("val", "test", "message"),
    [
        (-0.1, 0.1, "a val fraction"),
        (0.1, 1.0, "a test fraction"),
        (0.5, 0.5, "train on"),
        (float("nan"), 0, "val"),
    ],
)
def test_fractions_are_checked(val, test, message):
    with pytest.raises(InputError, match=message):
        assign_splits(make([0, 1] * 5), val_fraction=val, test_fraction=test)


def test_nothing_to_train_on_is_refused():
    with pytest.raises(InputError, match="items to train on"):
        assign_splits(make([0, 1], splits=["test", "test"]))


def test_parse_split():
    assert [parse_split(name) for name in (" Train", "VALID", "validation", "val", "test", "")] == [
        "train",
        "val",
        "val",
        "val",
        "test",
        "",
    ]
    with pytest.raises(InputError, match="Did you mean train"):
        parse_split("trian")


def test_written_splits(tmp_path):
    source = make([0, 1], groups=["g", ""], hashes=["aa", "bb"], splits=["train", "test"])
    source = replace(source, ids=np.array(["a,\n1.jpg", "größe.jpg"], dtype=object))
    path = tmp_path / "splits.csv"
    path.write_text("older")
    write_splits(source, path)
    with path.open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [
            ["id", "label", "split", "group", "sha256"],
            ["a,\n1.jpg", "c0", "train", "g", "aa"],
            ["größe.jpg", "c1", "test", "", "bb"],
        ]
    assert [found.name for found in tmp_path.iterdir()] == ["splits.csv"]


@pytest.mark.parametrize(
    ("task", "expected"), [("multi-label", ["c0|c1", "|"]), ("regression", ["1.0|1.0", "0.0|0.0"])]
)
def test_written_labels_of_other_tasks(tmp_path, task, expected):
    write_splits(make([[1, 1], [0, 0]], task=task), tmp_path / "splits.csv")
    with (tmp_path / "splits.csv").open() as file:
        assert [row["label"] for row in csv.DictReader(file)] == expected


def test_what_is_kept_together():
    """Equal content, a group and near-duplicates, also one by way of another."""
    groups, hashes = ["a", "", "a", "", "", "", ""], list("uvwxyzz")
    source = make([0, 1, 0, 1, 0, 1, 0], groups=groups, hashes=hashes)
    alike = np.array(["1", "2", "", "2", "1", "", ""], dtype=object)

    def sets(near):
        numbers = kept_together(source, near)
        assert sorted(set(numbers.tolist())) == list(range(numbers.max() + 1))
        return sorted(np.flatnonzero(numbers == n).tolist() for n in set(numbers.tolist()))

    assert sets(None) == [[0, 2], [1], [3], [4], [5, 6]]
    assert sets(NearGroups(alike, (), 10)) == [[0, 2, 4], [1, 3], [5, 6]]
