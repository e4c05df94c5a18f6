"""What must be the same in all processes of a training, compared before they depend on it.

Every function is called by all processes, in the same order, and where something differs raises
the same error in all of them. One process agrees with itself.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_tl.backbones.hub_handles import HUB
from keras_tl.data.source import Source
from keras_tl.errors import InputError
from keras_tl.versions import versions
from keras_tl.workers import Workers

# Settings that may differ: data are compared by content, and only the chief writes.
FREE = ("data", "out")
# Longer texts are not shown.
SHOWN = 80
# How file names that are not valid text are encoded.
ESCAPED = "backslashreplace"
# Different kinds of CPUs differ in the last bits of trained weights.
TOLERANCE = 1e-3
SAME_COMMAND = "Start all with the same options, but for the number of the process."
SAME_DATA = "Give all processes the same data."


@contextmanager
def refused_together(workers: Workers) -> Iterator[None]:
    """Raises in all processes an error that only one of them, such as the chief, can detect.

    Raises:
        InputError: One of them raised it in the block.
    """
    own: InputError | None = None
    try:
        yield
    except InputError as error:
        own = error
    for number in range(workers.count):
        if parts := workers.share(own and own.parts, number):
            raise own or InputError(*parts)


def check_settings(workers: Workers, config: Any, **more: Any) -> None:
    """Refuses settings or package versions that differ between processes.

    Args:
        workers: The processes.
        config: The settings, a dataclass. Only the last part of a path is compared: folders may
            differ between machines.
        **more: Further ones.

    Raises:
        InputError: They do.
    """
    settings = {name: _placeless(value) for name, value in (asdict(config) | more).items()}
    facts = {name: value for name, value in settings.items() if name not in FREE}
    # Other package versions may order items differently or compute other numbers.
    facts |= versions()
    check_facts(workers, "the same settings in all processes", facts, SAME_COMMAND)


def check_data(workers: Workers, source: Source) -> None:
    """Refuses data that differ in their items, the order of these, their labels or splits.

    Args:
        workers: The processes.
        source: The data, inspected and divided.

    Raises:
        InputError: They do.
    """
    columns = {"id": source.ids, "content": source.hashes, "label": source.labels}
    check_items(workers, "data", columns | {"split": source.splits})
    facts = {"class names": source.class_names, "task": source.task}
    check_facts(workers, "the same data in all processes", facts, SAME_DATA)


def check_items(workers: Workers, what: str, columns: Mapping[str, Any]) -> None:
    """Refuses items that are not the same ones in the same order.

    Args:
        workers: The processes.
        what: What they are, for the error.
        columns: What is compared, by name: a value for each item.

    Raises:
        InputError: Their number differs, or one of the values.
    """
    if workers.count == 1:
        return
    expected = f"the same {what} in all processes"
    for name, values in columns.items():
        counts = [int(told[0]) for told in workers.gather(np.array([len(values)]))]
        if other := _other(counts):
            received = f"{counts[0]} items in process 0, {counts[other]} in process {other}"
            raise InputError(expected, received, SAME_DATA)
        digests = np.array([_digest(value) for value in values], np.uint64)
        # A single digest is exchanged; those of the rows only if it differs.
        told = workers.gather(np.array([_digest(digests)], np.uint64))
        if other := _other([int(each[0]) for each in told]):
            rows = workers.gather(digests)
            first = int(np.flatnonzero(rows[0] != rows[other])[0])
            here, there = (workers.share(str(values[first]), n) for n in (0, other))
            # Ids are compared first, so here they are the same in all processes.
            ids = columns.get("id") if name != "id" else None
            item = f"item {first}" if ids is None else f"item {first}, {ids[first]}"
            received = _difference(f"{name} of {item}", here, there, other)
            raise InputError(expected, received, SAME_DATA)


def check_facts(workers: Workers, expected: str, facts: Mapping[str, Any], fix: str) -> None:
    """Refuses facts that differ.

    Args:
        workers: The processes.
        expected: What is expected, for the error.
        facts: What is compared, by name: values with the same text are equal.
        fix: How to mend it.

    Raises:
        InputError: They do.
    """
    if workers.count == 1:
        return
    mine = json.dumps({name: str(value) for name, value in facts.items()}).encode()
    told = [json.loads(each.tobytes()) for each in workers.gather(np.frombuffer(mine, np.uint8))]
    if other := _other(told):
        here, there = told[0], told[other]
        differing = [name for name in here | there if here.get(name) != there.get(name)]
        said = [_difference(name, here.get(name), there.get(name), other) for name in differing]
        raise InputError(expected, ", ".join(said), fix)


def check_weights(workers: Workers, model: keras.Model) -> None:
    """Refuses a model whose weights differ between processes, such as from different files.

    Args:
        workers: The processes.
        model: The model, the same graph in all of them.

    Raises:
        InputError: They differ.
    """
    if workers.count == 1:
        return
    values = (keras.ops.convert_to_numpy(weight) for weight in model.weights)
    sizes = np.array([np.abs(value.astype(np.float64)).sum() for value in values])
    told = [np.resize(each, len(sizes)) for each in workers.gather(sizes)]
    alike = [np.isclose(told[0], each, rtol=TOLERANCE, equal_nan=True) for each in told]
    if other := _other([bool(each.all()) for each in alike]):
        path = model.weights[int(np.argmin(alike[other]))].path
        received = f"another {path} in process {other} than in process 0"
        raise InputError("the same weights in all processes", received, "Give all the same file.")


def _other(told: Sequence[Any]) -> int:
    """The first process that differs from process 0; 0 where none does."""
    return next((number for number, each in enumerate(told) if each != told[0]), 0)


def _difference(name: str, here: str | None, there: str | None, other: int) -> str:
    if len(f"{here}{there}") > SHOWN:
        return name
    return f"{name} ({here} in process 0, {there} in process {other})"


def _placeless(value: Any) -> Any:
    """The last part of an existing path; any other value unchanged."""
    path = value.removeprefix(HUB) if isinstance(value, str) else ""
    # Unlike `Path.exists`, it returns False for a text too long for a name.
    return Path(path).name if os.path.exists(path) else value


def _digest(value: Any) -> int:
    raw = value.tobytes() if isinstance(value, np.ndarray) else str(value).encode(errors=ESCAPED)
    return int.from_bytes(hashlib.blake2b(raw, digest_size=8).digest(), "little")
