"""EXIF orientation: how a camera was held, read and undone as graph operations.

Reference: CIPA DC-008, "Exchangeable image file format for digital still cameras: Exif".
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from keras_tl.data.image_headers import Field, numbers, raw, text

# From the start of a part of a file to: whether to search on, where the next part starts, and where
# EXIF's TIFF header starts (0 if it is not in this part).
Look = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor, tf.Tensor]]

ORIENTATION_TAG = 0x0112
SHORT, LONG = 3, 4
PREFIX = int.from_bytes(b"Exif\0\0", "big")
# Bounds for files made to keep a reader busy; photographs stay far below.
MAX_SEGMENTS = 256
MAX_ENTRIES = 256
# By orientation, 1 to 8: whether rows, columns and channels are reversed (5 to 8: once transposed).
_FLIPS = np.array([(0, 0, 0), (0, 1, 0), (1, 1, 0), (1, 0, 0)] * 2, np.bool_)


def orientation(contents: tf.Tensor, image_kind: tf.Tensor) -> tf.Tensor:
    """Reads the EXIF orientation of a JPEG (APP1), PNG (eXIf) or WebP (EXIF chunk).

    Malformed or missing EXIF means 1. XMP, which may hold an orientation too, is not read.

    Args:
        contents: The file, a scalar string.
        image_kind: What `image_headers.kind` said, a scalar int32.

    Returns:
        A scalar int32 in 1..8.
    """
    # In the order of the kinds: JPEG, PNG, GIF, BMP, WebP.
    finders = (_exif_in_jpeg, _exif_in_png, _no_exif, _no_exif, _exif_in_webp)
    start = tf.switch_case(image_kind, [lambda f=find: f(contents) for find in finders])
    upright = tf.constant(1, tf.int32)
    return tf.cond(start > 0, lambda: _orientation_in_tiff(contents, start), lambda: upright)


def orient(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Shows a stored image the way up that its EXIF orientation asks for.

    The eight orientations are the eight symmetries of the square.

    Args:
        image: `[height, width, channels]`, as stored.
        orientation: A scalar int32 in 1..8.

    Returns:
        The image; height and width are exchanged for 5 to 8.
    """

    def turn() -> tf.Tensor:
        axes = tf.where(orientation > 4, (1, 0, 2), (0, 1, 2))
        return tf.raw_ops.Reverse(tensor=tf.transpose(image, axes), dims=flips(orientation))

    return tf.cond(orientation == 1, lambda: image, turn)


def flips(orientation: tf.Tensor) -> tf.Tensor:
    """Which axes `orient` reverses, after it exchanged height and width: bool `[3]`."""
    return tf.gather(_FLIPS, orientation - 1)


def _no_exif(contents: tf.Tensor) -> tf.Tensor:
    return tf.constant(0, tf.int64)


def _exif_in_jpeg(contents: tf.Tensor) -> tf.Tensor:
    """Where the TIFF header of a JPEG's EXIF starts, 0 where there is none."""

    def look(at: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        fields: tuple[Field, ...] = ((0, 2, "big"), (2, 2, "big"), (4, 6, "big"))
        marker, length, prefix = numbers(contents, *fields, start=at)
        is_exif = (marker == 0xFFE1) & (prefix == PREFIX)
        # The pixels follow the start-of-scan marker.
        is_segment = (marker > 0xFF00) & (marker != 0xFFDA) & (marker != 0xFFD9)
        # Any number of bytes 0xFF may come before a marker.
        step = tf.where(marker == 0xFFFF, tf.constant(1, tf.int64), 2 + length)
        return is_segment & ~is_exif, at + step, tf.where(is_exif, at + 10, 0)

    return _search(look, start=2)


def _exif_in_png(contents: tf.Tensor) -> tf.Tensor:
    """Where the TIFF header of a PNG's eXIf chunk (before the pixels) starts, or 0."""

    def look(at: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        length, name = numbers(contents, (0, 4, "big"), (4, 4, "big"), start=at)
        is_exif = name == int.from_bytes(b"eXIf", "big")
        # Past the end of the file a name reads as 0.
        search_on = (name > 0) & (name != int.from_bytes(b"IDAT", "big")) & ~is_exif
        return search_on, at + 12 + length, tf.where(is_exif, at + 8, 0)

    return _search(look, start=8)


def _exif_in_webp(contents: tf.Tensor) -> tf.Tensor:
    """Where the TIFF header of a WebP's EXIF chunk starts, or 0."""
    end = tf.cast(tf.strings.length(contents), tf.int64)

    def look(at: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        fields: tuple[Field, ...] = ((0, 4, "big"), (4, 4, "little"), (8, 6, "big"))
        name, length, prefix = numbers(contents, *fields, start=at)
        is_exif = name == int.from_bytes(b"EXIF", "big")
        # Some writers keep the prefix that EXIF has in a JPEG.
        start = at + tf.where(prefix == PREFIX, tf.constant(14, tf.int64), 8)
        search_on = (at + 8 <= end) & ~is_exif
        return search_on, at + 8 + length + length % 2, tf.where(is_exif, start, 0)

    return _search(look, start=12)


def _search(look: Look, start: int) -> tf.Tensor:
    """Walks from one part of a file to the next; returns where the TIFF header starts, or 0."""
    state = (tf.constant(True), tf.constant(start, tf.int64), tf.constant(0, tf.int64))
    *_, found = tf.while_loop(
        lambda search_on, at, found: search_on,
        lambda search_on, at, found: look(at),
        state,
        maximum_iterations=MAX_SEGMENTS + 1,
    )
    return found


def _orientation_in_tiff(contents: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
    """Reads tag 0x0112 of the first directory; 1 where anything is not as it should be."""
    byte_order = text(contents, start, 4)
    little = byte_order == b"II*\0"

    def joined(values: tf.Tensor) -> tf.Tensor:
        powers = 256 ** np.arange(values.shape[-1])
        return tf.reduce_sum(values * tf.where(little, powers, powers[::-1]), axis=-1)

    offset = joined(raw(contents, start + 4, 4))
    words = raw(contents, start + offset, 2 * (1 + 6 * MAX_ENTRIES))
    directory = joined(tf.reshape(words, (-1, 2)))
    # A tag, a type, a count of two words, a value of two.
    entries = tf.reshape(directory[1:], (MAX_ENTRIES, 6))
    is_entry = tf.range(MAX_ENTRIES, dtype=tf.int64) < directory[0]
    tag, kind, _, _, first, second = tf.unstack(entries, axis=1)
    # A long number may have its lower word first or last; beyond 65,535 it is no orientation.
    low = tf.where((kind == SHORT) | little, first, first * 2**16 + second)
    fits = (kind == SHORT) | ((kind == LONG) & (~little | (second == 0)))
    value = tf.reduce_max(tf.where(is_entry & (tag == ORIENTATION_TAG) & fits, low, 0))
    is_valid = (little | (byte_order == b"MM\0*")) & (value >= 1) & (value <= 8)
    return tf.cast(tf.where(is_valid, value, 1), tf.int32)
