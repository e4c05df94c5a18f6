"""Encoded images to the pixels a model is fed: the one decoder of training, prediction and export.

Everything here is graph operations: it runs in eager code, in `tf.data` and inside a SavedModel.
"""

from collections.abc import Callable

import tensorflow as tf

from keras_tl.data import gif, image_headers
from keras_tl.data.exif import orient, orientation
from keras_tl.data.image_headers import KINDS, UNKNOWN, number, raw, text
from keras_tl.data.image_input import DECODER_VERSION, RESIZE_MODES, ImageInput

__all__ = ["DECODER_VERSION", "RESIZE_MODES", "ImageInput", "decode", "fit_to_input"]

BACKGROUND = 255
# Wider than this, an image is turned before it is resized.
MAX_ASPECT = 8


@tf.autograph.experimental.do_not_convert
def decode(contents: tf.Tensor, image_input: ImageInput) -> tf.Tensor:
    """Decodes an image file, turns it upright and brings it to the model's size.

    The kind is told by content, not by name. Grey becomes RGB; transparency is put on white;
    16-bit samples keep their upper byte; CMYK is converted without a colour profile; of a GIF the
    first frame is taken. EXIF orientation is honoured in JPEG, PNG and WebP. JPEG decoding is
    bit-exact with PIL's (CMYK: within 1). Of BMP, the uncompressed kinds with 8, 24 and 32 bits
    are read; animated WebP is refused, since TensorFlow 2.21 writes outside its memory on some.

    Args:
        contents: The file, a scalar string.
        image_input: Size and way of resizing.

    Returns:
        uint8 `[size, size, 3]`, RGB, 0..255.

    Raises:
        tf.errors.InvalidArgumentError: The file is corrupt, of an unknown kind, or has more than
            `image_input.max_pixels` pixels by its header (checked before pixels are allocated; of
            a GIF the file's header is checked, not each frame's).
    """
    contents = tf.convert_to_tensor(contents)
    image_kind = image_headers.kind(contents)
    with _checked(image_kind != UNKNOWN, f"not a {', '.join(KINDS[:-1])} or {KINDS[-1]} image"):
        pixels = image_headers.pixel_count(contents, image_kind)
    limit = image_input.max_pixels
    with _checked(pixels <= limit, f"more than {limit} pixels, as the header says"):
        image = tf.switch_case(image_kind, [lambda f=read: f(contents) for read in _READERS])
    image = orient(_to_rgb(image), orientation(contents, image_kind))
    return _resize(image, image_input)


@tf.autograph.experimental.do_not_convert
def fit_to_input(pixels: tf.Tensor, image_input: ImageInput) -> tf.Tensor:
    """Brings decoded pixels to the model's size, as `decode` does with a file's.

    Args:
        pixels: uint8 `[height, width, channels]`: grey (1), grey with transparency (2), RGB (3)
            or RGBA (4), 0..255.
        image_input: Size and way of resizing.

    Returns:
        uint8 `[size, size, 3]`, RGB, 0..255.
    """
    return _resize(_to_rgb(tf.convert_to_tensor(pixels)), image_input)


def _checked(condition: tf.Tensor, message: str) -> "tf.control_dependencies":
    """A context whose operations run only once `condition` was found true."""
    return tf.control_dependencies([tf.debugging.Assert(condition, [message])])


def _read_jpeg(contents: tf.Tensor) -> tf.Tensor:
    return tf.io.decode_jpeg(contents, channels=3, dct_method="INTEGER_ACCURATE")


def _read_png(contents: tf.Tensor) -> tf.Tensor:
    return tf.io.decode_png(contents)


def _read_gif(contents: tf.Tensor) -> tf.Tensor:
    opaque = gif.white_where_transparent(contents)
    return tf.io.decode_image(opaque, channels=3, expand_animations=False)


def _read_bmp(contents: tf.Tensor) -> tf.Tensor:
    """Reads a BMP; TensorFlow's decoder takes palette indices for grey and RLE for pixels."""
    header_length = number(contents, 14, 4, little=True)
    compression = number(contents, 30, 4, little=True)
    is_plain = (compression == 0) | (
        # 3: the channels' places are given; what follows says blue, green, red.
        (compression == 3) & (text(contents, 54, 12) == b"\0\0\xff\0\0\xff\0\0\xff\0\0\0")
    )
    is_readable = is_plain & (header_length >= 40)
    with _checked(is_readable, "a BMP other than uncompressed with 8, 24 or 32 bits"):
        has_palette = number(contents, 28, 2, little=True) == 8
    return tf.cond(
        has_palette,
        lambda: _with_palette(contents, 14 + header_length),
        # The fourth byte of 32 bits is transparency to few writers, and 0 to many.
        lambda: tf.io.decode_bmp(contents, channels=3),
    )


