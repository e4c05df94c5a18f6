"""The callback that keeps a phase while `fit` trains it, and jumps to where it was kept."""

import time
from collections.abc import Iterable
from typing import Any, Protocol, runtime_checkable

import keras
import numpy as np

from keras_tl.errors import InputError
from keras_tl.training.resume import Checkpoint
from keras_tl.training.state_files import set_random_state, values
from keras_tl.training.stock_callbacks import KeptBoard, KeptStock, kept_stock
from keras_tl.workers import Workers

# An epoch's end is saved if the last save is at least this old.
SECONDS_AT_EPOCH_ENDS = 1.0
# Seconds after which several processes agree again whether to save a step in an epoch.
SECONDS_TO_MEET = 5.0


@runtime_checkable
class Kept(Protocol):
    """A Keras callback that is kept with the training it belongs to."""

    def state(self) -> dict[str, Any]:
        """What it has gathered: ready for JSON, but for NumPy arrays."""

    def restore(self, state: dict[str, Any]) -> None:
        """Takes it back; called after every `on_train_begin`."""


class Saver(keras.callbacks.Callback):
    """Saves a phase to a checkpoint while `fit` trains it; jumps to the place saved there.

    It must come after all other callbacks.

    Args:
        checkpoint: Where to save.
        phase: The phase's index.
        epochs: How many it has.
        steps: Steps in an epoch.
        batch: Inputs, targets and perhaps weights, as the fitted model gets them.
        others: The callbacks before it.
        workers: The processes. They save a step together, since its figures are of all of them.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        phase: int,
        epochs: int,
        steps: int,
        batch: tuple[Any, ...],
        others: Iterable[keras.callbacks.Callback],
        workers: Workers,
    ):
        super().__init__()
        self.checkpoint, self.batch = checkpoint, batch
        self.phase, self.epochs, self.steps = phase, epochs, steps
        kept = [found for callback in others if (found := _kept(callback))]
        # Training does not depend on TensorBoard, so these may be added or removed.
        self.boards = [one for _, one in kept if isinstance(one, KeptBoard)]
        self.kept = [(name, one) for name, one in kept if not isinstance(one, KeptBoard)]
        self._stock = [one for _, one in kept if isinstance(one, KeptStock)]
        self.workers, self._first_step = workers, 0
        self._pace, self._meeting, self._stepped = 1, 0, 0.0

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Jumps to where training was."""
        self.checkpoint.at_work, self.checkpoint.workers = True, self.workers
        with self.model.distribute_strategy.scope():
            self.model.optimizer.build(self.model.trainable_variables)
        if (place := self.checkpoint.place) is None:
            if len(self._stock) > len(self.boards):
                # Otherwise a stop before the first save would leave rows of epochs that are done
                # again, and lose what was best at the beginning.
                self.checkpoint.save(self._place(0, 0))
                self._leave_if_alone()
            return
        self._jump(place)
        self._restore_callbacks(place["callbacks"])
        # Older checkpoints have no boards, and a new board has no state.
        for board, state in zip(self.boards, place.get("boards", ()), strict=False):
            board.restore(state)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Skips the steps of the first epoch that are already done."""
        self._epoch, self._first_step, self._kept_step = epoch, 0, 0
        place, self.checkpoint.place = self.checkpoint.place, None
        self._meeting = (place["step"] if place else 0) + self._pace
        if not place or not place["step"]:
            return
        self._first_step = self._kept_step = place["step"]
        # Undoes what other callbacks did when the epoch began: it was done before the stop.
        self._jump(place)
        self._build_metrics(len(place["metrics"]))
        self.checkpoint.assign(self.model.metrics_variables, place["metrics"])
        for stock in self._stock:
            stock.overlook(self._first_step)
        _pass_over(self.model, self._first_step)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Saves a step now and then, and the last one of an epoch."""
        step = batch + 1
        if step <= self._first_step:
            return
        due, leaving = self._decide(step)
        if due:
            self.checkpoint.save(self._place(self._epoch, step))
            self._kept_step = step
        if leaving:
            # One process that ends may end the others, so it waits until the chief has written.
            self.workers.barrier()
            self.checkpoint.leave_if_asked()

    def on_test_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Exits, if asked to, during a validation whose epoch's steps are saved already."""
        if self._kept_step == self.steps:
            self._leave_if_alone()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Saves the epoch; after the last one the phase is saved instead."""
        goes_on = epoch + 1 < self.epochs and not self.model.stop_training
        if goes_on and self.checkpoint.is_due(SECONDS_AT_EPOCH_ENDS):
            self.checkpoint.save(self._place(epoch + 1, 0))
            self._leave_if_alone()

    def _leave_if_alone(self) -> None:
        """Exits if asked to; several processes exit together, after a step."""
        if self.workers.count == 1:
            self.checkpoint.leave_if_asked()

    def _decide(self, step: int) -> tuple[bool, bool]:
        """Whether to save a step, and whether to exit; several processes agree now and then."""
        most = SECONDS_AT_EPOCH_ENDS if step >= self.steps else self.checkpoint.seconds
        if self.workers.count == 1:
            # Read first, since a signal may come at any moment.
            leaving = self.checkpoint.asked
            return self.checkpoint.is_due(most), leaving
        seconds, self._stepped = time.monotonic() - self._stepped, time.monotonic()
        if step < min(self._meeting, self.steps):
            return False, False
        # They meet again after as many steps as the chief makes in this time.
        pace = min(max(int(SECONDS_TO_MEET / max(seconds, 1e-3)), 1), self.steps)
        mine = [self.checkpoint.is_due(most), pace, self.checkpoint.asked]
        told = np.vstack(self.workers.gather(np.array([mine], np.int32)))
        (due, self._pace, _), leaving = told[0].tolist(), bool(told[:, 2].any())
        self._meeting = step + self._pace
        if leaving:
            # If one process is asked to exit, all do: none goes on without the others.
            self.checkpoint.ask()
        return bool(due) or leaving, leaving

    def _place(self, epoch: int, step: int) -> dict[str, Any]:
        return {
            "phase": self.phase,
            "epoch": epoch,
            "step": step,
            "fitted": values(self.model.variables),
            "optimizer": values(self.model.optimizer.variables),
            "metrics": values(self.model.metrics_variables) if step else [],
            "callbacks": [[name, kept.state()] for name, kept in self.kept],
            "boards": [board.state() for board in self.boards],
        }

    def _jump(self, place: dict[str, Any]) -> None:
        self.checkpoint.assign(self.model.variables, place["fitted"])
        self.checkpoint.assign(self.model.optimizer.variables, place["optimizer"])
        set_random_state(place["random"])

    def _restore_callbacks(self, states: list[Any]) -> None:
        here, were = ([name for name, _ in some] for some in (self.kept, states))
        if here != were:
            expected = f"the callbacks that training was stopped with: {', '.join(were) or 'none'}"
            fix = f"Give those, or delete {self.checkpoint.folder} to begin anew."
            raise InputError(expected, ", ".join(here) or "none", fix)
        for (_, kept), (_, state) in zip(self.kept, states, strict=True):
            kept.restore(state)

    def _build_metrics(self, count: int) -> None:
        """Makes the metrics' variables, which Keras makes only when it first needs them."""
        if len(self.model.metrics_variables) == count:
            return
        x, y, *weights = self.batch
        self.model.compute_metrics(x, y, self.model(x, training=False), *weights)


def _kept(callback: keras.callbacks.Callback) -> tuple[str, Kept] | None:
    name = type(callback).__name__
    if isinstance(callback, Kept):
        return name, callback
    stock = kept_stock(callback)
    return (name, stock) if stock else None


def _pass_over(model: keras.Model, steps: int) -> None:
    """Lets `fit` skip `steps` steps without data; their figures are those so far."""
    at_once = model.steps_per_execution
    if steps % at_once:
        expected = f"as many steps at once as before: training was stopped behind step {steps}"
        fix = "Give the same each_step and the same devices."
        raise InputError(expected, f"{at_once} at once", fix)
    run, left = model.train_function, steps // at_once
    figures = model.get_metrics_result()

    def passing(iterator: Any) -> Any:
        nonlocal left
        left -= 1
        if not left:
            model.train_function = run
        return dict(figures)

    model.train_function = passing
