"""Files that were inspected and found good, remembered from run to run.

A file is known by its absolute path, size, times and number, as Git's index knows it: where any of
them differs it is looked at again. Only that a file is good is remembered, and its SHA-256.

It is an SQLite database in the cache folder. It may be removed at any time, and whatever happens
to it costs no more than another inspection.
"""

import hashlib
import json
import logging
import os
import sqlite3
import time
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from keras_tl.files import cache_root

LOG = logging.getLogger("keras_tl")

FILE_NAME = "inspections.sqlite"
# Some 250 bytes each; beyond that the first to be remembered are forgotten.
MAX_FILES = 1_000_000
# The coarsest clock of a file system (FAT): what was changed less long ago might be changed again
# without its time showing it (https://git-scm.com/docs/racy-git).
RACY_NANOSECONDS = 2 * 10**9
# How many findings a killed inspection may lose.
WRITTEN_AT_ONCE = 1000
SECONDS_TO_WAIT = 2.0
# Where another process or the disk is in the way, the database itself may well be whole.
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
        32 bytes; none where the file was changed so lately that its times prove nothing.
    """
    changed = max(facts.st_mtime_ns, facts.st_ctime_ns)
    if time.time_ns() - changed < RACY_NANOSECONDS:
        return b""
    known_by = [os.path.abspath(path), facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns]
    text = json.dumps([*known_by, facts.st_ino, settings], sort_keys=True)
    return hashlib.sha256(text.encode()).digest()


class Remembered:
    """The files that were found good.

    For one thread; several processes may use it at once. It raises nothing: where the database
    cannot be used one line says so, and nothing is remembered.

    Args:
        path: The database; by default in the cache folder.
    """

    def __init__(self, path: Path | None = None):
        self._path = path or cache_root() / FILE_NAME
        self._connection: sqlite3.Connection | None = None
        self._held: dict[bytes, str] = {}
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._open()
        except (OSError, sqlite3.Error) as error:
            self._give_up(error)

    def recall(self, identities: Iterable[bytes]) -> dict[bytes, str]:
        """Returns the SHA-256 of those of the files that are known."""
        found: dict[bytes, str] = {}
        if self._connection is None:
            return found
        query = "SELECT sha256, crc FROM good WHERE identity = ?"
        try:
            for identity in identities:
                row = self._connection.execute(query, (identity,)).fetchone()
                if row and row[1] == _crc(identity, row[0]):
                    found[identity] = row[0].hex()
        except (sqlite3.Error, TypeError) as error:
            self._give_up(error)
        return found

    def add(self, identity: bytes, sha256: str) -> None:
        """Remembers a good file; `close` makes sure that it is written."""
        if identity:
            self._held[identity] = sha256
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
                "CREATE TABLE IF NOT EXISTS good"
                " (number INTEGER PRIMARY KEY, identity BLOB UNIQUE, sha256 BLOB, crc INTEGER)"
            )

    def _write(self) -> None:
        if self._connection is not None and self._held:
            rows = [(key, bytes.fromhex(sha256)) for key, sha256 in self._held.items()]
            try:
                with self._connection as transaction:
                    transaction.executemany(
                        "INSERT OR REPLACE INTO good (identity, sha256, crc) VALUES (?, ?, ?)",
                        [(*row, _crc(*row)) for row in rows],
                    )
                    transaction.execute(
                        "DELETE FROM good WHERE number <= (SELECT max(number) FROM good) - ?",
                        (MAX_FILES,),
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
            LOG.warning("Remembered inspections were damaged, and are forgotten: %s", error)
            _remove(self._path)
        else:
            LOG.warning("Inspections are not remembered in %s: %s", self._path, error)


def _is_damage(error: Exception) -> bool:
    if isinstance(error, OSError):
        return False
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
    # The lower byte is the kind of error. A file that ends too early is a kind of failed reading.
    return code == sqlite3.SQLITE_IOERR_SHORT_READ or code & 0xFF not in NOT_DAMAGE


def _remove(path: Path) -> None:
    try:
        for part in (path, path.with_name(f"{path.name}-journal")):
            part.unlink(missing_ok=True)
    except OSError as error:
        LOG.warning("%s cannot be removed: %s", path, error.strerror)


def _crc(identity: bytes, sha256: bytes) -> int:
    """What a flipped bit would not agree with; SQLite itself does not look."""
    return zlib.crc32(identity + sha256)
