"""What a phase reads: images, or what the frozen prefix made of them."""

import functools
import hashlib
import json
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf

from keras_tl import engines
from keras_tl.engines import Engine
from keras_tl.errors import InputError
from keras_tl.feature_cache import Entry, Features, FeatureStore, batches_to_shards
from keras_tl.topology import calls

PASS_BATCH = 32
WORTH_CONVERTING = 256
ENGINES = ("auto", "tensorflow")
SECONDS_BETWEEN_LINES = 5.0

log = logging.getLogger("keras_tl")


class Images(Protocol):
    """Labelled images as training knows them; `keras_tl.data.pipeline.Samples` is one."""

    def __len__(self) -> int: ...

    @property
    def keys(self) -> list[str]:
        """SHA-256 of each image's content."""

    @property
    def views(self) -> int:
        """How many views of each image there are; epoch e reads view e modulo this."""

    def fingerprint(self, view: int | None) -> dict[str, Any]:
        """Everything beside the content that decides the pixels of a view."""

    def targets(self) -> np.ndarray:
        """Float32 `[images, outputs]`."""

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """The order of the images in an epoch: int64 `[images]`."""

    def images(self, indices: np.ndarray, view: int | None = None) -> tf.data.Dataset:
        """Pixels of the images at `indices`; a view is augmented, None is not."""

    def batches(
        self,
        batch_size: int,
        *,
        seed: int | None = None,
        epochs: int = 1,
        drop_remainder: bool = False,
        weights: np.ndarray | None = None,
    ) -> tf.data.Dataset:
        """Batches of pixels and targets, see `Samples.batches`."""


@dataclass(frozen=True)
class Pass:
    """One run of a frozen prefix over images.

    Attributes:
        view: The augmented view, or None for the plain images.
        images: How many images were asked for.
        computed: How many of them were not in the store.
    """

    view: int | None
    images: int
    computed: int


def fingerprint(prefix: keras.Model) -> str:
    """SHA-256 of a model's graph and weights; names and `trainable` flags do not count."""
    digest = hashlib.sha256()
    made = {id(tensor): index for index, tensor in enumerate(prefix.inputs)}
    for node in calls(prefix):
        config = node.operation.get_config() if _is_layer(node.operation) else node.arguments
        facts = {
            "class": type(node.operation).__name__,
            "config": _without_names(config) if isinstance(config, dict) else str(config.kwargs),
            "inputs": [made[id(tensor)] for tensor in node.input_tensors],
        }
        digest.update(json.dumps(facts, sort_keys=True, default=str).encode())
        for tensor in node.outputs:
            made[id(tensor)] = len(made)
        for weight in node.operation.weights if _is_layer(node.operation) else ():
            digest.update(np.ascontiguousarray(weight.numpy()).tobytes())
    digest.update(str([made[id(tensor)] for tensor in prefix.outputs]).encode())
    return digest.hexdigest()


def _is_layer(operation: Any) -> bool:
    return isinstance(operation, keras.layers.Layer)


def _without_names(config: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in config.items() if k not in ("name", "trainable", "seed")}


class PrefixPass:
    """Runs a frozen prefix over images, each image and view once.

    Args:
        prefix: The model's part before the cut.
        store: Where its outputs are kept.
        engine: "auto" takes the fastest one that agrees with Keras; "tensorflow" that one.
        verbose: 1 says how far a pass is, 0 does not.

    Raises:
        InputError: There is no such engine.
    """

    def __init__(
        self, prefix: keras.Model, store: FeatureStore, engine: str = "auto", verbose: int = 1
    ):
        if engine not in ENGINES:
            raise InputError(f"engine to be {' or '.join(ENGINES)}", repr(engine), "Choose one.")
        self.store = store
        self.verbose = verbose
        self.passes: list[Pass] = []
        self._prefix = prefix
        self._fingerprint = fingerprint(prefix)
        self._automatic = engine == "auto"
        self._engine: Engine | None = None

    def features(self, images: Images, view: int | None = None) -> Features:
        """Returns the prefix's outputs for every image, computing what is not stored.

        Args:
            images: The images.
            view: An augmented view, or None for the plain images.
        """
        keys = images.keys
        entry = self.store.open(prefix=self._fingerprint, pixels=images.fingerprint(view))
        missing = entry.missing(keys)
        if len(missing):
            self._compute(images, view, missing, entry)
        self.passes.append(Pass(view, len(images), len(missing)))
        return entry.read(keys)

    def _compute(self, images: Images, view: int | None, missing: np.ndarray, entry: Entry) -> None:
        keys = [images.keys[i] for i in missing]
        pixels = images.images(missing, view).batch(PASS_BATCH).prefetch(2)
        batches_to_shards(entry, keys, self._outputs(pixels, len(missing)))

    def _outputs(self, pixels: tf.data.Dataset, total: int) -> Iterator[list[np.ndarray]]:
        done, said = 0, time.monotonic()
        for batch in pixels.as_numpy_iterator():
            engine = self._engine or self._choose(batch, total)
            yield engine(batch)
            done += len(batch)
            if self.verbose and time.monotonic() - said > SECONDS_BETWEEN_LINES:
                said = time.monotonic()
                log.info("  %d of %d images through the frozen part", done, total)

    def _choose(self, sample: np.ndarray, total: int) -> Engine:
        """Chooses the engine when the first images are there; a few are not worth a conversion."""
        if self._automatic and total >= WORTH_CONVERTING:
            folder = self.store.folder(engine="LiteRT", prefix=self._fingerprint)
            self._engine = engines.choose(self._prefix, sample, folder, PASS_BATCH)
        else:
            self._engine = engines.TensorFlowEngine(self._prefix)
        log.info("  in %s", self._engine.name)
        return self._engine


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

    def batch_at(step: np.ndarray) -> list[np.ndarray]:
        epoch, position = divmod(int(step), steps)
        chosen = order(epoch)[position * batch_size : (position + 1) * batch_size]
        values = features[epoch % len(features)].gather(chosen)
        extra = [] if weights is None else [weights[chosen].astype(np.float32)]
        return [*values, targets[chosen], *extra]

    shapes = [*features[0].shapes, targets.shape[1:], *([()] if weights is not None else [])]

    def load(step: tf.Tensor) -> tuple[Any, ...]:
        values = tf.numpy_function(batch_at, [step], [tf.float32] * len(shapes))
        for value, shape in zip(values, shapes, strict=True):
            value.set_shape((None, *shape))
        inputs = len(features[0].shapes)
        x = values[0] if inputs == 1 else tuple(values[:inputs])
        return (x, *values[inputs:])

    dataset = tf.data.Dataset.range(steps * epochs).map(
        load, num_parallel_calls=2, deterministic=True
    )
    return dataset.prefetch(tf.data.AUTOTUNE)
