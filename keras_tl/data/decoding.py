"""Encoded images to the pixels a model is fed: the one decoder of training, prediction and export.

Everything here is graph operations: it runs in eager code, in `tf.data` and inside a SavedModel.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from keras_tl.data import gif, image_headers
from keras_tl.data.exif import flips, orient, orientation
from keras_tl.data.image_headers import KINDS, PIXEL_COUNTERS, UNKNOWN, VP8X, numbers, raw, text
from keras_tl.data.image_input import DECODER_VERSION, RESIZE_MODES, ImageInput
from keras_tl.data.threads import a_few_at_a_time

__all__ = ["DECODER_VERSION", "RESIZE_MODES", "ImageInput", "check", "decode", "fit_to_input"]

BACKGROUND = 255
# Wider than this, an image is resized along its rows first.
MAX_ASPECT = 8
# Bytes of a file below which it is searched as a whole.
SMALL_FILE = 2**17
# Most scans of a progressive JPEG, each of which goes over all pixels; a dozen are usual.
MAX_SCANS = 100
# Matches files with more scans, and perhaps others: RE2 can only match bytes below 128 by value.
_MANY_SCANS = rf"(?:\C*\x00(?:\x08\x01|\x0a\x02|\x0c\x03|\x0e\x04)){{{MAX_SCANS + 1}}}\C*"
# Pixels above which an image waits for its turn, by kind, the unknown kind last; a JPEG may have
# more, as it is mostly decoded at a fraction of its size.
LARGE = (50_000_000, *[25_000_000] * (len(KINDS) - 1), 0)
# What a JPEG's sides can be divided by while it is decoded.
JPEG_RATIOS = (1, 2, 4, 8)


class _Picture(NamedTuple):
    """Decoded pixels, and where the picture is in them, counted in pixels of its full size."""

    pixels: tf.Tensor  # uint8 [height, width, channels]
    ratio: tf.Tensor  # int32: how many full-size pixels one of them is wide
    sides: tf.Tensor  # int32 [2]: height and width of the picture
    start: tf.Tensor  # int32 [2]: what lies above it and to the left of it


@tf.autograph.experimental.do_not_convert
def decode(contents: tf.Tensor, image_input: ImageInput, in_turn: bool = False) -> tf.Tensor:
    """Decodes an image file, turns it upright and brings it to the model's size.

    The kind is told by content, not by name. Grey becomes RGB; transparency is put on white;
    16-bit samples keep their upper byte; CMYK is converted without a colour profile; of a GIF the
    first frame is taken. EXIF orientation is honoured in JPEG, PNG and WebP. JPEG decoding is
    bit-exact with PIL's (CMYK: within 1). A JPEG that would shrink to a quarter or less is decoded
    at a half, a quarter or an eighth, while that leaves at least twice the model's size (not so
    without `antialias`). Of BMP, the uncompressed kinds with 8, 24 and 32 bits are read; animated
    WebP is refused, since TensorFlow 2.21 writes outside its memory on some.

    Args:
        contents: The file, a scalar string.
        image_input: Size and way of resizing.
        in_turn: Where many are decoded at once, decode those of more than `LARGE` pixels a few
            at a time: each takes hundreds of megabytes.

    Returns:
        uint8 `[size, size, 3]`, RGB, 0..255.

    Raises:
        tf.errors.InvalidArgumentError: The file is corrupt, of an unknown kind, or has more than
            `image_input.max_pixels` pixels by its header, or more than `MAX_SCANS` scans (checked
            before pixels are allocated).
    """
    contents = tf.convert_to_tensor(contents)

    def plain_jpeg() -> tf.Tensor:
        with _checked_size(PIXEL_COUNTERS[0](contents), image_input):
            return _resize(_read_jpeg(contents, image_input), image_input)

    any_image = _in_turn if in_turn else _any_image
    return tf.cond(_is_plain_jpeg(contents), plain_jpeg, lambda: any_image(image_input)(contents))


@tf.autograph.experimental.do_not_convert
def check(contents: tf.Tensor, image_input: ImageInput) -> tf.Tensor:
    """Raises what `decode` raises, for less work: nothing is resized, a JPEG decoded at an eighth.

    All of a JPEG's coefficients are read at any scale, so that a truncated file is found.

    Args:
        contents: The file, a scalar string.
        image_input: See `decode`.

    Returns:
        How many values were decoded, a scalar int32.

    Raises:
        tf.errors.InvalidArgumentError: See `decode`.
    """
    contents = tf.convert_to_tensor(contents)
    picture, _ = _read(contents, image_input, lambda: _decode_jpeg(contents, JPEG_RATIOS[-1]))
    return tf.size(picture.pixels)


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
    return _resize(_whole(_to_rgb(tf.convert_to_tensor(pixels))), image_input)


def _checked(condition: tf.Tensor, message: str) -> "tf.control_dependencies":
    """A context whose operations run only once `condition` was found true."""
    # In a graph, `tf.debugging.Assert` would be a conditional of two functions.
    return tf.control_dependencies([tf.raw_ops.Assert(condition=condition, data=[message])])


def _checked_size(pixels: tf.Tensor, image_input: ImageInput) -> "tf.control_dependencies":
    limit = image_input.max_pixels
    return _checked(pixels <= limit, f"more than {limit} pixels, as the header says")


def _whole(pixels: tf.Tensor) -> _Picture:
    return _Picture(pixels, tf.constant(1), tf.shape(pixels)[:2], tf.constant((0, 0)))


def _read(
    contents: tf.Tensor, image_input: ImageInput, read_jpeg: Callable[[], _Picture]
) -> tuple[_Picture, tf.Tensor]:
    """Decodes a file that passes the checks of its header; returns its kind, too."""
    image_kind = image_headers.kind(contents)

    def read(count: Callable[[tf.Tensor], tf.Tensor], reader: Callable[[], _Picture]) -> _Picture:
        with _checked_size(count(contents), image_input):
            return reader()

    def read_checked_jpeg() -> _Picture:
        is_quick = image_headers.jpeg_scans(contents) <= MAX_SCANS
        with _checked(is_quick, f"a JPEG of more than {MAX_SCANS} scans"):
            return read_jpeg()

    others = [lambda f=read_other: _whole(f(contents)) for read_other in _OTHER_READERS]
    pairs = zip(PIXEL_COUNTERS, (read_checked_jpeg, *others), strict=True)
    with _checked(image_kind != UNKNOWN, f"not a {', '.join(KINDS[:-1])} or {KINDS[-1]} image"):
        return tf.switch_case(image_kind, [lambda p=pair: read(*p) for pair in pairs]), image_kind


@functools.lru_cache(maxsize=32)
def _any_image(image_input: ImageInput) -> Callable[[tf.Tensor], tf.Tensor]:
    """Reads a file of any kind, turns it upright and resizes it, as a graph of its own."""

    @_own_graph
    def any_image(contents: tf.Tensor) -> tf.Tensor:
        picture, image_kind = _read(
            contents, image_input, lambda: _read_jpeg(contents, image_input)
        )
        upright = _upright(picture, orientation(contents, image_kind))
        return _resize(upright, image_input)

    return any_image


@functools.lru_cache(maxsize=32)
def _in_turn(image_input: ImageInput) -> Callable[[tf.Tensor], tf.Tensor]:
    """As `_any_image`, but a large image waits for its turn."""
    read = _any_image(image_input)

    @_own_graph
    def in_turn(contents: tf.Tensor) -> tf.Tensor:
        image_kind = image_headers.kind(contents)
        pixels = image_headers.pixel_count(contents, image_kind)
        limit = tf.gather(tf.constant(LARGE, tf.int64), image_kind)
        return tf.cond(
            pixels > limit,
            lambda: a_few_at_a_time(lambda: read(contents), tf.strings.length(contents)),
            lambda: read(contents),
        )

    return in_turn


def _own_graph(function: Callable[[tf.Tensor], tf.Tensor]) -> Callable[[tf.Tensor], tf.Tensor]:
    """A graph of a file's content that is not inlined where it is called.

    Inlined, operations in a conditional's branch would cost time even if it is not taken.
    """
    return tf.function(
        function,
        input_signature=[tf.TensorSpec([], tf.string)],
        autograph=False,
        experimental_attributes={"_noinline": True},
    )


def _is_plain_jpeg(contents: tf.Tensor) -> tf.Tensor:
    """Whether it is a small JPEG of few scans without EXIF, as most are: these take a fast path.

    Searching a small file's bytes is faster than the operations that walk its segments and turn the
    picture, which together take longer than decoding it.
    """
    is_small = tf.strings.length(contents) < SMALL_FILE
    start = tf.strings.substr(contents, 0, tf.where(is_small, SMALL_FILE, 0))
    # \\C is any byte; `.` would be a character in UTF-8.
    is_special = tf.strings.regex_full_match(start, rf"\C*Exif\x00\x00\C*|{_MANY_SCANS}")
    return is_small & ~is_special & (image_headers.kind(contents) == KINDS.index("JPEG"))


def _read_jpeg(contents: tf.Tensor, image_input: ImageInput) -> _Picture:
    """Reads a JPEG at the smallest scale that leaves twice the size it is to be resized to."""
    if not image_input.antialias:
        return _decode_jpeg(contents, 1)
    sides = _jpeg_sides(contents)
    least = [2 * ratio * image_input.size for ratio in JPEG_RATIOS[1:]]
    halvings = tf.reduce_sum(tf.cast(_SIDES[image_input.resize](sides) >= least, tf.int32))
    readers = [lambda r=ratio: _jpeg_pixels(contents, r) for ratio in JPEG_RATIOS]
    pixels = tf.switch_case(halvings, readers)
    return _Picture(pixels, tf.gather(JPEG_RATIOS, halvings), sides, tf.constant((0, 0)))


def _decode_jpeg(contents: tf.Tensor, ratio: int) -> _Picture:
    pixels, sides = _jpeg_pixels(contents, ratio), _jpeg_sides(contents)
    return _Picture(pixels, tf.constant(ratio), sides, tf.constant((0, 0)))


def _jpeg_pixels(contents: tf.Tensor, ratio: int) -> tf.Tensor:
    return tf.io.decode_jpeg(contents, channels=3, ratio=ratio, dct_method="INTEGER_ACCURATE")


def _jpeg_sides(contents: tf.Tensor) -> tf.Tensor:
    return tf.io.extract_jpeg_shape(contents, output_type=tf.int32)[:2]


def _read_png(contents: tf.Tensor) -> tf.Tensor:
    # Of grey and RGB, TensorFlow leaves a transparent colour out unless asked for four channels;
    # always asked, it would make grey of less than 8 bits transparent.
    start = tf.strings.substr(contents, 0, 2**20)
    has_clear_colour = tf.strings.regex_full_match(start, r"\C*\x00\x00\x00[\x02\x06]tRNS\C*")
    readers = [functools.partial(tf.io.decode_png, contents, channels=count) for count in (4, 0)]
    return tf.cond(has_clear_colour, *readers)


def _read_gif(contents: tf.Tensor) -> tf.Tensor:
    return tf.io.decode_image(gif.first_frame(contents), channels=3, expand_animations=False)


def _read_bmp(contents: tf.Tensor) -> tf.Tensor:
    """Reads a BMP; TensorFlow's decoder takes palette indices for grey and RLE for pixels."""
    header_length, depth, compression = numbers(
        contents, (14, 4, "little"), (28, 2, "little"), (30, 4, "little")
    )
    masks = text(contents, tf.constant(54, tf.int64), 12)
    # 3: bit masks give the channels' places, here blue, green, red.
    is_plain = (compression == 0) | (
        (compression == 3) & (masks == b"\0\0\xff\0\0\xff\0\0\xff\0\0\0")
    )
    is_readable = is_plain & (header_length >= 40)
    with _checked(is_readable, "a BMP other than uncompressed with 8, 24 or 32 bits"):
        has_palette = depth == 8
    return tf.cond(
        has_palette,
        lambda: _with_palette(contents, 14 + header_length),
        # In pixels of 32 bits, few writers put transparency into the fourth byte, and many put 0.
        lambda: tf.io.decode_bmp(contents, channels=3),
    )


