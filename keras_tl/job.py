"""The main job: labelled images or texts in; a trained, measured and exported model out."""

import json
import logging
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from keras_tl import freezing, strategies
from keras_tl.auditing import audit_with_labels
from keras_tl.backbones.graph import to_stock
from keras_tl.backbones.host import behind_host, tokenize_of
from keras_tl.baselines import add_baseline
from keras_tl.config import TrainConfig
from keras_tl.data.inspection import inspect
from keras_tl.data.open import open_data
from keras_tl.data.pipeline import Samples
from keras_tl.data.source import Source
from keras_tl.data.splits import write_splits
from keras_tl.data.texts import from_texts, inspect_texts
from keras_tl.errors import InputError
from keras_tl.evaluation.checks import check_class_names, warn_of_outcome
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
from keras_tl.journal import Journal
from keras_tl.model_info import ModelInfo
from keras_tl.plans import make_plan
from keras_tl.preparing import Data, build_model, class_weights_of, describe, prepare_data
from keras_tl.probing import settle_plan
from keras_tl.reporting.page import write_report
from keras_tl.runs import Run
from keras_tl.training.fit import run_phases
from keras_tl.training.phases import Phase
from keras_tl.training.reports import PhaseReport, TrainingResult
from keras_tl.training.resume import Checkpoint, terminable

# How many of the user's own files the exporter's gate compares.
GATE_FILES = 8
NOTES = {
    "test": "the test split",
    "val": "the val split, which also chose the weights: expect less on new ones",
    "train": "the train split, which the model has seen: this says nothing of new ones",
}

log = logging.getLogger("keras_tl")


def train(config: TrainConfig, *, source: Source | None = None, verbose: int = 1) -> Run:
    """Trains, measures and exports a model of images or texts.

    Args:
        config: The settings.
        source: The images or texts, where they are already opened; else `config.data` is.
        verbose: As in Keras' `fit`: 0 is silent, 1 shows bars, 2 a line an epoch.

    Returns:
        The finished run, in `config.out`.

    Raises:
        InputError: Something in the settings or the data cannot be used.
        CheckError: Training moved something frozen, or the export differs from the model.
    """
    run = Run(config.out)
    run.check_free(config)
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    checkpoint = Checkpoint(run.path(Run.CHECKPOINT))
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy(config.precision)
    keras.utils.set_random_seed(config.seed)
    try:
        with Journal() as journal, terminable(checkpoint):
            _train(config, run, source, checkpoint, journal, verbose)
    finally:
        keras.config.set_dtype_policy(previous)
    return run


def _train(
    config: TrainConfig,
    run: Run,
    source: Source | None,
    checkpoint: Checkpoint,
    journal: Journal,
    verbose: int,
) -> None:
    _check_tensorboard(config)
    data = prepare_data(config, source)
    journal.lap("data", **({"audit": data.seen.seconds} if data.seen else {}))
    strategy = strategies.choose()
    with strategy.scope():
        model = build_model(config, data)
    run.begin()
    atomic_write_text(run.path(Run.CONFIG), config.with_absolute_paths().to_yaml())
    write_splits(data.source, run.path(Run.SPLITS))
    journal.lap("build")
    store = FeatureStore(dtype=config.feature_dtype) if config.feature_cache else None
    plan, decision = _settle(model, data, config, store, checkpoint, verbose)
    journal.lap("decision")
    if not checkpoint.exists:
        run.path(Run.AUDIT).unlink(missing_ok=True)
    if data.audit and not checkpoint.exists:
        settings: dict[str, Any] = {"seed": config.seed, "engine": config.engine}
        found = audit_with_labels(model, plan, data, store, **settings, verbose=verbose)
        found.write(run.path(Run.AUDIT))
        journal.lap("audit")
    result = _fit(model, plan, data, config, run, strategy, store, checkpoint, verbose)
    journal.lap("training")
    info = describe(config, data)
    _save(model, info, data.source, run)
    journal.lap("export")
    about = {
        "images": data.counts,
        "skipped": [{"id": s.id, "reason": s.reason} for s in data.source.skipped],
        "phases": [_phase_facts(report) for report in result.phases],
        **({"fine_tune_decision": decision} if decision else {}),
    }
    how: dict[str, Any] = {"store": store, "engine": config.engine, "verbose": verbose}
    _measure_run(run, model, info, data, about, journal, **how)
    checkpoint.remove()


