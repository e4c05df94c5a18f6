"""EXIF orientation: how a camera was held, read and undone as graph operations.

Reference: CIPA DC-008, "Exchangeable image file format for digital still cameras: Exif".
"""

from collections.abc import Callable

import tensorflow as tf

from keras_tl.data.image_headers import number, raw, text

Step = Callable[[tf.Tensor], tf.Tensor]

ORIENTATION_TAG = 0x0112
SHORT = 3
# Bounds for files made to keep a reader busy; photographs stay far below.
MAX_SEGMENTS = 256
MAX_ENTRIES = 256


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

    def any_of(*orientations: int) -> tf.Tensor:
        return tf.reduce_any(orientation == tf.constant(orientations))

    def transpose(image: tf.Tensor) -> tf.Tensor:
        return tf.transpose(image, (1, 0, 2))

    def turn() -> tf.Tensor:
        turned = tf.cond(any_of(5, 6, 7, 8), lambda: transpose(image), lambda: image)
        flips = tf.stack([any_of(3, 4, 7, 8), any_of(2, 3, 6, 7), False])
        return tf.raw_ops.Reverse(tensor=turned, dims=flips)

    return tf.cond(orientation == 1, lambda: image, turn)


def _no_exif(contents: tf.Tensor) -> tf.Tensor:
    return tf.constant(0, tf.int64)


def _exif_in_jpeg(contents: tf.Tensor) -> tf.Tensor:
    """Where the TIFF header of a JPEG's EXIF starts, 0 where there is none."""

    def is_exif(at: tf.Tensor) -> tf.Tensor:
        is_app1 = text(contents, at, 2) == b"\xff\xe1"
        return is_app1 & (text(contents, at + 4, 6) == b"Exif\0\0")

    def search_on(at: tf.Tensor) -> tf.Tensor:
        marker = number(contents, at, 2, little=False)
        # The pixels follow the start-of-scan marker.
        is_segment = (marker > 0xFF00) & (marker != 0xFFDA) & (marker != 0xFFD9)
        return is_segment & ~is_exif(at)

    def skip(at: tf.Tensor) -> tf.Tensor:
        return at + 2 + number(contents, at + 2, 2, little=False)

    found = _search(search_on, skip, start=2)
    return tf.where(is_exif(found), found + 10, 0)


def _exif_in_png(contents: tf.Tensor) -> tf.Tensor:
    """Where the TIFF header of a PNG's eXIf chunk (before the pixels) starts, or 0."""

    def search_on(at: tf.Tensor) -> tf.Tensor:
        chunk = text(contents, at + 4, 4)
        return (tf.strings.length(chunk) == 4) & (chunk != b"eXIf") & (chunk != b"IDAT")

    def skip(at: tf.Tensor) -> tf.Tensor:
        return at + 12 + number(contents, at, 4, little=False)

    found = _search(search_on, skip, start=8)
    return tf.where(text(contents, found + 4, 4) == b"eXIf", found + 8, 0)


def _exif_in_webp(contents: tf.Tensor) -> tf.Tensor:
    """Where the TIFF header of a WebP's EXIF chunk starts, or 0."""

    def search_on(at: tf.Tensor) -> tf.Tensor:
        chunk = text(contents, at, 4)
        return (tf.strings.length(chunk) == 4) & (chunk != b"EXIF")

    def skip(at: tf.Tensor) -> tf.Tensor:
        length = number(contents, at + 4, 4, little=True)
        return at + 8 + length + length % 2

    found = _search(search_on, skip, start=12)
    # Some writers keep the prefix that EXIF has in a JPEG.
    prefix = tf.where(text(contents, found + 8, 6) == b"Exif\0\0", tf.constant(6, tf.int64), 0)
    return tf.where(text(contents, found, 4) == b"EXIF", found + 8 + prefix, 0)


def _search(search_on: Step, skip: Step, start: int) -> tf.Tensor:
    """Walks from one part of a file to the next while `search_on` holds."""
    (found,) = tf.while_loop(
        search_on,
        lambda at: (skip(at),),
        (tf.constant(start, tf.int64),),
        maximum_iterations=MAX_SEGMENTS,
    )
    return found


def _orientation_in_tiff(contents: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
    """Reads tag 0x0112 of the first directory; 1 where anything is not as it should be."""
    byte_order = text(contents, start, 4)
    little = byte_order == b"II*\0"
    directory = start + number(contents, start + 4, 4, little)
    count = number(contents, directory, 2, little)
    entries = tf.reshape(raw(contents, directory + 2, 12 * MAX_ENTRIES), (MAX_ENTRIES, 12))
    weights = tf.where(little, tf.constant((1, 256), tf.int64), tf.constant((256, 1), tf.int64))

    def column(at: int) -> tf.Tensor:
        return tf.reduce_sum(entries[:, at : at + 2] * weights, axis=1)

    is_entry = tf.range(MAX_ENTRIES, dtype=tf.int64) < count
    is_orientation = is_entry & (column(0) == ORIENTATION_TAG) & (column(2) == SHORT)
    value = tf.reduce_max(tf.where(is_orientation, column(8), 0))
    is_valid = (little | (byte_order == b"MM\0*")) & (value >= 1) & (value <= 8)
    return tf.cast(tf.where(is_valid, value, 1), tf.int32)
