"""Reads numbers out of image files' headers, as graph operations.

Positions may lie anywhere, even behind the end of the file: what is not there reads as zero, so
that a truncated or malformed header never raises an error here.
"""

import tensorflow as tf

KINDS = ("JPEG", "PNG", "GIF", "BMP", "WebP")
UNKNOWN = len(KINDS)


def text(contents: tf.Tensor, start: tf.Tensor | int, length: int) -> tf.Tensor:
    """Returns up to `length` bytes from `start` on, as a scalar string."""
    end = tf.strings.length(contents)
    position = tf.clip_by_value(tf.cast(start, tf.int64), 0, tf.cast(end, tf.int64))
    return tf.strings.substr(contents, position, tf.constant(length, tf.int64))


def raw(contents: tf.Tensor, start: tf.Tensor | int, length: int) -> tf.Tensor:
    """Returns `length` bytes from `start` on, as int64 `[length]`."""
    found = text(contents, start, length)
    return tf.cast(tf.io.decode_raw(found, tf.uint8, fixed_length=length), tf.int64)


def number(
    contents: tf.Tensor, start: tf.Tensor | int, length: int, little: tf.Tensor | bool
) -> tf.Tensor:
    """Returns an unsigned number of `length` bytes (at most 7), as a scalar int64.

    Args:
        contents: The file, a scalar string.
        start: Where the number starts.
        length: How many bytes it has.
        little: Whether its lowest byte comes first.
    """
    weights = tf.constant([256**i for i in range(length)], tf.int64)
    weights = tf.where(little, weights, tf.reverse(weights, [0]))
    return tf.reduce_sum(raw(contents, start, length) * weights)


def kind(contents: tf.Tensor) -> tf.Tensor:
    """Tells what a file is by its first bytes, whatever its name.

    Args:
        contents: The file, a scalar string.

    Returns:
        A scalar int32: the place in `KINDS`, or `UNKNOWN`.
    """
    is_webp = (text(contents, 0, 4) == b"RIFF") & (text(contents, 8, 4) == b"WEBP")
    is_kind = tf.stack(
        [
            text(contents, 0, 3) == b"\xff\xd8\xff",
            text(contents, 0, 8) == b"\x89PNG\r\n\x1a\n",
            text(contents, 0, 4) == b"GIF8",
            text(contents, 0, 2) == b"BM",
            is_webp,
            True,
        ]
    )
    return tf.argmax(is_kind, output_type=tf.int32)


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
    counters = (_jpeg_pixels, _png_pixels, _gif_pixels, _bmp_pixels, _webp_pixels)
    return tf.switch_case(image_kind, [lambda f=count: f(contents) for count in counters])


def _jpeg_pixels(contents: tf.Tensor) -> tf.Tensor:
    shape = tf.io.extract_jpeg_shape(contents, output_type=tf.int32)
    return tf.reduce_prod(tf.cast(shape[:2], tf.int64))


def _area(height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """Multiplies sides of up to 32 bits without overflow: more than 31 bits are too many."""
    return tf.minimum(height, 2**31) * tf.minimum(width, 2**31)


def _png_pixels(contents: tf.Tensor) -> tf.Tensor:
    return _area(number(contents, 20, 4, little=False), number(contents, 16, 4, little=False))


def _gif_pixels(contents: tf.Tensor) -> tf.Tensor:
    return _area(number(contents, 8, 2, little=True), number(contents, 6, 2, little=True))


def _bmp_pixels(contents: tf.Tensor) -> tf.Tensor:
    height = number(contents, 22, 4, little=True)
    # A negative height, in two's complement, means rows from the top down.
    height = tf.minimum(height, 2**32 - height)
    return _area(height, number(contents, 18, 4, little=True))


def _webp_pixels(contents: tf.Tensor) -> tf.Tensor:
    """Sizes by the first chunk: https://developers.google.com/speed/webp/docs/riff_container."""
    chunk = text(contents, 12, 4)
    lossy = (number(contents, 26, 2, True) % 2**14) * (number(contents, 28, 2, True) % 2**14)
    packed = number(contents, 21, 4, True)
    lossless = (packed % 2**14 + 1) * (packed // 2**14 % 2**14 + 1)
    extended = (number(contents, 24, 3, True) + 1) * (number(contents, 27, 3, True) + 1)
    return tf.where(chunk == b"VP8X", extended, tf.where(chunk == b"VP8L", lossless, lossy))
