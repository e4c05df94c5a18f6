"""The main job: labelled images in; a trained, measured and exported model out."""

import json
import logging
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from keras_tl import strategies
from keras_tl.backbones import registry
from keras_tl.backbones.graph import to_stock
from keras_tl.builders.image import build_image_model
from keras_tl.config import TrainConfig
from keras_tl.data import augment
from keras_tl.data.inspection import inspect
from keras_tl.data.labels import class_counts
from keras_tl.data.open import open_data
from keras_tl.data.pipeline import Samples
from keras_tl.data.prepare import ImageData, prepare
from keras_tl.data.source import Source
from keras_tl.data.splits import write_splits
from keras_tl.errors import InputError
from keras_tl.evaluation.metrics import evaluate
from keras_tl.evaluation.predictions import (
    PREDICTION_BATCH,
    predict,
    predict_images,
    predictions_frame,
)
from keras_tl.export.saved_model import export_saved_model
from keras_tl.feature_cache import FeatureStore
from keras_tl.files import atomic_file, atomic_write_text
from keras_tl.model_info import ModelInfo
from keras_tl.probing import settle_plan
from keras_tl.reporting.page import write_report
from keras_tl.runs import Run
from keras_tl.training.fit import PhaseReport, TrainingResult, run_phases
from keras_tl.training.phases import Phase

# How many of the user's own files the exporter's gate compares.
GATE_FILES = 8
NOTES = {
    "test": "the test split",
    "val": "the val split, which also chose the weights: expect less on new images",
    "train": "the train split, which the model has seen: this says nothing of new images",
}

log = logging.getLogger("keras_tl")


def train(config: TrainConfig, *, source: Source | None = None, verbose: int = 1) -> Run:
    """Trains, measures and exports a model of images.

    Args:
        config: The settings.
        source: The images, where they are already opened; else `config.data` is.
        verbose: As in Keras' `fit`: 0 is silent, 1 shows bars, 2 a line an epoch.

    Returns:
        The finished run, in `config.out`.

    Raises:
        InputError: Something in the settings or the data cannot be used.
        CheckError: Training moved something frozen, or the export differs from the model.
    """
    run = Run(config.out)
    run.check_free()
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy(config.precision)
    keras.utils.set_random_seed(config.seed)
    try:
        _train(config, run, source, verbose)
    finally:
        keras.config.set_dtype_policy(previous)
    return run


def _train(config: TrainConfig, run: Run, source: Source | None, verbose: int) -> None:
    if config.tensorboard and find_spec("tensorboard") is None:
        fix = "Install it with pip install tensorboard, or leave --tensorboard out."
        raise InputError("the package tensorboard", "none installed", fix)
    clock = _Clock()
    spec = registry.get(config.backbone)
    data = prepare_data(config, source, image_size=config.image_size or spec.image_size)
    clock.lap("data")
    strategy = strategies.choose()
    with strategy.scope():
        model = _build(config, data)
    run.begin()
    atomic_write_text(run.path(Run.CONFIG), config.with_absolute_paths().to_yaml())
    write_splits(data.source, run.path(Run.SPLITS))
    clock.lap("build")
    store = FeatureStore(dtype=config.feature_dtype) if config.feature_cache else None
    plan, decision = settle_plan(model, data, config, store, verbose)
    clock.lap("decision")
    result = _fit(model, plan, data, config, run, strategy, store, verbose)
    clock.lap("training")
    info = ModelInfo(
        backbone=spec.name,
        image_input=data.image_input,
        class_names=data.class_names,
        task=data.task,
    )
    _save(model, info, data.source, run)
    clock.lap("export")
    split = next(name for name in ("test", "val", "train") if data.counts[name])
    log.info("Measuring on %s", NOTES[split])
    metrics, predictions = measure(
        model, data.samples(split), info, store=store, engine=config.engine, verbose=verbose
    )
    clock.lap("evaluation")
    _write_csv(predictions, run.path(Run.PREDICTIONS))
    facts = {
        "measured_on": split,
        "note": NOTES[split],
        **metrics,
        "images": data.counts,
        "skipped": [{"id": s.id, "reason": s.reason} for s in data.source.skipped],
        "phases": [_phase_facts(report) for report in result.phases],
        **({"fine_tune_decision": decision} if decision else {}),
        "seconds": clock.seconds,
    }
    atomic_write_text(run.path(Run.METRICS), json.dumps(facts, indent=2) + "\n")
    write_report(run, source=data.source, model=model)


