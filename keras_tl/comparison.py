"""Picking a backbone before training one: their features probed on the same images.

Only images of the train and val splits are looked at: what is chosen by them can still be measured
on the test split.
"""

import json
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_tl import freezing, strategies
from keras_tl.agreement import check_data, check_settings
from keras_tl.backbones import registry
from keras_tl.backbones.hub_handles import HUB
from keras_tl.compare_config import CompareConfig
from keras_tl.config import NAMED_WEIGHTS
from keras_tl.data.pipeline import Samples
from keras_tl.data.source import Source
from keras_tl.data.targets import standardised
from keras_tl.errors import InputError, KerasTLError, LostWorkerError
from keras_tl.evaluation.probes import FewShot, few_shot, tied
from keras_tl.evaluation.transferability import h_score, log_me
from keras_tl.evaluation.verdict import Verdict
from keras_tl.feature_cache import FeatureStore
from keras_tl.files import atomic_write_text, cache_root, check_file_path
from keras_tl.plans import fine_tuning_phase, head_phase
from keras_tl.preparing import (
    Data,
    build_model,
    data_for,
    prepare_data,
)
from keras_tl.probing import Part, first_view, groups_of, sample, weigh
from keras_tl.workers import Workers

SPEEDS = "speeds.json"
# Images run before timing starts: the engine is chosen on them.
WARMING_IMAGES = 64

log = logging.getLogger("keras_tl")


@dataclass(frozen=True, eq=False)
class Candidate:
    """What was found out about one backbone.

    Attributes:
        backbone: Its name.
        image_size: Height and width of its images; for texts, the number of tokens read.
        parameters: How many parameters it has, without a head.
        megabytes: Their size as float32.
        features: How many features it gives for an image.
        verdict: Its probe, and whether to fine-tune it.
        h_score: See `h_score`; None unless each image has one class.
        log_me: See `log_me`; of a regression's standardised targets.
        computed: How many images were run now; the others were stored.
        images_per_second: Speed of a pass, on this machine or on all that share it, measured now or
            when it was last run; None if unknown.
        pass_seconds: Time of a pass over all train and val images; None if unknown.
        few_shot: Probes of a few images of each class; empty unless asked for.
    """

    backbone: str
    image_size: int
    parameters: int
    megabytes: float
    features: int
    verdict: Verdict
    h_score: float | None
    log_me: float
    computed: int
    images_per_second: float | None
    pass_seconds: float | None
    few_shot: tuple[FewShot, ...] = ()

    def facts(self) -> dict[str, Any]:
        """All figures, ready for JSON."""
        plain = {k: v for k, v in vars(self).items() if k not in ("verdict", "few_shot")}
        shots = [
            {"shots": row.shots, "accuracies": list(row.accuracies), "mean": row.mean}
            | {"half_width": row.half_width}
            for row in self.few_shot
        ]
        probe = {
            "metric": self.verdict.probe.metric,
            "score": self.verdict.probe.score,
            "interval": list(self.verdict.probe.interval),
            **self.verdict.probe.figures,
        }
        return {**plain, "probe": probe, "verdict": self.verdict.facts(), "few_shot": shots}


@dataclass(frozen=True)
class Comparison:
    """What `compare` gives back.

    Attributes:
        ranking: The backbones, the recommended one first.
        tied_with_best: How many are tied with the best score, the best itself included; the fastest
            of them comes first, or the smallest if some are not timed.
        failures: Why the others could not be looked at, by name.
        images: How many images were looked at.
        left_out_shots: Shots that some class has too few images for.
        nouns: What the items are, "images" or "texts".
    """

    ranking: tuple[Candidate, ...]
    tied_with_best: int
    failures: dict[str, str]
    images: int
    left_out_shots: tuple[int, ...] = ()
    nouns: str = "images"

    def facts(self) -> dict[str, Any]:
        """All figures, ready for JSON."""
        return {
            "images": self.images,
            "measured_on": "cross-validation within the train and val splits",
            "tied_with_best": self.tied_with_best,
            "ranking": [candidate.facts() for candidate in self.ranking],
            "failures": self.failures,
            "left_out_shots": list(self.left_out_shots),
        }


