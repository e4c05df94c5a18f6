"""Looking at a data set before training: what `keras-tl audit` does, and `train` on its way.

What can be seen in pixels is found in `keras_tl.data.audit`. This module has what needs a
pretrained backbone: labels that its features contradict, and an order of the images that gives
labels away.
"""

import logging
import math
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from keras_tl import freezing, frozen_prefix
from keras_tl.config import TrainConfig
from keras_tl.data import augment as augmentations
from keras_tl.data.audit.findings import Audit, Finding
from keras_tl.data.audit.judging import Seen, judge, look_through
from keras_tl.data.audit.near import BLANK
from keras_tl.data.audit.text_judging import SeenTexts, judge_texts, look_through_texts
from keras_tl.data.image_input import ImageInput
from keras_tl.data.inspection import inspect
from keras_tl.data.open import as_source
from keras_tl.data.prepare import ImageData
from keras_tl.data.prepare_texts import TextData
from keras_tl.data.source import SPLITS, Source
from keras_tl.data.splits import kept_together
from keras_tl.data.texts import inspect_texts
from keras_tl.evaluation.label_errors import (
    LEAST_ITEMS,
    Suspect,
    doubtful_labels,
    suspected_labels,
)
from keras_tl.evaluation.linear_fits import deal
from keras_tl.evaluation.probes import Probe, linear_probe
from keras_tl.feature_cache import FeatureStore
from keras_tl.features import Features
from keras_tl.files import scratch_array
from keras_tl.preparing import Data, build_model, image_size_of, text_input_of, tokenize_for
from keras_tl.probing import MOST_CLASSES, first_view
from keras_tl.training.passes import PrefixPass, batch_loss
from keras_tl.training.phases import Phase
from keras_tl.training.planning import later_prefixes

FOLDS = 5
# Maximum number of images to fit a probe to (more help little); it predicts all of them.
FITTED_IMAGES = 6000
# Fewer images than this say nothing about labels or order.
LEAST_IMAGES = 50
# Rows of features read at once.
ROWS = 4096
# Number of consecutive stretches a class's images are cut into.
STRETCHES = 10
# How much better, absolutely and in standard errors, the probe must be on images from stretches
# that it knows, for the order to count as a leak.
ORDER_GAIN, STANDARD_ERRORS = 0.03, 3.0

log = logging.getLogger("keras_tl")


def audit(
    data: str | os.PathLike[str] | Source,
    *,
    labels: bool = True,
    backbone: str | None = None,
    weights: str = "imagenet",
    image_size: int | None = None,
    max_tokens: int = 128,
    windows: int | None = None,
    truncate: str = "auto",
    markup: str = "auto",
    seed: int = 0,
    engine: str = "auto",
    verbose: int = 1,
    **options: Any,
) -> Audit:
    """Looks at a data set and says what is wrong with it, or might be.

    Splits that the data has stay as they are, and what crosses them is found; none are made.

    Args:
        data: A folder of class folders, a CSV file, "tfds:NAME", or an opened source.
        labels: Whether to look for wrong labels, which takes a pass of a backbone over all
            images or texts. It is done where each has one class.
        backbone: What makes features for that, see `TrainConfig`.
        weights: See `TrainConfig`.
        image_size: The model's size, in pixels; None takes the backbone's own.
        max_tokens: See `TrainConfig`.
        windows: See `TrainConfig`.
        truncate: See `TrainConfig`.
        markup: See `TrainConfig`.
        seed: Decides the folds.
        engine: See `run_phases`.
        verbose: 1 says how far a pass is, 0 does not.
        **options: See `keras_tl.data.open.open_data`.

    Returns:
        The audit.

    Raises:
        InputError: The data cannot be opened, or no item of a class can be read.
    """
    source = as_source(data, **options)
    config = TrainConfig(
        data="",
        out="",
        backbone=backbone,
        weights=weights,
        image_size=image_size,
        text_column=(None, "text", "text,text")[source.texts],
        pair=source.texts == 2,
        max_tokens=max_tokens,
        windows=windows,
        truncate=truncate,
        markup=markup,
        seed=seed,
        engine=engine,
    )
    data_seen = _look_at(config, source)
    found = data_seen.audit or Audit({}, {}, ())
    if not labels or not can_be_probed(data_seen.source):
        return found
    features = plain_features(config, data_seen, engine=engine, verbose=verbose)
    more = findings_on_labels(features, data_seen.source, data_seen.seen, seed=seed)
    return found.with_findings(more)


def _look_at(config: TrainConfig, source: Source) -> Data:
    """Inspects and judges data as `prepare` does, with the splits that the data has."""
    if config.has_texts:
        spec = text_input_of(config, source)
        tokenize = tokenize_for(config, spec)
        source = inspect_texts(source, max_bad_fraction=1.0)
        texts = look_through_texts(source, tokenize.count if tokenize and tokenize.counts else None)
        return TextData(source, spec, tokenize, texts, judge_texts(source, texts, spec))
    image_input = ImageInput(size=image_size_of(config))
    source = inspect(source, image_input, max_bad_fraction=1.0)
    seen = look_through(source, image_input)
    plain = augmentations.get("none")
    return ImageData(source, image_input, plain, seen, judge(source, seen))


