import io

import numpy as np
import tensorflow as tf
from PIL import Image

from keras_tl.data.gif import first_frame


def gif(**options):
    indices = np.arange(16, dtype=np.uint8).reshape(4, 4) % 4
    image = Image.fromarray(indices, "P")
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    buffer = io.BytesIO()
    image.save(buffer, "GIF", **options)
    return buffer.getvalue()


def test_the_transparent_colour_becomes_white():
    contents = gif(transparency=2)
    before = tf.io.decode_gif(contents)[0].numpy()
    after = tf.io.decode_gif(first_frame(tf.constant(contents)))[0].numpy()
    assert (before[:, 2] == 0).all() and (after[:, 2] == 255).all()
    np.testing.assert_array_equal(before[:, [0, 1, 3]], after[:, [0, 1, 3]])


def test_what_is_not_transparent_is_not_touched():
    for contents in (gif(), gif(comment=b"hello")):
        assert first_frame(tf.constant(contents)).numpy() == contents


def test_of_several_frames_one_is_left_and_of_a_part_of_one_nothing():
    more = gif(save_all=True, append_images=[Image.new("P", (4, 4), 3)])
    first = first_frame(tf.constant(more)).numpy()
    assert len(first) < len(more) and more.startswith(first[:-1]) and first.endswith(b";")
    np.testing.assert_array_equal(tf.io.decode_gif(first), tf.io.decode_gif(more)[:1])
    for contents in (gif()[:-5], gif(transparency=2)[:15], b"GIF89a"):
        assert first_frame(tf.constant(contents)).numpy() == b""


def test_a_transparent_index_outside_the_table_changes_no_colour():
    contents = gif(transparency=2)
    at = contents.index(b"\x21\xf9") + 6
    outside = contents[:at] + b"\xfa" + contents[at + 1 :]
    after = tf.io.decode_gif(first_frame(tf.constant(outside)))[0].numpy()
    np.testing.assert_array_equal(after, tf.io.decode_gif(gif())[0].numpy())
