"""Outputs of a frozen prefix, computed once and kept on disk.

An entry is a folder named by the SHA-256 of everything that makes its numbers what they are: the
prefix's graph, weights and code of your own, how images are decoded, the view, the dtype, this
format. In it, rows are found by the SHA-256 of the image's content. So another split, another head
or a few more photographs reuse what is there, and nothing that matters can change unnoticed.

Rows come in shards (see `keras_tl.shards`). One that is not whole, or not of its entry, does not
count: its rows are computed again. An interrupted pass resumes with what is left.

The store is kept below `KERAS_TL_CACHE_GB` (20) thousand million bytes: the least recently used
entries go first, but none that a run, in this process or another, has open. Each entry has a lock
beside it, which the system releases when a process ends, however it ends.
"""

import copy
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_tl import shards as shard_files
from keras_tl.errors import InputError
from keras_tl.features import Features
from keras_tl.files import cache_root
from keras_tl.locks import Hold, in_use
from keras_tl.remote_shards import Remote
from keras_tl.shards import DamagedShardError, ShardFiles, compact, no_room
from keras_tl.workers import Workers

FORMAT_VERSION = 2
# A shard ends when it is this large or this old: what an interruption can lose. The age grows
# with the pass, by a tenth of it, so that long passes do not leave thousands of shards.
SHARD_BYTES = 64 * 2**20
SHARD_SECONDS, SHARD_SHARE = 2.0, 0.1
DEFAULT_GB = 20.0
# "auto" is float16 unless `settled` was told otherwise.
DTYPES = ("auto", "float16", "float32")

log = logging.getLogger("keras_tl")


def default_limit() -> int:
    """How many bytes are kept: `KERAS_TL_CACHE_GB`, or 20 GB.

    Raises:
        InputError: The variable is no number above 0.
    """
    text = os.environ.get("KERAS_TL_CACHE_GB") or str(DEFAULT_GB)
    try:
        limit = int(float(text) * 1e9)
    except (ValueError, OverflowError):
        limit = 0
    if limit <= 0:
        raise InputError(
            "KERAS_TL_CACHE_GB to be a number above 0", repr(text), "Set it to the GB to keep."
        )
    return limit


class Entry:
    """The rows of one key.

    Args:
        folder: The entry's folder; made when the first shard is written.
        dtype: "float16", which gives way to float32 in shards it would overflow, or "float32".
        hold: Keeps the entry from being removed.
        remote: Where shards are copied from and to.
        fits: Whether the store has room for so many more bytes from there.

    Raises:
        InputError: What is stored cannot be read, though it may be whole.
    """

    def __init__(
        self, folder: Path, dtype: str, hold: Hold, remote: Remote, fits: Callable[[int], bool]
    ):
        self.folder = folder
        self.dtype = dtype
        self.remote = remote
        self._hold, self._fits = hold, fits
        self._shards: list[list[np.ndarray]] = []
        self._rows: dict[str, tuple[int, int]] = {}
        if hold.alone:
            # Nobody is writing, so unfinished shards here are left from a killed process.
            shard_files.remove_leftovers(folder)
            hold.share()
        self._loaded: set[Path] = set()
        self.refresh()
        if self._shards:
            os.utime(folder)

    def refresh(self) -> None:
        """Takes in the shards that others have written since, and sends what the remote lacks."""
        try:
            there = self.remote.fetch(self.folder, self._fits)
        except OSError as error:
            raise no_room(self.folder, error) from error
        for manifest in shard_files.manifests(self.folder):
            if manifest not in self._loaded:
                self.load(manifest)
        self.remote.send_others(self.folder, there)

    def missing(self, keys: Sequence[str]) -> np.ndarray:
        """Positions in `keys` (content hashes) of rows not in the entry, each hash once."""
        seen: set[str] = set()
        wanted = []
        for position, key in enumerate(keys):
            if key not in self._rows and key not in seen:
                seen.add(key)
                wanted.append(position)
        return np.array(wanted, np.int64)

    def append(self, keys: Sequence[str], tensors: Sequence[np.ndarray]) -> None:
        """Writes a shard, whole or not at all; see `ShardWriter` for rows that come in batches.

        Args:
            keys: Content hash of each row.
            tensors: Float arrays `[rows, ...]`, one for each tensor at the cut.

        Raises:
            InputError: The disk is full or not writable.
            CheckError: A value is infinite or not a number.
        """
        with ShardWriter(self, keys) as writer:
            writer.add(tensors)

    def read(self, keys: Sequence[str]) -> Features:
        """Returns the rows of `keys`, all of which must be in the entry, in that order."""
        where = np.array([self._rows[key] for key in keys], np.int64).reshape(-1, 2)
        return Features(self._shards, where)

    def load(self, manifest: Path) -> None:
        """Adds a shard to the entry; removes it from disk if it does not count."""
        self._loaded.add(manifest)
        try:
            shard = shard_files.read(manifest)
        except DamagedShardError as error:
            log.warning("A damaged shard of stored features is computed again: %s", error)
            shard_files.remove(manifest.parent, manifest.stem)
            return
        for row, key in enumerate(shard.keys):
            self._rows[key] = (len(self._shards), row)
        self._shards.append(shard.arrays)


