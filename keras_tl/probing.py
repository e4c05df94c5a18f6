"""What a backbone's features are worth, and what it would cost to fine-tune it.

The features are those that training the head stores and reads, computed in the same pass as those
that the fine-tuning will read: so a later run need not compute them again.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from keras_tl import frozen_prefix
from keras_tl.config import DEFAULTS, TrainConfig
from keras_tl.data.pipeline import Samples
from keras_tl.data.source import Source
from keras_tl.data.splits import kept_together
from keras_tl.data.stratify import strata
from keras_tl.evaluation.probes import Probe, linear_probe
from keras_tl.evaluation.verdict import FEW_PER_CLASS, Verdict, judge
from keras_tl.feature_cache import Features, FeatureStore
from keras_tl.preparing import Data, plan_for
from keras_tl.training.images import Images
from keras_tl.training.passes import SMALL_ITEM, PrefixPass, batch_loss, item_bytes
from keras_tl.training.phases import Phase
from keras_tl.training.planning import LaterPrefix, View, later_prefixes, views_of
from keras_tl.training.step_time import seconds_to_fine_tune

# Probes learn little from more images than this.
MAX_IMAGES = 5000
# With more classes, a probe would have hardly any images of each, and take hours.
MOST_CLASSES = 500
READ_ITEMS = 256

log = logging.getLogger("keras_tl")


@dataclass(frozen=True)
class Part:
    """Images in one view.

    Attributes:
        images: The images.
        view: An augmented view, or None for the images as they are.
    """

    images: Samples
    view: View


@dataclass(frozen=True)
class ProbedFeatures:
    """A backbone's features of images.

    Attributes:
        last: Float32 `[images, features]`: what the head gets.
        early: Float32 `[images, channels]`: the input of the blocks that fine-tuning would train,
            averaged over positions; None if nothing precedes them, as in a TF-Hub module.
        images_per_second: Speed of the pass, including decoding but not conversion; None if too few
            images were left to compute.
        computed: How many images were not stored before.
    """

    last: np.ndarray
    early: np.ndarray | None
    images_per_second: float | None
    computed: int


def settle_plan(
    model: keras.Model,
    data: Data,
    config: TrainConfig,
    store: FeatureStore | None,
    verbose: int = 1,
) -> tuple[list[Phase], dict[str, Any] | None]:
    """Makes the plan of a run, and for "auto" decides whether it has a fine-tuning.

    That is decided on the training images alone, in the first view that training reads, at most
    `MAX_IMAGES` of them: neither the validation nor the test split is used, and what is computed is
    what training would compute first. A deterministic run does not count time, which varies.

    Args:
        model: The model to be trained.
        data: The images.
        config: The settings.
        store: Where features are kept; None decides by the number of images.
        verbose: 1 says how far a pass is, 0 does not.

    Returns:
        The phases, and the decision ready for JSON; None where there was nothing to decide.
    """
    phases = plan_for(model, data, config)
    _warn_of_unheeded(config)
    asked = config.fine_tune == "auto" and config.epochs and config.fine_tune_epochs != 0
    if not asked or config.weights == "none":
        return phases, None
    cause = _why_not_probed(data, store)
    if store is None or cause or len(phases) == 1:
        return _by_numbers(phases, data, cause)
    log.info("Is fine-tuning worth its price? A probe of the frozen backbone's features says.")
    images = sample(data.train, MAX_IMAGES, config.seed)
    parts = [Part(images, first_view(images, phases))]
    _, verdict = weigh(model, phases, parts, images.source, data.train, config, store, verbose)
    log.info("%s", verdict)
    return phases if verdict.fine_tune else phases[:1], verdict.facts()


def _warn_of_unheeded(config: TrainConfig) -> None:
    of_a_head = (config.epochs, config.learning_rate)
    if config.plan == "full" and of_a_head != (TrainConfig.epochs, TrainConfig.learning_rate):
        log.warning(
            "plan=full has no phase of the head alone: not epochs and learning_rate count in it, "
            "but fine_tune_epochs and fine_tune_learning_rate"
        )
    no_tuning = config.plan == "auto" and config.fine_tune in ("none", 0)
    usual = (None, 0, DEFAULTS[config.has_texts].get("fine_tune_epochs"))
    if (no_tuning or config.plan == "feature-extraction") and config.fine_tune_epochs not in usual:
        log.warning("fine_tune_epochs does not count, since nothing is to be fine-tuned")


def _by_numbers(
    phases: list[Phase], data: Data, cause: str
) -> tuple[list[Phase], dict[str, Any] | None]:
    """The plan and the decision where nothing is probed."""
    counted, per_class = (len(data.train), data.nouns), per_class_of(data.train.source)
    why = "decided by the number of training {1}, {0}".format(*counted)
    if len(phases) == 1:
        log.info("No fine-tuning: %d training %s are too few for it", *counted)
    elif per_class < FEW_PER_CLASS:
        phases, why = phases[:1], f"{per_class:.0f} items of a class are too few for fine-tuning"
        log.info("No fine-tuning: %s; %s nothing is probed", why, cause)
    else:
        log.info("Fine-tuning is %s: %s nothing is probed", why, cause)
    return phases, {"fine_tune": len(phases) == 2, "why": why}


def _why_not_probed(data: Data, store: FeatureStore | None) -> str:
    """Why a probe of the training images would be useless or too slow; "" if it is neither."""
    if store is None:
        return "without a feature store"
    if data.task == "single-label" and len(data.class_names) > MOST_CLASSES:
        return f"with more than {MOST_CLASSES} classes"
    groups = groups_of(data.train.source)
    if groups is not None and len(np.unique(groups)) < 2:
        return "with one group to train on"
    return ""


def weigh(
    model: keras.Model,
    phases: Sequence[Phase],
    parts: Sequence[Part],
    source: Source,
    train: Samples,
    config: TrainConfig,
    store: FeatureStore,
    verbose: int = 1,
    folds: int = 5,
) -> tuple[ProbedFeatures, Verdict]:
    """Computes a backbone's features and judges by them whether to fine-tune it.

    Args:
        model: See `features_of`.
        phases: See `features_of`.
        parts: The images that are looked at.
        source: The same, in the order of the parts.
        train: The images that would be trained on.
        config: The settings: engine, batch size and seed.
        store: Where features are kept.
        verbose: 1 says how far a pass is, 0 does not.
        folds: See `decide`.

    Returns:
        The features and the verdict.
    """
    task, engine = source.task, config.engine
    features = features_of(
        model, phases, parts, task=task, store=store, engine=engine, verbose=verbose
    )
    # A batch small enough to need no more memory than training will.
    windows = getattr(train.input_spec, "windows", 1)
    items = max(config.batch_size // windows, 1)

    def timed() -> float:
        return seconds_to_fine_tune(model, phases[1], train, task=task, batch_size=items)

    clock = None if config.deterministic else timed
    # The sample may have fewer of a class than training will.
    per_class = per_class_of(train.source)
    options: dict[str, Any] = {"folds": folds, "seed": config.seed, "clock": clock}
    return features, decide(features, source, images_per_class=per_class, **options)


def sample(samples: Samples, count: int, seed: int) -> Samples:
    """Up to `count` of the images, in their order, each class with its share."""
    if len(samples) <= count:
        return samples
    stratum = strata(samples.source.labels, samples.source.task)
    order = np.random.default_rng(seed).permutation(len(stratum))
    order = order[np.argsort(stratum[order], kind="stable")]
    sizes = np.bincount(stratum)
    place = np.arange(len(order)) - (np.cumsum(sizes) - sizes)[stratum[order]]
    # Those that come first in their class, relative to how many it has.
    first = np.argsort((place + 0.5) / sizes[stratum[order]], kind="stable")[:count]
    return replace(samples, source=samples.source.take(np.sort(order[first])))


def first_view(images: Images, phases: Sequence[Phase]) -> View:
    """The view that the first epoch of training reads.

    If views show a box of another image, None is returned: the images as they are.
    """
    return None if images.mixes else views_of(images, phases[0].epochs)[0]


def features_of(
    model: keras.Model,
    phases: Sequence[Phase],
    parts: Sequence[Part],
    *,
    task: str,
    store: FeatureStore,
    engine: str = "auto",
    verbose: int = 1,
) -> ProbedFeatures:
    """Runs the frozen part of a model over images, for the head and the fine-tuning at once.

    Args:
        model: A model with a head; its flags are those of the first phase afterwards.
        phases: A head's phase, then one that fine-tunes the last blocks.
        parts: The images; the first part warms the engine up, so it is not timed.
        task: A name in `keras_tl.tasks`.
        store: Where features are kept.
        engine: See `run_phases`.
        verbose: 1 says how far a pass is, 0 does not.

    Returns:
        The features, in the order of the parts.
    """
    images = parts[0].images
    later = later_prefixes(model, phases, images)[0]
    phases[1].freezing.apply(model)
    tuned = frozen_prefix.split(model).prefix
    phases[0].freezing.apply(model)
    head = frozen_prefix.split(model)
    views = tuple(dict.fromkeys(part.view for part in parts))
    early = None if tuned is None else _early(tuned)
    if early is not None and early is not tuned:
        later = [*later, LaterPrefix(early, views)]
    run = PrefixPass(head.prefix, store, later, engine, verbose)
    loss = phases[0].build_loss(task, images.targets())
    run.settle(images, views[:1], batch_loss(head.suffix, loss, images))
    run.to_come = sum(len(part.images) for part in parts)
    found, seconds = [], []
    for part in parts:
        started = time.perf_counter()
        found.append(run.features(part.images, part.view))
        seconds.append(time.perf_counter() - started)
    before = None
    if early is not None:
        # Stored by the same pass, unless another run had stored only what a head needs.
        reader = PrefixPass(early, run.store, engine=engine, verbose=verbose)
        earlier = [reader.features(part.images, part.view) for part in parts]
        before = np.concatenate([_pooled(features) for features in earlier])
    return ProbedFeatures(
        np.concatenate([_pooled(features) for features in found]),
        before,
        _speed([done.computed for done in run.passes], seconds),
        sum(done.computed for done in run.passes),
    )


def decide(
    features: ProbedFeatures,
    source: Source,
    *,
    images_per_class: float,
    folds: int = 5,
    seed: int = 0,
    clock: Callable[[], float] | None,
) -> Verdict:
    """Probes features and judges whether fine-tuning is worth its price.

    Args:
        features: See `features_of`.
        source: The same images, with labels and groups; equal images count as a group.
        images_per_class: Images of a class that there are to train on, in the mean.
        folds: See `linear_probe`; lowered to the number of groups.
        seed: See `linear_probe`.
        clock: Says how many seconds fine-tuning would take. Asked only where fine-tuning would pay
            if it took none. None does not count time.

    Returns:
        The verdict, with the probe of the last features in it.
    """
    groups = groups_of(source)
    if groups is not None:
        folds = min(folds, len(np.unique(groups)))
    options: dict[str, Any] = {"task": source.task, "groups": groups, "folds": folds, "seed": seed}

    def probe_of(values: np.ndarray) -> Probe:
        return linear_probe(values, source.labels, **options, remember=True)

    last = probe_of(features.last)
    early = None if features.early is None else probe_of(features.early)
    verdict = judge(last, early, images_per_class=images_per_class, seconds=None)
    if clock is None or not verdict.fine_tune:
        return verdict
    return judge(last, early, images_per_class=images_per_class, seconds=clock())


def groups_of(source: Source) -> np.ndarray | None:
    """Groups that must not be divided between folds; None if each item may go anywhere."""
    groups = kept_together(source)
    return groups if source.groups is not None or groups.max() + 1 < len(source) else None


def _early(prefix: keras.Model) -> keras.Model:
    """The prefix itself where its outputs are stored anyway; else one that gives their means."""
    if item_bytes(prefix) <= SMALL_ITEM:
        return prefix
    means = [
        keras.ops.mean(tensor, axis=tuple(range(1, len(tensor.shape) - 1)))
        for tensor in prefix.outputs
    ]
    return keras.Model(prefix.input, means, name="early_means")


def _pooled(features: Features) -> np.ndarray:
    """All items, averaged over positions: float32 `[items, channels of all tensors]`."""
    rows = []
    for start in range(0, len(features), READ_ITEMS):
        indices = np.arange(start, min(start + READ_ITEMS, len(features)))
        tensors = [
            tensor.mean(axis=tuple(range(1, tensor.ndim - 1))) if tensor.ndim > 2 else tensor
            for tensor in features.gather(indices)
        ]
        rows.append(np.concatenate(tensors, axis=1))
    return np.concatenate(rows)


def _speed(computed: Sequence[int], seconds: Sequence[float]) -> float | None:
    """Images a second of all parts but the first."""
    count, taken = sum(computed[1:]), sum(seconds[1:])
    return count / taken if count >= READ_ITEMS // 8 else None


def per_class_of(source: Source) -> float:
    """Mean number of images of a class; for a regression, the number of all images."""
    labels = source.labels
    if source.task == "regression":
        return float(len(labels))
    if source.task == "multi-label":
        return float(labels.sum(axis=0).mean())
    return len(labels) / len(np.unique(labels))
