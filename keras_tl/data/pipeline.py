"""The one order of operations: permute, read, decode, resize, augment, batch, prefetch."""

import functools
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

from keras_tl.data import augment
from keras_tl.data.augment import Augmentation
from keras_tl.data.decoding import ImageInput, decode, fit_to_input
from keras_tl.data.source import Source, content_hash
from keras_tl.errors import InputError

Indices: TypeAlias = np.ndarray | tf.Tensor


def permutation(n: int, seed: int, epoch: int) -> np.ndarray:
    """Returns the order of samples in an epoch: int64 `[n]`, a permutation of 0..n-1.

    It depends on nothing but the arguments, so that cached, resumed and sharded runs see the
    same order.

    Args:
        n: How many samples there are.
        seed: The run's seed, at least 0.
        epoch: The epoch's number, from 0.
    """
    generator = np.random.default_rng(np.random.SeedSequence([seed, epoch]))
    return generator.permutation(n).astype(np.int64)


@dataclass(frozen=True)
class Samples:
    """The items of a source as a model's inputs and targets.

    Attributes:
        source: The items and their labels.
        image_input: How they are decoded and resized.
        augmentation: What is done to them in training.
    """

    source: Source
    image_input: ImageInput
    augmentation: Augmentation = augment.PRESETS["none"]

    def __len__(self) -> int:
        return len(self.source)

    def targets(self) -> np.ndarray:
        """Labels as a model is trained on them: float32 `[samples, outputs]`."""
        return self.source.targets()

    @property
    def views(self) -> int:
        """How many views there are of each image; epoch e shows view e modulo this."""
        return self.augmentation.views or self.augmentation.cycle

    @functools.cached_property
    def keys(self) -> list[str]:
        """SHA-256 of each item's content, as `inspect` found it or else read anew."""
        found = zip(self.source.hashes, self.source.items, strict=True)
        return [known or content_hash(item) for known, item in found]

    def fingerprint(self, view: int | None) -> dict[str, Any]:
        """Returns all that decides a view's pixels beside the content, as JSON-ready facts.

        Args:
            view: The view's number, or None for the images as they are.
        """
        facts: dict[str, Any] = asdict(self.image_input)
        if view is not None and self.views > 1:
            facts |= {"augmentation": self.augmentation.fingerprint(), "view": view}
        return facts

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """Returns the order of the samples in an epoch, see `permutation`."""
        return permutation(len(self), seed, epoch)

    def images(self, indices: Indices, view: Indices | int | None = None) -> tf.data.Dataset:
        """Reads, decodes, resizes and augments samples, in the order given.

        Args:
            indices: int64 `[k]`, which samples.
            view: None for the images as they are; the number of the augmented view, or int64
                `[k]`, one for each.

        Returns:
            A dataset of k uint8 images `[size, size, 3]`, 0..255.
        """
        indices = tf.convert_to_tensor(indices, tf.int64)
        load = self._loader()
        dataset = tf.data.Dataset.from_tensor_slices(indices)
        if view is None or self.views == 1:
            return _parallel_map(dataset, load)
        seeds = tf.constant(augment.image_seeds(self.keys), tf.int64)
        views = tf.broadcast_to(tf.cast(view, tf.int64), tf.shape(indices))
        # 15 and 15.0 are equal, and draw differently.
        vary = _traced(augment.augment, self.augmentation, self.augmentation.fingerprint())

        def load_view(index: tf.Tensor, view: tf.Tensor) -> tf.Tensor:
            return vary(load(index), seeds[index], view)

        dataset = tf.data.Dataset.zip((dataset, tf.data.Dataset.from_tensor_slices(views)))
        return _parallel_map(dataset, load_view)

    def batches(
        self,
        batch_size: int,
        *,
        seed: int | None = None,
        epochs: int = 1,
        first_epoch: int = 0,
        drop_remainder: bool = False,
        weights: np.ndarray | None = None,
        endless_views: bool = False,
    ) -> tf.data.Dataset:
        """Makes the batches for training (with a seed) or for evaluation (without).

        With a seed, epoch e shows `permutation(n, seed, e)` in view e modulo `views`, and the
        epochs follow each other in one dataset; no batch mixes two epochs. Without one, the
        samples come once, in order and as they are.

        Args:
            batch_size: Samples in a batch.
            seed: Of the order of samples.
            epochs: How many epochs; 1 without a seed.
            first_epoch: The first epoch's number, for a run that goes on.
            drop_remainder: Leave out each epoch's samples that do not fill a batch.
            weights: float32 `[samples]`, weights of the samples in the loss.
            endless_views: Show view e in epoch e, not modulo `views`.

        Returns:
            A dataset of `(x, y)` or `(x, y, w)`: uint8 `[batch, size, size, 3]` in 0..255,
            float32 `[batch, outputs]`, float32 `[batch]`.

        Raises:
            InputError: Several epochs without a seed, or no full batch.
        """
        per_epoch = self._batches_per_epoch(batch_size, drop_remainder)
        columns = [self.targets()] if weights is None else [self.targets(), weights]
        labels = tuple(tf.constant(column, tf.float32) for column in columns)

        def epoch_batches(indices: Indices, view: tf.Tensor | None) -> tf.data.Dataset:
            parts = [tf.data.Dataset.from_tensor_slices(tf.gather(y, indices)) for y in labels]
            samples = tf.data.Dataset.zip((self.images(indices, view), *parts))
            return samples.batch(batch_size, drop_remainder)

        if seed is None:
            _check_one_epoch(epochs, first_epoch)
            dataset = epoch_batches(np.arange(len(self)), None)
        else:
            order = self._order(seed)
            numbers = tf.data.Dataset.range(first_epoch, first_epoch + epochs)
            views = first_epoch + epochs if endless_views else self.views
            dataset = numbers.flat_map(lambda e: epoch_batches(order(e), e % views))
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(per_epoch * epochs))
        return dataset.with_options(_options()).prefetch(tf.data.AUTOTUNE)

    def _batches_per_epoch(self, batch_size: int, drop_remainder: bool) -> int:
        if drop_remainder and len(self) < batch_size:
            raise InputError(
                f"at least one full batch of {batch_size} samples",
                f"{len(self)} samples",
                "Make the batches smaller.",
            )
        return len(self) // batch_size if drop_remainder else -(-len(self) // batch_size)

    def _order(self, seed: int) -> Callable[[tf.Tensor], tf.Tensor]:
        """`permutation` as a graph operation."""

        def order(epoch: tf.Tensor) -> tf.Tensor:
            indices = tf.numpy_function(
                lambda number: self.order(seed, int(number)), [epoch], tf.int64
            )
            return tf.ensure_shape(indices, (len(self),))

        return order

    def _loader(self) -> Callable[[tf.Tensor], tf.Tensor]:
        """A function from a sample's index to its uint8 `[size, size, 3]`."""
        items = self.source.items
        first = items[0] if items else ""
        if isinstance(first, str):
            paths = tf.constant(items, tf.string)
            read = _traced(decode, self.image_input)
            return lambda index: read(tf.io.read_file(paths[index]))
        # Looked up one by one: as tensors, the items would be in memory twice.
        if isinstance(first, bytes):
            dtype, rank, fit = tf.string, 0, _traced(decode, self.image_input)
        else:
            dtype, rank, fit = tf.uint8, 3, _traced(fit_to_input, self.image_input)

        def load(index: tf.Tensor) -> tf.Tensor:
            item = tf.numpy_function(lambda i: items[i], [index], dtype)
            return fit(tf.ensure_shape(item, [None] * rank))

        return load


@functools.lru_cache(maxsize=32)
def _traced(
    function: Callable[..., tf.Tensor], settings: Any, *more_key: int
) -> Callable[..., tf.Tensor]:
    """A function of an image and its settings as one graph, made once for all data sets."""

    @tf.function(autograph=False)
    def traced(image: tf.Tensor, *more: tf.Tensor) -> tf.Tensor:
        return function(image, settings, *more)

    return traced


def _parallel_map(dataset: tf.data.Dataset, function: Callable[..., tf.Tensor]) -> tf.data.Dataset:
    return dataset.map(function, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


def _check_one_epoch(epochs: int, first_epoch: int) -> None:
    if (epochs, first_epoch) != (1, 0):
        raise InputError(
            "a seed for more than one epoch", "seed=None", "Give the seed of the order."
        )


def _options() -> tf.data.Options:
    options = tf.data.Options()
    # Several workers each take their share of the samples of one common order. (There are no
    # files to share out, as the default policy tries to first.)
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return options
