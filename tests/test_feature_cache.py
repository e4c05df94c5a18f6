import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from keras_tl import feature_cache, shards
from keras_tl.errors import CheckError, InputError
from keras_tl.feature_cache import FeatureStore, ShardWriter
from keras_tl.shards import ShardFiles

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


def fill_the_disk(monkeypatch, after):
    """Lets so many bytes through to the store's files, and then says that the disk is full."""
    left = [after]
    opened = Path.open

    class Full:
        def __init__(self, file):
            self.file = file

        def write(self, content):
            taken = min(left[0], len(content))
            left[0] -= taken
            if len(content) and not taken:
                raise OSError(errno.ENOSPC, "No space left on device")
            return self.file.write(content[:taken])

        def close(self):
            self.file.close()

    def open_full(path, mode="r", **options):
        file = opened(path, mode, **options)
        return Full(file) if mode == "wb" else file

    monkeypatch.setattr(Path, "open", open_full)


@pytest.mark.parametrize("after", [0, 1, 15, 16, 17, 31])
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, monkeypatch, after):
    entry = FeatureStore(tmp_path).open(k=1)
    with monkeypatch.context() as patch:
        fill_the_disk(patch, after)
        # Two tensors of 16 bytes.
        with pytest.raises(InputError, match=r"received No space left on device\. Free"):
            entry.append(["a", "b"], [rows(1, 2), rows(3, 4)])
    assert not list(entry.folder.iterdir())
    entry.append(["a", "b"], [rows(1, 2), rows(3, 4)])
    again = FeatureStore(tmp_path).open(k=1).read(["b"]).gather(np.array([0]))
    np.testing.assert_array_equal(again, [rows(2), rows(4)])


def test_a_manifest_that_does_not_fit_on_the_disk_leaves_nothing(tmp_path, monkeypatch):
    entry = FeatureStore(tmp_path).open(k=1)

    def full(path, text):
        path.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(InputError, match="No space left on device"):
        entry.append(["a"], [rows(1)])
    assert not list(entry.folder.iterdir())


def test_a_pass_that_fails_leaves_the_whole_shards_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("keras_tl.feature_cache.SHARD_BYTES", 16)
    entry = FeatureStore(tmp_path).open(k=1)
    with pytest.raises(KeyboardInterrupt), ShardWriter(entry, KEYS) as writer:
        writer.add([rows(1, 2)])
        writer.add([rows(3)])
        raise KeyboardInterrupt
    assert len(list(entry.folder.iterdir())) == 2
    np.testing.assert_array_equal(FeatureStore(tmp_path).open(k=1).missing(KEYS), [2])


def of_a_thousand(tmp_path, models, **options):
    """Entries of 2 kB, the first the least recently used; the store that held them is gone."""
    store = FeatureStore(tmp_path, **options)
    for age, model in enumerate(reversed(models)):
        entry = store.open(model=model)
        entry.append(["a"], [np.ones((1, 1000), np.float32)])
        os.utime(entry.folder, (1e9 - age, 1e9 - age))
    return {model: store.folder(dtype="float16", model=model) for model in models}


def test_the_least_recently_used_goes_first(tmp_path):
    folders = of_a_thousand(tmp_path, [1, 3, 2])
    small = FeatureStore(tmp_path, max_bytes=5_000)
    assert len(small.open(model=2).missing(["a"])) == 0
    assert not folders[1].exists() and folders[3].exists()
    assert len(small.open(model=1).missing(["a"])) == 1


def test_what_a_run_has_opened_is_never_removed(tmp_path):
    """Eight views and a limit below two of them: none goes while the run lasts."""
    run = FeatureStore(tmp_path, max_bytes=3_000)
    for view in range(8):
        run.open(view=view).append(["a"], [np.full((1, 1000), view, np.float32)])
    for view in range(8):
        read = run.open(view=view).read(["a"]).gather(np.array([0]))[0]
        np.testing.assert_array_equal(read, np.full((1, 1000), view))
    other = FeatureStore(tmp_path, max_bytes=3_000)
    other.open(other=1)
    assert len(run.stored()) == 8
    assert other.room() < 0
    del run
    other.open(other=2)
    assert len(other.stored()) == 1


HOLDING = """
import sys
from keras_tl.feature_cache import FeatureStore
store = FeatureStore(sys.argv[1])
store.open(model=1)
print("held", flush=True)
sys.stdin.read()
"""


