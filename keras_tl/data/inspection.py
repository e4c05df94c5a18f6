"""One pass over a source before training: what cannot be decoded is left out and reported."""

import functools
import itertools
import logging
import os
import stat
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_tl.data import image_headers
from keras_tl.data.decoding import ImageInput, check
from keras_tl.data.labels import first_few, refuse_emptied_classes
from keras_tl.data.remembered import Remembered, identity
from keras_tl.data.source import Skipped, Source, content_hash
from keras_tl.errors import InputError

log = logging.getLogger("keras_tl")

MAX_FILE_BYTES = 2**28
SECONDS_BETWEEN_REPORTS = 5.0
WARNED_OF = 5
AT_ONCE = 8


class _Finding(NamedTuple):
    """What became of one item: its hash, or why it is left out; what to remember a file by."""

    sha256: str = ""
    reason: str = ""
    identity: bytes = b""


def inspect(
    source: Source,
    image_input: ImageInput,
    *,
    max_bad_fraction: float = 0.1,
    max_file_bytes: int = MAX_FILE_BYTES,
) -> Source:
    """Reads, hashes and decodes every item once, in parallel, and leaves out what fails.

    It decodes as the pipeline does, but resizes nothing and takes JPEGs at an eighth of their
    size, for which all of a file is still read: what passes here passes there. No bad item raises
    an error, unless there are too many of them. A good file is remembered (see
    `keras_tl.data.remembered`) and not looked at again until it changes.

    Args:
        source: The items; labels may be missing (`class_names` empty), to predict.
        image_input: How images are decoded, and how many pixels they may have.
        max_bad_fraction: The share of bad items, including those the source has skipped as bad,
            above which this raises, in [0, 1].
        max_file_bytes: Larger files are not read.

    Returns:
        The readable items in their order with `hashes` filled in (SHA-256 of the file, or of
        shape and pixels), the others added to `skipped`.

    Raises:
        InputError: Too many items are bad, none is left, or a class has none left.
    """
    check_bad_fraction(max_bad_fraction)
    if source.items and isinstance(source.items[0], str):
        findings = _examine_files(source.items, image_input, max_file_bytes)
    else:
        findings = list(_examine(source.items, image_input))
    left_out = tuple(
        Skipped(str(name), finding.reason)
        for name, finding in zip(source.ids, findings, strict=True)
        if finding.reason
    )
    bad = [skip for skip in source.skipped if skip.bad] + list(left_out)
    refuse_too_many_bad(bad, len(source) + len(bad) - len(left_out), max_bad_fraction)
    good = np.array([i for i, found in enumerate(findings) if not found.reason], np.int64)
    hashes = np.array([found.sha256 for found in findings], dtype=object)
    inspected = replace(source, hashes=hashes, skipped=source.skipped + left_out).take(good)
    refuse_emptied_classes(source.labels, inspected.labels, source.class_names, source.task)
    return inspected


def too_large(size: int, max_file_bytes: int = MAX_FILE_BYTES) -> str:
    """Why a file of `size` bytes is not read; "" if it may be."""
    return f"file of {size / 2**20:.0f} MiB, too large" if size > max_file_bytes else ""


def refused_unread(path: str, max_file_bytes: int = MAX_FILE_BYTES) -> str:
    """Why a file must not be read at all (not a regular file, or too large); "" if it may be."""
    return _look_at(path, max_file_bytes, {}).reason


def refused(item: Any, image_input: ImageInput) -> str:
    """Why an item cannot be decoded, as `inspect` says it; "" where it can."""
    if isinstance(item, str) and (reason := refused_unread(item)):
        return reason
    return next(_examine([item], image_input)).reason


def _examine_files(
    paths: list[str], image_input: ImageInput, max_file_bytes: int
) -> list[_Finding]:
    """Examines the files that are not remembered as good, and remembers the good ones of them."""
    # What decides the finding, apart from the file.
    settings = {
        "decoder": image_input.decoder_version,
        "max_pixels": image_input.max_pixels,
        "tensorflow": tf.version.VERSION,
    }
    findings = [_look_at(path, max_file_bytes, settings) for path in paths]
    with closing(Remembered("inspections")) as remembered:
        known = remembered.recall(found.identity for found in findings if found.identity)
        hashes = [known.get(found.identity, b"").hex() for found in findings]
        findings = [f._replace(sha256=key) for f, key in zip(findings, hashes, strict=True)]
        unknown = [i for i, found in enumerate(findings) if not (found.sha256 or found.reason)]
        examined = _examine([paths[i] for i in unknown], image_input)
        for i, finding in zip(unknown, examined, strict=True):
            if not finding.reason:
                remembered.add(findings[i].identity, bytes.fromhex(finding.sha256))
            findings[i] = finding
    return findings


def _look_at(path: str, max_file_bytes: int, settings: dict[str, Any]) -> _Finding:
    """What is known of a file without reading it: a reason against it, or its identity."""
    try:
        facts = os.stat(path)
    except OSError as error:
        return _unreadable(error)
    except ValueError:  # a NUL, or half of a character
        return _Finding(reason="no name that a file can have")
    # Reading a pipe or a device might never end.
    if not stat.S_ISREG(facts.st_mode):
        return _Finding(reason="not a regular file")
    if reason := too_large(facts.st_size, max_file_bytes):
        return _Finding(reason=reason)
    return _Finding(identity=identity(path, facts, settings))


