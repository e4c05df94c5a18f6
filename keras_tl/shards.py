"""Shards of stored features: whole and of the entry they lie in, or they do not count.

A shard is a file of plain numbers for each tensor and a manifest beside them, written last: the
entry, the rows' names, each file's dtype, shape and CRC-32, and a SHA-256 over all that. Whatever a
crash, a full disk or a user leaves half done, moved or changed has no manifest that fits. Files are
not flushed to disk: a power cut can lose a shard, and its checksums then show that. CRC-32 detects
all damage within 32 bits in a row, and of other damage all but one case in four thousand million;
it is no defence against malice.

float16 and not bfloat16: it rounds eight times as finely, and what overflows it is kept as float32.
"""

import errno
import hashlib
import json
import math
import os
import re
import shutil
import uuid
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_tl.errors import CheckError, InputError

FLOAT16_MAX = float(np.finfo(np.float16).max)
BLOCK = 2**20
# Errors of a file that is gone or unreadable, or replaced by a folder or a broken link.
LOST = (errno.ENOENT, errno.EIO, errno.EISDIR, errno.ENOTDIR, errno.ELOOP)
# Errors of an invalid manifest; deeply nested brackets exceed Python's recursion limit.
BROKEN = (ValueError, KeyError, TypeError, RecursionError)
# Files whose bytes this process has compared with their manifest, by name and by everything that a
# change of the file would change.
_verified: set[tuple[Any, ...]] = set()


class DamagedShardError(ValueError):
    """A shard that does not count."""


@dataclass(frozen=True)
class Shard:
    """A shard, read.

    Attributes:
        keys: The rows' names.
        arrays: A memory-mapped `[rows, ...]` for each tensor.
    """

    keys: list[str]
    arrays: list[np.ndarray]


class ShardFiles:
    """Writes a shard, some rows at a time, straight to disk.

    Args:
        folder: The entry's folder; it is made.
        tensors: Rows like those to come, for their shapes and dtypes.

    Raises:
        OSError: As any method may, where the disk is full; call `discard` then.
    """

    def __init__(self, folder: Path, tensors: Sequence[np.ndarray]):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.name = uuid.uuid4().hex
        self.bytes = 0
        self._keys: list[str] = []
        self._crc32 = [0 for _ in tensors]
        self._like = [(tensor.dtype.str, tensor.shape[1:]) for tensor in tensors]
        # Unbuffered, since a buffer would hide that the disk is full.
        self._files = [self._path(i).open("wb", buffering=0) for i in range(len(tensors))]

    def add(self, keys: Sequence[str], tensors: Sequence[np.ndarray]) -> None:
        """Writes rows: their names, and `[rows, ...]` for each tensor."""
        for index, tensor in enumerate(tensors):
            content = np.ascontiguousarray(tensor).reshape(-1).view(np.uint8).data
            self._crc32[index] = zlib.crc32(content, self._crc32[index])
            self.bytes += len(content)
            while content:
                content = content[self._files[index].write(content) :]
        self._keys += keys

    def close(self) -> Path:
        """Ends the shard, and from then on it counts.

        Returns:
            Its manifest.
        """
        for file in self._files:
            file.close()
        tensors = [
            {"dtype": dtype, "shape": [len(self._keys), *shape], "crc32": crc32}
            for (dtype, shape), crc32 in zip(self._like, self._crc32, strict=True)
        ]
        body = {"entry": self.folder.name, "keys": self._keys, "tensors": tensors}
        aside = self.folder / f"{self.name}.aside"
        aside.write_text(json.dumps({"body": body, "sha256": _digest(body)}))
        manifest = self.folder / f"{self.name}.json"
        os.replace(aside, manifest)
        _verified.update(_identity(self._path(index)) for index in range(len(self._files)))
        return manifest

    def discard(self) -> None:
        """Removes what was written."""
        for file in self._files:
            file.close()
        remove(self.folder, self.name)

    def _path(self, index: int) -> Path:
        return _file(self.folder, self.name, index)


