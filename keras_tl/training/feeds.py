"""Batches of what the frozen prefix made of images."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_tl.engines import TensorFlowEngine
from keras_tl.features import Features
from keras_tl.training.images import Images
from keras_tl.training.sampling import Order, shuffled

READ_BYTES = 4 * 2**20

# Numbers in a batch of vectors: a head takes less time than its call from Python.
BATCH_NUMBERS = 2**22


def largest_batch(features: Features, least: int) -> int:
    """How many items validation may take at once.

    Args:
        features: Those that it reads.
        least: Items in a batch of training; also the most of validation, unless these are vectors.
    """
    if any(len(shape) != 1 for shape in features.shapes):
        return least
    return max(least, BATCH_NUMBERS // max(sum(length for (length,) in features.shapes), 1))


def feature_batches(
    features: list[Features],
    images: Images,
    batch_size: int,
    *,
    seed: int | None = None,
    epochs: int = 1,
    first_epoch: int = 0,
    first_step: int = 0,
    weights: np.ndarray | None = None,
    order: Order | None = None,
    steps: int | None = None,
) -> tf.data.Dataset:
    """Batches of stored features, in the order that `Images.batches` has.

    Args:
        features: The features of each view; epoch e reads view e modulo their number.
        images: The images they were computed from.
        batch_size: Items in a batch.
        seed: Shuffles every epoch anew and drops its remainder; None keeps the order and the
            remainder.
        epochs: Epochs, one after the other in the same dataset.
        first_epoch: The first epoch's number, for a training that goes on.
        first_step: Number of batches of the first epoch to skip.
        weights: A weight for each item, float32 `[images]`, or None.
        order: An order of the epochs instead of the seed's; drops the remainder too. An image that
            was shown r times before is read in view r modulo their number.
        steps: Batches in an epoch, if the order does not have one row for each image.

    Returns:
        A dataset of (features, targets) or (features, targets, weights).
    """
    order = order if order or seed is None else shuffled(images, seed)
    if steps is None:
        steps = len(images) // batch_size if order else -(-len(images) // batch_size)
    rows = _rows_of(features, images, weights, order)
    per_item = 4 * sum(math.prod(shape) for shape in features[0].shapes)
    # Each call of Python reads as many batches as fit into a few megabytes.
    together = min(max(READ_BYTES // (per_item * batch_size), 1), steps)
    reads = -(-steps // together)

    def read(number: np.ndarray) -> list[np.ndarray]:
        epoch, position = divmod(int(number), reads)
        end = min((position + 1) * together, steps) * batch_size
        return rows.read(epoch, slice(position * together * batch_size, end))

    load = rows.loader(read)
    first_read, passed = divmod(first_step, together)
    start, end = first_epoch * reads + first_read, (first_epoch + epochs) * reads
    dataset = tf.data.Dataset.range(start, end).map(load, num_parallel_calls=2, deterministic=True)
    # No batch mixes two epochs: an epoch's reads end with a whole batch.
    dataset = dataset.rebatch(batch_size).skip(passed)
    count = steps * epochs - first_step
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(count))
    return dataset.prefetch(tf.data.AUTOTUNE)


def features_of(features: Features, images: Images, parts: list[np.ndarray]) -> tf.data.Dataset:
    """Batches of stored features and targets, one for each of `parts`, which are indices."""
    ends = np.cumsum([len(part) for part in parts])
    rows, none = np.concatenate(parts), np.zeros(ends[-1], np.int64)
    stored = _Rows([features], [[images.targets()]], lambda epoch: (rows, none))

    def read(number: np.ndarray) -> list[np.ndarray]:
        end = int(ends[number])
        return stored.read(0, slice(end - len(parts[int(number)]), end))

    return tf.data.Dataset.range(len(parts)).map(stored.loader(read)).prefetch(2)


def _rows_of(
    features: list[Features], images: Images, weights: np.ndarray | None, order: Order | None
) -> "_Rows":
    """Stored features with the images' targets and weights, as each view mixes them."""
    count, targets = len(images), images.targets()
    columns = [targets] if weights is None else [targets, weights.astype(np.float32)]
    # Validation has one view, the images as they are.
    views = range(len(features)) if order and images.views > 1 else [None]
    return _Rows(
        features,
        [[images.mixed(column, view) for column in columns] for view in views],
        order or (lambda epoch: (np.arange(count), np.zeros(count, np.int64))),
    )


def run_in_batches(
    prefix: keras.Model,
    batches: tf.data.Dataset,
    run: Callable[[np.ndarray], list[np.ndarray]] | None = None,
) -> tf.data.Dataset:
    """Turns batches of (pixels, ...) into batches of (a prefix's outputs, ...), as they come.

    Args:
        prefix: The frozen part of a model.
        batches: uint8 pixels, and what goes along with them.
        run: Computes the outputs; by default TensorFlow does, bit-identical to the model.
    """
    run = run or TensorFlowEngine(prefix)

    @tf.autograph.experimental.do_not_convert
    def load(pixels: tf.Tensor, *rest: tf.Tensor) -> tuple[Any, ...]:
        values = tf.numpy_function(run, [pixels], [tf.float32] * len(prefix.outputs))
        for value, output in zip(values, prefix.outputs, strict=True):
            value.set_shape(output.shape)
        return (values[0] if len(values) == 1 else tuple(values), *rest)

    return batches.map(load).prefetch(2)


@dataclass(frozen=True)
class _Rows:
    """Stored views of images, and what goes along with them.

    Attributes:
        features: The features of each view.
        columns: For each view the images' targets, and perhaps their weights.
        order: The order of an epoch.
    """

    features: list[Features]
    columns: list[list[np.ndarray]]
    order: Order

    @functools.cached_property
    def kinds(self) -> list[np.dtype]:
        """The dtype of each tensor of features, over all views."""
        # TensorFlow widens float16 four times as fast as NumPy, and without holding the GIL.
        of_views = zip(*(features.dtypes for features in self.features), strict=True)
        return [np.result_type(*kinds) for kinds in of_views]

    def read(self, epoch: int, part: slice) -> list[np.ndarray]:
        """The items at some places of an epoch: `[items, ...]` for each tensor and column."""
        indices, shown_before = (of_epoch[part] for of_epoch in self.order(epoch))
        views = shown_before % len(self.features)
        places = [np.flatnonzero(views == view) for view in np.unique(views)]
        found = [self._of_view(views[at[0]], indices[at]) for at in places]
        if len(found) == 1:
            return found[0]
        back = np.argsort(np.concatenate(places))
        return [np.concatenate(tensors)[back] for tensors in zip(*found, strict=True)]

    def loader(self, read: Callable[[np.ndarray], list[np.ndarray]]) -> Callable[..., Any]:
        """A function for `tf.data`, from the number of a read to (features, targets, ...)."""
        inputs, columns = len(self.features[0].shapes), self.columns[0]
        kinds = [*self.kinds, *[np.float32] * len(columns)]
        shapes = [*self.features[0].shapes, *(column.shape[1:] for column in columns)]

        @tf.autograph.experimental.do_not_convert
        def load(number: tf.Tensor) -> tuple[Any, ...]:
            values = [tf.cast(v, tf.float32) for v in tf.numpy_function(read, [number], kinds)]
            for value, shape in zip(values, shapes, strict=True):
                value.set_shape((None, *shape))
            x = values[0] if inputs == 1 else tuple(values[:inputs])
            return (x, *values[inputs:])

        return load

    def _of_view(self, view: int, indices: np.ndarray) -> list[np.ndarray]:
        values = self.features[view].gather(indices, self.kinds)
        return [*values, *(column[indices] for column in self.columns[view])]
