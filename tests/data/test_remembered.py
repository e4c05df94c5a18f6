import hashlib
import io
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_tl.data import inspection, remembered
from keras_tl.data.decoding import ImageInput
from keras_tl.data.inspection import inspect
from keras_tl.data.remembered import Remembered, forget, found_once, identity
from keras_tl.data.source import Source

INPUT = ImageInput(size=16)
FILE_NAME = "numbers.sqlite"
# The writing process of two tests: adds findings one by one until it is killed.
WRITER = """
import sys
from pathlib import Path
from keras_tl.data import remembered
remembered.WRITTEN_AT_ONCE = 10
first, last = int(sys.argv[2]), int(sys.argv[3])
memory = remembered.Remembered("numbers", Path(sys.argv[1]))
for i in range(first, last):
    memory.add(i.to_bytes(32, "big"), i.to_bytes(32, "big"))
    if i == first:
        print("started", flush=True)
memory.close()
"""


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache folder of the test's own, and clocks so fine that new files can be trusted."""
    monkeypatch.setenv("KERAS_TL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remembered, "RACY_NANOSECONDS", 0)
    return tmp_path / "cache"


@pytest.fixture
def looked_at(monkeypatch):
    """Collects the content of each file that is examined rather than recalled."""
    contents = []
    examine = inspection._Examiner.examine_all

    def watched(self, items):
        contents.extend(Path(item).read_bytes() for item in items)
        return examine(self, items)

    monkeypatch.setattr(inspection._Examiner, "examine_all", watched)
    return contents


def bmp(seed=0, side=9):
    """All of one size in bytes."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "BMP")
    return file.getvalue()


def source(folder, count=3):
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{i}.bmp" for i in range(count)]
    for i, path in enumerate(paths):
        if not path.exists():
            path.write_bytes(bmp(i))
    return of_paths(paths)


def of_paths(paths):
    ids = np.array([path.name for path in paths], object)
    return Source(ids, [str(path) for path in paths], np.zeros(len(ids), np.int64), ())


def hashes(folder):
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())]


def test_what_was_inspected_is_not_looked_at_again(tmp_path, cache, looked_at):
    data = source(tmp_path / "data")
    first = inspect(data, INPUT)
    assert len(looked_at) == 3
    again = inspect(data, INPUT)
    assert len(looked_at) == 3
    assert first.hashes.tolist() == again.hashes.tolist() == hashes(tmp_path / "data")


def test_relative_paths_are_the_same_files(tmp_path, cache, looked_at, monkeypatch):
    data = source(tmp_path / "data")
    inspect(data, INPUT)
    monkeypatch.chdir(tmp_path / "data")
    relative = Source(data.ids, list(data.ids), data.labels, ())
    assert inspect(relative, INPUT).hashes.tolist() == hashes(tmp_path / "data")
    assert len(looked_at) == 3


def test_another_time_is_another_file(tmp_path, cache, looked_at):
    data = source(tmp_path / "data")
    inspect(data, INPUT)
    path = tmp_path / "data" / "1.bmp"
    path.write_bytes(bmp(77))
    os.utime(path, ns=(0, 10**18))
    assert inspect(data, INPUT).hashes.tolist() == hashes(tmp_path / "data")
    assert looked_at[3:] == [bmp(77)]


def test_content_is_seen_to_change_where_size_and_time_do_not(tmp_path, cache, looked_at):
    data = source(tmp_path / "data")
    inspect(data, INPUT)
    path = tmp_path / "data" / "1.bmp"
    before = path.stat()
    path.write_bytes(bmp(77))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert inspect(data, INPUT).hashes.tolist() == hashes(tmp_path / "data")
    assert looked_at[3:] == [bmp(77)]


def test_without_the_time_of_change_it_would_not_be_seen(tmp_path, cache, monkeypatch):
    """The twin of the test above, and the limit: a file system that keeps no such time."""
    facts = os.stat(tmp_path)

    def stat_without_change_time(path):
        found = os.stat_result.__reduce__(os.stat(path))[1]
        return os.stat_result(found[0], {**found[1], "st_ctime_ns": facts.st_ctime_ns})

    data = source(tmp_path / "data")
    monkeypatch.setattr(inspection, "os", _Os(stat_without_change_time))
    stale = inspect(data, INPUT).hashes.tolist()
    path = tmp_path / "data" / "1.bmp"
    before = path.stat()
    path.write_bytes(bmp(77))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert inspect(data, INPUT).hashes.tolist() == stale != hashes(tmp_path / "data")


class _Os:
    """The module `os` with another `stat`."""

    def __init__(self, stat):
        self.stat = stat

    def __getattr__(self, name):
        return getattr(os, name)


def test_other_settings_look_again(tmp_path, cache, looked_at):
    data = source(tmp_path / "data")
    inspect(data, INPUT)
    inspect(data, ImageInput(size=8))
    assert len(looked_at) == 3
    inspect(data, ImageInput(size=16, max_pixels=100))
    assert len(looked_at) == 6


def test_a_limit_on_bytes_holds_for_remembered_files(tmp_path, cache):
    data = source(tmp_path / "data")
    inspect(data, INPUT)
    skipped = inspect(
        of_paths([tmp_path / "data" / "0.bmp", _small(tmp_path)]),
        INPUT,
        max_bad_fraction=1.0,
        max_file_bytes=200,
    ).skipped
    assert [skip.id for skip in skipped] == ["0.bmp"]


def _small(folder):
    path = folder / "small.bmp"
    path.write_bytes(bmp(side=2))
    return path


def test_bad_files_are_looked_at_again(tmp_path, cache, looked_at):
    data = source(tmp_path / "data")
    (tmp_path / "data" / "1.bmp").write_bytes(b"no image")
    for _ in range(2):
        skipped = inspect(data, INPUT, max_bad_fraction=0.5).skipped
        assert [skip.id for skip in skipped] == ["1.bmp"]
    assert looked_at.count(b"no image") == 2 and len(looked_at) == 4


def test_files_changed_a_moment_ago_are_not_remembered(tmp_path, cache, looked_at, monkeypatch):
    monkeypatch.setattr(remembered, "RACY_NANOSECONDS", 2 * 10**9)
    data = source(tmp_path / "data")
    inspect(data, INPUT)
    # Written over within the same tick of the clock, a file would keep its times.
    inspect(data, INPUT)
    assert len(looked_at) == 6
    now = time.time_ns()
    monkeypatch.setattr(remembered.time, "time_ns", lambda: now + 3 * 10**9)
    inspect(data, INPUT)
    inspect(data, INPUT)
    assert len(looked_at) == 9


def test_times_to_come_are_not_trusted(tmp_path):
    path = _small(tmp_path)
    os.utime(path, ns=(0, time.time_ns() + 10**12))
    assert identity(str(path), os.stat(path), {}) == b""


KEYS = [bytes([i]) * 32 for i in range(5)]


def remember(path, keys, **options):
    memory = Remembered(path.stem, path.parent, **options)
    for key in keys:
        memory.add(key, key)
    memory.close()


def recalled(path, keys=KEYS):
    memory = Remembered(path.stem, path.parent)
    found = memory.recall(keys)
    memory.close()
    assert all(value == key for key, value in found.items())
    return list(found)


def test_the_first_to_be_remembered_are_forgotten(tmp_path):
    path = tmp_path / FILE_NAME
    remember(path, KEYS[:3], most=3)
    assert recalled(path) == KEYS[:3]
    remember(path, KEYS[3:], most=3)
    assert recalled(path) == KEYS[2:]


@pytest.mark.parametrize("damage", ["text", "cut", "cut page", "zeros", "other table"])
def test_a_damaged_database_is_forgotten(tmp_path, caplog, damage):
    path = tmp_path / FILE_NAME
    many = [i.to_bytes(32, "big") for i in range(500)]
    remember(path, many)
    whole = path.read_bytes()
    if damage == "other table":
        path.unlink()
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE known (something TEXT)")
    else:
        path.write_bytes(
            {
                "text": b"this is no database",
                "cut": whole[: len(whole) // 2 + 100],
                "cut page": whole[: len(whole) // 8192 * 4096],
                "zeros": whole[:4096] + bytes(len(whole) - 4096),
            }[damage]
        )
    recalled(path, many)
    remember(path, KEYS)
    assert len(caplog.records) >= 1 and "are forgotten" in caplog.text
    remember(path, KEYS)
    assert recalled(path) == KEYS


def test_flipped_bits_never_give_another_hash(tmp_path):
    path = tmp_path / FILE_NAME
    random = np.random.default_rng(0)
    for _ in range(60):
        path.unlink(missing_ok=True)
        remember(path, KEYS)
        contents = bytearray(path.read_bytes())
        for _ in range(3):
            contents[random.integers(len(contents))] ^= 1 << random.integers(8)
        path.write_bytes(contents)
        recalled(path)  # looks at the hashes


def test_without_checksums_a_flipped_bit_would(tmp_path, monkeypatch):
    monkeypatch.setattr(remembered, "_crc", lambda key, value: 0)
    path = tmp_path / FILE_NAME
    remember(path, KEYS)
    contents = path.read_bytes()
    # The key is in the table and in its index, the value only in the table: flip its end.
    at = contents.index(KEYS[2] + KEYS[2]) + 63
    path.write_bytes(contents[:at] + b"\xff" + contents[at + 1 :])
    with pytest.raises(AssertionError):
        recalled(path)


def test_a_folder_that_cannot_be_written_is_said_once(tmp_path, monkeypatch, caplog, looked_at):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("KERAS_TL_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(remembered, "RACY_NANOSECONDS", 0)
    data = source(tmp_path / "data")
    for _ in range(2):
        caplog.clear()
        assert inspect(data, INPUT).hashes.tolist() == hashes(tmp_path / "data")
        (line,) = caplog.messages
        assert line.startswith("Inspections are not remembered in ")
    assert len(looked_at) == 6


def test_a_read_only_database_is_still_read(tmp_path, caplog):
    path = tmp_path / FILE_NAME
    remember(path, KEYS[:3])
    memory = Remembered(path.stem, tmp_path)
    memory._connection.execute("PRAGMA query_only = ON")
    assert list(memory.recall(KEYS)) == KEYS[:3]
    memory.add(KEYS[4], KEYS[4])
    memory.close()
    assert len(caplog.messages) == 1 and path.exists()
    assert recalled(path) == KEYS[:3]


def test_a_full_disk_is_said_once(tmp_path, caplog):
    path = tmp_path / FILE_NAME
    remember(path, KEYS)
    memory = Remembered(path.stem, tmp_path)
    memory._connection.execute("PRAGMA max_page_count = 4")
    for i in range(1000, 4000):
        memory.add(i.to_bytes(32, "big"), bytes(32))
    memory.close()
    (line,) = caplog.messages
    assert "full" in line
    assert recalled(path) == KEYS


def writer(path, first, last):
    command = [sys.executable, "-c", WRITER, str(path.parent), str(first), str(last)]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def numbers(path, count):
    """How many of the first numbers are remembered, and that they are right."""
    memory = Remembered(path.stem, path.parent)
    found = memory.recall(i.to_bytes(32, "big") for i in range(count))
    memory.close()
    assert all(value == key for key, value in found.items())
    return len(found)


def test_two_processes_at_once(tmp_path, caplog):
    path = tmp_path / FILE_NAME
    processes = [writer(path, 0, 300), writer(path, 200, 500)]
    assert [process.wait() for process in processes] == [0, 0]
    assert numbers(path, 600) == 500
    assert not caplog.messages


def test_a_killed_process_leaves_what_it_had_written(tmp_path, caplog):
    path = tmp_path / FILE_NAME
    with writer(path, 0, 10**9) as process:
        process.stdout.readline()
        time.sleep(0.5)
        process.send_signal(signal.SIGKILL)
    found = numbers(path, 100_000)
    assert found > 0 and found % 10 == 0
    remember(path, KEYS)
    assert recalled(path) == KEYS and not caplog.messages


def test_thousands_of_files_take_a_moment(tmp_path, cache, caplog):
    folder = tmp_path / "data"
    data = source(folder, 3000)
    with caplog.at_level(logging.INFO, "keras_tl"):
        first = inspect(data, INPUT)
        start = time.process_time()
        again = inspect(data, INPUT)
        assert time.process_time() - start < 1.0
    assert again.hashes.tolist() == first.hashes.tolist()


def test_all_can_be_forgotten(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_TL_CACHE", str(tmp_path))
    assert forget() == 0
    found = [found_once("token counts", b"k", lambda n=n: bytes([n]), most=3) for n in range(2)]
    assert found == [b"\0", b"\0"]
    other = tmp_path / "photo.jpg"
    other.write_bytes(b"x")
    assert forget() > 0 and list(tmp_path.iterdir()) == [other]
    assert found_once("token counts", b"k", lambda: b"new", most=3) == b"new"
