"""What Keras' own callbacks have gathered while training, so that it can be kept and taken back.

The other callbacks need nothing kept: they look only at the step or epoch they are given. (Except
BackupAndRestore, OrbaxCheckpoint and SwapEMAWeights, which keep trainings and averages in their own
way: nothing of these is kept.)
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import keras

_ATTRIBUTES: dict[type[keras.callbacks.Callback], tuple[str, ...]] = {
    keras.callbacks.EarlyStopping: ("best", "wait", "best_epoch", "best_weights"),
    keras.callbacks.ReduceLROnPlateau: ("best", "wait", "cooldown_counter"),
    keras.callbacks.ModelCheckpoint: (
        "best",
        # Keras sets it when an epoch ends; comparing a step with a kept best needs it earlier.
        "monitor_op",
        "_batches_seen_since_last_saving",
        "_last_batch_seen",
    ),
    # Not `_previous_epoch_iterations`: only this process's own steps count for speeds.
    keras.callbacks.TensorBoard: ("_global_train_batch", "_global_test_batch"),
}


class KeptStock:
    """One of them, as a `keras_tl.training.saver.Kept`."""

    def __init__(self, callback: keras.callbacks.Callback):
        self.callback = callback

    def state(self) -> dict[str, Any]:
        """Its attributes."""
        found = vars(self.callback)
        kinds = (kind for kind in _ATTRIBUTES if isinstance(self.callback, kind))
        names = (name for kind in kinds for name in _ATTRIBUTES[kind])
        return {name: _plain(found[name]) for name in names if name in found}

    def restore(self, state: dict[str, Any]) -> None:
        """Takes them back."""
        if operation := state.get("monitor_op"):
            state = state | {"monitor_op": getattr(keras.ops, operation)}
        vars(self.callback).update(state)

    def overlook(self, steps: int) -> None:
        """Hides the first steps of an epoch from the callback, which has already seen them.

        Otherwise it would write them again, with the figures of a later step.
        """
        callback = self.callback

        def unseen(batch: int, logs: dict[str, Any] | None = None) -> None:
            if batch + 1 == steps:
                # This uncovers the class's own methods.
                del callback.on_train_batch_begin, callback.on_train_batch_end

        callback.on_train_batch_begin = lambda batch, logs=None: None
        callback.on_train_batch_end = unseen


class KeptBoard(KeptStock):
    """A TensorBoard."""

    def state(self) -> dict[str, Any]:
        """Its counts of batches; flushes what it has shown so far to its files."""
        for writer in self.callback._writers.values():
            writer.flush()
        return super().state()

    def restore(self, state: dict[str, Any]) -> None:
        """Takes them back."""
        super().restore(state)
        board = self.callback
        # TensorBoard decides what to write by the step that its writer was pushed with: that of the
        # last batch, or in Keras 3.12 that of the beginning.
        if "_push_writer" in type(board).on_train_batch_begin.__code__.co_names:
            board._pop_writer()
            board._push_writer(board._train_writer, board._global_train_batch)


class KeptRows(KeptStock):
    """A CSVLogger."""

    def state(self) -> dict[str, Any]:
        """The rows that it has written."""
        return {"rows": Path(self.callback.filename).read_bytes().decode()}

    def restore(self, state: dict[str, Any]) -> None:
        """Takes them back, and drops what it has written since."""
        self.callback.csv_file.close()
        Path(self.callback.filename).write_bytes(state["rows"].encode())
        self.callback.csv_file = open(self.callback.filename, "a")  # noqa: SIM115
        self.callback.append_header = not state["rows"]


def kept_stock(callback: keras.callbacks.Callback) -> KeptStock | None:
    """Wraps a callback of one of these classes, or None; a CSVLogger's file must be local."""
    if isinstance(callback, keras.callbacks.CSVLogger):
        return None if "://" in callback.filename else KeptRows(callback)
    if isinstance(callback, keras.callbacks.TensorBoard):
        return KeptBoard(callback)
    return KeptStock(callback) if isinstance(callback, tuple(_ATTRIBUTES)) else None


def kept_between_phases(
    callbacks: Iterable[keras.callbacks.Callback],
) -> list[KeptStock]:
    """Callbacks whose figures outlive a `fit`; the others begin anew with each."""
    kinds = keras.callbacks.ModelCheckpoint
    return [KeptStock(callback) for callback in callbacks if isinstance(callback, kinds)]


def _plain(value: Any) -> Any:
    """What JSON takes: monitored values may be NumPy scalars, operations have names."""
    if callable(value):
        return value.__name__
    return value.item() if hasattr(value, "item") and not getattr(value, "shape", ()) else value
