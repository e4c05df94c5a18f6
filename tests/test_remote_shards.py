"""The store's remote copy: in TensorFlow's file system in memory, and of two processes."""

import errno
import logging
import os
import time
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from training.test_workers import run

from keras_tl import remote_shards, shards
from keras_tl.errors import InputError
from keras_tl.feature_cache import FeatureStore

KEYS = ["a", "b", "c"]
ROWS = [
    np.random.default_rng(0).normal(size=(3, 5, 2)).astype(np.float32),
    np.array([[1 / 3], [7e4], [-0.0]], np.float32),
]
gfile = tf.io.gfile


@pytest.fixture
def remote(tmp_path, monkeypatch):
    """The address of an empty remote, in the environment."""
    address = f"ram://{tmp_path}"
    monkeypatch.setenv("KERAS_TL_CACHE_REMOTE", address)
    return address


def opened(root, model=1, **options):
    return FeatureStore(root, dtype="float32", **options).open(model=model)


def files(entry, remote):
    """Names of the files of an entry that are in the remote."""
    folder = f"{remote}/features/{entry.folder.name}"
    return sorted(gfile.listdir(folder)) if gfile.exists(folder) else []


def rewrite(entry, remote, name, change):
    """Changes a file in the remote; one in memory is not cut when it is opened to be written."""
    path = f"{remote}/features/{entry.folder.name}/{name}"
    with gfile.GFile(path, "rb") as file:
        content = file.read()
    gfile.remove(path)
    with gfile.GFile(path, "wb") as file:
        file.write(change(content))


def lacks_nothing(entry):
    assert not len(entry.missing(KEYS))
    for found, expected in zip(entry.read(KEYS).gather(np.arange(3)), ROWS, strict=True):
        assert found.tobytes() == expected.tobytes()


def test_what_one_machine_computed_another_one_reads_to_the_bit(tmp_path, remote):
    first = opened(tmp_path / "a")
    first.append(KEYS[:2], [tensor[:2] for tensor in ROWS])
    second = opened(tmp_path / "b")
    np.testing.assert_array_equal(second.missing(KEYS), [2])
    first.append(KEYS[2:], [tensor[2:] for tensor in ROWS])
    second.refresh()
    for entry in (second, opened(tmp_path / "c")):
        lacks_nothing(entry)
        assert sorted(path.name for path in entry.folder.iterdir()) == files(entry, remote)
    assert len(files(first, remote)) == 6
    assert len(opened(tmp_path / "b", model=2).missing(KEYS)) == 3


def test_without_the_variable_nothing_is_copied(tmp_path, remote, monkeypatch):
    monkeypatch.delenv("KERAS_TL_CACHE_REMOTE")
    entry = opened(tmp_path / "a")
    entry.append(KEYS, ROWS)
    assert not files(entry, remote)
    monkeypatch.setenv("KERAS_TL_CACHE_REMOTE", remote)
    assert len(opened(tmp_path / "b").missing(KEYS)) == 3
    opened(tmp_path / "a")  # what was here before the variable was set is sent
    lacks_nothing(opened(tmp_path / "b"))