def _check_tensorboard(config: TrainConfig) -> None:
    if config.tensorboard and find_spec("tensorboard") is None:
        fix = "Install it with pip install tensorboard, or leave --tensorboard out."
        raise InputError("the package tensorboard", "none installed", fix)


def _measure_run(
    run: Run,
    model: keras.Model,
    info: ModelInfo,
    data: Data,
    about: dict[str, Any],
    journal: Journal,
    **options: Any,
) -> None:
    """Measures a trained model and writes predictions, report and, last, metrics.json."""
    split = next(name for name in ("test", "val", "train") if data.counts[name])
    log.info("Measuring on %s", NOTES[split])
    metrics, predictions = measure(model, data.samples(split), info, **options)
    journal.lap("evaluation")
    _write_csv(predictions, run.path(Run.PREDICTIONS))
    if data.counts["val"]:
        on_val = predictions
        if split != "val":
            outputs = predict_images(model, data.val, **options)
            on_val = predictions_frame(data.val.source.ids, outputs, data.val.targets(), info)
        _write_csv(on_val, run.path(Run.VAL_PREDICTIONS))
    baseline = add_baseline(run, data, split, verbose=options["verbose"])
    if baseline:
        journal.lap("baseline")
    note = {"measured_on": split, "note": NOTES[split]}
    facts = {**note, **metrics, **baseline, **about, **journal.facts()}
    try:
        # Before what marks the run as whole: who kills it here can start it again.
        write_report(run, source=data.source, model=model, metrics=facts)
    finally:
        atomic_write_text(run.path(Run.METRICS), json.dumps(facts, indent=2) + "\n")


