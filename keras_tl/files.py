"""Outputs that are whole or absent: written aside, then renamed into place."""

import csv
import errno
import io
import logging
import math
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from keras_tl.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("keras_tl")

# Files that are being written are called ".01234567-name".
ASIDE_DIGITS = 8
ASIDE = "." + "[0-9a-f]" * ASIDE_DIGITS + "-"
# Where a change of several files waits until all of them are in place.
CHANGES = ".changes"
# Errors of a write that does not fit on the disk; they do not name the file.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# An array of more bytes than this is kept in a file.
SCRATCH_BYTES = 2**27


def cache_root() -> Path:
    """The folder of what can be made again: `KERAS_TL_CACHE`, or `keras_tl` in the user's cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("KERAS_TL_CACHE") or Path(base) / "keras_tl")


def scratch_array(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An array of zeros that does not fill the memory, however large it is.

    Args:
        shape: Its shape.
        dtype: Its dtype.

    Returns:
        The array. Above `SCRATCH_BYTES` it lies in an unnamed file in the cache folder, which
        disappears with it; if there is no room for that, in memory.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size > SCRATCH_BYTES:
        try:
            cache_root().mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=cache_root()) as file:
                if hasattr(os, "posix_fallocate"):
                    # A disk that is full must say so here, not when a page is written.
                    os.posix_fallocate(file.fileno(), 0, size)
                return np.memmap(file, dtype, "w+", shape=shape)
        except OSError as error:
            log.warning(
                "%.0f MB are kept in memory, not in %s: %s", size / 1e6, cache_root(), error
            )
    return np.zeros(shape, dtype)


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Writes one file so that it is either complete or not there.

    Yields a path in the same folder (with the same ending, which some writers look at) to be
    written to. When the block ends that file is flushed to disk and renamed to `path`, replacing
    what was there. When the block raises it is removed and `path` stays as it was.

    Args:
        path: Where the file is to be; missing parent folders are made.

    Yields:
        The path to write to.
    """
    path = Path(path)
    aside = _aside(path)
    try:
        with _naming(path, aside):
            yield aside
            _flush(aside)
            os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def check_file_path(path: str | Path) -> None:
    """Refuses, before any work is done for it, a path where no file can be written.

    Args:
        path: Where a file is to be; missing parent folders would be made.

    Raises:
        InputError: It is a folder, or below a file, or in a folder that cannot be written to.
    """
    path = Path(path)
    parents = path.absolute().parents
    folder = next((parent for parent in parents if parent.exists()), path)
    received = ""
    if path.is_dir():
        received = f"the folder {path}"
    elif not folder.is_dir():
        received = f"{path}, where {folder} is a file"
    elif not os.access(folder, os.W_OK):
        received = f"{path} in a folder that cannot be written to"
    if received:
        raise InputError("where a file can be written", received, "Choose another name.")


def atomic_write_text(path: str | Path, text: str) -> None:
    """Writes `text` as UTF-8 to `path`, which is never seen half written."""
    with atomic_file(path) as aside:
        aside.write_text(text, encoding="utf-8", newline="\n")


class _RowEnds:
    """Ends rows with a line feed, for a csv writer set to CRLF so that it quotes CR and LF."""

    def __init__(self, file: TextIO):
        self._file = file

    def write(self, row: str) -> int:
        return self._file.write(row.removesuffix("\r\n") + "\n")


def csv_writer(file: TextIO) -> Any:
    """A `csv.writer` whose rows end with a line feed.

    Set to a line feed, Python's own leaves a carriage return unquoted, as file names may have it.

    Args:
        file: A file that is open for writing, with `newline=""`.
    """
    return csv.writer(_RowEnds(file), lineterminator="\r\n")


def csv_text(frame: "pd.DataFrame") -> str:
    """A DataFrame as CSV, without its index; see `csv_writer`."""
    text = io.StringIO()
    frame.to_csv(_RowEnds(text), index=False, lineterminator="\r\n")  # type: ignore[call-overload]
    return text.getvalue()


