"""The one order of operations: permute, read, decode, resize, augment, batch, prefetch."""

import functools
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol, TypeAlias

import numpy as np
import tensorflow as tf

from keras_tl.data import augment, mixing
from keras_tl.data.augment import Augmentation
from keras_tl.data.decoding import ImageInput, decode, fit_to_input
from keras_tl.data.one_hot import OneHotRows, one_hot
from keras_tl.data.source import Source, content_hash
from keras_tl.data.text_input import TextInput
from keras_tl.data.threads import parallel_map, shared_options
from keras_tl.errors import InputError

Indices: TypeAlias = np.ndarray | tf.Tensor
# From an epoch's number to its samples and how often each was shown before: both int64 `[samples]`.
Order: TypeAlias = Callable[[int], tuple[np.ndarray, np.ndarray]]


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


class Tokenize(Protocol):
    """What makes tokens of strings; `keras_tl.backbones.host.Tokenize` is one."""

    @property
    def key(self) -> str:
        """Identifies it: with the same key, it makes the same tokens."""

    def __call__(self, strings: tf.Tensor) -> tf.Tensor:
        """Makes int32 `[batch, 2, length]` of strings `[batch]`, or of pairs `[batch, 2]`."""


@dataclass(frozen=True)
class Samples:
    """The items of a source as a model's inputs and targets.

    Attributes:
        source: The items and their labels.
        input_spec: How images are decoded and resized, or texts are cut.
        augmentation: What is done to images in training.
        tokenize: What makes tokens of texts; None leaves them strings.

    Raises:
        InputError: Targets of a regression were to be mixed by area.
    """

    source: Source
    input_spec: ImageInput | TextInput
    augmentation: Augmentation = augment.PRESETS["none"]
    tokenize: Tokenize | None = None

    def __post_init__(self) -> None:
        if self.mixes and self.source.task == "regression":
            fix = "Leave cutmix out: a part of a picture has no known value."
            raise InputError("classes for cutmix", "a regression", fix)

    def __len__(self) -> int:
        return len(self.source)

    def targets(self) -> np.ndarray:
        """Labels to train on: float32 `[samples, outputs]`; large ones are made on demand."""
        if self.source.task == "single-label":
            return one_hot(self.source.labels, len(self.source.class_names))
        return self.source.targets()

    @property
    def views(self) -> int:
        """How many views there are of each image; epoch e shows view e modulo this."""
        return self.augmentation.views or self.augmentation.cycle

    @property
    def mixes(self) -> bool:
        """Whether views show a box of another image."""
        return self.augmentation.cutmix > 0

    @functools.cached_property
    def keys(self) -> list[str]:
        """SHA-256 of each item's content, as `inspect` found it or else read anew."""
        found = zip(self.source.hashes, self.source.items, strict=True)
        return [known or content_hash(item) for known, item in found]

    def row_keys(self, view: int | None) -> list[str]:
        """A key for each image of a view: the hashes of all the images that it shows."""
        if view is None or not self.mixes:
            return self.keys
        mix = self._cutmix(np.arange(len(self)), np.full(len(self), view))
        shown = zip(self.keys, mix.partners, mix.areas > 0, strict=True)
        return [f"{key} {self.keys[other]}" if pasted else key for key, other, pasted in shown]

    def mixed(self, values: np.ndarray, view: int | None) -> np.ndarray:
        """Mixes values of images (targets, weights) by area, as a view mixes the images.

        Args:
            values: float32 `[samples, ...]`.
            view: The view's number, or None for the images as they are.

        Returns:
            float32 `[samples, ...]`; `values` themselves where nothing is mixed.
        """
        if view is None or not self.mixes:
            return values
        return self._mixed_rows(values, np.arange(len(self)), np.full(len(self), view))

    def fingerprint(self, view: int | None) -> dict[str, Any]:
        """Returns all that decides a view's inputs apart from their content, as JSON-ready facts.

        Args:
            view: The view's number, or None for the images as they are.
        """
        facts: dict[str, Any] = asdict(self.input_spec)
        if self.tokenize is not None:
            facts["tokenizer"] = self.tokenize.key
        if view is not None and self.views > 1:
            facts |= {"augmentation": self.augmentation.fingerprint(), "view": view}
        return facts

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """Returns the order of the samples in an epoch, see `permutation`."""
        return permutation(len(self), seed, epoch)

    def images(self, indices: Indices, view: Indices | int | None = None) -> tf.data.Dataset:
        """Reads, decodes, resizes and augments samples in the order given, or tokenizes texts.

        Args:
            indices: int64 `[k]`, which samples.
            view: None for the images as they are; the number of the augmented view, or int64
                `[k]`, one for each.

        Returns:
            A dataset of k uint8 images `[size, size, 3]`, 0..255; of texts, of int32 tokens
            `[2, length]` or of strings `[]` (pairs: `[2]`).
        """
        indices = tf.convert_to_tensor(indices, tf.int64)
        dataset = tf.data.Dataset.from_tensor_slices(indices)
        if isinstance(self.input_spec, TextInput):
            return parallel_map(dataset, self._text_loader(self.input_spec))
        if view is None or self.views == 1:
            return parallel_map(dataset, self._loader(self.input_spec))
        views = tf.broadcast_to(tf.cast(view, tf.int64), tf.shape(indices))
        dataset = tf.data.Dataset.zip((dataset, tf.data.Dataset.from_tensor_slices(views)))
        show = self._viewer()
        if not self.mixes:
            return parallel_map(dataset, show)
        partners, boxes = tf.numpy_function(
            self._drawn_boxes, [indices, views], (tf.int64, tf.int32)
        )
        mixes = tf.data.Dataset.from_tensor_slices((partners, tf.ensure_shape(boxes, (None, 4))))

        def show_both(
            shown: tuple[tf.Tensor, tf.Tensor], mix: tuple[tf.Tensor, tf.Tensor]
        ) -> tf.Tensor:
            (index, view), (partner, box) = shown, mix
            image = show(index, view)

            def pasted() -> tf.Tensor:
                return mixing.paste(image, show(partner, view), box)

            return tf.cond(box[2] > box[0], pasted, lambda: image)

        return parallel_map(tf.data.Dataset.zip((dataset, mixes)), show_both)

    def batches(
        self,
        batch_size: int,
        *,
        seed: int | None = None,
        epochs: int = 1,
        first_epoch: int = 0,
        first_step: int = 0,
        drop_remainder: bool = False,
        weights: np.ndarray | None = None,
        endless_views: bool = False,
        order: Order | None = None,
        steps: int | None = None,
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
            first_step: How many batches of the first epoch are left out.
            drop_remainder: Leave out each epoch's samples that do not fill a batch.
            weights: float32 `[samples]`, weights of the samples in the loss.
            endless_views: Show view e in epoch e, not modulo `views`.
            order: Replaces the seed's order of the epochs. A sample that was shown r times before
                is shown in view r modulo `views`, but at most as many views are used as there are
                epochs.
            steps: Batches in an epoch, if `order` does not give one row for each sample.

        Returns:
            A dataset of `(x, y)` or `(x, y, w)`: uint8 `[batch, size, size, 3]` in 0..255 (of
            texts, see `images`), float32 `[batch, outputs]`, float32 `[batch]`.

        Raises:
            InputError: Several epochs without a seed, or no full batch.
        """
        steps = steps or self._batches_per_epoch(batch_size, drop_remainder)
        count = steps * epochs - first_step
        columns = [self.targets()] if weights is None else [self.targets(), weights]

        def epoch_batches(indices: Indices, view: tf.Tensor | None) -> tf.data.Dataset:
            parts = [
                tf.data.Dataset.from_tensor_slices(self._labels(column, indices, view))
                for column in columns
            ]
            samples = tf.data.Dataset.zip((self.images(indices, view), *parts))
            return samples.batch(batch_size, drop_remainder)

        if seed is None and order is None:
            _check_one_epoch(epochs, first_epoch)
            dataset = epoch_batches(np.arange(len(self)), None)
        else:
            draw = self._draw(order or self._shuffled(seed or 0))
            numbers = tf.data.Dataset.range(first_epoch, first_epoch + epochs)
            views = 2**62 if endless_views else min(self.views, first_epoch + epochs)

            @tf.autograph.experimental.do_not_convert
            def epoch(number: tf.Tensor) -> tf.data.Dataset:
                left_out = first_step * batch_size * tf.cast(number == first_epoch, tf.int64)
                indices, shown_before = (part[left_out:] for part in draw(number))
                return epoch_batches(indices, shown_before % views)

            dataset = numbers.flat_map(epoch)
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(count))
        return dataset.with_options(shared_options()).prefetch(tf.data.AUTOTUNE)

    def _batches_per_epoch(self, batch_size: int, drop_remainder: bool) -> int:
        if drop_remainder and len(self) < batch_size:
            raise InputError(
                f"at least one full batch of {batch_size} samples",
                f"{len(self)} samples",
                "Make the batches smaller.",
            )
        return len(self) // batch_size if drop_remainder else -(-len(self) // batch_size)

    def _shuffled(self, seed: int) -> Order:
        def order(epoch: int) -> tuple[np.ndarray, np.ndarray]:
            return self.order(seed, epoch), np.full(len(self), epoch, np.int64)

        return order

    def _draw(self, order: Order) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
        """An order as a graph operation."""

        def draw(epoch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            found = tf.numpy_function(lambda e: order(int(e)), [epoch], (tf.int64, tf.int64))
            return tf.ensure_shape(found[0], (None,)), tf.ensure_shape(found[1], (None,))

        return draw

    def _labels(self, values: np.ndarray, indices: Indices, views: tf.Tensor | None) -> tf.Tensor:
        """Targets or weights of samples in their views."""
        if views is None or not self.mixes:
            if isinstance(values, OneHotRows):
                return tf.one_hot(tf.gather(values.labels, indices), values.shape[1])
            return tf.gather(tf.constant(values, tf.float32), indices)
        found = tf.numpy_function(
            lambda i, v: self._mixed_rows(values, i, v), [indices, views], tf.float32
        )
        return tf.ensure_shape(found, (None, *values.shape[1:]))

    def _mixed_rows(self, values: np.ndarray, indices: np.ndarray, views: np.ndarray) -> np.ndarray:
        mix = self._cutmix(indices, views)
        share = mix.areas / self._pictures.size**2
        share = share.reshape(-1, *[1] * (values.ndim - 1)).astype(np.float32)
        mixed = (1 - share) * values[indices] + share * values[mix.partners]
        return mixed.astype(np.float32)

    def _drawn_boxes(self, indices: np.ndarray, views: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mix = self._cutmix(indices, views)
        return mix.partners, mix.boxes

    def _cutmix(self, indices: np.ndarray, views: np.ndarray) -> mixing.CutMix:
        return mixing.draw_cutmix(
            self._circle,
            indices,
            views,
            probability=self.augmentation.cutmix,
            settings=self.augmentation.fingerprint(),
            size=self._pictures.size,
        )

    @functools.cached_property
    def _circle(self) -> mixing.Circle:
        return mixing.Circle(self._seeds)

    @functools.cached_property
    def _seeds(self) -> np.ndarray:
        return augment.image_seeds(self.keys)

    @property
    def _pictures(self) -> ImageInput:
        """The input settings of images, for what only images have."""
        if isinstance(self.input_spec, TextInput):
            raise InputError("images to augment", "texts", "Leave the augmentation out.")
        return self.input_spec

    def _text_loader(self, text_input: TextInput) -> Callable[[tf.Tensor], tf.Tensor]:
        """A function from a sample's index to its tokens, or to its strings."""
        items, texts, tokenize = self.source.items, text_input.texts, self.tokenize

        # Looked up one by one: as tensors, the texts would be in memory twice.
        def encoded(index: np.ndarray) -> np.ndarray:
            found = [text.encode("utf-8", "replace") for text in items[index]]
            return np.array(found if texts > 1 else found[0], dtype=object)

        def load(index: tf.Tensor) -> tf.Tensor:
            strings = tf.numpy_function(encoded, [index], tf.string)
            strings = tf.ensure_shape(strings, [texts] if texts > 1 else [])
            return strings if tokenize is None else tokenize(strings[None])[0]

        return load

    def _viewer(self) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
        """A function from a sample's index and a view to its uint8 `[size, size, 3]`."""
        larger = self.augmentation.read_size(self._pictures.size)
        load = self._loader(replace(self._pictures, size=larger))
        seeds = tf.constant(self._seeds, tf.int64)
        # The fingerprint belongs to the key: 15 and 15.0 are equal, but draw differently.
        vary = _traced(augment.augment, self.augmentation, self.augmentation.fingerprint())
        return lambda index, view: vary(load(index), seeds[index], view)

    def _loader(self, image_input: ImageInput) -> Callable[[tf.Tensor], tf.Tensor]:
        """A function from a sample's index to its uint8 `[size, size, 3]`."""
        items = self.source.items
        first = items[0] if items else ""
        if isinstance(first, str):
            paths = tf.constant(items, tf.string)
            read = _traced(decode, image_input, True)
            return lambda index: read(tf.io.read_file(paths[index]))
        # Looked up one by one: as tensors, the items would be in memory twice.
        if isinstance(first, bytes):
            dtype, rank, fit = tf.string, 0, _traced(decode, image_input, True)
        else:
            dtype, rank, fit = tf.uint8, 3, _traced(fit_to_input, image_input)

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


def _check_one_epoch(epochs: int, first_epoch: int) -> None:
    if (epochs, first_epoch) != (1, 0):
        raise InputError(
            "a seed for more than one epoch", "seed=None", "Give the seed of the order."
        )
