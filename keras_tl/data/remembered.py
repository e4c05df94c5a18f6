"""What was found out about files and images, remembered from run to run.

A file is known by its absolute path, size, times and inode, as in Git's index: if any of them
differs, it is looked at again. An image is known by its content.

Each kind of finding is an SQLite database in the cache folder. It may be removed at any time, and
whatever happens to it costs no more than finding out again.
"""

import hashlib
import json
import logging
import os
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from keras_tl.files import cache_root

log = logging.getLogger("keras_tl")

# Most findings kept: beyond these, the oldest are forgotten.
MOST = 1_000_000
# The coarsest clock of a file system (FAT): a file that changed more recently might change again
# without its time showing it (https://git-scm.com/docs/racy-git).
RACY_NANOSECONDS = 2 * 10**9
# How many findings a killed inspection may lose.
WRITTEN_AT_ONCE = 1000
SECONDS_TO_WAIT = 2.0
# Errors of another process or the disk: the database itself may well be intact.
NOT_DAMAGE = (
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_IOERR,
)


def identity(path: str, facts: os.stat_result, settings: dict[str, Any]) -> bytes:
    """Returns what a file is known by.

    Args:
        path: The file's path.
        facts: What `os.stat` says of it, asked before the file is read.
        settings: What else decides whether it is good, JSON-ready.

    Returns:
        32 bytes; none if the file changed too recently for its times to prove anything.
    """
    changed = max(facts.st_mtime_ns, facts.st_ctime_ns)
    if time.time_ns() - changed < RACY_NANOSECONDS:
        return b""
    known_by = [os.path.abspath(path), facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns]
    text = json.dumps([*known_by, facts.st_ino, settings], sort_keys=True)
    return hashlib.sha256(text.encode()).digest()


def forget() -> int:
    """Removes all findings from the cache folder; returns how many bytes that freed."""
    sizes = {path: path.stat().st_size for path in cache_root().glob("*.sqlite")}
    for path in sizes:
        _remove(path)
    return sum(size for path, size in sizes.items() if not path.exists())


def found_once(kind: str, key: bytes, find: Callable[[], bytes], *, most: int) -> bytes:
    """What was found for a key before, or is found now and remembered.

    Args:
        kind: See `Remembered`.
        key: What it is found for.
        find: Finds it.
        most: See `Remembered`.
    """
    with closing(Remembered(kind, most=most)) as remembered:
        known = remembered.recall([key])
        if key not in known:
            known[key] = find()
            remembered.add(key, known[key])
    return known[key]


class Remembered:
    """Findings of one kind: bytes, by keys that are bytes.

    For one thread; several processes may use it at once. It raises nothing: if the database cannot
    be used, one log line says so, and nothing is remembered.

    Args:
        kind: What they are, in the plural: "inspections". The database is named so.
        folder: Where it is; by default the cache folder.
        most: How many are kept.
    """

    def __init__(self, kind: str, folder: Path | None = None, *, most: int = MOST):
        self._kind, self._most = kind, most
        self._path = (folder or cache_root()) / f"{kind.replace(' ', '-')}.sqlite"
        self._connection: sqlite3.Connection | None = None
        self._held: dict[bytes, bytes] = {}
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._open()
        except (OSError, sqlite3.Error) as error:
            self._give_up(error)

    def recall(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """Returns the findings of those keys that are known."""
        found: dict[bytes, bytes] = {}
        if self._connection is None:
            return found
        query = "SELECT value, crc FROM known WHERE key = ?"
        try:
            for key in keys:
                row = self._connection.execute(query, (key,)).fetchone()
                if row and row[1] == _crc(key, row[0]):
                    found[key] = row[0]
        except (sqlite3.Error, TypeError) as error:
            self._give_up(error)
        return found

    def add(self, key: bytes, value: bytes) -> None:
        """Remembers a finding, unless its key is empty; `close` makes sure that it is written."""
        if key:
            self._held[key] = value
        if len(self._held) >= WRITTEN_AT_ONCE:
            self._write()

    def close(self) -> None:
        """Writes what was added."""
        self._write()
        if self._connection is not None:
            self._connection.close()

    def _open(self) -> None:
        connection = sqlite3.connect(self._path, timeout=SECONDS_TO_WAIT)
        self._connection = connection
        with connection:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS known"
                " (number INTEGER PRIMARY KEY, key BLOB UNIQUE, value BLOB, crc INTEGER)"
            )

    def _write(self) -> None:
        if self._connection is not None and self._held:
            try:
                with self._connection as transaction:
                    transaction.executemany(
                        "INSERT OR REPLACE INTO known (key, value, crc) VALUES (?, ?, ?)",
                        [(*row, _crc(*row)) for row in self._held.items()],
                    )
                    transaction.execute(
                        "DELETE FROM known WHERE number <= (SELECT max(number) FROM known) - ?",
                        (self._most,),
                    )
            except sqlite3.Error as error:
                self._give_up(error)
        self._held.clear()

    def _give_up(self, error: Exception) -> None:
        """Goes on without the database, and removes one that is damaged."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if _is_damage(error):
            log.warning("Remembered %s were damaged, and are forgotten: %s", self._kind, error)
            _remove(self._path)
        else:
            kind = self._kind.capitalize()
            log.warning("%s are not remembered in %s: %s", kind, self._path, error)


def _is_damage(error: Exception) -> bool:
    if isinstance(error, OSError):
        return False
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
    # The low byte is the kind of error; a short read (a truncated file) is a kind of I/O error.
    return code == sqlite3.SQLITE_IOERR_SHORT_READ or code & 0xFF not in NOT_DAMAGE


def _remove(path: Path) -> None:
    try:
        for part in (path, path.with_name(f"{path.name}-journal")):
            part.unlink(missing_ok=True)
    except OSError as error:
        log.warning("%s cannot be removed: %s", path, error.strerror)


def _crc(key: bytes, value: bytes) -> int:
    """A checksum that shows flipped bits; SQLite itself has none."""
    return zlib.crc32(key + value)
