"""Passes of a frozen prefix over images: each image and view once, for later phases too."""

import logging
import math
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_tl import engines
from keras_tl.engines import Engine
from keras_tl.errors import InputError
from keras_tl.feature_cache import Entry, Features, FeatureStore, ShardWriter, no_room
from keras_tl.fingerprints import fingerprint
from keras_tl.replicas import for_a_cpu, has_accelerator
from keras_tl.shards import compact
from keras_tl.shared_store import exchange, nobody_has, share_of
from keras_tl.training.feeds import run_in_batches
from keras_tl.training.images import Images
from keras_tl.training.planning import LaterPrefix, View

PASS_BATCH = 32
# Outputs of up to this many bytes per image are stored if there is room; larger ones are weighed
# first.
SMALL_ITEM = 2**18
# The largest relative change of the loss that storing as float16 may cause.
NEGLIGIBLE = 1e-3
ENGINES = ("auto", "tensorflow")
SECONDS_BETWEEN_LINES = 5.0

log = logging.getLogger("keras_tl")


@dataclass(frozen=True)
class Pass:
    """One run of a frozen prefix over images.

    Attributes:
        view: The augmented view, or None for the plain images.
        images: How many images were asked for.
        computed: How many of them were not in the store.
    """

    view: View
    images: int
    computed: int


