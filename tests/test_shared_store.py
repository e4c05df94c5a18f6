"""A store that several processes fill: each gets the rows of its own items, or an error."""

import numpy as np
import pytest
from together import together

from keras_tl.errors import InputError
from keras_tl.feature_cache import FeatureStore
from keras_tl.shared_store import exchange, nobody_has, share_of

KEYS = ["k1", "k2", "k3", "k4"]


def row_of(key):
    return np.full((1, 2), float(key[1:]), np.float32)


def filling(folder, keys, **facts):
    """What a process does in a pass; it returns its entry."""

    def run(workers):
        entry = FeatureStore(folder, dtype="float32").open(**facts)
        mine = [keys[i] for i in share_of(nobody_has(entry, keys, workers), workers)]
        entry.append(mine, [np.concatenate([row_of(key) for key in mine])])
        exchange(entry, keys, workers)
        return entry

    return run


@pytest.mark.parametrize("names", ["aa", "ab"])
def test_each_gets_the_rows_that_others_have_computed(names, tmp_path):
    parts = [filling(tmp_path / name, KEYS) for name in names]
    for entry in together(*parts):
        [rows] = entry.read(KEYS).gather(np.arange(4))
        np.testing.assert_array_equal(rows, np.concatenate([row_of(key) for key in KEYS]))


def test_what_no_listing_of_a_shared_disk_has_yet_is_told(tmp_path):
    def filling_behind(workers):
        entry = FeatureStore(tmp_path, dtype="float32").open()
        # As of a network's disk, whose listings are some seconds old.
        entry.refresh = lambda: None
        [missing] = share_of(nobody_has(entry, ["k1"], workers), workers)[:1].tolist() or [None]
        if missing is not None:
            entry.append(["k1"], [row_of("k1")])
        exchange(entry, ["k1"], workers)
        return entry.read(["k1"]).gather(np.arange(1))

    for [row] in together(filling_behind, filling_behind):
        np.testing.assert_array_equal(row, row_of("k1"))


@pytest.mark.parametrize(
    ("keys", "facts", "said"),
    [
        (["k1", "k9", "k3", "k4"], {}, "received their content. Give"),
        (["k2", "k1", "k3", "k4"], {}, "received their content. Give"),
        (["k1", "k2", "k3"], {}, "received items (4 in process 0, 3 in process 1), their content"),
        (KEYS, {"prefix": "of other weights"}, "received frozen part. Give"),
    ],
)
def test_no_row_goes_to_another_item(keys, facts, said, tmp_path):
    ended = together(filling(tmp_path / "a", KEYS), filling(tmp_path / "b", keys, **facts))
    for error in ended:
        assert isinstance(error, InputError) and said in str(error)
    entry = FeatureStore(tmp_path / "b", dtype="float32").open(**facts)
    assert len(entry.missing(keys)) == len(keys)


def test_rows_that_one_had_are_not_told_to_another_item(tmp_path):
    """Nothing is left to compute, where each has all of its own."""

    def having(name, keys):
        def run(workers):
            entry = FeatureStore(tmp_path / name, dtype="float32").open()
            entry.append(keys, [np.concatenate([row_of(key) for key in keys])])
            exchange(entry, KEYS if name == "a" else ["k1", "k9"], workers)

        return run

    for error in together(having("a", KEYS), having("b", ["k1"])):
        assert isinstance(error, InputError)
    assert len(FeatureStore(tmp_path / "b", dtype="float32").open().missing(["k9"])) == 1
