"""A model's outputs over a data set, as an array and as a table."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from keras_tl import frozen_prefix
from keras_tl.backbones.host import behind_host
from keras_tl.evaluation.inference import traced
from keras_tl.evaluation.many_classes import has_many, ranked_columns
from keras_tl.evaluation.metrics import decide
from keras_tl.feature_cache import FeatureStore
from keras_tl.model_info import ModelInfo
from keras_tl.training.checks import warn_of_scaled_pixels
from keras_tl.training.feeds import feature_batches
from keras_tl.training.images import Images
from keras_tl.training.passes import PrefixPass

SEPARATOR = "|"
PREDICTION_BATCH = 32


def predict(model: keras.Model, dataset: tf.data.Dataset, *, verbose: int = 0) -> np.ndarray:
    """Runs a model in inference over a whole data set.

    Args:
        model: Takes a batch, gives `[batch, outputs]`.
        dataset: Batches of inputs (uint8 pixels `[batch, size, size, 3]`), or tuples that begin
            with them. It must end.
        verbose: 1 shows a progress bar, 0 does not.

    Returns:
        Float32 `[samples, outputs]`, in the order of the data set.
    """
    element = dataset.element_spec
    run = traced(model, element[0] if isinstance(element, tuple) else element)
    steps = int(dataset.cardinality())
    progress = keras.utils.Progbar(steps if steps >= 0 else None, verbose=verbose)
    outputs = [np.zeros((0, model.output_shape[-1]), np.float32)]
    for batch in dataset:
        inputs = batch[0] if isinstance(batch, tuple) else batch
        if len(outputs) == 1:
            warn_of_scaled_pixels(inputs)
        outputs.append(run(*tf.nest.flatten(inputs)).numpy())
        progress.add(1)
    return np.concatenate(outputs)


def predict_images(
    model: keras.Model,
    images: Images,
    store: FeatureStore | None = None,
    *,
    engine: str = "auto",
    verbose: int = 0,
) -> np.ndarray:
    """Runs a model in inference over images, what is frozen in it by way of the store.

    Args:
        model: A functional model, pixels or strings in, `[batch, outputs]` out.
        images: The images or texts; they are not augmented.
        store: Where outputs of frozen prefixes are kept; None runs the whole model.
        engine: See `run_phases`.
        verbose: 1 shows how far it is, 0 does not.

    Returns:
        Float32 `[images, outputs]`, in the order of the images.
    """
    return predictor(model, store, engine=engine, verbose=verbose)(images)


def predictor(
    model: keras.Model, store: FeatureStore | None = None, *, engine: str = "auto", verbose: int = 0
) -> Callable[[Images], np.ndarray]:
    """`predict_images` for several lots of images: engines are made ready once.

    Args:
        model: See `predict_images`.
        store: See `predict_images`.
        engine: See `run_phases`.
        verbose: See `predict_images`.

    Returns:
        A function from images or texts to outputs, float32 `[images, outputs]`.
    """
    parts = frozen_prefix.split(model)

    def whole(images: Images) -> np.ndarray:
        return predict(behind_host(model), images.batches(PREDICTION_BATCH), verbose=verbose)

    if store is None or parts.prefix is None:
        return whole
    prefix = PrefixPass(parts.prefix, store.for_a_run(), engine=engine, verbose=verbose)

    def suffix(outputs: list[np.ndarray], _: np.ndarray) -> np.ndarray:
        return np.asarray(parts.suffix(outputs[0] if len(outputs) == 1 else outputs))

    def by_parts(images: Images) -> np.ndarray:
        if len(images) == 0:
            return whole(images)
        if prefix.settle(images, [None], suffix):
            batches = prefix.recompute(images.batches(PREDICTION_BATCH))
        else:
            batches = feature_batches([prefix.features(images)], images, PREDICTION_BATCH)
        return predict(parts.suffix, batches, verbose=verbose)

    return by_parts


def predictions_frame(
    ids: Sequence[str] | np.ndarray,
    probabilities: np.ndarray,
    targets: np.ndarray | None,
    info: ModelInfo,
) -> pd.DataFrame:
    """Lays predictions out as a table, one row for each sample.

    For "single-label": `id`, `true`, `predicted`, `confidence` (the predicted class's
    probability; not always the larger one where the model has a threshold) and `p_<class>` for
    every class. For "multi-label" the same, where `true` and `predicted` are the classes present,
    joined by "|", and `confidence` is the smallest probability, over the classes, of what was
    decided about it. For "regression": `id`, `true_<target>` and `predicted_<target>` for every
    target. Without targets, without the columns of true values.

    Of more than `MANY_CLASSES` exclusive classes there are the columns of `ranked_columns` instead:
    the ten most probable ones.

    Args:
        ids: The samples' names, `[samples]`.
        probabilities: The model's outputs, float32 `[samples, outputs]`; values for a
            regression.
        targets: As `evaluate` takes them, or None.
        info: The task, class names and thresholds.

    Returns:
        The table.
    """
    columns: dict[str, Any] = {"id": [str(name) for name in ids]}
    if info.task == "regression":
        columns |= _regression_columns(probabilities, targets, info)
    elif has_many(info):
        columns |= ranked_columns(probabilities, targets, info)
    else:
        columns |= _class_columns(probabilities, targets, info)
    return pd.DataFrame(columns)


def _class_columns(
    probabilities: np.ndarray, targets: np.ndarray | None, info: ModelInfo
) -> dict[str, Any]:
    chosen = decide(probabilities, info)
    if info.task == "multi-label":
        confidence = np.where(chosen, probabilities, 1.0 - probabilities).min(axis=1)
    else:
        confidence = probabilities[chosen]
    columns: dict[str, Any] = {}
    if targets is not None and targets.ndim == 1:
        columns["true"] = [info.class_names[index] for index in targets]
    elif targets is not None:
        columns["true"] = _joined(targets > 0.5, info.class_names)
    columns["predicted"] = _joined(chosen, info.class_names)
    columns["confidence"] = _wide(confidence)
    for index, name in enumerate(info.class_names):
        columns[f"p_{name}"] = _wide(probabilities[:, index])
    return columns


def _regression_columns(
    values: np.ndarray, targets: np.ndarray | None, info: ModelInfo
) -> dict[str, Any]:
    columns = {}
    for index, name in enumerate(info.class_names):
        if targets is not None:
            columns[f"true_{name}"] = _wide(targets[:, index])
        columns[f"predicted_{name}"] = _wide(values[:, index])
    return columns


def _wide(values: np.ndarray) -> np.ndarray:
    """As float64, of which every digit is written; a list would take four times the memory."""
    return values.astype(np.float64)


def _joined(present: np.ndarray, class_names: tuple[str, ...]) -> list[str]:
    names = np.array(class_names, dtype=object)
    return [SEPARATOR.join(names[row]) for row in present]