def can_be_probed(source: Source) -> bool:
    """Whether at least two classes have enough items, and there are not too many classes."""
    if source.task != "single-label" or len(source) < LEAST_IMAGES:
        return False
    if len(source.class_names) > MOST_CLASSES:
        return False
    return int((np.bincount(source.labels) >= LEAST_ITEMS).sum()) > 1


def plain_features(
    config: TrainConfig, data: Data, *, engine: str = "auto", verbose: int = 1
) -> np.ndarray:
    """Features of images or texts without augmentation, stored where a training looks for them.

    Args:
        config: The settings: backbone and weights.
        data: The images or texts, each with one class.
        engine: See `run_phases`.
        verbose: 1 says how far a pass is, 0 does not.

    Returns:
        Float32 `[items, features]`.
    """
    model = build_model(config, data)
    freezing.All().apply(model)
    prefix: keras.Model = frozen_prefix.split(model).prefix
    samples = replace(data.samples("train"), source=data.source)
    run = PrefixPass(prefix, FeatureStore().for_a_run(), engine=engine, verbose=verbose)
    stored = run.features(samples)
    features = scratch_array((len(samples), math.prod(stored.shapes[0])), np.float32)
    _fill(features, np.arange(len(samples)), stored, tensors=1)
    return features


def audit_with_labels(
    model: keras.Model,
    phases: Sequence[Phase],
    data: Data,
    store: FeatureStore | None,
    *,
    seed: int = 0,
    engine: str = "auto",
    verbose: int = 1,
) -> Audit:
    """Adds to the audit of a run's images what the head's features say about their labels.

    These are the features that the head's training reads, so that looking at them costs no pass
    of its own. Where there are none, a line says why.

    Args:
        model: The model to be trained; its flags are those of the first phase afterwards.
        phases: What is to be done.
        data: The images, with their audit.
        store: Where features are kept; None keeps none.
        seed: Decides the folds.
        engine: See `run_phases`.
        verbose: 1 says how far a pass is, 0 does not.

    Returns:
        The audit.
    """
    found = data.audit or Audit(data.counts, {}, ())
    if not can_be_probed(data.source):
        log.info(
            "Labels are not looked at: that takes %d items, each of one class, and %d of two, and "
            "no more than %d classes",
            LEAST_IMAGES,
            LEAST_ITEMS,
            MOST_CLASSES,
        )
        return found
    features, why = head_features(model, phases, data, store, engine=engine, verbose=verbose)
    if features is None:
        log.info("Labels are not looked at: %s", why)
        return found
    more = findings_on_labels(features, data.source, data.seen, seed=seed)
    for finding in more:
        log.info("  %s", finding.brief)
    return found.with_findings(more)


def head_features(
    model: keras.Model,
    phases: Sequence[Phase],
    data: Data,
    store: FeatureStore | None,
    *,
    engine: str = "auto",
    verbose: int = 1,
) -> tuple[np.ndarray | None, str]:
    """The head's input for each image in the first epoch, computed where it is not stored.

    Training images are seen in their first view, the others as they are.

    Args:
        model: See `audit_with_labels`.
        phases: See `audit_with_labels`.
        data: The images.
        store: See `audit_with_labels`.
        engine: See `run_phases`.
        verbose: 1 says how far a pass is, 0 does not.

    Returns:
        Float32 `[images, features]` and ""; or None and why there are none.
    """
    if store is None:
        return None, "without a feature store that would take a pass of its own"
    # What later phases read is stored by the same pass.
    later = later_prefixes(model, phases, data.train)[0]
    phases[0].freezing.apply(model)
    parts = frozen_prefix.split(model)
    if parts.prefix is None or any(len(tensor.shape) > 2 for tensor in parts.prefix.outputs):
        return None, "the first phase does not keep the whole backbone frozen"
    view = first_view(data.train, phases)
    run = PrefixPass(parts.prefix, store.for_a_run(), later, engine, verbose)
    built = phases[0].build_loss(data.task, data.train.targets())
    loss = batch_loss(parts.suffix, built, data.train)
    if why := run.settle(data.train, [view], loss, data.val):
        return None, f"features are not stored, {why}"
    run.to_come += data.counts["test"]
    width = sum(tensor.shape[-1] for tensor in parts.prefix.outputs)
    features = scratch_array((len(data.source), width), np.float32)
    for split in (name for name in SPLITS if data.counts[name]):
        stored = run.features(data.samples(split), view if split == "train" else None)
        _fill(features, np.flatnonzero(data.source.splits == split), stored)
    return features, ""


