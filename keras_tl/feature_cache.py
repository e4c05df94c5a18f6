"""Outputs of a frozen prefix, computed once and kept on disk.

An entry is a folder named by the SHA-256 of everything that makes its numbers what they are: the
prefix's graph and weights, how images are decoded, the view, the stored dtype, this format. In
it, rows are found by the SHA-256 of the image's content. So another split, another head or a few
more photographs reuse what is there, and nothing that matters can change unnoticed.

Rows come in shards: one `.npy` file for each tensor and a `.json` beside them, written last,
with the rows' names and each file's CRC-32. A shard without its `.json`, or whose bytes do not
match, does not count: its rows are computed again. An interrupted pass resumes with what is left.
"""

import hashlib
import json
import logging
import os
import shutil
import time
import uuid
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_tl.errors import CheckError, InputError

FORMAT_VERSION = 1
# A shard is written when it is this large or this old: what an interruption can lose.
SHARD_BYTES = 64 * 2**20
SHARD_SECONDS = 20.0
# Files of a shard without its manifest that are this old belong to nobody any more.
ABANDONED_SECONDS = 3600.0
MAX_BYTES = 20 * 2**30
# "auto" is float16 unless `settled` was told otherwise.
DTYPES = ("auto", "float16", "float32")
FLOAT16_MAX = float(np.finfo(np.float16).max)

log = logging.getLogger("keras_tl")


def default_root() -> Path:
    """Where features are kept: `KERAS_TL_CACHE`, or `keras_tl` in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("KERAS_TL_CACHE") or Path(base) / "keras_tl") / "features"


@dataclass(frozen=True)
class Features:
    """Rows of an entry in a given order, read from disk as they are asked for.

    Attributes:
        shards: For each shard its tensors, memory-mapped `[rows, ...]`.
        where: int64 `[items, 2]`: the shard and the row in it of each item.
    """

    shards: list[list[np.ndarray]]
    where: np.ndarray

    def __len__(self) -> int:
        return len(self.where)

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Shape of each tensor of one item."""
        return [array.shape[1:] for array in self.shards[0]] if self.shards else []

    def gather(self, indices: np.ndarray) -> list[np.ndarray]:
        """Reads the items at `indices` (int64 `[k]`): float32 `[k, ...]` for each tensor."""
        out = [np.empty((len(indices), *shape), np.float32) for shape in self.shapes]
        shards, rows = self.where[indices].T
        for shard in np.unique(shards):
            here = np.flatnonzero(shards == shard)
            for target, array in zip(out, self.shards[shard], strict=True):
                target[here] = array[rows[here]]
        return out


class Entry:
    """The rows of one key.

    Args:
        folder: The entry's folder; made when the first shard is written.
        dtype: "float16", which gives way to float32 in shards it would overflow, or "float32".
    """

    def __init__(self, folder: Path, dtype: str = "float16"):
        self.folder = folder
        self.dtype = dtype
        self._shards: list[list[np.ndarray]] = []
        self._rows: dict[str, tuple[int, int]] = {}
        for manifest in sorted(folder.glob("*.json")):
            self._load(manifest)
        self._remove_abandoned()
        if self._shards:
            os.utime(folder)

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
        """Writes a shard, whole or not at all.

        Args:
            keys: Content hash of each row.
            tensors: Float arrays `[rows, ...]`, one for each tensor at the cut.

        Raises:
            InputError: The disk is full or not writable.
            CheckError: A value is infinite or not a number.
        """
        name = uuid.uuid4().hex
        compacted = [compact(np.asarray(tensor), self.dtype) for tensor in tensors]
        manifest: dict[str, Any] = {"keys": list(keys), "crc32": []}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for index, array in enumerate(compacted):
                path = self.folder / f"{name}.{index}.npy"
                np.save(path, array)
                manifest["crc32"].append(_checksum(path))
            aside = self.folder / f"{name}.aside"
            aside.write_text(json.dumps(manifest))
            os.replace(aside, self.folder / f"{name}.json")
        except OSError as error:
            for leftover in self.folder.glob(f"{name}.*"):
                leftover.unlink()
            raise InputError(
                f"room to write features to {self.folder}",
                # NumPy's own error for a short write has no errno.
                error.strerror or f"a full disk ({error} bytes)",
                "Free some space, or set KERAS_TL_CACHE to another folder.",
            ) from error
        self._load(self.folder / f"{name}.json")

    def read(self, keys: Sequence[str]) -> Features:
        """Returns the rows of `keys`, all of which must be in the entry, in that order."""
        where = np.array([self._rows[key] for key in keys], np.int64).reshape(-1, 2)
        return Features(self._shards, where)

    def _remove_abandoned(self) -> None:
        """Removes what a killed process left; what is young another one may be writing."""
        names = {manifest.stem for manifest in self.folder.glob("*.json")}
        for path in self.folder.glob("*.npy"):
            age = time.time() - path.stat().st_mtime
            if path.name.split(".")[0] not in names and age > ABANDONED_SECONDS:
                path.unlink(missing_ok=True)

    def _load(self, manifest: Path) -> None:
        """Takes a shard in; drops it where it is not whole."""
        try:
            facts = json.loads(manifest.read_text())
            paths = [manifest.with_suffix(f".{i}.npy") for i in range(len(facts["crc32"]))]
            if [_checksum(path) for path in paths] != facts["crc32"]:
                raise ValueError("checksum")
            arrays = [np.load(path, mmap_mode="r") for path in paths]
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("A damaged shard of stored features is computed again: %s", error)
            for leftover in manifest.parent.glob(f"{manifest.stem}.*"):
                leftover.unlink()
            return
        for row, key in enumerate(facts["keys"]):
            self._rows[key] = (len(self._shards), row)
        self._shards.append(arrays)


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
        """Looks at a folder of the store."""
        files = list(folder.iterdir())
        return cls(
            folder,
            size=sum(file.stat().st_size for file in files),
            shards=sum(file.suffix == ".json" for file in files),
            last_used=folder.stat().st_mtime,
        )


