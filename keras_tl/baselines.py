"""Compares a run's model with a baseline without transfer, on the same split."""

import hashlib
import json
import logging
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import sklearn

from keras_tl.config import TrainConfig
from keras_tl.data.prepare import ImageData
from keras_tl.data.prepare_texts import TextData
from keras_tl.engines.kept import kept
from keras_tl.errors import InputError, KerasTLError
from keras_tl.evaluation.baseline import Baseline, text_baseline
from keras_tl.evaluation.bootstrap import mcnemar, paired_difference
from keras_tl.evaluation.from_scratch import image_baseline
from keras_tl.evaluation.many_classes import MANY_CLASSES, truth_of
from keras_tl.evaluation.metrics import decide, evaluate
from keras_tl.feature_cache import FeatureStore
from keras_tl.model_info import ModelInfo
from keras_tl.reporting.facts import MAIN_FIGURES, Outcome, read_facts
from keras_tl.runs import Run

# To be increased whenever the same texts would get other answers.
VERSION = 1

log = logging.getLogger("keras_tl")


def add_baseline(
    run: Run, data: ImageData | TextData, split: str, *, verbose: int = 1
) -> dict[str, Any]:
    """Measures a run's baseline: always for texts, for images if it was asked for.

    It learns from the same training split and is measured on the same split as the model.

    Args:
        run: The run, with its config.yaml, model.json, splits.csv and predictions.csv written
            already.
        data: What it was trained on.
        split: What it was measured on, "test", "val" or "train".
        verbose: As in Keras' `fit`: 0 is silent, 1 shows bars, 2 a line an epoch.

    Returns:
        For metrics.json: "baseline" with its kind, its overall figures as `evaluate` gives them,
        the difference to the model (see `difference`), its settings and seconds. Empty where
        there is none: not asked for, nothing apart from the training split to measure on, or a
        model that began with random weights itself.
    """
    config, facts = run.config, read_facts(run)
    if facts.info is None or facts.outcome is None or not (facts.noun == "text" or config.baseline):
        return {}
    if split == "train" or config.weights == "none":
        log.info("No baseline: it needs a split to measure on, and a run from pretrained weights")
        return {}
    log.info("Measuring a baseline on the same %s", facts.nouns)
    started = time.perf_counter()
    try:
        found = _answers(data, split, config, verbose)
        figures = evaluate(found.outputs, truth_of(data.samples(split).source), facts.info)
        one_group = facts.of_one_group
        groups = np.zeros(len(facts.outcome), np.int64) if one_group else facts.groups
        ahead = difference(facts.outcome, found.outputs, facts.info, groups)
        ahead |= {"of_one_group": True} if one_group else {}
    except KerasTLError as error:
        # The trained and measured model must not be lost because its baseline failed.
        log.warning("There is no baseline: %s", error)
        return {}
    about = {
        "kind": found.kind,
        **{name: value for name, value in figures.items() if isinstance(value, float)},
        "difference": ahead,
        "settings": found.settings,
        "seconds": round(time.perf_counter() - started, 3),
    }
    return {"baseline": about}


def difference(
    outcome: Outcome, baseline: np.ndarray, info: ModelInfo, groups: np.ndarray | None = None
) -> dict[str, Any]:
    """How far a model is ahead of a baseline on the same items.

    Args:
        outcome: The model's answers.
        baseline: The baseline's outputs, float32 `[items, outputs]`, in the same order.
        info: The task and thresholds.
        groups: See `keras_tl.evaluation.bootstrap.resamples`.

    Returns:
        "figure": what is compared; "value": the model's minus the baseline's; "low" and "high": the
        95 % interval of that over resampled items or groups; for classes without groups "p" of the
        exact McNemar test; for several targets, which are compared in their deviations,
        "reached_in_deviations", the baseline's error.
    """
    if info.task == "regression":
        errors = outcome.errors(baseline), outcome.errors()
        found, test = paired_difference(*errors, groups=groups), {}
        if len(info.class_names) > 1:
            test["reached_in_deviations"] = float(errors[0].mean())
    else:
        if outcome.is_sparse:
            right = baseline.argmax(axis=1) == outcome.true_class
        else:
            right = (decide(baseline, info) == outcome.present).all(axis=1)
        found = paired_difference(right, outcome.right, groups=groups)
        test = {} if groups is not None else {"p": mcnemar(right, outcome.right)}
    bounds = {"value": found.value, "low": found.low, "high": found.high}
    return {"figure": MAIN_FIGURES[info.task], **bounds, **test}


def _answers(data: ImageData | TextData, split: str, config: TrainConfig, verbose: int) -> Baseline:
    train, measured = data.samples("train"), data.samples(split)
    how: dict[str, Any] = {"task": data.task, "seed": config.seed}
    if isinstance(data, TextData):
        if data.task != "regression" and len(data.class_names) > MANY_CLASSES:
            # It fits one model per class, which would take days for thousands of classes.
            received = f"{len(data.class_names):,} of them"
            raise InputError(f"{MANY_CLASSES} classes at most for it", received, "Do without it.")
        outputs = len(data.class_names)
        return _remembered(
            {"train": train.keys, "measured": measured.keys, "outputs": outputs, **how},
            train.source.labels,
            lambda: text_baseline(
                train.source.items, train.targets(), measured.source.items, **how
            ),
        )
    how |= {"batch_size": config.batch_size, "verbose": verbose}
    return image_baseline(train, data.val, measured, data.image_input, **how)


def _remembered(key: dict[str, Any], labels: np.ndarray, make: Callable[[], Baseline]) -> Baseline:
    """The stored baseline for these texts and labels: the model's settings do not affect it."""
    known_by = hashlib.sha256(np.ascontiguousarray(labels).data).hexdigest()
    versions = f"{VERSION}, scikit-learn {sklearn.__version__}"
    folder = FeatureStore().folder(baseline=versions, labels=known_by, **key)

    def made() -> bytes:
        found = make()
        about = {"kind": found.kind, "settings": found.settings, "shape": found.outputs.shape}
        return json.dumps(about).encode() + b"\n" + found.outputs.astype(np.float32).tobytes()

    about, _, outputs = kept(folder / "outputs.baseline", made).partition(b"\n")
    facts = json.loads(about)
    values = np.frombuffer(outputs, np.float32).reshape(facts["shape"])
    return Baseline(facts["kind"], values, facts["settings"])