def _unreadable(error: OSError) -> _Finding:
    if isinstance(error, FileNotFoundError):
        return _Finding(reason="file not found")
    return _Finding(reason=f"unreadable: {error.strerror}")


def _examine(items: list[Any], image_input: ImageInput) -> Iterator[_Finding]:
    """Examines items in parallel."""
    if items:
        examiner = _examiner(image_input)
        together = [items[i : i + AT_ONCE] for i in range(0, len(items), AT_ONCE)]
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            found = itertools.chain.from_iterable(threads.map(examiner.examine_all, together))
            yield from _reported(found, len(items))


class _Examiner:
    """Examines items; called by several threads at once."""

    def __init__(self, image_input: ImageInput):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
        def check_all(contents: tf.Tensor) -> tf.Tensor:
            one = tf.TensorSpec([], tf.int32)
            return tf.map_fn(lambda c: check(c, image_input), contents, fn_output_signature=one)

        # Traced here, once, rather than by every thread.
        self._check_all = check_all.get_concrete_function()
        self._max_pixels = image_input.max_pixels

    def examine_all(self, items: list[Any]) -> list[_Finding]:
        """Examines items in one call, so that threads need not return to Python in between.

        If that fails, each item is examined by itself.
        """
        if any(isinstance(item, np.ndarray) for item in items):
            return [self._examine(item) for item in items]
        try:
            contents = [i if isinstance(i, bytes) else Path(i).read_bytes() for i in items]
            self._check_all(tf.constant(contents))
        except (OSError, tf.errors.InvalidArgumentError):
            return [self._examine(item) for item in items]
        return [_Finding(content_hash(content)) for content in contents]

    def _examine(self, item: Any) -> _Finding:
        if isinstance(item, np.ndarray):
            return self._examine_pixels(item)
        if isinstance(item, bytes):
            return self._examine_contents(item)
        try:
            return self._examine_contents(Path(item).read_bytes())
        except OSError as error:
            return _unreadable(error)

    def _examine_pixels(self, pixels: np.ndarray) -> _Finding:
        reason = self._too_large(pixels.shape[0] * pixels.shape[1])
        return _Finding(content_hash(pixels), reason)

    def _examine_contents(self, contents: bytes) -> _Finding:
        if not contents:
            return _Finding(reason="empty file")
        try:
            self._check_all(tf.constant([contents]))
        except tf.errors.InvalidArgumentError:
            return _Finding(reason=self._why(contents))
        return _Finding(content_hash(contents))

    def _why(self, contents: bytes) -> str:
        """Why an image was refused, in words; TensorFlow's own message is long and unclear."""
        header = tf.constant(contents)
        kind = int(image_headers.kind(header))
        if kind == image_headers.UNKNOWN:
            return f"not an image (starts with {contents[:8]!r})"
        damaged = f"{image_headers.KINDS[kind]} that is truncated, corrupt or of an unread variant"
        try:
            pixels = int(image_headers.pixel_count(header, tf.constant(kind)))
        except tf.errors.InvalidArgumentError:
            return damaged
        return self._too_large(pixels) or damaged

    def _too_large(self, pixels: int) -> str:
        if pixels <= self._max_pixels:
            return ""
        limit = f"{self._max_pixels / 1e6:g}"
        return f"{pixels / 1e6:.4g} megapixels, over the limit of {limit}"


@functools.lru_cache(maxsize=4)
def _examiner(image_input: ImageInput) -> _Examiner:
    """The examiner for these settings; tracing its decoder takes a while."""
    return _Examiner(image_input)


def _reported(findings: Iterable[_Finding], count: int) -> Iterator[_Finding]:
    """Passes findings on, and says every few seconds how far it is."""
    said = time.monotonic()
    for done, finding in enumerate(findings, 1):
        if time.monotonic() - said > SECONDS_BETWEEN_REPORTS:
            said = time.monotonic()
            log.info("Looked through %d of %d images.", done, count)
        yield finding


def check_bad_fraction(max_bad_fraction: float) -> None:
    """Refuses a value that cannot be a share of bad items.

    Raises:
        InputError: It is not from 0 to 1.
    """
    if not 0 <= max_bad_fraction <= 1:
        fix = "Try --max-bad-fraction 0.1."
        raise InputError("a share of bad items from 0 to 1", str(max_bad_fraction), fix)


def refuse_too_many_bad(
    bad: list[Skipped], total: int, max_bad_fraction: float, noun: str = "image"
) -> None:
    """Logs which items are bad, and refuses too many of them.

    Args:
        bad: The bad ones.
        total: How many items there are, the bad ones included.
        max_bad_fraction: The share of bad ones above which this raises, in [0, 1].
        noun: What the items are.

    Raises:
        InputError: Too many are bad, or all.
    """
    named = first_few([f"{skip.id!r} ({skip.reason})" for skip in bad], WARNED_OF)
    if bad:
        verb = "is" if len(bad) == 1 else "are"
        log.warning("%d of %d %ss %s bad and left out: %s.", len(bad), total, noun, verb, named)
    if len(bad) == total:
        received = f"{total} bad ones: {named}" if bad else f"no {noun}s"
        raise InputError(f"at least one readable {noun}", received, "Check the data.")
    if len(bad) > max_bad_fraction * total:
        raise InputError(
            f"at most {max_bad_fraction:.0%} bad {noun}s",
            f"{len(bad)} of {total}: {named}",
            "Repair or remove them, or raise --max-bad-fraction.",
        )
