import errno
import os

import numpy as np
import pytest

from keras_tl.errors import CheckError, InputError
from keras_tl.feature_cache import FeatureStore, ShardWriter

KEYS = ["a", "b", "c"]


def rows(*values):
    return np.array(values, np.float32)[:, None] * np.ones((1, 4), np.float32)


def filled(tmp_path, **options):
    store = FeatureStore(tmp_path, **options)
    store.open(model=1).append(KEYS, [rows(1, 2, 3), rows(4, 5, 6)[:, :2]])
    return store


def test_rows_are_read_in_the_order_that_is_asked_for(tmp_path):
    store = filled(tmp_path)
    store.open(model=1).append(["d"], [rows(7), rows(8)[:, :2]])
    features = store.open(model=1).read(["d", "b", "b", "a"])
    first, second = features.gather(np.array([0, 1, 3]))
    np.testing.assert_array_equal(first, rows(7, 2, 1))
    np.testing.assert_array_equal(second, rows(8, 5, 4)[:, :2])
    assert first.dtype == np.float32
    assert features.shapes == [(4,), (2,)]


def test_only_rows_that_are_not_there_are_missing_and_each_once(tmp_path):
    entry = filled(tmp_path).open(model=1)
    np.testing.assert_array_equal(entry.missing(["x", "a", "x", "y"]), [0, 3])


def test_another_key_is_another_entry(tmp_path):
    store = filled(tmp_path)
    assert len(store.open(model=2).missing(KEYS)) == 3
    assert len(FeatureStore(tmp_path, dtype="float32").open(model=1).missing(KEYS)) == 3


def test_float32_is_kept_to_the_bit_and_float16_where_it_fits(tmp_path):
    value = np.array([[1 / 3, 70_000.0]], np.float32)
    exact = FeatureStore(tmp_path, dtype="float32").open(k=1)
    exact.append(["a"], [value])
    np.testing.assert_array_equal(exact.read(["a"]).gather(np.array([0]))[0], value)
    compact = FeatureStore(tmp_path).open(k=1)
    compact.append(["a"], [value])  # 70,000 overflows float16, so the shard stays wide
    np.testing.assert_array_equal(compact.read(["a"]).gather(np.array([0]))[0], value)
    compact.append(["b"], [value[:, :1]])
    assert compact._shards[1][0].dtype == np.float16


def test_values_that_are_not_finite_are_refused(tmp_path):
    with pytest.raises(CheckError, match="finite"):
        FeatureStore(tmp_path).open(k=1).append(["a"], [np.array([[np.nan]], np.float32)])


def damage_flip(path):
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


def damage_truncate(path):
    path.write_bytes(path.read_bytes()[:-8])


@pytest.mark.parametrize("damage", [damage_flip, damage_truncate, os.remove])
@pytest.mark.parametrize("suffix", [".npy", ".json"])
def test_a_damaged_shard_is_never_read(tmp_path, damage, suffix, caplog):
    store = filled(tmp_path)
    victim = next(path for path in sorted(tmp_path.rglob("*")) if path.suffix == suffix)
    damage(victim)
    entry = store.open(model=1)
    if len(entry.missing(KEYS)) == 0:
        # A flipped bit in the list of names can only rename a row, never give it other numbers.
        np.testing.assert_array_equal(entry.read(KEYS).gather(np.arange(3))[0], rows(1, 2, 3))
    else:
        np.testing.assert_array_equal(entry.missing(KEYS), [0, 1, 2])


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        # As NumPy says it.
        (OSError("790272 requested and 92096 written"), "a full disk"),
    ],
)
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, monkeypatch, error, said):
    def full(path, array):
        path.write_bytes(b"half")
        raise error

    entry = FeatureStore(tmp_path).open(k=1)
    monkeypatch.setattr(np, "save", full)
    with pytest.raises(InputError, match=said):
        entry.append(["a"], [rows(1)])
    assert not list(entry.folder.iterdir())


def test_the_least_recently_used_goes_first(tmp_path):
    store = FeatureStore(tmp_path)
    for model, age in ((1, 300), (2, 100), (3, 200)):
        entry = store.open(model=model)
        entry.append(["a"], [np.ones((1, 1000), np.float32)])
        os.utime(entry.folder, (1e9 - age, 1e9 - age))
    small = FeatureStore(tmp_path, max_bytes=5_000)
    assert len(small.open(model=2).missing(["a"])) == 0
    assert len(small.open(model=1).missing(["a"])) == 1


def test_batches_become_shards_and_an_interrupted_pass_resumes(tmp_path, monkeypatch):
    monkeypatch.setattr("keras_tl.feature_cache.SHARD_BYTES", 30)
    store = FeatureStore(tmp_path)

    writer = ShardWriter(store.open(k=1), ["a", "b", "c", "d"])
    writer.add([rows(1, 2)])
    writer.add([rows(3)])
    # Interrupted here: the first batch filled a shard, the second was still held in memory.
    entry = store.open(k=1)
    np.testing.assert_array_equal(entry.missing(["a", "b", "c", "d"]), [2, 3])
    writer = ShardWriter(entry, ["c", "d"])
    writer.add([rows(3, 4)])
    writer.close()
    read = store.open(k=1).read(["d", "c", "b", "a"]).gather(np.arange(4))
    np.testing.assert_array_equal(read[0], rows(4, 3, 2, 1))


def test_what_is_stored_is_listed_and_cleared(tmp_path):
    store = filled(tmp_path)
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine" / "prefix.tflite").write_bytes(b"12345")
    listed = {item.folder.name: item for item in store.stored()}
    assert listed["engine"].size == 5
    assert sorted(item.shards for item in listed.values()) == [0, 1]
    assert store.clear() == sum(item.size for item in listed.values())
    assert store.stored() == []
    assert len(store.open(model=1).missing(KEYS)) == 3