def compare(
    config: CompareConfig,
    *,
    source: Source | None = None,
    place: strategies.Place | None = None,
    verbose: int = 1,
) -> Comparison:
    """Probes several backbones on the same images.

    Each one's features are computed once, by the engine and into the store that training uses,
    so that a run with one of them finds them there.

    Args:
        config: The settings.
        source: The images, where they are already opened; else `config.data` is.
        place: Where to compute, see `keras_tl.strategies.choose`. Several processes share the
            passes, each fits the probes, and the chief writes; all need the data.
        verbose: 1 says how far a pass is, 0 does not.

    Returns:
        The backbones in order. Those that cannot be told apart from the best one come first,
        the fastest of them at the top, or the smallest if some are not timed; then the others in
        the same way.

    Raises:
        InputError: Unusable data, a wrong name, or no backbone could be looked at; with several
            processes, one of them failed to look at a backbone.
        LostWorkerError: Another process is gone.
    """
    names = _names(config)
    workers = Workers(strategies.choose(place))
    with workers.losses_told(), workers.chief_speaks():
        if config.out and workers.is_chief:
            check_file_path(config.out)
        comparison = _compare(config, names, source, workers, verbose)
    if config.out and workers.is_chief:
        atomic_write_text(config.out, json.dumps(comparison.facts(), indent=2) + "\n")
    return comparison


def _compare(
    config: CompareConfig,
    names: Sequence[str],
    source: Source | None,
    workers: Workers,
    verbose: int,
) -> Comparison:
    check_settings(workers, config)
    data = prepare_data(config.training(""), source)
    check_data(workers, data.source)
    if config.few_shot and data.task != "single-label":
        fix = "Leave --few-shot out."
        raise InputError("one class for each item for --few-shot", data.task, fix)
    found, failures = [], {}
    for index, name in enumerate(names):
        log.info("%d of %d: %s", index + 1, len(names), name)
        try:
            found.append(_candidate(config, name, data, workers, verbose))
        except LostWorkerError:
            raise
        except (KerasTLError, tf.errors.ResourceExhaustedError) as error:
            failures[name] = str(error).splitlines()[0]
            if workers.count > 1:
                # Other processes may be waiting in this backbone's pass.
                expected = "a backbone that can be looked at"
                raise InputError(expected, name, failures[name]) from error
            log.warning("  left out: %s", failures[name])
    if not found:
        reason = "; ".join(f"{name}: {why}" for name, why in failures.items())
        raise InputError("a backbone that can be looked at", "none", reason)
    ranking, first = _ranked(found)
    shown = {row.shots for row in found[0].few_shot}
    left_out = [n for n in _numbers(config.shots) if config.few_shot and n not in shown]
    images = len(found[0].verdict.probe.outputs)
    return Comparison(tuple(ranking), first, failures, images, tuple(left_out), data.nouns)


def _names(config: CompareConfig) -> list[str]:
    """The backbones' names as the registry has them, each once."""
    words = [word.strip() for word in (config.backbones or "").split(",") if word.strip()]
    named_here = config.text_column is None
    names = list(
        dict.fromkeys(
            registry.get(word).name if named_here and not word.startswith(HUB) else word
            for word in words
        )
    )
    if not names:
        fix = "Give --backbones EfficientNetLite0,MobileNetV2 or others."
        raise InputError("names of backbones", repr(config.backbones), fix)
    if config.weights not in NAMED_WEIGHTS and len(names) > 1:
        raise InputError("one backbone for a weights file", f"{len(names)}", "Give one.")
    return names


def _numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


