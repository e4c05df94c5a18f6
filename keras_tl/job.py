"""The main job: labelled images or texts in; a trained, measured and exported model out."""

import json
import logging
from contextlib import closing
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import keras
import pandas as pd
import tensorflow as tf
from tensorflow.python.framework.config import is_op_determinism_enabled

from keras_tl import strategies
from keras_tl.agreement import check_data, check_settings, refused_together
from keras_tl.auditing import audit_with_labels
from keras_tl.backbones.graph import to_stock
from keras_tl.baselines import add_baseline
from keras_tl.config import TrainConfig
from keras_tl.data.labels import first_few
from keras_tl.data.source import Source
from keras_tl.data.splits import write_splits
from keras_tl.errors import InputError, sentence
from keras_tl.evaluation.many_classes import truth_of
from keras_tl.evaluation.metrics import no_better_than_the_mean
from keras_tl.evaluation.predictions import predict_images, predictions_frame
from keras_tl.export.saved_model import export_saved_model
from keras_tl.exporting import GATE_FILES
from keras_tl.feature_cache import FeatureStore
from keras_tl.files import atomic_file, atomic_write_text, csv_text
from keras_tl.journal import Journal
from keras_tl.measuring import measure
from keras_tl.model_info import ModelInfo
from keras_tl.plans import check_plan
from keras_tl.preparing import (
    Data,
    build_model,
    keras_settings,
    model_info_of,
    module_told,
    plan_for,
    prepare_data,
    training_options,
)
from keras_tl.probing import settle_plan
from keras_tl.replicas import on_one_device
from keras_tl.reporting.page import write_report
from keras_tl.runs import Run, check_outside
from keras_tl.training.fit import run_phases
from keras_tl.training.phases import Phase
from keras_tl.training.reports import PhaseReport, TrainingResult
from keras_tl.training.resume import Checkpoint, terminable
from keras_tl.workers import Workers

NOTES = {
    "test": "the test split",
    "val": "the val split, which also chose the weights: expect less on new ones",
    "train": "the train split, which the model has seen: this says nothing of new ones",
}

log = logging.getLogger("keras_tl")


def train(
    config: TrainConfig,
    *,
    source: Source | None = None,
    place: strategies.Place | None = None,
    verbose: int = 1,
) -> Run:
    """Trains, measures and exports a model of images or texts.

    Args:
        config: The settings.
        source: The images or texts, where they are already opened; else `config.data` is.
        place: Where to train, see `keras_tl.strategies.choose`. Of several processes the first,
            the chief, writes the run; all need the data.
        verbose: As in Keras' `fit`: 0 is silent, 1 shows bars, 2 a line an epoch.

    Returns:
        The finished run, in `config.out`; with several processes, possibly an earlier one with the
        same settings.

    Raises:
        InputError: Something in the settings or the data cannot be used.
        CheckError: Training moved something frozen, or the export differs from the model.
        LostWorkerError: Another process of the training is gone.
    """
    if config.strict and not config.audit:
        # Not in `TrainConfig`: finished runs may have both.
        raise InputError("an audit for strict", "none (audit=False)", "Leave one of them out.")
    strategy = strategies.choose(place)
    workers = Workers(strategy)
    with (
        workers.results_in(config.out) as folder,
        workers.losses_told(),
        closing(Run(folder)) as run,
    ):
        with refused_together(workers):
            # A cluster restarts all processes if one is lost while the chief finishes.
            done = workers.count > 1 and run.is_of(config)
            if source is None:
                check_outside(config.data, config.out)
            if not done:
                run.check_free(config)
        if workers.share(done):
            log.info("The run in %s came to its end: nothing is left to do", config.out)
            return Run(config.out)
        _set_determinism(config)
        checkpoint = Checkpoint(run.path(Run.CHECKPOINT), keeps=workers.is_chief)
        checkpoint.share(workers)
        with (
            keras_settings(config),
            module_told(config),
            Journal() as journal,
            terminable(checkpoint),
        ):
            store = None
            if config.feature_cache:
                store = FeatureStore(dtype=config.feature_dtype, workers=workers)
            job = _Job(config, run, strategy, workers, store, checkpoint, journal, verbose)
            job.train(source)
        # A process that ends first would be taken for lost.
        workers.barrier()
    return Run(config.out)