def _with_palette(contents: tf.Tensor, palette_at: tf.Tensor) -> tf.Tensor:
    """Looks the indices of an 8-bit BMP up in its palette of blue, green, red, nothing."""
    indices = tf.io.decode_bmp(contents)[..., 0]
    palette = tf.reshape(raw(contents, palette_at, 4 * 256), (256, 4))
    colours = tf.cast(palette[:, 2::-1], tf.uint8)
    return tf.gather(colours, tf.cast(indices, tf.int32))


def _read_webp(contents: tf.Tensor) -> tf.Tensor:
    chunk, flags = numbers(contents, (12, 4, "little"), (20, 1, "little"))
    is_animated = (chunk == VP8X) & (flags // 2 % 2 == 1)
    with _checked(~is_animated, "an animated WebP"):
        contents = tf.identity(contents)
    return tf.io.decode_image(contents, expand_animations=False)


# In the order of the kinds, behind JPEG.
_OTHER_READERS: tuple[Callable[[tf.Tensor], tf.Tensor], ...] = (
    _read_png,
    _read_gif,
    _read_bmp,
    _read_webp,
)


def _to_rgb(image: tf.Tensor) -> tf.Tensor:
    """Makes RGB of grey (1 channel), grey and alpha (2), RGB (3) or RGBA (4)."""
    last_is_alpha = tf.shape(image)[2] % 2 == 0
    image = tf.cond(last_is_alpha, lambda: _on_white(image), lambda: image)
    height, width, _ = tf.unstack(tf.shape(image))
    image = tf.broadcast_to(image, (height, width, 3))
    return tf.ensure_shape(image, (None, None, 3))


def _on_white(image: tf.Tensor) -> tf.Tensor:
    """Blends with white by the last channel, rounding to nearest; 65,152 at most fits 16 bits."""
    colours = tf.cast(image[..., :-1], tf.uint16)
    alpha = tf.cast(image[..., -1:], tf.uint16)
    blended = colours * alpha + BACKGROUND * (255 - alpha)
    return tf.cast((blended + 127) // 255, tf.uint8)


def _upright(picture: _Picture, orientation: tf.Tensor) -> _Picture:
    """Makes RGB of a picture and turns it as `orient` does."""
    pixels = orient(_to_rgb(picture.pixels), orientation)
    sides = tf.where(orientation > 4, picture.sides[::-1], picture.sides)
    # Pixels at the right and at the bottom may reach beyond the picture; a flip brings them to
    # the left and to the top.
    beyond = tf.shape(pixels)[:2] * picture.ratio - sides
    start = tf.where(flips(orientation)[:2], beyond, 0)
    return _Picture(pixels, picture.ratio, sides, start)


def _resize(picture: _Picture, image_input: ImageInput) -> tf.Tensor:
    """Crops, resizes and pads; halves round to even."""
    size = image_input.size
    cropped = _crop(picture, image_input.resize)
    fitted = tf.constant((size, size))
    if image_input.resize == "pad":
        sides = tf.cast(picture.sides, tf.float64)
        fitted = tf.cast(tf.round(sides * size / tf.reduce_max(sides)), tf.int32)
        fitted = tf.maximum(fitted, 1)
    pixels = _resample(cropped, fitted, image_input.antialias)
    if image_input.resize == "pad":
        before = (size - fitted) // 2
        margins = tf.stack([before, size - fitted - before], axis=1)
        margins = tf.pad(margins, ((0, 1), (0, 0)))
        pixels = tf.pad(pixels, margins, constant_values=tf.constant(BACKGROUND, tf.uint8))
    return tf.ensure_shape(pixels, (size, size, 3))


def _crop(picture: _Picture, resize: str) -> _Picture:
    """Leaves only the pixels of the part that is shown."""
    pixels, ratio, sides, start = picture
    if resize in ("crop", "shorter-crop"):
        side = tf.reduce_min(sides)
        if resize == "shorter-crop":
            # Cropped first, so that a long strip is never enlarged as a whole.
            side = (7 * side + 4) // 8
        start += (sides - side) // 2
        sides = tf.stack([side, side])
    begin, end = start // ratio, -(-(start + sides) // ratio)
    shown = tf.strided_slice(pixels, begin, end, (1, 1))
    return _Picture(shown, ratio, sides, start % ratio)


def _resample(picture: _Picture, fitted: tf.Tensor, antialias: bool) -> tf.Tensor:
    """Resizes to uint8 `[*fitted, 3]`, bilinearly.

    With antialiasing the result is bit-identical to `tf.image.resize`'s, about twice as fast: its
    operation is fast at adding up rows and slow along a row, so both sides are resized as rows.
    """
    # After the first step an image has its final number of rows at the original width: for a strip
    # of one row and millions of columns that is too much memory, so there the width comes first.
    is_wide = picture.sides[1] > MAX_ASPECT * picture.sides[0]
    kept, turned = (0, 1, 2), (1, 0, 2)
    before, after = tf.where(is_wide, turned, kept), tf.where(is_wide, kept, turned)
    ratio = tf.cast(picture.ratio, tf.float32)
    scale = tf.cast(fitted, tf.float32) / (tf.cast(picture.sides, tf.float32) / ratio)
    translation = -tf.cast(picture.start, tf.float32) / ratio * scale
    one_column = [(fitted, 1), (scale, 1.0), (translation, 0.0)]

    def rows(image: tf.Tensor, axis: tf.Tensor) -> tf.Tensor:
        """Resizes along axis 0, which is the picture's `axis`."""
        height, width, _ = tf.unstack(tf.shape(image))
        size, factor, shift = (tf.stack([tf.gather(of, axis), one]) for of, one in one_column)
        resized = tf.raw_ops.ScaleAndTranslate(
            images=tf.reshape(image, (1, height, 1, 3 * width)),
            size=size,
            scale=factor,
            translation=shift,
            kernel_type="triangle",
            antialias=antialias,
        )
        return tf.reshape(resized, (size[0], width, 3))

    first, second, _ = tf.unstack(before)
    image = rows(tf.transpose(picture.pixels, before), first)
    image = rows(tf.transpose(image, turned), second)
    return tf.transpose(tf.cast(tf.round(image), tf.uint8), after)


# The original side that is brought to the model's size; of two such sides the shorter.
_SIDES: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {
    "squash": tf.reduce_min,
    "crop": tf.reduce_min,
    "pad": tf.reduce_max,
    "shorter-crop": lambda sides: 7 * tf.reduce_min(sides) // 8,
}