def measure(
    model: keras.Model,
    samples: Samples,
    info: ModelInfo,
    *,
    store: FeatureStore | None = None,
    engine: str = "auto",
    verbose: int = 1,
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Measures a model on labelled images.

    Args:
        model: Pixels in, predictions out.
        samples: The images; their classes in the model's order.
        info: What the model takes and gives.
        store: Where outputs of what is frozen in the model are kept; None keeps none.
        engine: See `run_phases`.
        verbose: As in Keras' `fit`: 0 is silent, 1 shows bars, 2 a line an epoch.

    Returns:
        The figures (see `keras_tl.evaluation.metrics.evaluate`), and a row for each image.
    """
    outputs = predict_images(model, samples, store, engine=engine, verbose=verbose)
    targets, ids = samples.targets(), samples.source.ids
    return evaluate(outputs, targets, info), predictions_frame(ids, outputs, targets, info)


def evaluate_run(
    run: Run, data: str, *, split: str = "test", verbose: int = 1, **columns: Any
) -> dict[str, Any]:
    """Measures a finished run's model on other labelled images.

    Args:
        run: The run.
        data: See `keras_tl.data.open.open_data`.
        split: Which split to measure where the data has splits of its own.
        verbose: As in Keras' `fit`: 0 is silent, 1 shows bars, 2 a line an epoch.
        **columns: See `keras_tl.data.open.open_data`.

    Returns:
        The figures.

    Raises:
        InputError: Unusable data, or classes the model does not know.
    """
    info = run.info
    source = open_data(data, task=info.task, class_names=info.class_names, **columns)
    if source.given_splits:
        source = _only(source, split)
    source = inspect(source, info.image_input, max_bad_fraction=1.0)
    _warn_of_training_images(run, source)
    metrics, _ = measure(run.model(), _plain(source, info), info, verbose=verbose)
    return metrics


def predict_files(run: Run, files: Sequence[str], *, verbose: int = 0) -> tuple[np.ndarray, Source]:
    """Predicts image files with a finished run's model.

    Args:
        run: The run.
        files: Image files.
        verbose: As in Keras' `fit`: 0 is silent, 1 shows bars, 2 a line an epoch.

    Returns:
        The model's outputs, float32 `[images, outputs]`, and the readable images they belong to,
        with what was passed over and why.

    Raises:
        InputError: No file can be read.
    """
    ids = np.array(list(files), dtype=object)
    unlabelled = Source(ids, list(files), np.zeros(len(ids), np.int64), ())
    source = inspect(unlabelled, run.info.image_input, max_bad_fraction=1.0)
    images = _plain(source, run.info).images(np.arange(len(source)))
    return predict(run.model(), images.batch(PREDICTION_BATCH), verbose=verbose), source


def prepare_data(
    config: TrainConfig, source: Source | None = None, image_size: int = 224
) -> ImageData:
    """Opens, inspects and divides the images of a configuration.

    Args:
        config: The settings.
        source: The images, where they are already opened.
        image_size: Height and width in pixels.

    Returns:
        The splits.

    Raises:
        InputError: The data cannot be used.
    """
    if source is None:
        log.info("Opening %s", config.data)
        source = open_data(
            config.data,
            task=config.task,
            path_column=config.path_column,
            label_column=config.label_column,
            split_column=config.split_column,
            group_column=config.group_column,
        )
    return prepare(
        source,
        image_size=image_size,
        resize=config.resize,
        augment=config.augment,
        views=config.views,
        val_fraction=config.val_fraction,
        test_fraction=config.test_fraction,
        seed=config.seed,
        max_bad_fraction=config.max_bad_fraction,
    )


def _build(config: TrainConfig, data: ImageData) -> keras.Model:
    mean, scale = _target_unit(data)
    return build_image_model(
        config.backbone,
        outputs=len(data.class_names),
        task=data.task,
        weights=None if config.weights == "none" else config.weights,
        image_size=data.image_input.size,
        dropout=config.dropout,
        target_mean=mean,
        target_scale=scale,
    )


def _target_unit(data: ImageData) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each training target of a regression; 0 and 1 for classes."""
    targets = data.train.targets()
    if data.task != "regression":
        return (0.0,), (1.0,)
    deviations = np.where(targets.std(axis=0) > 0, targets.std(axis=0), 1.0)
    return tuple(map(float, targets.mean(axis=0))), tuple(map(float, deviations))


def _fit(
    model: keras.Model,
    plan: list[Phase],
    data: ImageData,
    config: TrainConfig,
    run: Run,
    strategy: tf.distribute.Strategy,
    store: FeatureStore | None,
    verbose: int,
) -> TrainingResult:
    def tensorboard(phase: Phase) -> list[keras.callbacks.Callback]:
        if not config.tensorboard:
            return []
        return [keras.callbacks.TensorBoard(run.path("tensorboard") / phase.name)]

    return run_phases(
        model,
        plan,
        data.train,
        data.val,
        task=data.task,
        batch_size=config.batch_size,
        seed=config.seed,
        class_weights=_balanced_weights(data.train.source) if config.class_weights else None,
        feature_store=store or False,
        engine=config.engine,
        strategy=strategy,
        callbacks=tensorboard,
        on_epoch=lambda rows: _write_csv(pd.DataFrame(rows), run.path(Run.HISTORY)),
        verbose=verbose,
    )


def _balanced_weights(source: Source) -> list[float]:
    """Weights with which all classes count the same and the mean weight is 1."""
    if source.task == "regression":
        raise InputError("classes for --class-weights", "a regression", "Leave it out.")
    counts = class_counts(source.labels, source.class_names)
    return [float(counts.sum() / (len(counts) * max(count, 1))) for count in counts]


def _save(model: keras.Model, info: ModelInfo, source: Source, run: Run) -> None:
    stock = to_stock(model)
    with atomic_file(run.path(Run.MODEL)) as path:
        stock.save(path)
    info.write(run.folder)
    sample_files = [item for item in source.items[:GATE_FILES] if isinstance(item, str | bytes)]
    export_saved_model(stock, run.path(Run.SAVED_MODEL), info, sample_files=sample_files)


def _warn_of_training_images(run: Run, source: Source) -> None:
    splits = pd.read_csv(run.path(Run.SPLITS))
    seen = set(splits.loc[splits["split"] != "test", "sha256"])
    count = sum(key in seen for key in source.hashes)
    if count:
        log.warning(
            "%d of these %d images were trained on or chose the weights", count, len(source)
        )


def _only(source: Source, split: str) -> Source:
    """The split that was asked for, or everything where the data has no such split."""
    chosen = split if split in source.given_splits else "all"
    log.info("Measuring on the data's split %s", chosen)
    return source if chosen == "all" else source.split(split)


def _plain(source: Source, info: ModelInfo) -> Samples:
    """Images as a model is measured on them: not augmented."""
    return Samples(source, info.image_input, augment.get("none"))


def _phase_facts(report: PhaseReport) -> dict[str, Any]:
    return {
        "name": report.name,
        "trainable_parameters": report.freezing.trainable,
        "frozen_parameters": report.freezing.frozen,
        "freezing": str(report.freezing),
        "frozen_prefix_ends_at": list(report.cut),
        "images_through_frozen_prefix": sum(p.computed for p in report.passes),
        "images_asked_of_frozen_prefix": sum(p.images for p in report.passes),
        "seconds": {name: round(value, 3) for name, value in report.seconds.items()},
    }


def _write_csv(frame: pd.DataFrame, path: Path) -> None:
    atomic_write_text(path, frame.to_csv(index=False))


class _Clock:
    """Wall seconds of each step of a run."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name] = round(now - self._last, 3)
        self._last = now
