"""Transparency of GIFs, which TensorFlow's decoder shows as black.

Reference: CompuServe, "Graphics Interchange Format, Version 89a", sections 18 to 23.
"""

import tensorflow as tf

from keras_tl.data.image_headers import numbers, text

# Comments and the like before the first frame are walked over in blocks of up to 255 bytes.
MAX_BLOCKS = 4096
EXTENSION = 0x21
CONTROL = 0x21F9
FRAME = 0x2C


def white_where_transparent(contents: tf.Tensor) -> tf.Tensor:
    """Rewrites a GIF so that the transparent pixels of its first frame are white.

    The transparent entry of the colour table becomes white and stops being transparent. A GIF
    that is malformed, or whose first frame has no transparency, is returned as it is.

    Args:
        contents: The GIF, a scalar string.

    Returns:
        A GIF of the same length, a scalar string.
    """
    (common_flags,) = numbers(contents, (10, 1, "little"))
    common_length = _table_length(common_flags)
    control, frame = _first_frame(contents, 13 + common_length)
    flags, index = numbers(contents, (3, 1, "little"), (6, 1, "little"), start=control)
    marker, own_flags = numbers(contents, (0, 1, "little"), (9, 1, "little"), start=frame)

    def whiten() -> tf.Tensor:
        """Makes the transparent colour of the table in use an opaque white."""
        own_length = _table_length(own_flags)
        has_own = own_length > 0
        colour = tf.where(has_own, frame + 10, 13) + 3 * index
        in_table = 3 * index < tf.where(has_own, own_length, common_length)
        # Under the label of a comment the extension makes nothing transparent.
        opaque = _replace(contents, control + 1, b"\xfe")
        return tf.cond(in_table, lambda: _replace(opaque, colour, b"\xff\xff\xff"), lambda: opaque)

    is_transparent = (control > 0) & (flags % 2 == 1) & (marker == FRAME)
    return tf.cond(is_transparent, whiten, lambda: contents)


def _first_frame(contents: tf.Tensor, start: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Where the first frame's graphic control extension (0: none) and its descriptor start."""

    def label(at: tf.Tensor) -> tf.Tensor:
        return numbers(contents, (0, 2, "big"), start=at)[0]

    def search_on(
        in_blocks: tf.Tensor, control: tf.Tensor, at: tf.Tensor, here: tf.Tensor
    ) -> tf.Tensor:
        return in_blocks | (here // 256 == EXTENSION)

    def step(
        in_blocks: tf.Tensor, control: tf.Tensor, at: tf.Tensor, here: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        is_control = ~in_blocks & (here == CONTROL)
        block = here // 256
        # An extension is a marker, a label, and blocks up to an empty one.
        following = at + tf.where(in_blocks, 1 + block, 2)
        return (
            ~in_blocks | (block > 0),
            tf.where(is_control, at, control),
            following,
            label(following),
        )

    state = (tf.constant(False), tf.constant(0, tf.int64), start, label(start))
    _, control, frame, _ = tf.while_loop(search_on, step, state, maximum_iterations=MAX_BLOCKS)
    return control, frame


def _table_length(flags: tf.Tensor) -> tf.Tensor:
    """Bytes of the colour table that a packed field announces."""
    length = 3 * tf.bitwise.left_shift(tf.constant(2, tf.int64), flags % 8)
    return tf.where(flags >= 128, length, 0)


def _replace(contents: tf.Tensor, at: tf.Tensor, new: bytes) -> tf.Tensor:
    """Overwrites the bytes from `at` on."""
    before = tf.strings.substr(contents, tf.constant(0, tf.int64), at)
    rest = text(contents, at + len(new), 2**31 - 1)
    return tf.strings.join([before, new, rest])
