"""Training: a list of phases, run over data.

Every phase goes through Keras' own `fit`, on a `TrainingModel`: the same layers as the model that
was given, from the cut of the frozen prefix on. The model, its optimizer and the compilation live
in the strategy's scope, and batches are whole: so the same call runs on one device and on several.
"""

import functools
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_tl import frozen_prefix, strategies, tasks
from keras_tl.backbones.host import behind_host
from keras_tl.feature_cache import Features, FeatureStore
from keras_tl.fingerprints import fingerprint
from keras_tl.freezing import FreezingSummary
from keras_tl.training import arguments, checks
from keras_tl.training.anchors import start_values
from keras_tl.training.averaging import AveragedWeights, check_averaging
from keras_tl.training.callbacks import BestWeights, PhaseLog
from keras_tl.training.feeds import feature_batches, features_of, largest_batch, run_in_batches
from keras_tl.training.guard import FreezingGuard
from keras_tl.training.head_start import start_fitted
from keras_tl.training.images import Images
from keras_tl.training.mixup import check_mixable, mixup
from keras_tl.training.model import parts_of, training_model
from keras_tl.training.passes import Pass, PrefixPass, batch_loss
from keras_tl.training.phases import Phase
from keras_tl.training.planning import LaterPrefix, View, later_prefixes, trained_layers, views_of
from keras_tl.training.refinement import REFINED_LOSS, RefinedLoss
from keras_tl.training.reports import PhaseReport, TrainingResult
from keras_tl.training.resume import Checkpoint, facts_of
from keras_tl.training.sampling import order_of, sample_weights
from keras_tl.training.saver import Saver
from keras_tl.training.sharing import Sharing, batches_of

log = logging.getLogger("keras_tl")


def run_phases(
    model: keras.Model,
    phases: Sequence[Phase] | Phase,
    train: Images,
    val: Images | None = None,
    *,
    task: str = "single-label",
    batch_size: int = 32,
    micro_batches: int = 1,
    seed: int = 0,
    class_weights: Sequence[float] | Mapping[int, float] | None = None,
    feature_store: FeatureStore | bool = True,
    engine: str = "auto",
    each_step: bool = False,
    strategy: tf.distribute.Strategy | None = None,
    callbacks: Callable[[Phase], Sequence[keras.callbacks.Callback]] | None = None,
    on_epoch: Callable[[list[dict[str, Any]]], None] | None = None,
    checkpoint: Checkpoint | None = None,
    verbose: int = 1,
) -> TrainingResult:
    """Trains a model, phase after phase.

    Before a phase its policy is applied. What is then frozen from the input on is run once over
    each image and view, and only the rest is trained; the result is that of training the whole.

    Args:
        model: A functional model from a builder, or another of one input and one output; trained in
            place.
        phases: What to do, in order; a single phase may stand for a list of one.
        train: The images to learn from.
        val: The images that choose the best epoch; None, or a split without images, keeps the last
            epoch's weights.
        task: A name in `keras_tl.tasks`.
        batch_size: Items in a batch over all devices; lowered to the number of training images.
        micro_batches: Number of parts in which each device computes its batch, to save memory; see
            `keras_tl.training.model.TrainingModel`.
        seed: Decides the order of the images. For initial weights and dropout call
            `keras.utils.set_random_seed` before the model is built.
        class_weights: What each class counts in the loss, for classes in order or by their index.
        feature_store: Where the frozen prefix's outputs are kept; True is the store in the
            user's cache folder, False computes the whole model at every step.
        engine: What runs the frozen prefix: "auto" takes the fastest engine that agrees with
            Keras, "tensorflow" that one.
        each_step: Whether callbacks are to see each step. If not, and only a head trains, many
            steps run at once, with one `on_train_batch_end` for all of them.
        strategy: Where to train, and where the model was built; by default
            `keras_tl.strategies.current()`, for which the builders build.
        callbacks: Gives further Keras callbacks for a phase; each sees only that phase's `fit`.
        on_epoch: Called after each epoch with the history so far.
        checkpoint: Where the state of training is kept; training resumes from what is there.
        verbose: As in `fit`; 0 is silent.

    Returns:
        History and reports.

    Raises:
        InputError: No training images, or fewer than the devices; a task or a model that the data
            are not for; what the task has no use for; a checkpoint of another training.
        CheckError: Something frozen moved, or something trainable cannot learn.
        LostWorkerError: Another process of the training is gone.
    """
    given = arguments.read(model, phases, train, val, class_weights, callbacks)
    model, phases, class_weights = given
    strategy = strategy or strategies.current()
    strategies.check_supported(strategy)
    sharing = Sharing(strategy)
    store = FeatureStore() if feature_store is True else feature_store or None
    store = store and store.for_a_run().among(sharing.workers)
    val = val if val is not None and len(val) else None
    batch_size = checks.whole_batch(batch_size, len(train), sharing.devices * micro_batches)
    sharing.check_alike(model, phases, train, val, store, batch_size, seed, class_weights)
    checks.check_training(model, phases, train, val, task, class_weights)
    weights = sample_weights(train.targets(), class_weights)
    data = _Data(train, val, task, batch_size, weights)
    starts = start_values(model) if any(phase.l2_sp for phase in phases) else {}
    # Applies every policy once, so that one that does not fit is refused before any work; adapters
    # are made here.
    with strategy.scope():
        check_averaging(model, phases)
        later = later_prefixes(model, phases, train)
    result, done = TrainingResult(), []
    if checkpoint:
        facts = facts_of(phases, train, val, batch_size, seed, class_weights)
        facts["model"] = fingerprint(model, trained_layers(model, phases))
        done = checkpoint.begin(model, result.history, facts)
    for index, phase in enumerate(phases):
        summary = phase.freezing.apply(model)
        own = arguments.callbacks_of(callbacks, phase)
        if checkpoint and index < len(done):
            checkpoint.give_back(own, index)
            result.phases.append(PhaseReport.read(phase, summary, done[index]))
            continue
        log.info("Phase %d of %d, %s. %s", index + 1, len(phases), phase.name, summary)
        if checks.are_pretrained(phases):
            checks.warn_of_fast_rate(model, phase)
        place = (checkpoint, index)
        runner = _PhaseRun(model, phase, data, store, later[index], engine, place, sharing, verbose)
        runner.compile(micro_batches, starts, each_step)
        extra = [*own, PhaseLog(phase.name, result.history, on_epoch)]
        with sharing.workers.losses_told(), checks.memory_told(batch_size, micro_batches):
            seconds = runner.run(seed + 7919 * index, extra)
        result.phases.append(runner.report(summary, seconds))
        if checkpoint:
            reports = [report.kept() for report in result.phases]
            checkpoint.end_phase(model, result.history, reports, own)
    return result


