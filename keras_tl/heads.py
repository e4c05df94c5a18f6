"""Heads: from a backbone's features to predictions."""

import keras

from keras_tl import tasks
from keras_tl.errors import InputError, did_you_mean

POOLING = ("avg", "max", "flatten")
# The layer that gives a regression's targets their unit.
HEAD_UNIT = "head_unit"


def add_head(
    backbone: keras.Model,
    outputs: int,
    *,
    task: str = "single-label",
    pooling: str = "avg",
    hidden: tuple[int, ...] = (),
    dropout: float = 0.2,
    target_mean: float | tuple[float, ...] = 0.0,
    target_scale: float | tuple[float, ...] = 1.0,
) -> keras.Model:
    """Puts a new head on a backbone, in the same flat graph.

    Args:
        backbone: A functional model whose output is a feature map `[batch, height, width,
            channels]` or a vector `[batch, features]`.
        outputs: How many classes, or how many targets of a regression.
        task: A name in `keras_tl.tasks`.
        pooling: How a feature map becomes a vector: "avg", "max" or "flatten".
        hidden: Units of dense ReLU layers before the last one.
        dropout: Share of features dropped before each dense layer while training, in [0, 1).
        target_mean: Regression: mean of the training targets, one number or one each.
        target_scale: Regression: their standard deviation. The last layer then learns values
            near 0 with deviation 1, whatever the targets' unit, and the model returns the unit.

    Returns:
        A `keras.Model` from the backbone's input to float32 `[batch, outputs]`.

    Raises:
        InputError: An unknown task or pooling, too few outputs, or a backbone with another
            kind of output.
    """
    row = tasks.get(task)
    if outputs < 1:
        raise InputError("at least 1 output", str(outputs), "Give the number of classes.")
    if task == "single-label" and outputs < 2:
        # A softmax of one output is always 1.
        raise InputError("at least 2 classes", "1 output", "For two classes give outputs=2.")
    x = _pool(backbone.output, pooling)
    for index, units in enumerate(hidden, start=1):
        x = _dropout(x, dropout, f"head_dropout_{index}")
        x = keras.layers.Dense(units, activation="relu", name=f"head_dense_{index}")(x)
    x = _dropout(x, dropout, "head_dropout")
    # Probabilities are float32 in mixed precision too: softmax underflows in 16 bits.
    dense = keras.layers.Dense(outputs, row.activation, dtype="float32", name="head_predictions")
    x = dense(x)
    if not row.classifies:
        rescale = keras.layers.Rescaling(
            target_scale, offset=target_mean, dtype="float32", name=HEAD_UNIT
        )
        x = rescale(x)
    return keras.Model(backbone.input, x, name=backbone.name)


def _pool(features: keras.KerasTensor, pooling: str) -> keras.KerasTensor:
    if pooling not in POOLING:
        hint = did_you_mean(pooling, POOLING, f"Choose one of {', '.join(POOLING)}.")
        raise InputError("a kind of pooling", repr(pooling), hint)
    if len(features.shape) == 2:
        return features
    if len(features.shape) != 4:
        fix = "Take another output of the backbone."
        raise InputError("vectors or feature maps", f"a shape of {features.shape}", fix)
    layers = {
        "avg": keras.layers.GlobalAveragePooling2D,
        "max": keras.layers.GlobalMaxPooling2D,
        "flatten": keras.layers.Flatten,
    }
    return layers[pooling](name="head_pool")(features)


def _dropout(x: keras.KerasTensor, rate: float, name: str) -> keras.KerasTensor:
    return keras.layers.Dropout(rate, name=name)(x) if rate else x
