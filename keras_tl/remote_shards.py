"""A remote copy of the store, `KERAS_TL_CACHE_REMOTE`, which machines without a shared disk share.

Shards are mapped into memory, so they must be files of this machine. Opening an entry fetches the
shards that it lacks here; a shard finished here is sent there. Either way the manifest comes last,
and each file is written under a temporary name and renamed: an interrupted copy does not count, and
is removed by a run that opens its entry a day later. Checksums decide what counts, as for any shard
(see `keras_tl.shards`).

A run first writes a file there and removes it, so that an unusable remote is reported before the
prefix computes anything. A later failure costs the run nothing that it needs: one line says so, it
goes on without the remote, and the next run sends what is missing there.
"""

import logging
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

import tensorflow as tf

from keras_tl import shards as shard_files
from keras_tl.errors import InputError, sentence
from keras_tl.shards import DamagedShardError

VARIABLE = "KERAS_TL_CACHE_REMOTE"
BLOCK = 2**23
# Ending of a file until all of it is sent; seconds after which its sender is taken for dead.
ASIDE, LONGEST_SENDING = ".aside", 24 * 3600.0

log = logging.getLogger("keras_tl")
gfile = tf.io.gfile


class Remote:
    """The remote copy, for one run.

    Args:
        address: A folder that `tf.io.gfile` can write to ("gs://bucket/folder"); "" for none,
            and then no method does anything.
    """

    def __init__(self, address: str):
        self._root = address and address.rstrip("/") + "/features"
        self._in_use = bool(address)
        self._begun = False
        # Names of shards, so that a damaged one is not fetched again at each opening.
        self._tried: set[str] = set()
        self._too_large: set[Path] = set()

    @classmethod
    def of_environment(cls) -> "Remote":
        """The one that `KERAS_TL_CACHE_REMOTE` names."""
        return cls(os.environ.get(VARIABLE, ""))

    def begin(self) -> None:
        """Checks, once, that files can be written there.

        Raises:
            InputError: They cannot.
        """
        if not self._in_use or self._begun:
            return
        try:
            _make_folder(self._root)
            probe = f"{self._root}/.{uuid.uuid4().hex}"
            with gfile.GFile(probe, "wb") as file:
                file.write(b"keras_tl")
            gfile.remove(probe)
        except tf.errors.OpError as error:
            raise InputError(*self._complaint(error)) from error
        self._begun = True

    def fetch(self, folder: Path, fits: Callable[[int], bool]) -> set[str]:
        """Fetches shards of an entry that this machine lacks, each once in a run.

        Args:
            folder: The entry's folder; it is made where there is something to fetch.
            fits: Whether the store takes so many bytes more.

        Returns:
            Names of all shards on the remote.

        Raises:
            OSError: The disk is full or not writable.
        """
        there: set[str] = set()
        left_out = 0
        with self._or_without():
            there = self._names(folder.name) if self._in_use else there
            for name in sorted(there - self._tried):
                if not (folder / f"{name}.json").exists():
                    self._tried.add(name)
                    left_out += self._fetch_if_whole(folder, name, fits)
        if left_out:
            self._too_large.add(folder)
            log.warning(
                "%.1f MB of %s are not fetched: the store has no room for them",
                left_out / 1e6,
                self._root,
            )
        return there

    def send(self, manifest: Path) -> None:
        """Sends a shard, unless its entry did not fit here: its rows may be there already."""
        if not self._in_use or manifest.parent in self._too_large:
            return
        with self._or_without():
            there = f"{self._root}/{manifest.parent.name}"
            _make_folder(there)
            for path in (*sorted(manifest.parent.glob(f"{manifest.stem}.*.bin")), manifest):
                aside = f"{there}/{path.name}.{uuid.uuid4().hex}{ASIDE}"
                gfile.copy(str(path), aside)
                gfile.rename(aside, f"{there}/{path.name}", overwrite=True)

    def send_others(self, folder: Path, there: set[str]) -> None:
        """Sends the shards of an entry whose names are not in `there`."""
        for manifest in shard_files.manifests(folder) if self._in_use else ():
            if manifest.stem not in there:
                self.send(manifest)

    def _names(self, entry: str) -> set[str]:
        try:
            found = gfile.listdir(f"{self._root}/{entry}")
        except tf.errors.NotFoundError:
            # Without shards there is no folder. But `listdir` raises this for other failures too,
            # and `exists` then raises the actual error.
            gfile.exists(f"{self._root}/{entry}")
            return set()
        for name in found:
            if name.endswith(ASIDE):
                _remove_if_old(f"{self._root}/{entry}/{name}")
        return {path.stem for path in map(Path, found) if shard_files.is_manifest(path)}

    def _fetch_if_whole(self, folder: Path, name: str, fits: Callable[[int], bool]) -> int:
        """Fetches a shard; returns how many bytes did not fit."""
        there = f"{self._root}/{folder.name}"
        try:
            with gfile.GFile(f"{there}/{name}.json", "rb") as file:
                manifest = file.read()
            sizes = shard_files.sizes(manifest, folder.name)
            needed = sum(sizes) + len(manifest)
            if not fits(needed):
                return needed
            _fetch(there, folder, name, len(sizes), manifest)
        except (DamagedShardError, tf.errors.NotFoundError) as error:
            log.warning("A damaged shard at %s, %s, is not used: %s", there, name, error)
        return 0

    @contextmanager
    def _or_without(self) -> Iterator[None]:
        """If the remote fails, says so and does not use it any more."""
        try:
            yield
        except tf.errors.OpError as error:
            self._in_use = False
            log.warning("%s This run goes on without it.", sentence(*self._complaint(error)))

    def _complaint(self, error: tf.errors.OpError) -> tuple[str, str, str]:
        return (
            f"{VARIABLE} to be a folder that can be read and written",
            f"{self._root} ({' '.join(str(error.message).split())[:300]})",
            "Look at its address and at who may write there, or unset it.",
        )


