"""A model measured on labelled images or texts, and a finished run on new ones."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd

from keras_tl.backbones.host import behind_host, tokenize_of
from keras_tl.data.inspection import inspect
from keras_tl.data.open import is_table, open_data
from keras_tl.data.pipeline import Samples
from keras_tl.data.source import Source
from keras_tl.data.splits import parse_split
from keras_tl.data.texts import from_texts, inspect_texts
from keras_tl.errors import InputError
from keras_tl.evaluation.checks import check_class_names, warn_of_outcome
from keras_tl.evaluation.many_classes import truth_of
from keras_tl.evaluation.metrics import evaluate
from keras_tl.evaluation.predictions import (
    PREDICTION_BATCH,
    predict,
    predict_images,
    predictions_frame,
)
from keras_tl.export.saved_model import check_fit
from keras_tl.feature_cache import FeatureStore
from keras_tl.model_info import ModelInfo
from keras_tl.runs import Run
from keras_tl.training.arguments import functional
from keras_tl.training.checks import check_shapes

log = logging.getLogger("keras_tl")


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
    how: dict[str, Any] = {"store": store, "engine": engine, "verbose": verbose}
    outputs, targets = _outputs(model, samples, info, **how)
    frame = predictions_frame(samples.source.ids, outputs, targets, info)
    return evaluate(outputs, targets, info), frame


def _outputs(
    model: keras.Model, samples: Samples, info: ModelInfo, **how: Any
) -> tuple[np.ndarray, np.ndarray]:
    """A model's outputs for labelled images or texts, and the targets."""
    model = functional(model)
    check_class_names(samples.source.class_names, info)
    check_shapes(model, samples)
    outputs = predict_images(model, samples, **how)
    targets = truth_of(samples.source)
    warn_of_outcome(outputs, targets, info)
    return outputs, targets


def evaluate_run(
    run: Run, data: str, *, split: str = "test", verbose: int = 1, **columns: Any
) -> dict[str, Any]:
    """Measures a finished run's model on other labelled images or texts.

    Args:
        run: The run.
        data: See `keras_tl.data.open.open_data`.
        split: Which split to measure where the data has splits of its own.
        verbose: As in Keras' `fit`: 0 is silent, 1 shows bars, 2 a line an epoch.
        **columns: See `keras_tl.data.open.open_data`; the run's own columns of items and labels
            are taken where they are left out and the data are a table.

    Returns:
        The figures.

    Raises:
        InputError: Unusable data, or classes the model does not know.
    """
    info, model = run.info, run.model()
    columns = {**_own_columns(run, data), **columns}
    if (columns.get("text_column") is None) != (info.text_input is None):
        kind = "texts" if info.text_input else "images"
        fix = "Give --text-column for a model of texts alone."
        raise InputError(f"{kind}, of which the model is", "the other kind", fix)
    source = open_data(data, task=info.task, class_names=info.class_names, **columns)
    if source.given_splits:
        source = _only(source, split)
    source = _readable(source, info)
    _warn_of_training_items(run, source)
    return evaluate(*_outputs(model, _plain(source, info, model), info, verbose=verbose), info)


def _own_columns(run: Run, data: str) -> dict[str, Any]:
    """The run's own columns, as far as they apply to other data."""
    config = run.config
    if is_table(data):
        return {**config.item_columns, "label_column": config.label_column}
    return config.item_columns if config.has_texts else {}


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


def _readable(source: Source, info: ModelInfo) -> Source:
    """What can be read, with its hashes; the rest is listed as skipped."""
    if info.text_input is not None:
        return inspect_texts(source, max_bad_fraction=1.0)
    return inspect(source, info.images, max_bad_fraction=1.0)


def _warn_of_training_items(run: Run, source: Source) -> None:
    seen = run.read(Run.SPLITS, _not_test)
    count = sum(key in seen for key in source.hashes)
    if count:
        log.warning("%d of these %d items were trained on or chose the weights", count, len(source))


def _not_test(path: Path) -> set[str]:
    """Hashes of the items that a run was trained on or chose its weights by."""
    splits = pd.read_csv(path)
    return set(splits.loc[splits["split"] != "test", "sha256"])


def _only(source: Source, split: str) -> Source:
    """The split that was asked for, or everything where the data has no such split."""
    split = parse_split(split) if split != "all" else split
    chosen = split if split in source.given_splits else "all"
    log.info("Measuring on the data's split %s", chosen)
    return source if chosen == "all" else source.split(split)


def _plain(source: Source, info: ModelInfo, model: keras.Model) -> Samples:
    """Images or texts as a model is measured on them: not augmented."""
    if info.text_input is not None:
        return Samples(source, info.text_input, tokenize=tokenize_of(model))
    # Otherwise images would be decoded to a forged size before the model refused it.
    check_fit(model, info)
    return Samples(source, info.images)