def _with_palette(contents: tf.Tensor, palette_at: tf.Tensor) -> tf.Tensor:
    """Looks the indices of an 8-bit BMP up in its palette of blue, green, red, nothing."""
    indices = tf.io.decode_bmp(contents)[..., 0]
    palette = tf.reshape(raw(contents, palette_at, 4 * 256), (256, 4))
    colours = tf.cast(palette[:, 2::-1], tf.uint8)
    return tf.gather(colours, tf.cast(indices, tf.int32))


def _read_webp(contents: tf.Tensor) -> tf.Tensor:
    flags = number(contents, 20, 1, little=True)
    is_animated = (text(contents, 12, 4) == b"VP8X") & (tf.bitwise.bitwise_and(flags, 2) > 0)
    with _checked(~is_animated, "an animated WebP"):
        contents = tf.identity(contents)
    return tf.io.decode_image(contents, expand_animations=False)


_READERS: tuple[Callable[[tf.Tensor], tf.Tensor], ...] = (
    _read_jpeg,
    _read_png,
    _read_gif,
    _read_bmp,
    _read_webp,
)


def _to_rgb(image: tf.Tensor) -> tf.Tensor:
    """Makes RGB of grey (1 channel), grey and alpha (2), RGB (3) or RGBA (4)."""
    last_is_alpha = tf.shape(image)[2] % 2 == 0
    image = tf.cond(last_is_alpha, lambda: _on_white(image), lambda: image)
    is_grey = tf.shape(image)[2] == 1
    image = tf.cond(is_grey, lambda: tf.repeat(image, 3, axis=2), lambda: image)
    return tf.ensure_shape(image, (None, None, 3))


def _on_white(image: tf.Tensor) -> tf.Tensor:
    """Blends with white by the last channel, rounding to nearest; 65,152 at most fits 16 bits."""
    colours = tf.cast(image[..., :-1], tf.uint16)
    alpha = tf.cast(image[..., -1:], tf.uint16)
    blended = colours * alpha + BACKGROUND * (255 - alpha)
    return tf.cast((blended + 127) // 255, tf.uint8)


def _resize(image: tf.Tensor, image_input: ImageInput) -> tf.Tensor:
    """Crops, resizes and pads uint8 `[height, width, 3]`; halves round to even."""
    shape = tf.shape(image)
    # Resizing makes rows of the final height and the original width in between: for a strip of
    # one row and millions of columns that is more memory than there is, turned it is not.
    is_wide = shape[1] > MAX_ASPECT * shape[0]
    image = tf.cond(is_wide, lambda: tf.transpose(image, (1, 0, 2)), lambda: image)
    resized = _RESIZERS[image_input.resize](image, image_input.size, image_input.antialias)
    pixels = tf.saturate_cast(tf.round(resized), tf.uint8)
    pixels = tf.cond(is_wide, lambda: tf.transpose(pixels, (1, 0, 2)), lambda: pixels)
    return tf.ensure_shape(pixels, (image_input.size, image_input.size, 3))


def _squash(image: tf.Tensor, size: int, antialias: bool) -> tf.Tensor:
    return tf.cast(tf.image.resize(image, (size, size), antialias=antialias), tf.float32)


def _crop(image: tf.Tensor, size: int, antialias: bool) -> tf.Tensor:
    shape = tf.shape(image)
    return _squash(_centre(image, tf.minimum(shape[0], shape[1])), size, antialias)


def _shorter_crop(image: tf.Tensor, size: int, antialias: bool) -> tf.Tensor:
    """Crops first, so that a long strip is never enlarged as a whole."""
    shape = tf.shape(image)
    side = (7 * tf.minimum(shape[0], shape[1]) + 4) // 8
    return _squash(_centre(image, side), size, antialias)


def _centre(image: tf.Tensor, side: tf.Tensor) -> tf.Tensor:
    top, left = tf.unstack((tf.shape(image)[:2] - side) // 2)
    return image[top : top + side, left : left + side]


def _pad(image: tf.Tensor, size: int, antialias: bool) -> tf.Tensor:
    """Fits the whole picture and centres it on white."""
    shape = tf.cast(tf.shape(image)[:2], tf.float64)
    fitted = tf.cast(tf.round(shape * size / tf.reduce_max(shape)), tf.int32)
    fitted = tf.maximum(fitted, 1)
    resized = tf.cast(tf.image.resize(image, fitted, antialias=antialias), tf.float32)
    before = (size - fitted) // 2
    margins = tf.stack([before, size - fitted - before], axis=1)
    return tf.pad(resized, tf.pad(margins, ((0, 1), (0, 0))), constant_values=BACKGROUND)


_RESIZERS = {"squash": _squash, "crop": _crop, "pad": _pad, "shorter-crop": _shorter_crop}
