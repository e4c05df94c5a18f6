"""Chooses the best epoch by the part of the validation loss that calibration cannot mend.

A fine-tuned network goes on learning to tell classes apart while it becomes too sure of itself, so
that its validation loss rises. Berta, Holzmüller, Jordan and Bach ("Rethinking Early Stopping:
Refine, Then Calibrate", 2025, https://arxiv.org/abs/2501.19195) split the loss into these two
parts, and choose the epoch whose loss is lowest after one temperature is fitted on the validation
split.
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from keras_tl.training.model import TrainingModel
from keras_tl.workers import Workers

REFINED_LOSS = "val_refined_loss"
# The least probability, to keep logarithms finite (of a softmax in float32), and the bound of the
# temperatures' logarithms.
SMALLEST, WIDEST = 1e-30, 3.0
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

    It takes the outputs that validation computes.

    Args:
        targets: See `refined_loss`; in the order of the validation batches.
        workers: The processes, each of which has batches and targets of its own; all get the same
            loss.
    """

    def __init__(self, targets: np.ndarray, workers: Workers | None = None):
        super().__init__()
        self.targets, self.workers = targets, workers or Workers()
        self._outputs: list[np.ndarray] = []
        self._at_work = False

    def set_model(self, model: TrainingModel) -> None:
        """Looks at the model's validations."""
        super().set_model(model)
        model.watch = self._see

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Begins anew."""
        self._outputs = []

    def on_test_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Looks at the steps of the validation."""
        self._at_work = True

    def on_test_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Sees nothing of what other callbacks evaluate."""
        self._at_work = False

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        """Also where the data ended within a step."""
        self._at_work = False

    def _see(self, *outputs: tf.Tensor) -> None:
        if self._at_work:
            # A device may need its memory for training.
            self._outputs += [output.numpy() for output in outputs]

    def measure(self) -> float:
        """The refined loss of the last validation, as far as it went; once for each."""
        outputs, self._outputs = np.concatenate(self._outputs), []
        both = (outputs, self.targets[: len(outputs)])
        return refined_loss(*(np.concatenate(self.workers.gather(each)) for each in both))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Measures; Keras hands the same `logs` to all callbacks in turn."""
        if logs is not None:
            logs[REFINED_LOSS] = self.measure()
