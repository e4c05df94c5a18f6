import threading
import time
from io import BytesIO

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_tl.data import decoding, threads
from keras_tl.data.decoding import ImageInput, decode


class Counted:
    """Counts how many of its calls are under way at once."""

    def __init__(self):
        self.now = self.most = 0
        self.lock = threading.Lock()

    def __call__(self, value):
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(0.02)
        with self.lock:
            self.now -= 1
        return value


@pytest.fixture(params=[1, 2])
def turns(request, monkeypatch):
    """So many turns, made anew."""
    cores = threads.CORES_OF_A_TURN * request.param
    threads._sections.cache_clear()
    monkeypatch.setattr(threads, "usable_cores", lambda: cores)
    yield request.param
    threads._sections.cache_clear()


def mapped(function, count=12):
    dataset = threads.parallel_map(tf.data.Dataset.range(count), function)
    return [int(value) for value in dataset.as_numpy_iterator()]


def test_a_few_at_a_time(turns):
    counted = Counted()

    def called(number):
        return tf.numpy_function(counted, [number], tf.int64)

    in_turn = mapped(lambda n: threads.a_few_at_a_time(lambda: called(n), tf.cast(n, tf.int32)))
    assert (in_turn, counted.most) == (list(range(12)), turns)
    # Without turns more of them are under way.
    mapped(called)
    assert counted.most > turns


def test_a_failure_lets_the_next_have_its_turn(turns):
    def fails(number):
        with tf.control_dependencies([tf.debugging.Assert(number != 3, ["three"])]):
            return tf.identity(number)

    def function(number):
        return threads.a_few_at_a_time(lambda: fails(number), tf.cast(number, tf.int32))

    dataset = threads.parallel_map(tf.data.Dataset.range(8), function).ignore_errors()
    assert list(dataset.as_numpy_iterator()) == [0, 1, 2, 4, 5, 6, 7]


def test_turns_by_cores(monkeypatch):
    for cores, count in {1: 1, 2: 1, 3: 1, 4: 2, 16: 8, 64: 8}.items():
        threads._sections.cache_clear()
        monkeypatch.setattr(threads, "usable_cores", lambda cores=cores: cores)
        assert len(threads._sections()) == count
    threads._sections.cache_clear()


@pytest.fixture
def encoded_square():
    """Files of 8 x 8 pixels."""
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)

    def encode(kind):
        buffer = BytesIO()
        Image.fromarray(pixels).save(buffer, kind)
        return buffer.getvalue()

    return encode


@pytest.mark.parametrize(("large", "waits"), [(63, True), (64, False)])
@pytest.mark.parametrize("kind", decoding.KINDS)
def test_large_images_wait_for_their_turn(kind, large, waits, monkeypatch, encoded_square):
    monkeypatch.setattr(decoding, "LARGE", (large,) * (len(decoding.KINDS) + 1))
    monkeypatch.setattr(decoding, "_is_plain_jpeg", lambda contents: tf.constant(False))
    began = []

    def turn(function, number):
        with tf.control_dependencies([tf.numpy_function(lambda: began.append(1), [], [])]):
            return function()

    monkeypatch.setattr(decoding, "a_few_at_a_time", turn)
    decoding._in_turn.cache_clear()
    contents, image_input = encoded_square(kind), ImageInput(size=4)
    pixels = decode(contents, image_input, in_turn=True)
    decoding._in_turn.cache_clear()
    assert len(began) == waits
    np.testing.assert_array_equal(pixels, decode(contents, image_input))