def test_what_another_process_has_opened_stays_until_that_is_killed(tmp_path):
    folders = of_a_thousand(tmp_path, [1, 2])
    command = [sys.executable, "-c", HOLDING, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        FeatureStore(tmp_path, max_bytes=100).open(model=9)
        assert folders[1].exists() and not folders[2].exists()
        assert FeatureStore(tmp_path).clear() == 0
        process.kill()
    FeatureStore(tmp_path, max_bytes=100).open(model=9)
    assert not folders[1].exists()


def test_what_a_killed_writer_began_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    store = filled(tmp_path)
    entry = store.open(model=1)
    begun = ShardFiles(entry.folder, [rows(1)])
    begun.add(["x"], [rows(1)])
    FeatureStore(tmp_path).open(model=1)
    assert len(list(entry.folder.iterdir())) == 4
    del store, entry, begun  # as a kill would, it lets go of the lock
    folder = FeatureStore(tmp_path).open(model=1).folder
    assert len(list(folder.iterdir())) == 3


@pytest.mark.parametrize("text", ["many", "0", "-1", "nan", "inf", "1e400"])
def test_the_limit_is_taken_from_the_environment(tmp_path, monkeypatch, text):
    monkeypatch.setenv("KERAS_TL_CACHE_GB", "0.5")
    assert FeatureStore(tmp_path).max_bytes == 500_000_000
    monkeypatch.setenv("KERAS_TL_CACHE_GB", "")
    assert FeatureStore(tmp_path).max_bytes == 20 * 10**9
    monkeypatch.setenv("KERAS_TL_CACHE_GB", text)
    with pytest.raises(InputError, match="KERAS_TL_CACHE_GB to be a number above 0, received '"):
        FeatureStore(tmp_path)


def test_room_is_what_the_limit_leaves_beside_what_is_in_use(tmp_path):
    of_a_thousand(tmp_path, [1, 2])
    store = FeatureStore(tmp_path, max_bytes=10_000)
    assert store.room() == 10_000
    size = {item.folder: item.size for item in store.stored()}[store.open(model=1).folder]
    assert store.room() == 10_000 - size
    store.make_room(10_000 - size)
    assert [item.folder for item in store.stored()] == [store.open(model=1).folder]


def test_bytes_are_compared_with_their_checksums_once_in_a_process(tmp_path, monkeypatch):
    checked = []
    checksum = shards._checksum
    monkeypatch.setattr(shards, "_checksum", lambda p: checked.append(p) or checksum(p))
    filled(tmp_path).open(model=1)
    assert not checked
    shards._verified.clear()  # as in another process
    for _ in range(3):
        FeatureStore(tmp_path).open(model=1)
    assert len(checked) == 2
    os.utime(checked[0])
    FeatureStore(tmp_path).open(model=1)
    assert len(checked) == 3


def test_what_may_be_whole_but_cannot_be_read_is_kept(tmp_path, monkeypatch):
    store = filled(tmp_path)

    def too_many(*_, **__):
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(np, "memmap", too_many)
        with pytest.raises(InputError, match=r"Too many open files\. Allow"):
            store.open(model=1)
    assert len(store.open(model=1).missing(KEYS)) == 0


def test_a_store_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="a folder that can be written"):
        FeatureStore(tmp_path / "file").open(model=1)


def test_batches_become_shards_and_an_interrupted_pass_resumes(tmp_path, monkeypatch):
    monkeypatch.setattr("keras_tl.feature_cache.SHARD_BYTES", 16)
    names = ["a", "b", "c", "d"]
    begun = ShardWriter(FeatureStore(tmp_path).open(k=1), names)
    begun.add([rows(1, 2)])
    begun.add([rows(3)])
    del begun
    # Killed here: the first batch filled a shard, the second was not yet one.
    entry = FeatureStore(tmp_path).open(k=1)
    np.testing.assert_array_equal(entry.missing(names), [2, 3])
    with ShardWriter(entry, names[2:]) as writer:
        writer.add([rows(3, 4)])
    read = FeatureStore(tmp_path).open(k=1).read(["d", "c", "b", "a"]).gather(np.arange(4))
    np.testing.assert_array_equal(read[0], rows(4, 3, 2, 1))


def test_batches_after_one_that_overflows_stay_wide(tmp_path):
    entry = FeatureStore(tmp_path).open(k=1)
    with ShardWriter(entry, ["a", "b", "c", "d"]) as writer:
        for value in (1, 1e5, 1 / 3, 2):
            writer.add([rows(value)])
    assert [shard[0].dtype for shard in entry._shards] == [np.float16, np.float32]
    read = entry.read(["a", "b", "c", "d"]).gather(np.arange(4))[0]
    np.testing.assert_array_equal(read, rows(1, 1e5, 1 / 3, 2))


def test_what_is_stored_is_listed_and_cleared(tmp_path):
    store = filled(tmp_path)
    engine = store.folder(engine="LiteRT")
    engine.mkdir()
    (engine / "prefix.tflite").write_bytes(b"12345")
    (tmp_path / "mine").mkdir()  # of somebody who set KERAS_TL_CACHE to a folder in use
    listed = {item.folder.name: item for item in store.stored()}
    assert listed[engine.name].size == 5
    assert sorted(item.shards for item in listed.values()) == [0, 1]
    assert store.clear() == sum(item.size for item in listed.values())
    assert store.stored() == [] and (tmp_path / "mine").is_dir()
    assert len(store.open(model=1).missing(KEYS)) == 3


def test_an_entry_that_another_process_has_removed_is_no_trouble(tmp_path):
    folder = tmp_path / ("0" * 64)
    assert feature_cache._remove(folder)
