"""Reads numbers out of image files' headers, as graph operations.

Positions may lie anywhere, even behind the end of the file: what is not there reads as zero, so
that a truncated or malformed header never raises an error here. Every operation costs time in each
new pass over data, so many numbers are read at once.
"""

from typing import Literal

import numpy as np
import tensorflow as tf

# What each kind starts with; None stands for any byte.
_SIGNATURES: dict[str, tuple[int | None, ...]] = {
    "JPEG": (*b"\xff\xd8\xff",),
    "PNG": (*b"\x89PNG\r\n\x1a\n",),
    "GIF": (*b"GIF8",),
    "BMP": (*b"BM",),
    "WebP": (*b"RIFF", None, None, None, None, *b"WEBP"),
}
KINDS = tuple(_SIGNATURES)
UNKNOWN = len(KINDS)

# Where a number starts, how many bytes (at most 7) it has, and in which order.
Field = tuple[int, int, Literal["little", "big"]]


def text(contents: tf.Tensor, start: tf.Tensor, length: int) -> tf.Tensor:
    """Returns up to `length` bytes from `start` (int64, at least 0) on, as a scalar string."""
    end = tf.cast(tf.strings.length(contents), tf.int64)
    return tf.strings.substr(contents, tf.minimum(start, end), tf.constant(length, tf.int64))


def raw(contents: tf.Tensor, start: tf.Tensor, length: int) -> tf.Tensor:
    """Returns `length` bytes from `start` (int64, at least 0) on, as int64 `[length]`."""
    found = text(contents, start, length)
    return tf.cast(tf.io.decode_raw(found, tf.uint8, fixed_length=length), tf.int64)


def numbers(contents: tf.Tensor, *fields: Field, start: tf.Tensor | None = None) -> list[tf.Tensor]:
    """Returns several unsigned numbers, as scalar int64.

    Args:
        contents: The file, a scalar string.
        *fields: Where the numbers are.
        start: Where the fields' positions are counted from, int64, at least 0; None is the file's
            start.
    """
    part = contents
    length = max(at + count for at, count, _ in fields)
    if start is not None:
        part = text(contents, start, length)
    values = tf.io.decode_raw(part, tf.uint8, fixed_length=length)
    weights = np.zeros((len(fields), length), np.int64)
    for row, (at, count, order) in zip(weights, fields, strict=True):
        powers = 256 ** np.arange(count)
        row[at : at + count] = powers if order == "little" else powers[::-1]
    return tf.unstack(tf.reduce_sum(tf.cast(values, tf.int64) * weights, axis=1))


def kind(contents: tf.Tensor) -> tf.Tensor:
    """Tells what a file is by its first bytes, whatever its name.

    Args:
        contents: The file, a scalar string.

    Returns:
        A scalar int32: the place in `KINDS`, or `UNKNOWN`.
    """
    length = max(len(signature) for signature in _SIGNATURES.values())
    # The last row fits any file.
    rows = [[*bytes_, *[None] * (length - len(bytes_))] for bytes_ in (*_SIGNATURES.values(), ())]
    is_any = np.array([[byte is None for byte in row] for row in rows])
    expected = np.array([[byte or 0 for byte in row] for row in rows], np.uint8)
    found = tf.io.decode_raw(contents, tf.uint8, fixed_length=length)
    fits = tf.reduce_all((found == expected) | is_any, axis=1)
    return tf.argmax(fits, output_type=tf.int32)


def pixel_count(contents: tf.Tensor, image_kind: tf.Tensor) -> tf.Tensor:
    """Returns height times width as the header gives them, without decoding.

    Args:
        contents: A file of one of the five kinds, a scalar string.
        image_kind: What `kind` said.

    Returns:
        A scalar int64.

    Raises:
        tf.errors.InvalidArgumentError: A JPEG's header is corrupt.
    """
    return tf.switch_case(image_kind, [lambda f=count: f(contents) for count in PIXEL_COUNTERS])


def _jpeg_pixels(contents: tf.Tensor) -> tf.Tensor:
    shape = tf.io.extract_jpeg_shape(contents, output_type=tf.int32)
    return tf.reduce_prod(tf.cast(shape[:2], tf.int64))


def jpeg_scans(contents: tf.Tensor) -> tf.Tensor:
    """Counts the scans of a JPEG, including those of thumbnails and of data behind the image.

    Args:
        contents: The file, a scalar string.

    Returns:
        A scalar int64.
    """
    values = tf.io.decode_raw(contents, tf.uint8)
    # The scan marker, and a length that fits the number of components after it.
    starts = (values[:-4] == 0xFF) & (values[1:-3] == 0xDA) & (values[2:-2] == 0)
    return tf.math.count_nonzero(starts & (values[3:-1] == 6 + 2 * values[4:]))


def _area(height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """Multiplies sides of up to 32 bits, capped at 2**31 so that nothing overflows."""
    return tf.minimum(height, 2**31) * tf.minimum(width, 2**31)


def _png_pixels(contents: tf.Tensor) -> tf.Tensor:
    return _area(*numbers(contents, (20, 4, "big"), (16, 4, "big")))


def _gif_pixels(contents: tf.Tensor) -> tf.Tensor:
    return tf.multiply(*numbers(contents, (8, 2, "little"), (6, 2, "little")))


def _bmp_pixels(contents: tf.Tensor) -> tf.Tensor:
    height, width = numbers(contents, (22, 4, "little"), (18, 4, "little"))
    # A negative height, in two's complement, means rows from the top down.
    return _area(tf.minimum(height, 2**32 - height), width)


def _webp_pixels(contents: tf.Tensor) -> tf.Tensor:
    """Sizes by the first chunk: https://developers.google.com/speed/webp/docs/riff_container."""
    chunk, packed, *sides = numbers(
        contents,
        (12, 4, "little"),
        (21, 4, "little"),
        *((at, 2, "little") for at in (26, 28)),
        *((at, 3, "little") for at in (24, 27)),
    )
    lossy = (sides[0] % 2**14) * (sides[1] % 2**14)
    lossless = (packed % 2**14 + 1) * (packed // 2**14 % 2**14 + 1)
    extended = (sides[2] + 1) * (sides[3] + 1)
    otherwise = tf.where(chunk == int.from_bytes(b"VP8L", "little"), lossless, lossy)
    return tf.where(chunk == VP8X, extended, otherwise)


# The first chunk of an extended WebP, which has further chunks.
VP8X = int.from_bytes(b"VP8X", "little")
# In the order of `KINDS`.
PIXEL_COUNTERS = (_jpeg_pixels, _png_pixels, _gif_pixels, _bmp_pixels, _webp_pixels)
