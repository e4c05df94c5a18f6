"""The engine that is always there, and what all engines share."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import keras
import numpy as np
import tensorflow as tf

SIGNATURE = "serving_default"
INPUT = "pixels"


class Engine(Protocol):
    """Runs a prefix, one call at a time."""

    name: str

    def __call__(self, pixels: np.ndarray) -> list[np.ndarray]:
        """Runs the prefix on a batch.

        Args:
            pixels: uint8 `[batch, height, width, 3]`.

        Returns:
            Float32 `[batch, ...]` for each tensor at the cut.
        """


class TensorFlowEngine:
    """The prefix as a graph function.

    Args:
        prefix: The frozen part of a model, or a whole model.
    """

    name = "TensorFlow"

    def __init__(self, prefix: keras.Model):
        # Any number of images: a smaller last batch would else be traced anew.
        shape = (None, *prefix.input_shape[1:])

        @tf.function(input_signature=[tf.TensorSpec(shape, tf.uint8)], autograph=False)
        def run(pixels: tf.Tensor) -> list[tf.Tensor]:
            outputs = tf.nest.flatten(prefix(tf.cast(pixels, tf.float32), training=False))
            return [tf.cast(output, tf.float32) for output in outputs]

        self._run = run

    def __call__(self, pixels: np.ndarray) -> list[np.ndarray]:
        """See `Engine`."""
        return [output.numpy() for output in self._run(tf.constant(pixels))]


@contextmanager
def saved_model(prefix: keras.Model) -> Iterator[str]:
    """Writes a prefix as a SavedModel for single images: what converters read fastest and best.

    Args:
        prefix: Its outputs become "output_0", "output_1" ... of the signature `SIGNATURE`.

    Yields:
        The SavedModel's folder, which goes when the block ends.
    """
    module = tf.Module()
    module.variables_of_prefix = [variable.value for variable in prefix.variables]

    # One image: converters know every shape then, and an interpreter takes one at a time.
    one_image = tf.TensorSpec((1, *prefix.input_shape[1:]), tf.float32, INPUT)

    @tf.function(input_signature=[one_image], autograph=False)
    def run(pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = tf.nest.flatten(prefix(pixels, training=False))
        return {output_name(i): tf.cast(output, tf.float32) for i, output in enumerate(outputs)}

    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures={SIGNATURE: run})
        yield folder


def output_name(index: int) -> str:
    """The name of the tensor at the cut with this index."""
    return f"output_{index}"
