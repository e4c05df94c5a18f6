"""A model's outputs over a data set, as an array and as a table."""

from collections.abc import Sequence

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from keras_tl.evaluation.metrics import decide
from keras_tl.model_info import ModelInfo

SEPARATOR = "|"


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

    # A plain graph function: on a CPU less overhead than `Model.predict`.
    @tf.function(reduce_retracing=True)
    def run(inputs: tf.Tensor) -> tf.Tensor:
        outputs = model(tf.cast(inputs, model.inputs[0].dtype), training=False)
        return tf.cast(outputs, tf.float32)

    steps = int(dataset.cardinality())
    progress = keras.utils.Progbar(steps if steps >= 0 else None, verbose=verbose)
    outputs = [np.zeros((0, model.output_shape[-1]), np.float32)]
    for batch in dataset:
        inputs = batch[0] if isinstance(batch, tuple) else batch
        outputs.append(run(inputs).numpy())
        progress.add(1)
    return np.concatenate(outputs)


def predictions_frame(
    ids: Sequence[str] | np.ndarray,
    probabilities: np.ndarray,
    targets: np.ndarray | None,
    info: ModelInfo,
) -> pd.DataFrame:
    """Lays predictions out as a table, one row for each sample.

    For "single-label": `id`, `true`, `predicted`, `confidence` (the predicted class's
    probability) and `p_<class>` for every class. For "multi-label" the same, where `true` and
    `predicted` are the classes present, joined by "|", and `confidence` is the smallest
    probability, over the classes, of what was decided about it. For "regression": `id`,
    `true_<target>` and `predicted_<target>` for every target. Without targets, without the
    columns of true values.

    Args:
        ids: The samples' names, `[samples]`.
        probabilities: The model's outputs, float32 `[samples, outputs]`; values for a
            regression.
        targets: Float32 `[samples, outputs]` as the model is trained on, or None.
        info: The task, class names and thresholds.

    Returns:
        The table.
    """
    columns = {"id": [str(name) for name in ids]}
    make = _regression_columns if info.task == "regression" else _class_columns
    columns.update(make(probabilities, targets, info))
    return pd.DataFrame(columns)


def _class_columns(
    probabilities: np.ndarray, targets: np.ndarray | None, info: ModelInfo
) -> dict[str, list]:
    chosen = decide(probabilities, info)
    if info.task == "multi-label":
        confidence = np.where(chosen, probabilities, 1.0 - probabilities).min(axis=1)
    else:
        confidence = probabilities.max(axis=1)
    columns = {}
    if targets is not None:
        columns["true"] = _joined(targets > 0.5, info.class_names)
    columns["predicted"] = _joined(chosen, info.class_names)
    columns["confidence"] = confidence.tolist()
    for index, name in enumerate(info.class_names):
        columns[f"p_{name}"] = probabilities[:, index].tolist()
    return columns


def _regression_columns(
    values: np.ndarray, targets: np.ndarray | None, info: ModelInfo
) -> dict[str, list]:
    columns = {}
    for index, name in enumerate(info.class_names):
        if targets is not None:
            columns[f"true_{name}"] = targets[:, index].tolist()
        columns[f"predicted_{name}"] = values[:, index].tolist()
    return columns


def _joined(present: np.ndarray, class_names: tuple[str, ...]) -> list[str]:
    names = np.array(class_names, dtype=object)
    return [SEPARATOR.join(names[row]) for row in present]