def _make_folder(path: str) -> None:
    """Makes a folder; for a bucket, which has none, only checks the access."""
    # To make a folder on gs://, TensorFlow reads the bucket's metadata, which even an account with
    # all rights to its objects may not be allowed to.
    if path.startswith("gs://"):
        gfile.exists(path)
    else:
        gfile.makedirs(path)


def _remove_if_old(path: str) -> None:
    """Removes a file that a process killed long ago had sent only in part."""
    # Since it was listed, its own run may have finished it, or another one removed it.
    with suppress(tf.errors.NotFoundError):
        written = gfile.stat(path).mtime_nsec / 1e9
        # A file system that does not know the time reports 0 (ram://).
        if 0 < written < time.time() - LONGEST_SENDING:
            gfile.remove(path)


def _fetch(there: str, folder: Path, name: str, bins: int, manifest: bytes) -> None:
    """Copies a shard here, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.{index}.bin" for index in range(bins)]
    is_here = False
    try:
        with ExitStack() as stack:
            # The first that is written is the last that is renamed.
            stack.enter_context(_aside(folder / f"{name}.json")).write(manifest)
            for path in paths:
                file = stack.enter_context(_aside(path))
                with gfile.GFile(f"{there}/{path.name}", "rb") as source:
                    while block := source.read(BLOCK):
                        file.write(block)
            is_here = True
    except BaseException:
        # Before the first is renamed, they can only be those of another process.
        for path in paths if is_here else ():
            path.unlink(missing_ok=True)
        raise


@contextmanager
def _aside(path: Path) -> Iterator[IO[bytes]]:
    """Writes a file that is renamed when the block ends, and removed where it raises."""
    # With the shard's name, so that after a kill it is found as any shard's leftovers are.
    aside = path.with_name(f"{path.name}.{uuid.uuid4().hex}{ASIDE}")
    try:
        with aside.open("wb") as file:
            yield file
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
