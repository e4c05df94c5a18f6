"""The first frame of a GIF, and its transparency, which TensorFlow's decoder shows as black.

Reference: CompuServe, "Graphics Interchange Format, Version 89a", sections 18 to 23.
"""

import tensorflow as tf

from keras_tl.data.image_headers import numbers, text

# Most steps over comments and the like before the first frame, in blocks of up to 255 bytes, and
# over the frame itself, in runs of blocks of one length.
MAX_BLOCKS = 4096
# A frame of more pixels than these must not be larger than the canvas, whose size is checked.
SMALL_FRAME = 2**24
EXTENSION = 0x21
CONTROL = 0x21F9
FRAME = 0x2C
TRAILER = b"\x3b"


def first_frame(contents: tf.Tensor) -> tf.Tensor:
    """Rewrites a GIF so that it ends behind its first frame, which is white where transparent.

    TensorFlow's decoder unpacks all frames to show the first, and makes room for whatever size a
    frame says it has: a file of a megabyte could take all memory there is. The transparent entry
    of the colour table becomes white and stops being transparent.

    Args:
        contents: The GIF, a scalar string.

    Returns:
        A GIF of one frame, a scalar string; an empty string where the first frame is not whole,
        or is far larger than the canvas.
    """
    canvas_width, canvas_height, common_flags = numbers(
        contents, (6, 2, "little"), (8, 2, "little"), (10, 1, "little")
    )
    common_length = _table_length(common_flags)
    control, frame = _first_frame(contents, 13 + common_length)
    marker, width, height, own_flags = numbers(
        contents,
        (0, 1, "little"),
        (5, 2, "little"),
        (7, 2, "little"),
        (9, 1, "little"),
        start=frame,
    )
    own_length = _table_length(own_flags)
    # The descriptor, the frame's own colours, and one byte more stand before the pixels.
    is_whole, end = _behind_blocks(contents, frame + 10 + own_length + 1)
    fits = width * height <= tf.maximum(canvas_width * canvas_height, SMALL_FRAME)

    def only_first() -> tf.Tensor:
        has_own = own_length > 0
        table = tf.where(has_own, frame + 10, 13)
        length = tf.where(has_own, own_length, common_length)
        start = tf.strings.substr(contents, tf.constant(0, tf.int64), end)
        return tf.strings.join([_on_white(start, control, table, length), TRAILER])

    return tf.cond((marker == FRAME) & is_whole & fits, only_first, lambda: tf.constant(b""))


def _behind_blocks(contents: tf.Tensor, start: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Whether a run of blocks ends, as an empty block marks, and where."""
    values = tf.io.decode_raw(contents, tf.uint8)
    size = tf.cast(tf.size(values), tf.int64)

    def length(at: tf.Tensor) -> tf.Tensor:
        return numbers(contents, (0, 1, "little"), start=at)[0]

    def step(at: tf.Tensor, here: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        # Most blocks have the full length: a run of one length is skipped in one step.
        alike = values[at :: here + 1] == tf.cast(here, tf.uint8)
        count = tf.cast(tf.argmin(tf.pad(tf.cast(alike, tf.uint8), [[0, 1]])), tf.int64)
        at += count * (here + 1)
        return at, length(at)

    at, here = tf.while_loop(
        lambda at, here: (here > 0) & (at < size),
        step,
        (start, length(start)),
        maximum_iterations=MAX_BLOCKS,
    )
    return (here == 0) & (at < size), at + 1


def _on_white(
    contents: tf.Tensor, control: tf.Tensor, table: tf.Tensor, length: tf.Tensor
) -> tf.Tensor:
    """Makes the transparent colour of a table an opaque white."""
    flags, index = numbers(contents, (3, 1, "little"), (6, 1, "little"), start=control)

    def whiten() -> tf.Tensor:
        # Relabelled as a comment, the extension makes nothing transparent.
        opaque = _replace(contents, control + 1, b"\xfe")
        white = _replace(opaque, table + 3 * index, b"\xff\xff\xff")
        return tf.where(3 * index < length, white, opaque)

    return tf.cond((control > 0) & (flags % 2 == 1), whiten, lambda: contents)


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