@dataclass(frozen=True)
class _Job:
    """A run under way: its steps, and what each of them is given."""

    config: TrainConfig
    run: Run
    strategy: tf.distribute.Strategy
    workers: Workers
    store: FeatureStore | None
    checkpoint: Checkpoint
    journal: Journal
    verbose: int

    def train(self, source: Source | None) -> None:
        """Runs all steps."""
        config, run = self.config, self.run
        _check_tensorboard(config)
        check_settings(self.workers, config)
        data = prepare_data(config, source)
        check_data(self.workers, data.source)
        self.journal.lap("data", **({"audit": data.seen.seconds} if data.seen else {}))
        with self.strategy.scope():
            model = build_model(config, data)
        check_plan(plan_for(model, data, config), model)
        with refused_together(self.workers):
            run.begin(config)
        atomic_write_text(run.path(Run.CONFIG), config.with_absolute_paths().to_yaml())
        write_splits(data.source, run.path(Run.SPLITS))
        self.journal.lap("build")
        plan, decision = self._settle(model, data)
        self.journal.lap("decision")
        if not self.checkpoint.exists:
            self._write_audit(model, plan, data)
        result = self._fit(model, plan, data)
        self.journal.lap("training")
        if self.workers.is_chief:
            self._finish(model, data, _about(data, result, decision))

    def _settle(self, model: keras.Model, data: Data) -> tuple[list[Phase], dict[str, Any] | None]:
        """The plan, and why; a resumed run keeps to what was decided when it began."""
        if noted := self.checkpoint.notes():
            plan = plan_for(model, data, self.config)
            return plan[: noted["phases"]], noted["decision"]
        plan, decision = settle_plan(model, data, self.config, self.store, self.verbose)
        # The decision depends on measured times, which may differ between machines.
        phases, decision = self.workers.share((len(plan), decision))
        plan = plan_for(model, data, self.config)[:phases]
        self.checkpoint.note({"phases": len(plan), "decision": decision})
        return plan, decision

    def _write_audit(self, model: keras.Model, plan: list[Phase], data: Data) -> None:
        """Writes what was found in the data, instead of what an earlier start of the run wrote."""
        path, config = self.run.path(Run.AUDIT), self.config
        path.unlink(missing_ok=True)
        if not data.audit:
            return
        how: dict[str, Any] = {"seed": config.seed, "engine": config.engine}
        found = audit_with_labels(model, plan, data, self.store, **how, verbose=self.verbose)
        found.write(path)
        self.journal.lap("audit")

    def _fit(self, model: keras.Model, plan: list[Phase], data: Data) -> TrainingResult:
        def tensorboard(phase: Phase) -> list[keras.callbacks.Callback]:
            if not self.config.tensorboard:
                return []
            return [keras.callbacks.TensorBoard(self.run.path("tensorboard") / phase.name)]

        history = self.run.path(Run.HISTORY)
        return run_phases(
            model,
            plan,
            data.train,
            data.val,
            **training_options(self.config, data),
            feature_store=self.store or False,
            strategy=self.strategy,
            callbacks=tensorboard,
            on_epoch=lambda rows: _write_csv(pd.DataFrame(rows), history),
            checkpoint=self.checkpoint,
            verbose=self.verbose,
        )

    def _finish(self, model: keras.Model, data: Data, about: dict[str, Any]) -> None:
        """Exports and measures the trained model, in one process and on one device."""
        [model] = on_one_device([model])
        info = model_info_of(self.config, data)
        _save(model, info, data.source, self.run)
        self.journal.lap("export")
        store = self.store and self.store.among(Workers())
        how: dict[str, Any] = {"engine": self.config.engine, "verbose": self.verbose}
        try:
            _measure_run(self.run, model, info, data, about, self.journal, store=store, **how)
        finally:
            # Also if only the report failed: a whole run is never resumed.
            if self.run.is_whole:
                self.checkpoint.remove()


def _set_determinism(config: TrainConfig) -> None:
    """Switches deterministic kernels on; a process cannot leave them, which a later run is told."""
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    elif is_op_determinism_enabled():
        fix = "The run is slower than it need be; begin it in a process of its own."
        line = sentence("a process without determinism", "one in which it was switched on", fix)
        log.warning("%s", line)


def _about(data: Data, result: TrainingResult, decision: dict[str, Any] | None) -> dict[str, Any]:
    """What metrics.json has beside the figures."""
    return {
        "images": data.counts,
        "skipped": [{"id": s.id, "reason": s.reason} for s in data.source.skipped],
        "phases": [_phase_facts(report) for report in result.phases],
        **({"fine_tune_decision": decision} if decision else {}),
    }


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
    if useless := no_better_than_the_mean(metrics):
        log.warning("No better than always answering the mean: %s", first_few(useless))
    _write_csv(predictions, run.path(Run.PREDICTIONS))
    if data.counts["val"]:
        on_val = predictions
        if split != "val":
            outputs = predict_images(model, data.val, **options)
            truth = truth_of(data.val.source)
            on_val = predictions_frame(data.val.source.ids, outputs, truth, info)
        _write_csv(on_val, run.path(Run.VAL_PREDICTIONS))
    baseline = add_baseline(run, data, split, verbose=options["verbose"])
    if baseline:
        journal.lap("baseline")
    note = {"measured_on": split, "note": NOTES[split]}
    facts = {**note, **metrics, **baseline, **about, **journal.facts()}
    text = json.dumps(facts, indent=2) + "\n"
    try:
        # Before metrics.json, which marks the run as whole: if killed here, it can be resumed.
        how = {name: value for name, value in options.items() if name != "verbose"}
        write_report(run, source=data.source, model=model, metrics=facts, **how)
    except Exception:
        # A report that fails must not cost the figures.
        atomic_write_text(run.path(Run.METRICS), text)
        raise
    atomic_write_text(run.path(Run.METRICS), text)


def _save(model: keras.Model, info: ModelInfo, source: Source, run: Run) -> None:
    stock = to_stock(model)
    with atomic_file(run.path(Run.MODEL)) as path:
        stock.save(path)
    info.write(run.folder)
    sample_files = [item for item in source.items[:GATE_FILES] if isinstance(item, str | bytes)]
    texts = [item for item in source.items[:GATE_FILES] if isinstance(item, tuple)]
    folder = run.path(Run.SAVED_MODEL)
    export_saved_model(stock, folder, info, sample_files=sample_files, sample_texts=texts)


def _phase_facts(report: PhaseReport) -> dict[str, Any]:
    return {
        "name": report.name,
        "learning_rate": report.learning_rate,
        "trainable_parameters": report.freezing.trainable,
        "frozen_parameters": report.freezing.frozen,
        "freezing": str(report.freezing),
        "frozen_prefix_ends_at": list(report.cut),
        "images_through_frozen_prefix": sum(p.computed for p in report.passes),
        "images_asked_of_frozen_prefix": sum(p.images for p in report.passes),
        "seconds": {name: round(value, 3) for name, value in report.seconds.items()},
    }


def _write_csv(frame: pd.DataFrame, path: Path) -> None:
    atomic_write_text(path, csv_text(frame))