class _Data(NamedTuple):
    """What all phases are given."""

    train: Images
    val: Images | None
    task: str
    batch_size: int
    weights: np.ndarray | None


class _PhaseRun:
    """One phase on one model: what is cut, compiled, fed and fitted."""

    def __init__(
        self,
        model: keras.Model,
        phase: Phase,
        data: _Data,
        store: FeatureStore | None,
        later: Sequence[LaterPrefix],
        engine: str,
        place: tuple[Checkpoint | None, int],
        sharing: Sharing,
        verbose: int,
    ):
        self.whole, self.phase, self.data, self.verbose = model, phase, data, verbose
        self.sharing = sharing
        self.checkpoint, self.index = place
        self.steps = len(data.train) // data.batch_size
        self.val_parts: list[np.ndarray] | None = None
        if data.val is not None:
            self.val_parts = sharing.parts(len(data.val), data.batch_size)
        self.prefix: PrefixPass | None = None
        self.head_is_fitted = False
        self.cut: tuple[str, ...] = ()
        self.passes: list[Pass] = []
        part = behind_host(model)
        parts = frozen_prefix.split(model)
        self.has_prefix = parts.prefix is not None
        if parts.prefix is not None and store is not None:
            self.cut, part = parts.last_layers, parts.suffix
            self.prefix = PrefixPass(parts.prefix, store, later, engine, verbose)
            self.passes = self.prefix.passes
        # Mixup acts at the cut even without a store, so batches must be computed up to it.
        self.cut_for_mixup: keras.Model | None = None
        if phase.mixup and store is None and parts.prefix is not None:
            self.cut, part, self.cut_for_mixup = parts.last_layers, parts.suffix, parts.prefix
        self.part = part

    def compile(self, micro_batches: int, starts: dict[int, np.ndarray], each_step: bool) -> None:
        """Compiles what trains; before `run`."""
        with self.sharing.strategy.scope():
            self.fitted = training_model(self.part, self.whole)
            self.fitted.micro_batches = micro_batches
            self.fitted.mean_over_workers = self.sharing.mean
            treatments = self.phase.treatments(self.whole, starts)
            self.fitted.compile(
                optimizer=self.phase.build_optimizer(self.steps, treatments),
                loss=self._loss(),
                metrics=list(tasks.get(self.data.task).metrics),
                steps_per_execution=1 if each_step else self._steps_at_once,
            )
            self.sharing.add_up_gradients(self.fitted.optimizer)

    def run(self, seed: int, callbacks: list[keras.callbacks.Callback]) -> dict[str, float]:
        """Feeds and fits; returns the seconds of both."""
        started = time.perf_counter()
        batches, validation = self.feeds(seed)
        prepared = time.perf_counter()
        self.fit(batches, validation, callbacks)
        return {"passes": prepared - started, "training": time.perf_counter() - prepared}

    def _loss(self) -> keras.losses.Loss:
        return self.phase.build_loss(self.data.task, self.data.train.targets())

    def report(self, summary: FreezingSummary, seconds: dict[str, float]) -> PhaseReport:
        """What is to be known of the phase."""
        rate = self.phase.learning_rate
        return PhaseReport(self.phase.name, summary, self.cut, tuple(self.passes), seconds, rate)

    @property
    def _steps_at_once(self) -> int:
        on_vectors = all(len(tensor.shape) == 2 for tensor in self.fitted.inputs)
        return self.sharing.steps_at_once(self.steps, on_vectors=on_vectors)

    @property
    def _first(self) -> tuple[int, int]:
        """The epoch and the step in it that training begins with."""
        if self.checkpoint is None:
            return 0, 0
        return self.checkpoint.feed_from(self.steps, self.phase.epochs)

    def feeds(self, seed: int) -> tuple[tf.data.Dataset, tf.data.Dataset | None]:
        """Training and validation batches; the frozen prefix runs here, and mixup behind it."""
        if self.phase.mixup:
            # From a store, whole numbers come as floats. Masks are joined.
            check_mixable([t.dtype for t in self.part.inputs if t.dtype != "bool"])
        batches, validation = self._unmixed(seed)
        if self.phase.mixup:
            log.info("Mixup acts %s", f"at {' and '.join(self.cut)}" if self.cut else "on pixels")
            epoch, step = self._first
            first = (epoch * self.steps + step) * self.sharing.local
            # Each device mixes its part of the batch.
            batches = mixup(batches, self.phase.mixup, seed + self.sharing.workers.index, first)
        return batches, validation

    def _unmixed(self, seed: int) -> tuple[tf.data.Dataset, tf.data.Dataset | None]:
        how = self._order(seed)
        if self.prefix is None:
            return self._uncut(how)
        train, where = self.data.train, " and ".join(self.cut)
        views = views_of(train, self.phase.epochs)
        loss = batch_loss(self.part, self._loss(), train)
        if why := self.prefix.settle(train, views, loss, self.data.val):
            log.info("Frozen up to %s: computed again at every step, %s", where, why)
            plain = self._plain()
            batches = train.batches(self._batch_size, drop_remainder=True, **how)
            recompute = self.prefix.recompute
            return recompute(batches), None if plain is None else recompute(plain)
        log.info("Frozen up to %s: computed once for each item", where)
        return self._stored(self.prefix, views, how)

    def _uncut(self, how: dict[str, Any]) -> tuple[tf.data.Dataset, tf.data.Dataset | None]:
        """Batches of the model's own inputs."""
        # Without a frozen prefix nothing can be reused, so every epoch has new views.
        endless, plain = not self.has_prefix, self._plain()
        batches = self.data.train.batches(
            self._batch_size, drop_remainder=True, endless_views=endless, **how
        )
        if self.cut_for_mixup is None:
            return batches, plain
        run = functools.partial(run_in_batches, self.cut_for_mixup)
        return run(batches), None if plain is None else run(plain)

    def _stored(
        self, prefix: PrefixPass, views: Sequence[View], how: dict[str, Any]
    ) -> tuple[tf.data.Dataset, tf.data.Dataset | None]:
        """Batches of stored features; a head's start is fitted to them."""
        train, val, weights = self.data.train, self.data.val, self.data.weights
        features = [prefix.features(train, view) for view in views]
        held = validation = None
        if val is not None:
            held = val, prefix.features(val)
            validation = self._validation(*held)
        if self.phase.head_start == "fitted":
            fit_to, how_often = (train, features[0]), self.phase.sampling
            workers = self.sharing.workers
            self.head_is_fitted = start_fitted(self.part, fit_to, held, weights, how_often, workers)
        asked = sum(done.images for done in self.passes)
        computed = sum(done.computed for done in self.passes)
        log.info("  %d passes, %d items: %d computed now", len(self.passes), asked, computed)
        return feature_batches(features, train, self._batch_size, **how), validation

    @property
    def _batch_size(self) -> int:
        """The batch size of one device."""
        return self.data.batch_size // self.sharing.devices

    def _order(self, seed: int) -> dict[str, Any]:
        """Which items training is fed with, and where it begins."""
        epoch, step = self._first
        local = self.sharing.local
        order = order_of(self.phase.sampling, self.data.train, seed, self.data.task)
        return {
            "order": self.sharing.order(order, self.data.batch_size),
            "epochs": self.phase.epochs - epoch,
            "first_epoch": epoch,
            "first_step": step * local,
            "steps": self.steps * local,
            "weights": self.data.weights,
        }

    def _plain(self) -> tf.data.Dataset | None:
        """Validation batches of this process's devices."""
        val, parts = self.data.val, self.val_parts
        if val is None:
            return None
        return val.batches(self._batch_size) if parts is None else batches_of(val, parts)

    def _validation(self, val: Images, stored: Features) -> tf.data.Dataset:
        """The same, from stored features."""
        if self.val_parts is None:
            return feature_batches([stored], val, largest_batch(stored, self._batch_size))
        return features_of(stored, val, self.val_parts)

    def fit(
        self,
        batches: tf.data.Dataset,
        validation: tf.data.Dataset | None,
        callbacks: list[keras.callbacks.Callback],
    ) -> None:
        first = next(iter(batches.take(1)))
        self.fitted.sample = first
        if not self.cut:
            checks.warn_of_scaled_pixels(first[0])
        part = parts_of(first, self.fitted.micro_batches)[0]
        guard = FreezingGuard(self.whole, part, self.phase.allow_zero_gradient)
        chosen: list[keras.callbacks.Callback] = []
        if self.phase.averaging is not None:
            chosen.append(AveragedWeights(self.phase.averaging, self.phase.epochs))
        if validation is not None:
            chosen += self._judges(validation)
        epochs, (epoch, step) = self.phase.epochs, self._first
        callbacks = [guard, *chosen, *callbacks]
        if self.checkpoint:
            place = (self.index, epochs, self.steps, first)
            workers = self.sharing.workers
            callbacks.append(Saver(self.checkpoint, *place, callbacks, workers=workers))
        if step:
            # The length is hidden, since Keras also counts the steps that are skipped.
            batches = batches.filter(lambda *_: True)
        self.fitted.fit(
            self.sharing.distribute(self.sharing.endless(batches, first)),
            epochs=epochs,
            initial_epoch=epoch,
            steps_per_epoch=self.steps,
            validation_data=validation and self.sharing.distribute(validation),
            validation_steps=self._val_steps,
            shuffle=False,
            callbacks=callbacks,
            verbose=self.verbose,
        )

    @property
    def _val_steps(self) -> int | None:
        """Steps of a validation. With several devices, Keras would count each one's batch."""
        return None if self.val_parts is None else len(self.val_parts) // self.sharing.local

    def _judges(self, validation: tf.data.Dataset) -> list[keras.callbacks.Callback]:
        """Callbacks that choose the best epoch, for exclusive classes by the refined loss."""
        targets = self._val_classes()
        best = functools.partial(BestWeights, self.phase.patience, good_start=self.head_is_fitted)
        batches = self.sharing.distribute(validation)
        how = {"steps": self._val_steps, "return_dict": True, "verbose": 0}
        if targets is None:
            start = self.fitted.evaluate(batches, **how)
            return [best(start["loss"])]
        refined = RefinedLoss(targets, self.sharing.workers)
        self.fitted.evaluate(batches, callbacks=[refined], **how)
        return [refined, best(refined.measure(), REFINED_LOSS)]

    def _val_classes(self) -> np.ndarray | None:
        """The exclusive classes of validation, in the order of its batches."""
        if self.data.val is None or self.data.task != "single-label":
            return None
        classes = self.data.val.targets().argmax(axis=1)
        return classes if self.val_parts is None else classes[np.concatenate(self.val_parts)]