class ShardWriter:
    """Writes outputs to an entry as they come; to be used in `with`.

    Where the block raises, the shard that was begun is removed.

    Args:
        entry: Where to.
        keys: Content hash of each row, in the order in which rows will be added.
    """

    def __init__(self, entry: Entry, keys: Sequence[str]):
        self._entry = entry
        self._keys = keys
        self._dtype = entry.dtype
        self._files: ShardFiles | None = None
        self._began = self._since = time.monotonic()
        self._written = 0

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        if kind is None:
            self._end()
        elif self._files:
            self._files.discard()

    def add(self, tensors: Sequence[np.ndarray]) -> None:
        """Takes the next rows: one array `[rows, ...]` for each tensor at the cut.

        Raises:
            InputError: The disk is full or not writable.
            CheckError: A value is infinite or not a number.
        """
        packed = [compact(np.asarray(tensor), self._dtype) for tensor in tensors]
        if any(array.dtype != self._dtype for array in packed):
            # Stay with float32 from here on, so that shards stay large.
            self._end()
            self._dtype = "float32"
            packed = [compact(np.asarray(tensor), self._dtype) for tensor in tensors]
        end = self._written + len(packed[0])
        size = self._write(self._keys[self._written : end], packed)
        self._written = end
        now = time.monotonic()
        oldest = SHARD_SECONDS + SHARD_SHARE * (now - self._began)
        if size >= SHARD_BYTES or now - self._since > oldest:
            self._end()

    def _write(self, keys: Sequence[str], packed: list[np.ndarray]) -> int:
        """Writes rows and returns how many bytes the shard has then."""
        try:
            if self._files is None:
                self._files = ShardFiles(self._entry.folder, packed)
                self._since = time.monotonic()
            self._files.add(keys, packed)
        except OSError as error:
            raise no_room(self._entry.folder, error) from error
        return self._files.bytes

    def _end(self) -> None:
        """Finishes the open shard, if there is one."""
        if self._files is None:
            return
        try:
            manifest = self._files.close()
        except OSError as error:
            self._files.discard()
            raise no_room(self._entry.folder, error) from error
        finally:
            self._files = None
        self._entry.load(manifest)
        self._entry.remote.send(manifest)


@dataclass(frozen=True)
class Stored:
    """A folder of the store.

    Attributes:
        folder: The folder.
        size: Bytes of its files.
        shards: How many shards of features it has; 0 for a converted prefix.
        last_used: When it was last opened, in seconds since 1970.
    """

    folder: Path
    size: int
    shards: int
    last_used: float

    @classmethod
    def of(cls, folder: Path) -> "Stored":
        """Looks at a folder of the store.

        Raises:
            FileNotFoundError: It, or a file in it, was removed meanwhile.
            NotADirectoryError: It is a file.
        """
        return cls(
            folder,
            size=sum(file.lstat().st_size for file in folder.iterdir()),
            shards=len(shard_files.manifests(folder)),
            last_used=folder.stat().st_mtime,
        )


