"""Batches of what the frozen prefix made of images."""

import functools
import math
from typing import Any

import numpy as np
import tensorflow as tf

from keras_tl.features import Features
from keras_tl.training.images import Images

READ_BYTES = 4 * 2**20


def feature_batches(
    features: list[Features],
    images: Images,
    batch_size: int,
    *,
    seed: int | None = None,
    epochs: int = 1,
    weights: np.ndarray | None = None,
) -> tf.data.Dataset:
    """Batches of stored features, in the order that `Images.batches` has.

    Args:
        features: The features of each view; epoch e reads view e modulo their number.
        images: The images they were computed from.
        batch_size: Items in a batch.
        seed: Shuffles every epoch anew and drops its remainder; None keeps the order and the
            remainder.
        epochs: Epochs, one after the other in the same dataset.
        weights: A weight for each item, float32 `[images]`, or None.

    Returns:
        A dataset of (features, targets) or (features, targets, weights).
    """
    count, targets = len(images), images.targets()
    steps = count // batch_size if seed is not None else -(-count // batch_size)

    @functools.lru_cache(maxsize=2)
    def order(epoch: int) -> np.ndarray:
        return np.arange(count) if seed is None else images.order(seed, epoch)

    per_item = 4 * sum(math.prod(shape) for shape in features[0].shapes)
    # Many batches in one call of Python, as many as fit into a few megabytes.
    together = min(max(READ_BYTES // (per_item * batch_size), 1), steps)
    reads = -(-steps // together)

    def read(number: np.ndarray) -> list[np.ndarray]:
        epoch, position = divmod(int(number), reads)
        end = min((position + 1) * together, steps) * batch_size
        chosen = order(epoch)[position * together * batch_size : end]
        values = features[epoch % len(features)].gather(chosen, kinds)
        extra = [] if weights is None else [weights[chosen].astype(np.float32)]
        return [*values, targets[chosen], *extra]

    shapes = [*features[0].shapes, targets.shape[1:], *([()] if weights is not None else [])]
    # TensorFlow widens float16 four times as fast as NumPy, and not under Python's lock.
    kinds = [np.result_type(*view) for view in zip(*(f.dtypes for f in features), strict=True)]

    def load(number: tf.Tensor) -> tuple[Any, ...]:
        found = [*kinds, *[np.float32] * (len(shapes) - len(kinds))]
        values = [tf.cast(v, tf.float32) for v in tf.numpy_function(read, [number], found)]
        for value, shape in zip(values, shapes, strict=True):
            value.set_shape((None, *shape))
        inputs = len(features[0].shapes)
        x = values[0] if inputs == 1 else tuple(values[:inputs])
        return (x, *values[inputs:])

    dataset = tf.data.Dataset.range(reads * epochs).map(
        load, num_parallel_calls=2, deterministic=True
    )
    # No batch mixes two epochs: an epoch's reads end with a whole batch.
    dataset = dataset.rebatch(batch_size)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(steps * epochs))
    return dataset.prefetch(tf.data.AUTOTUNE)
