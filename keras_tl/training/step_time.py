"""How long a phase would train on this machine, by one step that is timed once and remembered."""

import hashlib
import json
import platform
import time
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_tl import freezing, frozen_prefix, tasks
from keras_tl.cores import usable_cores
from keras_tl.data.pipeline import Samples
from keras_tl.data.remembered import found_once
from keras_tl.fingerprints import fingerprint
from keras_tl.training.phases import Phase

# Times a step is timed, of which the shortest counts; seconds after which that is enough.
MOST_STEPS, LONG_ENOUGH = 2, 2.0
# Raise VERSION when a step would take another time. The most steps whose time is remembered.
VERSION, MOST_REMEMBERED = 1, 10_000


def seconds_to_fine_tune(
    model: keras.Model, phase: Phase, images: Samples, *, task: str, batch_size: int
) -> float:
    """Estimates a phase's training time from one timed step after the cut.

    Nothing is updated and no random state moves: forward and backward in inference mode. The step's
    time is remembered in the cache folder by what it takes to compute it: with another head on the
    same backbone, nothing is timed again.

    Args:
        model: The model; its flags are those of the phase afterwards.
        phase: The fine-tuning.
        images: The training images.
        task: A name in `keras_tl.tasks`.
        batch_size: Images in a batch.

    Returns:
        Seconds of all its steps, without its passes.
    """
    batch_size = min(batch_size, len(images))
    key = _key(model, phase, images, batch_size)
    phase.freezing.apply(model)

    def timed() -> bytes:
        return np.float64(_seconds_of_step(model, images, task, batch_size)).tobytes()

    content = found_once("step times", key, timed, most=MOST_REMEMBERED)
    seconds = float(np.frombuffer(content, np.float64)[0])
    return seconds * phase.epochs * max(len(images) // batch_size, 1)


def _key(model: keras.Model, phase: Phase, images: Samples, batch_size: int) -> bytes:
    """SHA-256 of what decides how long a step takes: not weights, and not the head."""
    freezing.All().apply(model)
    prefix = frozen_prefix.split(model).prefix
    body = model if prefix is None else prefix
    layers = fingerprint(body, without_weights_of=[layer.name for layer in body.layers])
    devices = tf.config.list_logical_devices()
    facts: list[Any] = [VERSION, layers, repr(phase.freezing), batch_size, repr(images.input_spec)]
    facts += [platform.node(), usable_cores(), [device.device_type for device in devices]]
    facts += [tf.__version__, keras.__version__]
    return hashlib.sha256(json.dumps(facts).encode()).digest()


def _seconds_of_step(model: keras.Model, images: Samples, task: str, batch_size: int) -> float:
    parts = frozen_prefix.split(model)
    indices = np.arange(batch_size)
    batch = images.images(indices).batch(len(indices))
    first = parts.suffix if parts.prefix is None else parts.prefix
    inputs = tf.cast(next(iter(batch)), first.input.dtype)
    if parts.prefix is not None:
        inputs = parts.prefix(inputs, training=False)
    targets = tf.constant(images.targets()[indices])
    loss = tasks.get(task).build_loss(0.0)
    seconds: list[float] = []
    while len(seconds) < MOST_STEPS and sum(seconds) < LONG_ENOUGH:
        started = time.perf_counter()
        with tf.GradientTape() as tape:
            value = loss(targets, parts.suffix(inputs, training=False))
        for gradient in tape.gradient(value, parts.suffix.trainable_weights):
            np.asarray(gradient)
        seconds.append(time.perf_counter() - started)
    return min(seconds)