class FeatureStore:
    """All entries below one folder.

    It holds what it has opened: nobody removes that until the store object is gone.
    `KERAS_TL_CACHE_REMOTE` names a copy of it on a remote file system, if there is one.

    Args:
        root: The folder; by default `features` in `keras_tl.files.cache_root()`.
        dtype: "float16" (half the size), "float32" (what the prefix gave, to the bit), or "auto":
            float16 where that hardly moves the loss, measured when the first rows are stored.
        max_bytes: The least recently used entries go until the store is no larger than this; by
            default `default_limit()`.
        workers: The processes that fill it together; by default this one alone.
    """

    def __init__(
        self,
        root: str | Path | None = None,
        *,
        dtype: str = "auto",
        max_bytes: int | None = None,
        workers: Workers | None = None,
    ):
        if dtype not in DTYPES:
            raise InputError(f"a dtype of {' or '.join(DTYPES)}", repr(dtype), "Choose one.")
        self.root = Path(root) if root else cache_root() / "features"
        self.automatic = dtype == "auto"
        self.dtype = "float16" if self.automatic else dtype
        self.max_bytes = default_limit() if max_bytes is None else max_bytes
        self.workers = workers or Workers()
        self._holds: dict[Path, Hold] = {}
        self._remote = Remote.of_environment()

    def among(self, workers: Workers) -> "FeatureStore":
        """The same store, with what it holds, filled by these processes together."""
        store = copy.copy(self)
        store.workers = workers
        return store

    def settled(self, dtype: str) -> "FeatureStore":
        """The same store, with what it holds, and a dtype of "float16" or "float32"."""
        store = copy.copy(self)
        store.automatic, store.dtype = False, dtype
        return store

    def for_a_run(self) -> "FeatureStore":
        """The same store with no entries held yet: those it opens are held for one run."""
        store = copy.copy(self)
        store._holds, store._remote = {}, Remote.of_environment()
        return store

    def open(self, **key: Any) -> Entry:
        """Opens the entry of a key and holds it.

        Args:
            **key: JSON-ready facts; any change to one of them is another entry.

        Returns:
            The entry; empty where nothing was stored under the key yet.

        Raises:
            InputError: The store, or its remote copy, is not writable, or what is stored cannot be
                read.
        """
        self._remote.begin()
        folder = self.folder(dtype=self.dtype, **key)
        if folder not in self._holds:
            self._holds[folder] = Hold(_lock(folder))
        # Of a copy that holds nothing: an entry must not keep the store's other entries held.
        fits = self.for_a_run()._fits
        entry = Entry(folder, self.dtype, self._holds[folder], self._remote, fits)
        self.make_room()
        return entry

    def folder(self, **key: Any) -> Path:
        """The folder of a key, which need not exist."""
        text = json.dumps({"format": FORMAT_VERSION, **key}, sort_keys=True)
        return self.root / hashlib.sha256(text.encode()).hexdigest()

    def stored(self) -> list[Stored]:
        """Lists what is stored, the most recently used first."""
        found = []
        for folder in self.root.glob("[0-9a-f]" * 64):
            try:
                found.append(Stored.of(folder))
            except (FileNotFoundError, NotADirectoryError):
                continue  # removed meanwhile, by another process; or never an entry
        return sorted(found, key=lambda item: item.last_used, reverse=True)

    def room(self) -> int:
        """How many more bytes the limit and the disk allow once all unused entries are gone."""
        stored = self.stored()
        used = sum(item.size for item in stored if in_use(_lock(item.folder)))
        unused = sum(item.size for item in stored) - used
        return min(self.max_bytes - used, self._free() + unused)

    def make_room(self, wanted: int = 0) -> None:
        """Removes unused entries, the least recently used first, until `wanted` more bytes fit."""
        stored = self.stored()
        total = sum(item.size for item in stored)
        while stored and (total + wanted > self.max_bytes or self._free() < wanted):
            oldest = stored.pop()
            if _remove(oldest.folder):
                total -= oldest.size

    def clear(self) -> int:
        """Removes everything that no run is using.

        Returns:
            How many bytes that freed.
        """
        self._holds.clear()
        freed = sum(item.size for item in self.stored() if _remove(item.folder))
        if kept := self.stored():
            log.warning("%d entries are in use and stay", len(kept))
        return freed

    def _fits(self, wanted: int) -> bool:
        """Whether `wanted` more bytes can be stored; if so, makes room for them."""
        if fits := wanted <= self.room():
            self.make_room(wanted)
        return fits

    def _free(self) -> int:
        folder = next(p for p in (self.root, *self.root.absolute().parents) if p.is_dir())
        return shutil.disk_usage(folder).free


def _lock(folder: Path) -> Path:
    return folder.with_suffix(".lock")


def _remove(folder: Path) -> bool:
    """Removes an entry, unless somebody uses it."""
    hold = Hold(_lock(folder), shared=False)
    # Another process may have removed it just before.
    if hold.alone and folder.is_dir():
        shutil.rmtree(folder)
    hold.release()
    return hold.alone
