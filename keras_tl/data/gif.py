"""Transparency of GIFs, which TensorFlow's decoder shows as black.

Reference: CompuServe, "Graphics Interchange Format, Version 89a", sections 18 to 23.
"""

import tensorflow as tf

from keras_tl.data.image_headers import number, text

# Comments and the like before the first frame are walked over in blocks of up to 255 bytes.
MAX_BLOCKS = 4096


def white_where_transparent(contents: tf.Tensor) -> tf.Tensor:
    """Rewrites a GIF so that the transparent pixels of its first frame are white.

    The transparent entry of the colour table becomes white and stops being transparent. A GIF
    that is malformed, or whose first frame has no transparency, is returned as it is.

    Args:
        contents: The GIF, a scalar string.

    Returns:
        A GIF of the same length, a scalar string.
    """
    control, frame = _first_frame(contents)
    is_transparent = (control > 0) & (number(contents, control + 3, 1, True) % 2 == 1)
    is_transparent &= text(contents, frame, 1) == b"\x2c"
    return tf.cond(is_transparent, lambda: _whiten(contents, control, frame), lambda: contents)


def _first_frame(contents: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Where the first frame's graphic control extension (0: none) and its descriptor start."""

    def search_on(in_blocks: tf.Tensor, control: tf.Tensor, at: tf.Tensor) -> tf.Tensor:
        return in_blocks | (text(contents, at, 1) == b"\x21")

    def step(in_blocks: tf.Tensor, control: tf.Tensor, at: tf.Tensor) -> tuple[tf.Tensor, ...]:
        is_control = ~in_blocks & (text(contents, at, 2) == b"\x21\xf9")
        block = number(contents, at, 1, little=True)
        # An extension is a marker, a label, and blocks up to an empty one.
        return (
            ~in_blocks | (block > 0),
            tf.where(is_control, at, control),
            at + tf.where(in_blocks, 1 + block, 2),
        )

    start = 13 + _table_length(contents, 10)
    state = (tf.constant(False), tf.constant(0, tf.int64), start)
    _, control, frame = tf.while_loop(search_on, step, state, maximum_iterations=MAX_BLOCKS)
    return control, frame


def _table_length(contents: tf.Tensor, flags_at: tf.Tensor | int) -> tf.Tensor:
    """Bytes of the colour table that a packed field announces."""
    flags = number(contents, flags_at, 1, little=True)
    length = 3 * tf.bitwise.left_shift(tf.constant(2, tf.int64), flags % 8)
    return tf.where(flags >= 128, length, 0)


def _whiten(contents: tf.Tensor, control: tf.Tensor, frame: tf.Tensor) -> tf.Tensor:
    """Makes the transparent colour of the table in use an opaque white."""
    own_length = _table_length(contents, frame + 9)
    start = tf.where(own_length > 0, frame + 10, 13)
    length = tf.where(own_length > 0, own_length, _table_length(contents, 10))
    colour = 3 * number(contents, control + 6, 1, little=True)
    # Under the label of a comment the extension makes nothing transparent.
    opaque = _replace(contents, control + 1, b"\xfe")
    in_table = colour < length
    return tf.cond(
        in_table, lambda: _replace(opaque, start + colour, b"\xff\xff\xff"), lambda: opaque
    )


def _replace(contents: tf.Tensor, at: tf.Tensor, new: bytes) -> tf.Tensor:
    """Overwrites the bytes from `at` on."""
    before = tf.strings.substr(contents, tf.constant(0, tf.int64), at)
    rest = text(contents, at + len(new), 2**31 - 1)
    return tf.strings.join([before, new, rest])
