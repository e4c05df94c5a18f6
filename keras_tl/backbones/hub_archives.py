"""Unpacks the archive of a TF-Hub module, whatever is in it.

An archive may come from anywhere. So nothing but files and folders is taken out of it, each of them
into the folder that was asked for; and it is read as a stream that ends where an archive expands
more than those of modules do, before the disk or the memory is full.
"""

import gzip
import os
import shutil
import tarfile
import zlib
from pathlib import Path
from typing import BinaryIO

from keras_tl.errors import InputError, in_one_line

# Weights hardly compress, graphs to a tenth; a higher ratio is a bomb, unless little is unpacked.
MOST_EXPANSION = 50
ALWAYS_ALLOWED = 2**25
# TensorFlow writes a file for each asset, and a handful of others.
MOST_MEMBERS, MOST_LEVELS = 10_000, 64
# Most bytes read at once: a member's header (a long name) is, contents come in small pieces.
MOST_AT_ONCE = 2**20
GZIP = b"\x1f\x8b"

# What tarfile raises on archives that are damaged or made up: its own errors, and what a number,
# a name or a header within a header leads to.
BROKEN = (
    tarfile.TarError,
    zlib.error,
    EOFError,
    OSError,
    ValueError,
    OverflowError,
    RecursionError,
)


def unpack(archive: Path, folder: Path) -> None:
    """Unpacks a `.tar.gz`, or a `.tar`.

    Args:
        archive: The file.
        folder: An empty folder.

    Raises:
        InputError: It is damaged, expands more than is usual, or has members that are links,
            devices, sparse, or would be outside of the folder.
    """
    try:
        with archive.open("rb") as file:
            packed = file.read(len(GZIP)) == GZIP
        most = max(MOST_EXPANSION * archive.stat().st_size, ALWAYS_ALLOWED)
        with gzip.open(archive) if packed else archive.open("rb") as content:
            stream = _Bounded(content, most)
            with tarfile.open(fileobj=stream, mode="r:") as opened:  # type: ignore[call-overload]
                _take_out(opened, stream, folder)
    except BROKEN as error:
        reason = in_one_line(error)
        fix = "Download it again, or give the folder that it is the archive of."
        raise InputError("a .tar.gz of a SavedModel", f"{archive}: {reason}", fix) from error


class _Bounded:
    """A file that can only be read forwards, up to a limit.

    Args:
        file: What is read.
        most: The most bytes that are read of it.
    """

    def __init__(self, file: BinaryIO | gzip.GzipFile, most: int):
        self._file, self._most = file, most

    def tell(self) -> int:
        return self._file.tell()

    def read(self, size: int) -> bytes:
        if not 0 <= size <= MOST_AT_ONCE:
            raise tarfile.ReadError(f"a header of {size} bytes")
        self.refuse(size)
        return self._file.read(size)

    def seek(self, place: int) -> int:
        if place < self.tell():
            raise tarfile.ReadError("a member that lies before the one that it follows")
        self.refuse(place - self.tell())
        return self._file.seek(place)

    def refuse(self, size: int) -> None:
        """Raises if `size` more bytes are too many."""
        # The end may be padded to a record of 20 blocks, which is read too.
        if self.tell() + size > self._most + tarfile.RECORDSIZE:
            raise tarfile.ReadError(f"it expands more than {MOST_EXPANSION} times")


def _take_out(opened: tarfile.TarFile, stream: _Bounded, folder: Path) -> None:
    for number, member in enumerate(opened, 1):
        if number > MOST_MEMBERS:
            raise tarfile.ReadError(f"more than {MOST_MEMBERS} members")
        # No links are made, so a name leads where it says.
        path = Path(os.path.normpath(folder / member.name))
        if not path.is_relative_to(folder):
            raise tarfile.ReadError(f"{member.name!r}, which would be outside of its folder")
        if len(path.relative_to(folder).parts) > MOST_LEVELS:
            raise tarfile.ReadError(f"folders of more than {MOST_LEVELS} levels")
        if member.isdir():
            continue
        content = None if member.issparse() or not member.isreg() else opened.extractfile(member)
        if content is None:
            raise tarfile.ReadError(f"{member.name!r}, which is no file with its content")
        stream.refuse(member.size)
        path.parent.mkdir(parents=True, exist_ok=True)
        with content, path.open("wb") as file:
            shutil.copyfileobj(content, file)