class FeatureStore:
    """All entries below one folder.

    Args:
        root: The folder; by default `default_root()`.
        dtype: "float16" (half the size), "float32" (what the prefix gave, to the bit), or "auto":
            float16 where that hardly moves the loss, which training measures.
        max_bytes: When an entry is opened, the least recently used others go until the store is
            no larger than this.
    """

    def __init__(
        self,
        root: str | Path | None = None,
        *,
        dtype: str = "auto",
        max_bytes: int = MAX_BYTES,
    ):
        if dtype not in DTYPES:
            raise InputError(f"a dtype of {' or '.join(DTYPES)}", repr(dtype), "Choose one.")
        self.root = Path(root) if root else default_root()
        self.automatic = dtype == "auto"
        self.dtype = "float16" if self.automatic else dtype
        self.max_bytes = max_bytes

    def settled(self, dtype: str) -> "FeatureStore":
        """The same store with a dtype of "float16" or "float32"."""
        return FeatureStore(self.root, dtype=dtype, max_bytes=self.max_bytes)

    def room(self) -> int:
        """How many bytes of features fit, by the store's limit and the disk."""
        folder = next(p for p in (self.root, *self.root.absolute().parents) if p.is_dir())
        return min(self.max_bytes, shutil.disk_usage(folder).free)

    def open(self, **key: Any) -> Entry:
        """Opens the entry of a key.

        Args:
            **key: JSON-ready facts; any change to one of them is another entry.

        Returns:
            The entry; empty where nothing was stored under the key yet.
        """
        folder = self.folder(dtype=self.dtype, **key)
        self._make_room(keep=folder)
        return Entry(folder, self.dtype)

    def folder(self, **key: Any) -> Path:
        """The folder of a key, which need not exist."""
        text = json.dumps({"format": FORMAT_VERSION, **key}, sort_keys=True)
        return self.root / hashlib.sha256(text.encode()).hexdigest()

    def stored(self) -> list[Stored]:
        """Lists what is stored, the most recently used first."""
        if not self.root.is_dir():
            return []
        found = [Stored.of(folder) for folder in self.root.iterdir() if folder.is_dir()]
        return sorted(found, key=lambda item: item.last_used, reverse=True)

    def clear(self) -> int:
        """Removes everything.

        Returns:
            How many bytes that freed.
        """
        stored = self.stored()
        for item in stored:
            shutil.rmtree(item.folder)
        return sum(item.size for item in stored)

    def _make_room(self, keep: Path) -> None:
        total = 0
        for item in self.stored():
            total += item.size
            if total > self.max_bytes and item.folder != keep:
                shutil.rmtree(item.folder)


class ShardWriter:
    """Writes outputs to an entry as they come, a shard at a time.

    Args:
        entry: Where to.
        keys: Content hash of each row, in the order in which rows will be added.
    """

    def __init__(self, entry: Entry, keys: Sequence[str]):
        self._entry = entry
        self._keys = keys
        self._held: list[Sequence[np.ndarray]] = []
        self._bytes = 0
        self._since = time.monotonic()
        self._written = 0

    def add(self, tensors: Sequence[np.ndarray]) -> None:
        """Takes the next rows: one array `[rows, ...]` for each tensor at the cut."""
        self._held.append(tensors)
        self._bytes += sum(array.nbytes for array in tensors)
        if self._bytes >= SHARD_BYTES or time.monotonic() - self._since > SHARD_SECONDS:
            self.close()

    def close(self) -> None:
        """Writes what is still held."""
        if not self._held:
            return
        tensors = [np.concatenate(parts) for parts in zip(*self._held, strict=True)]
        end = self._written + len(tensors[0])
        self._entry.append(self._keys[self._written : end], tensors)
        self._written = end
        self._held.clear()
        self._bytes, self._since = 0, time.monotonic()


def compact(array: np.ndarray, dtype: str) -> np.ndarray:
    """Returns an array as it is stored.

    Args:
        array: Floats.
        dtype: "float16", which gives way to float32 where a value would overflow it, or
            "float32".

    Raises:
        CheckError: A value is infinite or not a number.
    """
    if not np.isfinite(array).all():
        raise CheckError(
            "finite values from the frozen part of the model",
            "some that are infinite or not a number",
            "Look at its weights, or use float32 precision.",
        )
    fits = array.size == 0 or np.abs(array).max() <= FLOAT16_MAX
    return array.astype(dtype if fits else np.float32)


def _checksum(path: Path) -> int:
    crc = 0
    with path.open("rb") as file:
        while block := file.read(2**20):
            crc = zlib.crc32(block, crc)
    return crc