def measure(
    model: keras.Model,
    samples: Samples,
    info: ModelInfo,
    *,
    store: FeatureStore | None = None,
    engine: str = "auto",
    verbose: int = 1,
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Measures a model on labelled images or texts.

    Args:
        model: Pixels or strings in, predictions out.
        samples: The images or texts; their classes in the model's order.
        info: What the model takes and gives.
        store: Where outputs of what is frozen in the model are kept; None keeps none.
        engine: See `run_phases`.
        verbose: As in Keras' `fit`: 0 is silent, 1 shows bars, 2 a line an epoch.

    Returns:
        The figures (see `keras_tl.evaluation.metrics.evaluate`), and a row for each of them.

    Raises:
        InputError: The classes are not in the model's order, or cannot be measured.
    """
    check_class_names(samples.source.class_names, info)
    outputs = predict_images(model, samples, store, engine=engine, verbose=verbose)
    targets, ids = samples.targets(), samples.source.ids
    warn_of_outcome(outputs, targets, info)
    return evaluate(outputs, targets, info), predictions_frame(ids, outputs, targets, info)


def evaluate_run(
    run: Run, data: str, *, split: str = "test", verbose: int = 1, **columns: Any
) -> dict[str, Any]:
    """Measures a finished run's model on other labelled images or texts.

    Args:
        run: The run.
        data: See `keras_tl.data.open.open_data`.
        split: Which split to measure where the data has splits of its own.
        verbose: As in Keras' `fit`: 0 is silent, 1 shows bars, 2 a line an epoch.
        **columns: See `keras_tl.data.open.open_data`; for texts the run's own are taken where
            they are left out.

    Returns:
        The figures.

    Raises:
        InputError: Unusable data, or classes the model does not know.
    """
    info, model = run.info, run.model()
    if info.text_input is not None:
        columns = {**run.config.columns, **columns}
    source = open_data(data, task=info.task, class_names=info.class_names, **columns)
    if source.given_splits:
        source = _only(source, split)
    source = _readable(source, info)
    _warn_of_training_items(run, source)
    metrics, _ = measure(model, _plain(source, info, model), info, verbose=verbose)
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
    source = inspect(unlabelled, run.info.images, max_bad_fraction=1.0)
    return _predict(run, source, verbose)


def predict_texts(
    run: Run, texts: Source | Sequence[str | tuple[str, ...]], *, verbose: int = 0
) -> tuple[np.ndarray, Source]:
    """Predicts texts with a finished run's model.

    Args:
        run: The run.
        texts: Texts, or pairs of them where the model takes pairs; or an opened source of them.
        verbose: As in Keras' `fit`: 0 is silent, 1 shows bars, 2 a line an epoch.

    Returns:
        The model's outputs, float32 `[texts, outputs]`, and the texts they belong to; blank ones
        are passed over.

    Raises:
        InputError: There is no text, or the model is not one of such texts.
    """
    wanted = run.info.text_input.texts if run.info.text_input else 0
    source = texts if isinstance(texts, Source) else from_texts(texts)
    others = {len(item) for item in source.items} - {wanted}
    if others:
        kinds = {0: "images", 1: "single texts", 2: "pairs of texts"}
        fix = "The run's model.json says what its model takes."
        raise InputError(kinds[wanted], kinds.get(others.pop(), "several texts each"), fix)
    return _predict(run, inspect_texts(source, max_bad_fraction=1.0), verbose)


def _predict(run: Run, source: Source, verbose: int) -> tuple[np.ndarray, Source]:
    model = run.model()
    items = _plain(source, run.info, model).images(np.arange(len(source)))
    batches = items.batch(PREDICTION_BATCH)
    return predict(behind_host(model), batches, verbose=verbose), source


def _fit(
    model: keras.Model,
    plan: list[Phase],
    data: Data,
    config: TrainConfig,
    run: Run,
    strategy: tf.distribute.Strategy,
    store: FeatureStore | None,
    checkpoint: Checkpoint,
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
        class_weights=class_weights_of(config, data.train.source),
        feature_store=store or False,
        engine=config.engine,
        strategy=strategy,
        callbacks=tensorboard,
        on_epoch=lambda rows: _write_csv(pd.DataFrame(rows), run.path(Run.HISTORY)),
        checkpoint=checkpoint,
        verbose=verbose,
    )


def _settle(
    model: keras.Model,
    data: Data,
    config: TrainConfig,
    store: FeatureStore | None,
    checkpoint: Checkpoint,
    verbose: int,
) -> tuple[list[Phase], dict[str, Any] | None]:
    """The plan, and why; a run that goes on keeps to what was decided when it began."""
    if noted := checkpoint.notes():
        plan = make_plan(config, len(data.train), freezing.block_count(model))
        return plan[: noted["phases"]], noted["decision"]
    plan, decision = settle_plan(model, data, config, store, verbose)
    checkpoint.note({"phases": len(plan), "decision": decision})
    return plan, decision


def _save(model: keras.Model, info: ModelInfo, source: Source, run: Run) -> None:
    stock = to_stock(model)
    with atomic_file(run.path(Run.MODEL)) as path:
        stock.save(path)
    info.write(run.folder)
    sample_files = [item for item in source.items[:GATE_FILES] if isinstance(item, str | bytes)]
    texts = [item for item in source.items[:GATE_FILES] if isinstance(item, tuple)]
    folder = run.path(Run.SAVED_MODEL)
    export_saved_model(stock, folder, info, sample_files=sample_files, sample_texts=texts)


def _readable(source: Source, info: ModelInfo) -> Source:
    """What can be read, with its hashes; the rest is listed as skipped."""
    if info.text_input is not None:
        return inspect_texts(source, max_bad_fraction=1.0)
    return inspect(source, info.images, max_bad_fraction=1.0)


def _warn_of_training_items(run: Run, source: Source) -> None:
    splits = pd.read_csv(run.path(Run.SPLITS))
    seen = set(splits.loc[splits["split"] != "test", "sha256"])
    count = sum(key in seen for key in source.hashes)
    if count:
        log.warning("%d of these %d items were trained on or chose the weights", count, len(source))


def _only(source: Source, split: str) -> Source:
    """The split that was asked for, or everything where the data has no such split."""
    chosen = split if split in source.given_splits else "all"
    log.info("Measuring on the data's split %s", chosen)
    return source if chosen == "all" else source.split(split)


def _plain(source: Source, info: ModelInfo, model: keras.Model) -> Samples:
    """Images or texts as a model is measured on them: not augmented."""
    if info.text_input is not None:
        return Samples(source, info.text_input, tokenize=tokenize_of(model))
    return Samples(source, info.images)


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
