"""Callbacks of keras_tl's own."""

import logging
import math
import time
from collections.abc import Callable
from typing import Any

import keras

from keras_tl.errors import CheckError

KEPT_OF_BEST = ("best", "best_epoch", "best_weights", "wait", "stopped_epoch")

log = logging.getLogger("keras_tl")


class PhaseLog(keras.callbacks.Callback):
    """Collects one row an epoch, over all phases.

    Args:
        phase: The phase's name.
        rows: The list to append to.
        on_row: Called with all rows after each epoch, to write them somewhere.
    """

    def __init__(
        self,
        phase: str,
        rows: list[dict[str, Any]],
        on_row: Callable[[list[dict[str, Any]]], None] | None = None,
    ):
        super().__init__()
        self.phase = phase
        self.rows = rows
        self.on_row = on_row

        self._started, self._before = time.perf_counter(), 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Starts the clock."""
        self._started = time.perf_counter() - self._before
        self._before = 0.0

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds the epoch's row, or raises if the loss is not finite."""
        loss = float((logs or {})["loss"])
        if not math.isfinite(loss):
            raise CheckError(
                "a finite loss",
                f"{loss} in epoch {epoch + 1} of phase {self.phase!r}",
                "Lower the learning rate, or clip gradients.",
            )
        self.rows.append(
            {
                "phase": self.phase,
                "epoch": epoch + 1,
                "seconds": round(time.perf_counter() - self._started, 3),
                "learning_rate": _last_rate(self.model.optimizer),
                **{name: float(value) for name, value in (logs or {}).items()},
            }
        )
        if self.on_row:
            self.on_row(self.rows)
        self._started = time.perf_counter()

    def state(self) -> dict[str, Any]:
        """The rows, and the seconds since the last one."""
        return {"rows": self.rows, "seconds": time.perf_counter() - self._started}

    def restore(self, state: dict[str, Any]) -> None:
        """Takes them back."""
        self.rows[:], self._before = state["rows"], state["seconds"]


def _last_rate(optimizer: keras.optimizers.Optimizer) -> float:
    """The rate of the last step; an optimizer's `learning_rate` is that of the next one."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    # A private attribute: the public one has evaluated the schedule already.
    rate: Any = optimizer._learning_rate
    if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
        rate = rate(keras.ops.maximum(optimizer.iterations - 1, 0))
    return float(keras.ops.convert_to_numpy(rate))


class BestWeights(keras.callbacks.EarlyStopping):
    """Restores the weights of the epoch with the lowest validation loss, or those of the start.

    So a fine-tuning that only made things worse ends with what the head alone had reached.

    Args:
        patience: Stop after this many epochs without a better one; None never stops.
        start_loss: The validation loss of the weights that training begins with.
        monitor: Which loss; see `keras_tl.training.refinement` for another than Keras'.
        good_start: The start is known to be good: do not warn if no epoch improves on it.
    """

    def __init__(
        self,
        patience: int | None,
        start_loss: float,
        monitor: str = "val_loss",
        *,
        good_start: bool = False,
    ):
        endless = 10**9
        super().__init__(
            monitor=monitor,
            mode="min",
            patience=endless if patience is None else patience,
            restore_best_weights=True,
        )
        self.start_loss, self.good_start = start_loss, good_start

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Takes the start for the best so far."""
        super().on_train_begin(logs)
        if math.isfinite(self.start_loss):
            self.best, self.best_weights = self.start_loss, self.model.get_weights()
            self.best_epoch = -1

    def state(self) -> dict[str, Any]:
        """The best epoch, its loss and weights, and the number of epochs since."""
        return {name: getattr(self, name) for name in KEPT_OF_BEST}

    def restore(self, state: dict[str, Any]) -> None:
        """Takes them back."""
        for name in KEPT_OF_BEST:
            setattr(self, name, state[name])

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Restores the best weights."""
        super().on_train_end(logs)
        if self.best_epoch < 0:
            log.log(
                logging.INFO if self.good_start else logging.WARNING,
                "No epoch had a lower validation loss than the start (%.4f): its weights are kept",
                self.start_loss,
            )