def _fill(
    features: np.ndarray, items: np.ndarray, stored: Features, tensors: int | None = None
) -> None:
    """Copies stored features, of the first tensors or of all, into the rows of `items`."""
    for at in range(0, len(items), ROWS):
        rows = stored.gather(np.arange(at, min(at + ROWS, len(items))))
        flat = [tensor.reshape(len(tensor), -1) for tensor in rows[:tensors]]
        features[items[at : at + ROWS]] = np.concatenate(flat, axis=1)


def findings_on_labels(
    features: np.ndarray,
    source: Source,
    seen: Seen | SeenTexts | None = None,
    *,
    seed: int = 0,
) -> list[Finding]:
    """Says which labels features contradict, and whether the images' order gives labels away.

    Args:
        features: Float `[images, features]`.
        source: The images, each with one class; see `can_be_probed`.
        seen: What `look_through` saw of them; near-duplicates are not divided between folds.
        seed: Decides the folds.

    Returns:
        What was found.
    """
    groups = kept_together(source, seen.groups if seen else None)
    folds = min(FOLDS, len(np.unique(groups)))
    if folds < 2:
        return []
    fitted = deal(source.labels, -(-len(source) // FITTED_IMAGES), seed) == 0
    options: dict[str, Any] = {"groups": groups, "folds": folds, "seed": seed, "remember": True}
    probe = linear_probe(features, source.labels, **options, trusted=fitted)
    options["penalties"] = (float(np.median(probe.penalties)),)
    clean = fitted & ~doubtful_labels(source.labels, probe.outputs)
    again = linear_probe(features, source.labels, **options, trusted=clean)
    found = []
    suspects = suspected_labels(source.labels, probe.outputs, again.outputs)
    if isinstance(seen, Seen):  # blank images are a finding of their own
        suspects = [suspect for suspect in suspects if seen.looks.deviation[suspect.item] >= BLANK]
    if suspects:
        found.append(_wrong_labels(suspects, probe, source))
    if source.groups is None:
        found += _order(features, source.labels, probe, options | {"trusted": fitted})
    return found


def _wrong_labels(suspects: list[Suspect], probe: Probe, source: Source) -> Finding:
    names = source.class_names
    noun = "label is" if len(suspects) == 1 else "labels are"
    return Finding(
        "wrong-label",
        "warning",
        f"{len(suspects):,} {noun} suspected to be wrong, by a probe that is right on "
        f"{probe.score:.1%} of all: look at them, the surest first.",
        tuple((str(source.ids[suspect.item]),) for suspect in suspects),
        tuple(
            f"labelled {names[source.labels[suspect.item]]} ({suspect.given_probability:.2f}), "
            f"looks like {names[suspect.suggested]} ({suspect.suggested_probability:.2f})"
            for suspect in suspects
        ),
    )


def _order(
    features: np.ndarray, labels: np.ndarray, probe: Probe, options: dict[str, Any]
) -> list[Finding]:
    """Compares the probe with one whose folds keep whole stretches of the order together.

    Where neighbours belong together (cells of a module, frames of a film), a probe that knows an
    image's neighbours knows more than it will of new images.
    """
    # Of what is kept together one item is enough: with its copies elsewhere in the order, both
    # probes would know it.
    first = np.sort(np.unique(options["groups"], return_index=True)[1])
    stretches = _stretches(labels[first])
    if len(np.unique(stretches)) < FOLDS:
        return []
    if len(first) < len(labels):
        features, labels = features[first], labels[first]
        alone = {"groups": None, "folds": FOLDS, "trusted": options["trusted"][first]}
        options = options | alone
        probe = linear_probe(features, labels, **options)
    blocked = linear_probe(features, labels, **(options | {"groups": stretches, "folds": FOLDS}))
    better = _right(probe, labels) - _right(blocked, labels)
    # Errors within a stretch are correlated, so they are summed by stretch.
    _, index = np.unique(stretches, return_inverse=True)
    sums = np.bincount(index, better - better.mean())
    error = float(np.sqrt((sums**2).sum())) / len(better)
    gain = float(better.mean())
    if gain < ORDER_GAIN or gain < STANDARD_ERRORS * error:
        return []
    text = (
        f"Neighbours in the order of the data give each other away: a probe is right on "
        f"{probe.score:.1%} of items whose neighbours it knows, on {blocked.score:.1%} of others. "
        "Name what belongs together with --group-column, or expect less of new ones."
    )
    return [Finding("order-leak", "warning", text)]


def _stretches(labels: np.ndarray) -> np.ndarray:
    """Cuts each class into stretches of neighbours: a name for each item."""
    names = np.empty(len(labels), dtype=object)
    for label in np.unique(labels):
        items = np.flatnonzero(labels == label)
        parts = np.arange(len(items)) * min(STRETCHES, len(items)) // len(items)
        names[items] = [f"{label} {part}" for part in parts]
    return names.astype(str)


def _right(probe: Probe, labels: np.ndarray) -> np.ndarray:
    return (probe.outputs.argmax(axis=1) == labels).astype(np.float64)
