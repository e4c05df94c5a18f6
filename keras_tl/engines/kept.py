"""Converted prefixes on disk: whole, or made again."""

import hashlib
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from keras_tl.files import atomic_file

DIGEST_BYTES = hashlib.sha256().digest_size

log = logging.getLogger("keras_tl")


def kept(path: Path, convert: Callable[[], bytes]) -> bytes:
    """Reads a converted prefix, or converts and keeps it.

    The file begins with the SHA-256 of its folder's name and the rest, so that it needs no other
    file: a damaged one, or another prefix's, is never used, and if two processes convert at once,
    either one's is good.

    Args:
        path: Where it is kept.
        convert: Makes it; called unless there is an intact one.

    Returns:
        The converted prefix. If it could not be written to disk, a log line says so.
    """
    content = _read(path)
    if content is not None:
        return content
    content = convert()
    try:
        with atomic_file(path) as aside:
            aside.write_bytes(_digest(path, content) + content)
    except OSError as error:
        log.warning("%s is not kept: %s", path.name, error.strerror)
    return content


def _read(path: Path) -> bytes | None:
    """The content, or None unless it is there and intact."""
    try:
        with path.open("rb") as file:
            digest, content = file.read(DIGEST_BYTES), file.read()
    except OSError:
        return None  # none yet; whether one can be written is seen next
    if _digest(path, content) != digest:
        log.warning("A damaged %s is made again", path.name)
        return None
    # What was used last stays longest in the store; another process may have cleared it.
    with suppress(FileNotFoundError):
        os.utime(path.parent)
    return content


def _digest(path: Path, content: bytes) -> bytes:
    """What the file begins with; the folder's name stands for the prefix."""
    digest = hashlib.sha256(path.parent.name.encode())
    digest.update(content)
    return digest.digest()