class PrefixPass:
    """Runs a frozen prefix over images and keeps its outputs.

    Args:
        prefix: The model's part before the cut.
        store: Where its outputs are kept.
        later: Prefixes of later phases, whose outputs are stored on the way.
        engine: "auto" takes the fastest one that agrees with Keras; "tensorflow" that one.
        verbose: 1 says how far a pass is, 0 does not.

    Attributes:
        passes: What was run.
        to_come: How many images are still to be run, as far as is known: `settle` counts them. For
            few images, no engine is converted.

    Raises:
        InputError: There is no such engine.
    """

    def __init__(
        self,
        prefix: keras.Model,
        store: FeatureStore,
        later: Sequence[LaterPrefix] = (),
        engine: str = "auto",
        verbose: int = 1,
    ):
        if engine not in ENGINES:
            raise InputError(f"engine to be {' or '.join(ENGINES)}", repr(engine), "Choose one.")
        self.verbose = verbose
        self.passes: list[Pass] = []
        models = [prefix, *(other.prefix for other in later)]
        # Of whole numbers, such as token ids, 16 bits would make others.
        exact = all(_fits_16_bits(tensor) for model in models for tensor in model.outputs)
        self.store = store if exact else store.settled("float32")
        if not has_accelerator():
            # All devices of a strategy are this one CPU, which is slow in 16 bits.
            models = for_a_cpu(models)
        self._prefix = models[0]
        self._later = [
            replace(other, prefix=model) for other, model in zip(later, models[1:], strict=True)
        ]
        self._automatic = engine == "auto"
        self._keys = {id(model): fingerprint(model) for model in models}
        self._engines: dict[tuple[int, ...], Engine] = {}
        self._references: dict[tuple[int, ...], tuple[keras.Model, Engine]] = {}
        self.to_come = 0

    def features(self, images: Images, view: View = None) -> Features:
        """Returns the prefix's outputs for every image, computing what is not stored.

        Args:
            images: The images.
            view: An augmented view, or None for the plain images.
        """
        entry = self._entry(self._prefix, images, view)
        keys = images.row_keys(view)
        missing = nobody_has(entry, keys, self.store.workers)
        if len(missing):
            self._compute(images, view, missing, entry)
        else:
            exchange(entry, keys, self.store.workers)
        self.passes.append(Pass(view, len(images), len(missing)))
        return entry.read(keys)

    def settle(
        self,
        images: Images,
        views: Sequence[View],
        measure: Callable[..., Any],
        also: Images | None = None,
    ) -> str:
        """Decides by a first batch whether and how outputs are stored.

        Where float16 would move what is measured by more than `NEGLIGIBLE`, a store of dtype
        "auto" keeps float32. Nothing is stored if there is no room for all of it, nor large outputs
        if writing and reading them takes longer than computing them again.

        Args:
            images: The images to train on.
            views: The views that will be read.
            measure: The loss of one batch, or anything whose change is to be negligible, from
                the prefix's outputs and the indices of the images.
            also: Images that are read too, as they are.

        Returns:
            Why outputs are to be computed again at every step, or "" if they are to be stored.
        """
        workers, decided = self.store.workers, None
        if workers.is_chief:
            before = list(self._later)
            why = self._weigh(images, views, measure, also)
            kept = [index for index, later in enumerate(before) if later in self._later]
            self._later = before
            decided = why, None if self.store.automatic else self.store.dtype, kept, self.to_come
        elif self._missing(self._prefix, images, views):
            # Traced while the chief weighs, not after it.
            self._reference()
        # The chief decides for all, since machines may differ in speed and disk.
        why, dtype, kept, self.to_come = workers.share(decided)
        self.store = self.store.settled(dtype) if dtype else self.store
        self._later = [self._later[index] for index in kept]
        return why

    def _weigh(
        self,
        images: Images,
        views: Sequence[View],
        measure: Callable[..., Any],
        also: Images | None,
    ) -> str:
        """See `settle`, for this process alone."""
        self.to_come = self._missing(self._prefix, images, views)
        if not self.to_come:
            return ""
        if also is not None:
            self.to_come += self._missing(self._prefix, also, [None])
        if self.store.automatic:
            self._settle_dtype(images, views[0], measure)
            # As float32, all outputs may be stored already.
            if not self._missing(self._prefix, images, views):
                return ""
        needed = self._bytes_to_come(self._prefix, images, views, also)
        room = self.store.room()
        if needed > room:
            return f"since {needed / 1e6:,.0f} MB of outputs do not fit into the store"
        self.store.make_room(needed)
        self._leave_out_later(images, views, also, room - needed)
        # With engine="tensorflow" results must be the same each time, so no timing decides.
        if item_bytes(self._prefix) <= SMALL_ITEM or not self._automatic:
            return ""
        pixels, _ = _first_batch(images, views[0])
        engine = self._engine([self._prefix], pixels, self.to_come)
        packed = [compact(output, self.store.dtype) for output in engine(pixels)]
        started = time.perf_counter()
        engine(_first_batch(images, views[0])[0])
        computing = time.perf_counter() - started
        storing = _seconds_to_store(packed, self.store)
        if storing > computing:
            return f"since to store and read them takes {storing / computing:.1f} times as long"
        return ""

    def recompute(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        """Runs the prefix on batches of (pixels, ...) as they come, rounding as the store does."""
        # Traced here, not in a thread of the dataset's.
        self._reference([self._prefix])

        def run(pixels: np.ndarray) -> list[np.ndarray]:
            engine = self._engine([self._prefix], pixels, math.inf)
            found = [compact(output, self.store.dtype) for output in engine(pixels)]
            return [output.astype(np.float32) for output in found]

        return run_in_batches(self._prefix, batches, run)

    def _missing(self, prefix: keras.Model, images: Images, views: Sequence[View]) -> int:
        """How many outputs of these images and views are not stored."""
        return sum(
            len(self._entry(prefix, images, view).missing(images.row_keys(view))) for view in views
        )

    def _bytes_to_come(
        self, prefix: keras.Model, images: Images, views: Sequence[View], also: Images | None
    ) -> int:
        missing = self._missing(prefix, images, views)
        missing += self._missing(prefix, also, [None]) if also is not None else 0
        return missing * item_bytes(prefix, self.store.dtype)

    def _leave_out_later(
        self, images: Images, views: Sequence[View], also: Images | None, room: int
    ) -> None:
        """Drops prefixes of later phases if there is no room to store their outputs now."""
        fitting = []
        for later in self._served():
            shared = [view for view in views if view is None or view in later.views]
            room -= self._bytes_to_come(later.prefix, images, shared, also)
            if room < 0:
                break
            fitting.append(later)
        self._later = fitting

    def _settle_dtype(self, images: Images, view: View, measure: Callable[..., Any]) -> None:
        pixels, indices = _first_batch(images, view)
        # In TensorFlow: a conversion for one batch would take longer.
        _, engine = self._reference()
        outputs = engine(pixels)[: len(self._prefix.outputs)]
        exact = np.asarray(measure(outputs, indices))
        narrow = [compact(output, "float16").astype(np.float32) for output in outputs]
        change = np.linalg.norm(np.asarray(measure(narrow, indices)) - exact)
        moved = float(change / max(float(np.linalg.norm(exact)), 1e-12))
        if moved > NEGLIGIBLE:
            log.info("  kept as float32: float16 would move the loss by %.1e of it", moved)
        self.store = self.store.settled("float32" if moved > NEGLIGIBLE else "float16")

    def _entry(self, prefix: keras.Model, images: Images, view: View) -> Entry:
        facts = {"prefix": self._keys[id(prefix)], "pixels": images.fingerprint(view)}
        # With engine="tensorflow", outputs of engines that differ in the last bits are not used.
        return self.store.open(**facts, exact=not self._automatic)

    def _compute(self, images: Images, view: View, missing: np.ndarray, entry: Entry) -> None:
        """Runs the missing images, for this prefix and the later ones that lack the same."""
        models, entries = [self._prefix], [entry]
        row_keys, workers = images.row_keys(view), self.store.workers
        for later in self._served():
            other = self._entry(later.prefix, images, view)
            if (view is None or view in later.views) and np.array_equal(
                nobody_has(other, row_keys, workers), missing
            ):
                models.append(later.prefix)
                entries.append(other)
        missing = share_of(missing, workers)
        item = sum(item_bytes(model, self.store.dtype) for model in models)
        self.store.make_room(len(missing) * item)
        keys = [row_keys[i] for i in missing]
        pixels = images.images(missing, view).batch(PASS_BATCH).prefetch(2)
        done, said = 0, time.monotonic()
        with ExitStack() as stack:
            writers = [stack.enter_context(ShardWriter(entry, keys)) for entry in entries]
            for batch in pixels.as_numpy_iterator():
                engine = self._engine(models, batch, len(missing))
                outputs = iter(engine(batch) if self._automatic else _as_in_a_full(engine, batch))
                for model, writer in zip(models, writers, strict=True):
                    writer.add([next(outputs) for _ in model.outputs])
                done += len(batch)
                if self.verbose and time.monotonic() - said > SECONDS_BETWEEN_LINES:
                    said = time.monotonic()
                    log.info("  %d of %d through the frozen part", done, len(missing))
        for each in entries:
            exchange(each, row_keys, workers)

    def _served(self) -> list[LaterPrefix]:
        """Later prefixes that this pass can serve; large ones are weighed in their own phase."""
        return [later for later in self._later if item_bytes(later.prefix) <= SMALL_ITEM]

    def _reference(self, models: list[keras.Model] | None = None) -> tuple[keras.Model, Engine]:
        """Prefixes as one model, by default all that a pass serves, and its TensorFlow engine."""
        models = models or [self._prefix, *(later.prefix for later in self._served())]
        which = tuple(id(model) for model in models)
        if which not in self._references:
            joint = models[0]
            if len(models) > 1:
                tensors = [tensor for model in models for tensor in model.outputs]
                joint = keras.Model(joint.input, tensors, name="frozen_prefixes")
            self._references[which] = joint, engines.reference(joint)
        return self._references[which]

    def _engine(self, models: list[keras.Model], sample: np.ndarray, total: float) -> Engine:
        """The engine for these prefixes as one model, chosen on the first images."""
        which = tuple(id(model) for model in models)
        if which in self._engines:
            return self._engines[which]
        joint, engine = self._reference(models)
        if self._automatic:
            keys = [self._keys[id(model)] for model in models]
            folder = self.store.folder(engine="converted", prefixes=keys)
            total = max(total, self.to_come)
            engine = engines.choose(joint, sample, folder, total, engine)
        log.info("  in %s", engine.name)
        self._engines[which] = engine
        return engine


def _fits_16_bits(tensor: Any) -> bool:
    dtype = tf.as_dtype(tensor.dtype)
    return dtype.is_floating or dtype == tf.bool


def _first_batch(images: Images, view: View) -> tuple[np.ndarray, np.ndarray]:
    """Pixels and indices of the first images."""
    indices = np.arange(min(PASS_BATCH, len(images)))
    dataset = images.images(indices, view).batch(PASS_BATCH)
    return next(dataset.as_numpy_iterator()), indices


def _as_in_a_full(engine: Engine, batch: np.ndarray) -> list[np.ndarray]:
    """The outputs as in a full batch, to the bit: TensorFlow rounds one image's otherwise.

    So they do not depend on what else is stored already.
    """
    filling = np.repeat(batch[:1], PASS_BATCH - len(batch), axis=0)
    return [output[: len(batch)] for output in engine(np.concatenate([batch, filling]))]


def item_bytes(prefix: keras.Model, dtype: str = "float16") -> int:
    """Bytes of the outputs of one image."""
    numbers = sum(math.prod(side or 1 for side in output.shape[1:]) for output in prefix.outputs)
    return numbers * np.dtype(dtype).itemsize


def _seconds_to_store(arrays: list[np.ndarray], store: FeatureStore) -> float:
    """Seconds to write arrays to the store's disk and to read them back."""
    started = time.perf_counter()
    try:
        # It has no name, so that nothing stays of it whatever happens.
        with tempfile.TemporaryFile(dir=store.root) as file:
            for array in arrays:
                np.save(file, array)
            file.flush()
            os.fsync(file.fileno())
            file.seek(0)
            for _ in arrays:
                np.load(file).astype(np.float32)
    except OSError as error:
        raise no_room(store.root, error) from error
    return time.perf_counter() - started


def batch_loss(
    suffix: keras.Model, loss: keras.losses.Loss, images: Images
) -> Callable[[list[np.ndarray], np.ndarray], float]:
    """What `PrefixPass.settle` measures: a batch's loss, from the prefix's outputs and indices.

    Args:
        suffix: The model after the cut.
        loss: The loss of the phase.
        images: The images that the indices refer to.
    """

    def measure(outputs: list[np.ndarray], indices: np.ndarray) -> float:
        x = outputs[0] if len(outputs) == 1 else outputs
        return float(loss(images.targets()[indices], suffix(x, training=False)))

    return measure