def _candidate(
    config: CompareConfig, name: str, data: Data, workers: Workers, verbose: int
) -> Candidate:
    training = config.training(name)
    data = data_for(training, data)
    size = data.input_size
    # As `train` does, so that random weights are the same there.
    keras.utils.set_random_seed(config.seed)
    model = build_model(training, data)
    blocks = freezing.block_count(model)
    phases = [
        head_phase(training),
        fine_tuning_phase(training, blocks=blocks, items=len(data.train) * data.windows),
    ]
    chosen = sample(replace(data.train, source=_train_and_val(data)), config.images, config.seed)
    parts = _parts(chosen, first_view(data.train, phases))
    source = Source.joined([part.images.source for part in parts])
    store = FeatureStore(dtype=config.feature_dtype, workers=workers)
    features, verdict = weigh(
        model, phases, parts, source, data.train, training, store, verbose, config.folds
    )
    several = f" {workers.count} processes" if workers.count > 1 else ""
    speed = _remembered(f"{name} {size} {config.engine}{several}", features.images_per_second)
    head = sum(math.prod(w.shape) for w in model.get_layer("head_predictions").weights)
    parameters = model.count_params() - head
    images = data.counts["train"] + data.counts["val"]
    return Candidate(
        backbone=name,
        image_size=size,
        parameters=parameters,
        megabytes=4 * parameters / 1e6,
        features=features.last.shape[1],
        verdict=verdict,
        h_score=h_score(features.last, source.labels) if data.task == "single-label" else None,
        log_me=log_me(features.last, _standardised_targets(source)),
        computed=features.computed,
        images_per_second=speed,
        pass_seconds=images / speed if speed else None,
        few_shot=_few_shot(config, features.last, source),
    )


def _train_and_val(data: Data) -> Source:
    return data.source.take(np.flatnonzero(data.source.splits != "test"))


def _parts(samples: Samples, view: int | None) -> list[Part]:
    """Train images in training's first view, some of them to warm up; val images as they are."""
    train, val = (replace(samples, source=samples.source.split(s)) for s in ("train", "val"))
    cut = min(WARMING_IMAGES, len(train) // 2)
    pieces = [(train, np.arange(cut)), (train, np.arange(cut, len(train)))]
    parts = [Part(replace(s, source=s.source.take(i)), view) for s, i in pieces if len(i)]
    return [*parts, Part(val, None)] if len(val) else parts


def _standardised_targets(source: Source) -> np.ndarray:
    targets = source.targets()
    if source.task != "regression":
        return targets
    return standardised(targets)


def _few_shot(config: CompareConfig, features: np.ndarray, source: Source) -> tuple[FewShot, ...]:
    if not config.few_shot:
        return ()
    shots, seeds = _numbers(config.shots), _numbers(config.seeds)
    groups = groups_of(source)
    return tuple(few_shot(features, source.labels, groups=groups, shots=shots, seeds=seeds))


def _remembered(key: str, speed: float | None) -> float | None:
    """The speed of a pass; if too little was run now to measure it, that of the last time."""
    path = cache_root() / SPEEDS
    speeds: dict[str, float] = {}
    if path.is_file():
        try:
            speeds = dict(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError):
            log.warning("  %s is damaged: the speeds of earlier passes are lost", path)
    if speed is not None:
        atomic_write_text(path, json.dumps(speeds | {key: speed}))
    return speed if speed is not None else speeds.get(key)


def _ranked(candidates: Sequence[Candidate]) -> tuple[list[Candidate], int]:
    """The best and those tied with it, the cheapest first; then the same for the rest."""
    left = sorted(candidates, key=lambda c: -c.verdict.probe.score)
    ranking: list[Candidate] = []
    first = 0
    while left:
        equals = [c for c in left if c is left[0] or tied(left[0].verdict.probe, c.verdict.probe)]
        first = first or len(equals)
        ranking += sorted(equals, key=_cost_among(equals))
        left = [c for c in left if all(c is not equal for equal in equals)]
    return ranking, first


def all_timed(candidates: Sequence[Candidate]) -> bool:
    """Whether the time of a pass is known of each of them."""
    return all(each.pass_seconds is not None for each in candidates)


def _cost_among(equals: Sequence[Candidate]) -> Callable[[Candidate], tuple[float, int]]:
    """What those that are equally good are sorted by: the time of a pass, then the size.

    Where the time of one is unknown, as where a training has stored its features, size decides.
    """
    timed = all_timed(equals)

    def cost(candidate: Candidate) -> tuple[float, int]:
        return (candidate.pass_seconds or 0.0) if timed else 0.0, candidate.parameters

    return cost
