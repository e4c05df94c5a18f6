"""The engine that is always there, and what all engines share."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import keras
import numpy as np
import tensorflow as tf

from keras_tl.replicas import replicating

SIGNATURE = "serving_default"
INPUT = "pixels"
TOKENS = "tokens"


class Engine(Protocol):
    """Runs a prefix, one call at a time."""

    name: str

    def __call__(self, inputs: np.ndarray) -> list[np.ndarray]:
        """Runs the prefix on a batch.

        Args:
            inputs: Pixels, uint8 `[batch, height, width, 3]`, or whatever the prefix takes:
                tokens, int32 `[batch, 2, length]`, or strings.

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
        # Any number of images, or else a smaller last batch would be traced anew.
        shape, dtype = (None, *prefix.input_shape[1:]), input_dtype(prefix)
        spec = tf.TensorSpec(shape, tf.uint8 if dtype == tf.float32 else dtype)

        @tf.function(input_signature=[spec], autograph=False)
        def run(inputs: tf.Tensor) -> list[tf.Tensor]:
            cast = inputs if spec.dtype == dtype else tf.cast(inputs, dtype)
            outputs = tf.nest.flatten(prefix(cast, training=False))
            return [tf.cast(output, tf.float32) for output in outputs]

        self._run = run.get_concrete_function()

    def __call__(self, inputs: np.ndarray) -> list[np.ndarray]:
        """See `Engine`."""
        return [output.numpy() for output in self._run(tf.constant(inputs))]


class ReplicatedEngine:
    """The prefix on all devices of this process, each of which takes a part of the batch.

    Args:
        prefix: The frozen part of a model that was built in a strategy's scope.
        strategy: That strategy.
    """

    name = "TensorFlow"

    def __init__(self, prefix: keras.Model, strategy: tf.distribute.Strategy):
        dtype = input_dtype(prefix)

        def run(inputs: tf.Tensor) -> list[tf.Tensor]:
            outputs = tf.nest.flatten(prefix(tf.cast(inputs, dtype), training=False))
            return [tf.cast(output, tf.float32) for output in outputs]

        self._strategy = strategy
        self._run = tf.function(lambda parts: strategy.run(run, (parts,)), autograph=False)
        self._largest = 0

    def __call__(self, inputs: np.ndarray) -> list[np.ndarray]:
        """See `Engine`."""
        count, parts = len(inputs), self._parts(inputs)
        context = self._strategy.experimental_distribute_values_from_function
        # Replicas are numbered across machines.
        values = context(lambda ctx: tf.constant(parts[ctx.replica_id_in_sync_group % len(parts)]))
        found = []
        for output in self._run(values):
            local = self._strategy.experimental_local_results(output)
            found.append(np.concatenate([part.numpy() for part in local])[:count])
        return found

    def _parts(self, inputs: np.ndarray) -> list[np.ndarray]:
        """Equal parts for devices, filled up to the largest batch so far: a TPU needs one size."""
        devices = len(self._strategy.extended.worker_devices)
        self._largest = max(self._largest, -(-len(inputs) // devices) * devices)
        filling = np.repeat(inputs[:1], self._largest - len(inputs), axis=0)
        return np.split(np.concatenate([inputs, filling]), devices)


def reference(prefix: keras.Model) -> "TensorFlowEngine | ReplicatedEngine":
    """TensorFlow, on one device or on all that the prefix is on."""
    strategy = replicating(prefix)
    return TensorFlowEngine(prefix) if strategy is None else ReplicatedEngine(prefix, strategy)


@contextmanager
def saved_model(prefix: keras.Model) -> Iterator[str]:
    """Writes a prefix as a SavedModel for single images: what converters read fastest and best.

    Args:
        prefix: Its input becomes `input_name`, its outputs "output_0", "output_1" ... of the
            signature `SIGNATURE`.

    Yields:
        The SavedModel's folder, which goes when the block ends.
    """
    module = tf.Module()
    module.variables_of_prefix = [variable.value for variable in prefix.variables]

    # One image: converters know every shape then, and an interpreter takes one at a time.
    shape = (1, *prefix.input_shape[1:])
    one_image = tf.TensorSpec(shape, input_dtype(prefix), input_name(prefix))

    @tf.function(input_signature=[one_image], autograph=False)
    def run(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = tf.nest.flatten(prefix(inputs, training=False))
        return {output_name(i): tf.cast(output, tf.float32) for i, output in enumerate(outputs)}

    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures={SIGNATURE: run})
        yield folder


def input_dtype(prefix: keras.Model) -> tf.DType:
    """What a prefix computes with: float32 pixels, int32 tokens or strings."""
    return tf.as_dtype(prefix.input.dtype)


def input_name(prefix: keras.Model) -> str:
    """The name of a prefix's input in `saved_model`."""
    return INPUT if len(prefix.input_shape) == 4 else TOKENS


def output_name(index: int) -> str:
    """The name of the tensor at the cut with this index."""
    return f"output_{index}"
