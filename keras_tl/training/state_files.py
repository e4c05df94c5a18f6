"""Files of arrays and figures that hold the state of a training."""

import json
import random
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from keras_tl.errors import InputError, in_one_line
from keras_tl.files import atomic_file

# Where an array stands: a key that nobody else writes.
ARRAY = "\0array"
# Errors of a damaged archive, by where it is damaged: lists, flags, offsets or content.
DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    ValueError,
    LookupError,
    TypeError,
    EOFError,
    RuntimeError,
    OSError,
    MemoryError,
)


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Writes JSON-ready values, with NumPy arrays among them, whole or not at all."""
    arrays: list[np.ndarray] = []

    def plain(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            # NumPy's files do not know the kinds of other packages, such as bfloat16.
            kind = value.dtype.name if value.dtype.kind == "V" else None
            arrays.append(value.view(f"u{value.itemsize}") if kind else value)
            return {ARRAY: [len(arrays) - 1, kind]}
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        return [plain(item) for item in value] if isinstance(value, list | tuple) else value

    text = json.dumps(plain(state)).encode()
    with atomic_file(path) as aside, aside.open("wb") as file:
        np.savez(file, *arrays, state=np.frombuffer(text, np.uint8))


def read_state(path: Path) -> dict[str, Any]:
    """Reads what `write_state` wrote; tuples are lists then.

    Raises:
        InputError: The file is damaged.
    """

    def full(value: dict[str, Any]) -> Any:
        if ARRAY in value:
            index, kind = value[ARRAY]
            return arrays[index].view(kind) if kind else arrays[index]
        # As older versions wrote it.
        return arrays[value["array"]] if name == "facts" and set(value) == {"array"} else value

    with path.open("rb") as opened:
        try:
            with np.load(opened, allow_pickle=False) as file:
                arrays = [file[f"arr_{index}"] for index in range(len(file.files) - 1)]
                [name] = {"facts", "state"} & set(file.files)
                return json.loads(file[name].tobytes(), object_hook=full)
        except DAMAGED as error:
            reason = in_one_line(error)
            fix = f"Delete {path.parent} to begin anew."
            received = f"{path}, which is damaged ({reason})"
            raise InputError("a whole checkpoint", received, fix) from error


def values(variables: Iterable[Any]) -> list[np.ndarray]:
    """The variables' values."""
    return [np.asarray(variable.numpy()) for variable in variables]


def random_state() -> dict[str, Any]:
    """The state of the generators of Python and NumPy."""
    return {"python": random.getstate(), "numpy": np.random.get_state()}


def set_random_state(state: dict[str, Any]) -> None:
    """Restores it."""
    version, numbers, spare = state["python"]
    random.setstate((version, tuple(numbers), spare))
    np.random.set_state(tuple(state["numpy"]))
