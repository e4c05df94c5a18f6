"""Chooses the best epoch by the part of the validation loss that calibration cannot mend.

A fine-tuned network goes on learning to tell classes apart while it becomes too sure of itself, so
that its validation loss rises. Berta, Holzmüller, Jordan and Bach ("Rethinking Early Stopping:
Refine, Then Calibrate", 2025, https://arxiv.org/abs/2501.19195) split the loss into these two
parts, and choose the epoch whose loss is lowest after one temperature is fitted on the validation
split.
"""

import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from keras_tl.training.inference import traced
from keras_tl.workers import Workers

REFINED_LOSS = "val_refined_loss"
# The least probability, to keep logarithms finite (of a softmax in float32), and the bound of the
# temperatures' logarithms.
SMALLEST, WIDEST = 1e-30, 3.0
# Numbers in a batch of features: a head takes less time than its call from Python.
BATCH_NUMBERS = 2**22
# Probabilities scaled at once; if there are more, logarithms are kept in float32.
LARGE = 2**22


def refined_loss(probabilities: np.ndarray, targets: np.ndarray) -> float:
    """The negative log-likelihood after the best temperature.

    A standard normal prior draws the temperature's logarithm to 0: otherwise a split that is all
    right would have a loss of 0 in every epoch, and no epoch would be better.

    Args:
        probabilities: Float `[samples, classes]`, of a softmax.
        targets: The classes, int64 `[samples]`, or one-hot `[samples, classes]`.

    Returns:
        The mean of -ln(probability of the true class), with the prior's share of it.
    """
    kind = np.float32 if probabilities.size > LARGE else np.float64
    logits = np.log(np.maximum(np.asarray(probabilities, kind), SMALLEST))
    true = targets if targets.ndim == 1 else targets.argmax(axis=1)
    step = max(LARGE // max(logits.shape[1], 1), 1)

    def loss(log_temperature: float) -> float:
        factor, fit = np.exp(-log_temperature), 0.0
        for at in range(0, len(logits), step):
            scaled = logits[at : at + step] * factor
            classes = true[at : at + step]
            of_true = scaled[np.arange(len(classes)), classes]
            fit += float((logsumexp(scaled, axis=1) - of_true).sum())
        return (fit + log_temperature**2 / 2) / len(logits)

    return float(minimize_scalar(loss, bounds=(-WIDEST, WIDEST), method="bounded").fun)


class RefinedLoss(keras.callbacks.Callback):
    """Adds `val_refined_loss` to each epoch's figures, for the callbacks behind it.

    Args:
        validation: Validation batches; they begin with the inputs.
        targets: See `refined_loss`; in the order of the batches.
        workers: The processes, each of which has batches and targets of its own; all get the same
            loss.
    """

    def __init__(
        self, validation: tf.data.Dataset, targets: np.ndarray, workers: Workers | None = None
    ):
        super().__init__()
        self.workers = workers or Workers()
        self.validation = _in_large_batches(validation)
        self.targets = targets

    @functools.cached_property
    def run(self) -> Callable[..., tf.Tensor]:
        """The model in inference; `predict` would take a second input for targets."""
        return traced(self.model, self.validation.element_spec[0])

    def measure(self) -> float:
        """The refined loss of the model's present weights."""
        outputs = [self.run(*tf.nest.flatten(batch[0])) for batch in self.validation]
        both = (np.concatenate(outputs), self.targets)
        return refined_loss(*(np.concatenate(self.workers.gather(each)) for each in both))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Measures; Keras hands the same `logs` to all callbacks in turn."""
        if logs is not None:
            logs[REFINED_LOSS] = self.measure()


def _in_large_batches(validation: tf.data.Dataset) -> tf.data.Dataset:
    """The same in large batches, where inputs are features; images and tokens stay as they are."""
    inputs = tf.nest.flatten(validation.element_spec[0])
    if not all(spec.shape.rank == 2 and spec.dtype.is_floating for spec in inputs):
        return validation
    widths = [spec.shape[1] for spec in inputs]
    return validation if None in widths else validation.rebatch(1 + BATCH_NUMBERS // sum(widths))