DAMAGES = {
    "cut": ("0.bin", lambda content: content[:-1]),
    "a bit": ("1.bin", lambda content: content[:5] + bytes([content[5] ^ 1]) + content[6:]),
    "empty": ("0.bin", lambda content: b""),
    "no manifest's text": ("json", lambda content: b"\xff\x00"),
    "a manifest that is cut": ("json", lambda content: content[:-3]),
    "another name": ("json", lambda content: content.replace(b'"a"', b'"d"')),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_shard_is_not_used_and_computed_again(damage, tmp_path, remote, caplog):
    ending, change = DAMAGES[damage]
    first = opened(tmp_path / "a")
    first.append(KEYS, ROWS)
    [name] = [name for name in files(first, remote) if name.endswith(ending)]
    rewrite(first, remote, name, lambda content: content)
    lacks_nothing(opened(tmp_path / "untouched"))
    rewrite(first, remote, name, change)
    store = FeatureStore(tmp_path / "b", dtype="float32")
    caplog.clear()
    entry = store.open(model=1)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    np.testing.assert_array_equal(entry.missing(KEYS), [0, 1, 2])
    assert not shards.manifests(entry.folder)
    store.open(model=1)  # not fetched again in this run
    assert len(caplog.records) == 1
    entry.append(KEYS, ROWS)
    lacks_nothing(entry)
    lacks_nothing(opened(tmp_path / "c"))


def test_a_manifest_without_its_file_does_not_count(tmp_path, remote, caplog):
    first = opened(tmp_path / "a")
    first.append(KEYS, ROWS)
    [name] = [name for name in files(first, remote) if name.endswith("1.bin")]
    gfile.remove(f"{remote}/features/{first.folder.name}/{name}")
    entry = opened(tmp_path / "b")
    assert len(entry.missing(KEYS)) == 3
    assert not list(entry.folder.iterdir())
    assert "damaged shard" in caplog.text


@pytest.mark.parametrize("done", range(6))
def test_an_upload_that_is_cut_short_leaves_nothing_that_counts(
    done, tmp_path, remote, monkeypatch
):
    """Killed before each of the operations: a copy and a renaming of each of three files."""
    entry, left = opened(tmp_path / "a"), [done]

    def killed(operation):
        def run(*arguments, **options):
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            return operation(*arguments, **options)

        return run

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        for name in ("copy", "rename"):
            patch.setattr(remote_shards.gfile, name, killed(getattr(gfile, name)))
        entry.append(KEYS, ROWS)
    assert not any(name.endswith(".json") for name in files(entry, remote))
    assert len(opened(tmp_path / "b").missing(KEYS)) == 3
    lacks_nothing(opened(tmp_path / "a"))  # whole here, and sent now
    lacks_nothing(opened(tmp_path / "b"))


def ages(monkeypatch, days):
    """Lets files in the remote have been written so many days ago; what has no time keeps none."""
    stat = gfile.stat

    def older(path):
        then = time.time() - days * 24 * 3600
        return SimpleNamespace(mtime_nsec=int(then * 1e9) if stat(path).length else 0)

    monkeypatch.setattr(remote_shards.gfile, "stat", older)


@pytest.mark.parametrize(("days", "left"), [(0, 2), (0.9, 2), (1.1, 1), (400, 1)])
def test_what_was_cut_short_is_removed_a_day_later(days, left, tmp_path, remote, monkeypatch):
    """But not where the file system does not say when it was written, as of the empty file."""
    first = opened(tmp_path / "a")
    first.append(KEYS, ROWS)
    whole = files(first, remote)
    for name, content in (("x.0.bin.0123.aside", b"half"), ("y.json.4567.aside", b"")):
        with gfile.GFile(f"{remote}/features/{first.folder.name}/{name}", "wb") as file:
            file.write(content)
    ages(monkeypatch, days)
    lacks_nothing(opened(tmp_path / "b"))
    found = files(first, remote)
    assert [name for name in found if not name.endswith(".aside")] == whole
    assert len(found) == len(whole) + left


@pytest.mark.parametrize(("days", "left"), [(0.9, True), (1.1, False)])
def test_the_age_is_that_which_the_file_system_says(days, left, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_TL_CACHE_REMOTE", f"file://{tmp_path}/remote")
    first = opened(tmp_path / "a")
    first.append(KEYS, ROWS)
    aside = tmp_path / "remote" / "features" / first.folder.name / "x.0.bin.0123.aside"
    aside.write_bytes(b"half")
    then = time.time() - days * 24 * 3600
    os.utime(aside, (then, then))
    lacks_nothing(opened(tmp_path / "b"))
    assert aside.exists() == left


def test_another_run_may_remove_it_first(tmp_path, remote, monkeypatch, caplog):
    first = opened(tmp_path / "a")
    first.append(KEYS, ROWS)
    aside = f"{remote}/features/{first.folder.name}/x.0.bin.0123.aside"
    with gfile.GFile(aside, "wb") as file:
        file.write(b"half")
    ages(monkeypatch, 2)
    remove = gfile.remove

    def late(path):
        if path == aside:
            remove(path)
        remove(path)

    monkeypatch.setattr(remote_shards.gfile, "remove", late)
    lacks_nothing(opened(tmp_path / "b"))
    assert aside.rpartition("/")[2] not in files(first, remote)
    assert not caplog.records


@pytest.mark.parametrize("address", ["foo://bucket/folder", "file:///proc/nothing", "{file}/below"])
def test_a_remote_that_cannot_be_used_is_one_line(address, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("KERAS_TL_CACHE_REMOTE", address.format(file=tmp_path / "file"))
    store = FeatureStore(tmp_path / "a")
    assert not store.stored()  # `keras-tl cache` does not ask for it
    with pytest.raises(InputError, match="Expected KERAS_TL_CACHE_REMOTE to be a folder"):
        store.open(model=1)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("operation", ["copy", "listdir"])
def test_a_remote_that_fails_later_is_told_once_and_caught_up_with(
    operation, tmp_path, remote, monkeypatch, caplog
):
    entry = opened(tmp_path / "a")

    def gone(*_, **__):
        raise tf.errors.UnavailableError(None, None, "the network\nis away")

    with monkeypatch.context() as patch:
        patch.setattr(remote_shards.gfile, operation, gone)
        entry.refresh()
        entry.append(KEYS[:2], [tensor[:2] for tensor in ROWS])
        entry.append(KEYS[2:], [tensor[2:] for tensor in ROWS])
        entry.refresh()
    lacks_nothing(entry)
    assert not files(entry, remote)
    [line] = [record.getMessage() for record in caplog.records]
    assert "(the network is away)" in line and line.endswith("This run goes on without it.")
    assert len(line.splitlines()) == 1
    opened(tmp_path / "a")
    lacks_nothing(opened(tmp_path / "b"))


def test_only_what_fits_is_fetched(tmp_path, remote, caplog):
    first = opened(tmp_path / "a")
    for key in KEYS:
        first.append([key], [np.ones((1, 1000), np.float32)])
    size = sum(path.stat().st_size for path in first.folder.iterdir()) // 3
    FeatureStore(tmp_path / "b").open(other=1).append(["x"], [np.ones((1, 500), np.float32)])
    entry = opened(tmp_path / "b", max_bytes=2 * size + 10)
    assert len(entry.missing(KEYS)) == 1
    [line] = [record.getMessage() for record in caplog.records]
    assert "0.0 MB" in line and "the store has no room" in line
    assert len(FeatureStore(tmp_path / "b").stored()) == 1  # what nobody used gave way
    before = files(first, remote)
    entry.append(["c"], [np.ones((1, 1000), np.float32)])
    assert files(first, remote) == before  # or each run would send it once more


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_full_disk_is_one_line_and_leaves_nothing(after, tmp_path, remote, monkeypatch):
    """Full when the first, second or third file is put in its place."""
    first = opened(tmp_path / "a")
    first.append(KEYS, ROWS)
    replace, left = os.replace, [after]

    def full(*paths):
        if not left[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        left[0] -= 1
        replace(*paths)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(InputError, match="room to write features") as raised:
            opened(tmp_path / "b")
    assert "No space left on device" in str(raised.value)
    assert not list((tmp_path / "b" / first.folder.name).iterdir())
    lacks_nothing(opened(tmp_path / "b"))


PASSING = """
from keras_tl.backbones import registry
from keras_tl.builders.image import build_image_model
from keras_tl.data.arrays import from_arrays
from keras_tl.data.image_input import ImageInput
from keras_tl.feature_cache import FeatureStore
from keras_tl import freezing, frozen_prefix, shared_store
from keras_tl.training.passes import PrefixPass
from keras_tl.data.pipeline import Samples
registry.register(conftest.TINY_NET)
def gone(*_, **__):
    raise tf.errors.UnavailableError(None, None, "away")
if index == os.environ.get("FAILS"):
    tf.io.gfile.copy = gone
told = []
tell = shared_store._tell
shared_store._tell = lambda entry, keys, *rest: told.append(len(keys)) or tell(entry, keys, *rest)
images = np.random.default_rng(0).integers(0, 255, (31, 16, 16, 3)).astype("uint8")
images[7] = images[3]
keras.utils.set_random_seed(1)
model = build_image_model("TinyNet", outputs=2, weights=None)
freezing.All().apply(model)
prefix = frozen_prefix.split(model).prefix
store = FeatureStore(Path(out, "store" + index), dtype="float32", workers=workers)
running = PrefixPass(prefix, store, engine="tensorflow", verbose=0)
ran = [0]
engine = running._engine
def counted(*arguments):
    runs = engine(*arguments)
    def run(batch):
        # A batch that is not full is filled with its first row.
        ran[0] += len(np.unique(batch, axis=0))
        return runs(batch)
    return run
running._engine = counted
samples = Samples(from_arrays(images, np.arange(31) % 2), ImageInput(size=16))
features = running.features(samples)
first = ran[0]
running.features(samples)
np.savez(Path(out, f"{index}.npz"), *features.gather(np.arange(31)))
found = {"ran": [first, ran[0]], "told": sum(told)}
Path(out, f"{index}.json").write_text(json.dumps(found))
"""


@pytest.mark.slow
@pytest.mark.parametrize("fails", ["", "1"])
def test_each_image_is_computed_once_over_all_processes(fails, tmp_path):
    """Also where one of them cannot send, and so leaves the remote alone: then all is told."""
    [alone] = run(PASSING, tmp_path / "alone", 1)
    assert alone == {"ran": [30, 30], "told": 0}
    address = {"KERAS_TL_CACHE_REMOTE": f"file://{tmp_path}/remote"}
    found = run(PASSING, tmp_path / "two", 2, FAILS=fails, **address)
    assert [each["ran"] for each in found] == [[15, 15]] * 2
    assert [each["told"] for each in found] == [30 if fails else 0] * 2
    if not fails:
        assert run(PASSING, tmp_path / "later", 1, **address) == [{"ran": [0, 0], "told": 0}]
    expected = list(np.load(tmp_path / "alone" / "0.npz").values())
    for path in [*tmp_path.glob("two/*.npz"), *tmp_path.glob("later/*.npz")]:
        for mine, other in zip(np.load(path).values(), expected, strict=True):
            np.testing.assert_allclose(mine, other, atol=1e-6)
