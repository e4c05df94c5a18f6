"""What Keras' own callbacks have gathered while training, so that it can be kept and taken back.

Of the others nothing needs to be: they look at nothing but the step or epoch they are given. (But
TensorBoard with `update_freq="batch"`, which counts its steps from 0 again.)
"""

from pathlib import Path
from typing import Any

import keras

_ATTRIBUTES: dict[type[keras.callbacks.Callback], tuple[str, ...]] = {
    keras.callbacks.EarlyStopping: ("best", "wait", "best_epoch", "best_weights"),
    keras.callbacks.ReduceLROnPlateau: ("best", "wait", "cooldown_counter"),
    keras.callbacks.ModelCheckpoint: (
        "best",
        "_batches_seen_since_last_saving",
        "_last_batch_seen",
    ),
}


class KeptStock:
    """One of them, as a `keras_tl.training.saver.Kept`."""

    def __init__(self, callback: keras.callbacks.Callback):
        self.callback = callback

    def state(self) -> dict[str, Any]:
        """Its attributes, and of a CSVLogger the rows that it has written."""
        if isinstance(self.callback, keras.callbacks.CSVLogger):
            return {"rows": Path(self.callback.filename).read_bytes().decode()}
        found = vars(self.callback)
        return {name: _plain(found[name]) for name in self._names() if name in found}

    def restore(self, state: dict[str, Any]) -> None:
        """Takes them back. What a CSVLogger wrote of steps that are done again is dropped."""
        if not isinstance(self.callback, keras.callbacks.CSVLogger):
            vars(self.callback).update(state)
            return
        self.callback.csv_file.close()
        Path(self.callback.filename).write_bytes(state["rows"].encode())
        self.callback.csv_file = open(self.callback.filename, "a")  # noqa: SIM115
        self.callback.append_header = not state["rows"]

    def _names(self) -> tuple[str, ...]:
        kinds = (kind for kind in _ATTRIBUTES if isinstance(self.callback, kind))
        return tuple(name for kind in kinds for name in _ATTRIBUTES[kind])


def is_stock(callback: keras.callbacks.Callback) -> bool:
    """Whether it is one of them, or made from one; a CSVLogger has to write to a local file."""
    if isinstance(callback, keras.callbacks.CSVLogger):
        return "://" not in callback.filename
    return isinstance(callback, tuple(_ATTRIBUTES))


def _plain(value: Any) -> Any:
    """What JSON takes: monitored values may be NumPy scalars."""
    return value.item() if hasattr(value, "item") and not getattr(value, "shape", ()) else value
