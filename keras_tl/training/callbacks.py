"""Callbacks of keras_tl's own."""

import math
import time
from collections.abc import Callable
from typing import Any

import keras

from keras_tl.errors import CheckError


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

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Starts the clock."""
        self._started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds the epoch's row, or ends a training that has run away."""
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
                "learning_rate": float(
                    keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)
                ),
                **{name: float(value) for name, value in (logs or {}).items()},
            }
        )
        if self.on_row:
            self.on_row(self.rows)


class BestWeights(keras.callbacks.EarlyStopping):
    """Restores the weights of the epoch with the lowest validation loss.

    Args:
        patience: Stop after this many epochs without a better one; None never stops.
    """

    def __init__(self, patience: int | None):
        endless = 10**9
        super().__init__(
            monitor="val_loss",
            mode="min",
            patience=endless if patience is None else patience,
            restore_best_weights=True,
        )
