"""What runs a frozen prefix: the fastest thing this machine has, checked against Keras.

On a CPU that is LiteRT with XNNPACK, two to five times as fast as TensorFlow for mobile-class
backbones. On a GPU it is TensorFlow. Nobody has to choose: an engine that cannot be had, or whose
outputs differ, gives way to TensorFlow, and a line says why.
"""

import logging
import os
import queue
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf

from keras_tl.files import atomic_file

# Largest difference from Keras that is allowed, relative to the largest value of the tensor. The
# store's float16 rounds by half of that.
TOLERANCE = 1e-3
SIGNATURE = "serving_default"
CONVERTED = "prefix.tflite"
MAX_INTERPRETERS = 16

log = logging.getLogger("keras_tl")


class Engine(Protocol):
    """Runs a prefix."""

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
        prefix: The frozen part of a model.
    """

    name = "TensorFlow"

    def __init__(self, prefix: keras.Model):
        @tf.function(reduce_retracing=True)
        def run(pixels: tf.Tensor) -> list[tf.Tensor]:
            outputs = tf.nest.flatten(prefix(tf.cast(pixels, tf.float32), training=False))
            return [tf.cast(output, tf.float32) for output in outputs]

        self._run = run

    def __call__(self, pixels: np.ndarray) -> list[np.ndarray]:
        """See `Engine`."""
        return [output.numpy() for output in self._run(tf.constant(pixels))]


class LiteRTEngine:
    """The prefix converted to LiteRT, one interpreter for each core.

    Each interpreter runs one image at a time in one thread: the activations of one image stay in
    the core's cache, and no core waits for another within a layer. On two cores that is up to 1.3
    times as fast as one interpreter with two threads on batches of 32.

    Args:
        prefix: The frozen part of a model.
        path: Where the converted prefix is kept; it is converted if there is no such file.

    Raises:
        ImportError: The package ai-edge-litert is not installed.
        RuntimeError: The prefix does not convert, or does not run.
    """

    name = "LiteRT"

    def __init__(self, prefix: keras.Model, path: Path):
        from ai_edge_litert.interpreter import Interpreter

        if not path.is_file():
            _convert(prefix, path)
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
        cores = cores or os.cpu_count() or 1
        # Each interpreter has a copy of the weights.
        workers = min(cores, MAX_INTERPRETERS)

        def runner() -> Any:
            interpreter = Interpreter(model_path=str(path), num_threads=cores // workers)
            return interpreter.get_signature_runner(SIGNATURE)

        self._free: queue.SimpleQueue[Any] = queue.SimpleQueue()
        try:
            self._free.put(runner())
        except ValueError:  # a damaged file
            _convert(prefix, path)
            self._free.put(runner())
        for _ in range(workers - 1):
            self._free.put(runner())
        self._threads = ThreadPoolExecutor(workers)

    def __call__(self, pixels: np.ndarray) -> list[np.ndarray]:
        """See `Engine`."""
        found = list(self._threads.map(self._run_one, pixels))
        return [
            np.concatenate([image[_output(i)] for image in found]) for i in range(len(found[0]))
        ]

    def _run_one(self, image: np.ndarray) -> dict[str, np.ndarray]:
        runner = self._free.get()
        try:
            return runner(pixels=image[None].astype(np.float32))
        finally:
            self._free.put(runner)


def choose(prefix: keras.Model, sample: np.ndarray, folder: Path) -> Engine:
    """Chooses the engine for a prefix.

    Args:
        prefix: The frozen part of a model.
        sample: A few images, uint8 `[images, height, width, 3]`, on which engines are compared.
        folder: Where converted prefixes are kept, by the name `prefix.tflite`.

    Returns:
        LiteRT on a CPU where it agrees with Keras within `TOLERANCE`, else TensorFlow.
    """
    reference = TensorFlowEngine(prefix)
    if tf.config.list_logical_devices("GPU"):
        return reference
    try:
        engine = LiteRTEngine(prefix, folder / CONVERTED)
        difference = _difference(engine(sample), reference(sample))
    except (ImportError, RuntimeError, ValueError, tf.errors.OpError) as error:
        log.info("The frozen part runs in TensorFlow; LiteRT: %s", _first_line(error))
        return reference
    # Written so that NaN fails.
    if not difference <= TOLERANCE:
        log.info("The frozen part runs in TensorFlow; LiteRT differs by %.1e", difference)
        return reference
    return engine


def _convert(prefix: keras.Model, path: Path) -> None:
    """Converts a prefix, by way of a SavedModel: several times as fast as from the Keras model."""
    module = tf.Module()
    module.variables_of_prefix = [variable.value for variable in prefix.variables]

    @tf.function(input_signature=[tf.TensorSpec((None, *prefix.input_shape[1:]), tf.float32)])
    def run(pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = tf.nest.flatten(prefix(pixels, training=False))
        return {_output(i): tf.cast(output, tf.float32) for i, output in enumerate(outputs)}

    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures={SIGNATURE: run})
        content = tf.lite.TFLiteConverter.from_saved_model(folder).convert()
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as aside:
        aside.write_bytes(content)


def _output(index: int) -> str:
    return f"output_{index}"


def _difference(received: list[np.ndarray], expected: list[np.ndarray]) -> float:
    """The largest difference relative to the largest value of its tensor."""
    return max(
        float(np.abs(a - b).max() / max(float(np.abs(b).max()), 1e-12))
        for a, b in zip(received, expected, strict=True)
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