@contextmanager
def atomic_folder(path: str | Path, known_by: str | None = None) -> Iterator[Path]:
    """Fills a folder so that it is either complete or not there.

    Yields a new, empty folder beside `path`. When the block ends it is flushed to disk and takes
    the place of `path`; a folder that was there is removed. When the block raises, the new folder
    is removed and `path` stays as it was.

    Args:
        path: Where the folder is to be; missing parent folders are made.
        known_by: A file that tells an older folder of the same kind, which may be removed, from
            one that somebody keeps other things in; None removes any.

    Yields:
        The folder to fill.

    Raises:
        InputError: `path` is an existing file, or a folder that is not to be removed.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise InputError("a folder's path", f"the file {path}", "Choose another name.")
    if known_by and path.is_dir() and has_others(path) and not (path / known_by).is_file():
        received = f"{path}, which has other things in it"
        raise InputError("a folder that is new or empty", received, "Choose another name.")
    aside = _aside(path)
    aside.mkdir()
    try:
        with _naming(path, aside):
            yield aside
            _flush_all(aside)
            _put_in_place(aside, path)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def atomic_changes(folder: str | Path) -> Iterator[Path]:
    """Replaces several files of a folder together: after a kill it is all of them or none.

    Yields a new, empty folder, to be filled with the files, each at the path that it is to have in
    `folder`. When the block ends they are flushed to disk and renamed as one, which commits the
    change, and then moved into place; after a kill, `finish_changes` moves the rest. When the block
    raises, `folder` stays as it was.

    Args:
        folder: The folder; no other process may be changing it.

    Yields:
        The folder to fill.

    Raises:
        InputError: An older change cannot be finished, or this one could not be; see
            `finish_changes`.
    """
    folder = Path(folder)
    remove_leftovers(folder, CHANGES)
    finish_changes(folder)
    aside = _aside(folder / CHANGES)
    aside.mkdir()
    try:
        with _naming(folder, aside):
            yield aside
            _flush_all(aside)
            _refuse_links(aside, folder)
            os.replace(aside, folder / CHANGES)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    finish_changes(folder)


def finish_changes(folder: str | Path) -> None:
    """Completes a change that a killed `atomic_changes` left; to be called before reading.

    Several processes may do so at the same time.

    Args:
        folder: The folder.

    Raises:
        InputError: The folder cannot be written, or a link in it leads elsewhere; nothing is
            moved then.
    """
    _refuse_links(Path(folder) / CHANGES, Path(folder))
    # Files before their folder, which is removed once it is empty.
    for here, _, names in os.walk(Path(folder) / CHANGES, topdown=False):
        target = Path(folder) / Path(here).relative_to(Path(folder) / CHANGES)
        try:
            target.mkdir(parents=True, exist_ok=True)
            for name in names:
                with suppress(FileNotFoundError):  # another process has moved it
                    os.replace(Path(here, name), target / name)
            with suppress(FileNotFoundError):
                os.rmdir(here)
        except OSError as error:
            raise InputError(
                "a folder that can be written, to finish what was begun there",
                f"{folder}: {error.strerror}",
                "Open it once where it can be.",
            ) from error


def _refuse_links(changes: Path, folder: Path) -> None:
    """Refuses a change that would move files out of other folders, or into them, by a link."""
    for here, folders, files in os.walk(changes):
        target = folder / Path(here).relative_to(changes)
        for path in (Path(here), *(Path(here, name) for name in (*folders, *files)), target):
            # The folder itself may be reached through a link.
            if path != folder and path.is_symlink():
                raise InputError(
                    "a folder without links, to change files in it",
                    f"the link {path}",
                    "Delete it, or put what it leads to in its place.",
                )


def remove_leftovers(folder: str | Path, name: str = "*") -> None:
    """Removes what killed processes left half written in a folder that only this one writes to.

    Args:
        folder: The folder.
        name: Names of the files meant, as a glob pattern.
    """
    for path in Path(folder).glob(f"{ASIDE}{name}"):
        _remove(path)


def has_others(folder: str | Path, *but: str) -> bool:
    """Whether a folder has anything but some names and what `remove_leftovers` removes."""
    others = {path.name for path in Path(folder).iterdir()}.difference(but)
    return any(not fnmatchcase(name, f"{ASIDE}*") for name in others)


@contextmanager
def _naming(path: Path, aside: Path) -> Iterator[None]:
    """Makes errors name the file to be written, not its temporary name."""
    try:
        yield
    except OSError as error:
        full = error.errno in NO_ROOM and not error.filename
        if full or str(error.filename) == str(aside):
            error.filename = str(path)
        raise


def _aside(path: Path) -> Path:
    """A hidden, unused sibling of `path`; the parent folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".{uuid.uuid4().hex[:ASIDE_DIGITS]}-{path.name}")


def _flush(path: Path) -> None:
    """Waits until a file's content is on disk, so that the rename cannot outrun it."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _flush_all(folder: Path) -> None:
    for written in folder.rglob("*"):
        if written.is_file():
            _flush(written)


def _put_in_place(folder: Path, target: Path) -> None:
    """Renames `folder` to `target`; an older folder comes back if that fails."""
    if not os.path.lexists(target):
        os.replace(folder, target)
        return
    # A folder that holds files cannot be renamed over: the old one steps aside first.
    older = _aside(target)
    os.replace(target, older)
    try:
        os.replace(folder, target)
    except OSError:
        os.replace(older, target)
        raise
    _remove(older)


def _remove(path: Path) -> None:
    """Removes a file, a folder, or a link without what it leads to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