def read(manifest: Path) -> Shard:
    """Reads a shard, and once per process compares its bytes with its checksums.

    Args:
        manifest: Its manifest.

    Raises:
        DamagedShardError: It is not what was written, or it was written to another entry.
        InputError: It cannot be read, though it may be whole.
    """
    try:
        body = _body(manifest.read_bytes(), manifest.parent.name)
        arrays = [
            _map(_file(manifest.parent, manifest.stem, index), facts)
            for index, facts in enumerate(body["tensors"])
        ]
    except OSError as error:
        if error.errno in LOST:
            raise DamagedShardError(str(error)) from error
        raise InputError(
            f"stored features that can be read in {manifest.parent}",
            error.strerror or str(error),
            "Allow it (more open files: ulimit -n), or set KERAS_TL_CACHE to another folder.",
        ) from error
    except BROKEN as error:
        raise DamagedShardError(str(error)) from error
    return Shard(body["keys"], arrays)


def sizes(manifest: bytes, entry: str) -> list[int]:
    """The size in bytes of each file of a shard, by its manifest.

    Raises:
        DamagedShardError: It is not what was written, or it was written to another entry.
    """
    try:
        tensors = _body(manifest, entry)["tensors"]
        return [np.dtype(like["dtype"]).itemsize * math.prod(like["shape"]) for like in tensors]
    except BROKEN as error:
        raise DamagedShardError(str(error)) from error


def manifests(folder: Path) -> list[Path]:
    """The manifests in a folder, in order of their names."""
    return sorted(path for path in folder.glob("*.json") if is_manifest(path))


def is_manifest(path: Path) -> bool:
    """Whether a file has a manifest's name."""
    return path.suffix == ".json" and _is_name(path.stem)


def remove(folder: Path, name: str) -> None:
    """Removes the files of a shard, its manifest first, and what stands in their place."""
    for path in [folder / f"{name}.json", *folder.glob(f"{name}.*")]:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def leftovers(folder: Path) -> set[str]:
    """Names of unfinished shards."""
    begun = {path.name.split(".")[0] for path in folder.glob("*.*")}
    return {name for name in begun if _is_name(name)} - {path.stem for path in manifests(folder)}


def remove_leftovers(folder: Path) -> None:
    """Removes unfinished shards from a folder that nobody writes to, or a file in its place."""
    if not folder.is_dir():
        folder.unlink(missing_ok=True)
        return
    for name in leftovers(folder):
        remove(folder, name)


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


def no_room(folder: Path, error: OSError) -> InputError:
    """The error of a disk that is full or not writable."""
    return InputError(
        f"room to write features to {folder}",
        error.strerror or str(error),
        "Free some space, or set KERAS_TL_CACHE to another folder.",
    )


def _body(manifest: bytes, entry: str) -> dict[str, Any]:
    """The content of a manifest; raises any error but an `OSError` if it is damaged."""
    facts = json.loads(manifest)
    body: dict[str, Any] = facts["body"]
    if facts["sha256"] != _digest(body) or body["entry"] != entry:
        raise DamagedShardError("a manifest that is not its own")
    return body


def _map(path: Path, facts: dict[str, Any]) -> np.ndarray:
    identity = _identity(path)
    if identity not in _verified:
        if _checksum(path) != facts["crc32"]:
            raise DamagedShardError(f"{path.name} has another checksum")
        _verified.add(identity)
    return np.memmap(path, facts["dtype"], "r", shape=tuple(facts["shape"]))


def _checksum(path: Path) -> int:
    crc = 0
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            crc = zlib.crc32(block, crc)
    return crc


def _identity(path: Path) -> tuple[Any, ...]:
    facts = path.stat()
    return str(path), facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns


def _digest(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _file(folder: Path, name: str, index: int) -> Path:
    return folder / f"{name}.{index}.bin"


def _is_name(text: str) -> bool:
    return re.fullmatch("[0-9a-f]{32}", text) is not None
