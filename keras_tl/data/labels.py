"""From raw label values to a task, its class names and its label array."""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_tl.data.label_cells import (
    as_class_names,
    as_numbers,
    class_text,
    composed,
    is_list,
    is_missing,
    is_number,
    plain,
)
from keras_tl.data.label_tasks import (
    first_word,
    has_several,
    recognise,
    recognise_columns,
    refuse_listed_numbers,
    refuse_odd_numbers,
    warn_of_joined,
)
from keras_tl.errors import InputError, did_you_mean

log = logging.getLogger("keras_tl")

TASK_NAMES = ("single-label", "multi-label", "regression")

# What is written between the classes of an item, in splits and predictions.
_BETWEEN_CLASSES = "|"
_BOOLEANS = {"false": 0, "true": 1}


@dataclass(frozen=True)
class Labels:
    """Labels as a `Source` holds them.

    Attributes:
        values: int64 `[items]` class indices, float32 `[items, classes]` of zeros and ones, or
            float32 `[items, targets]`, by task.
        class_names: The classes (or the regression's targets), in order.
        task: "single-label", "multi-label" or "regression".
    """

    values: np.ndarray
    class_names: tuple[str, ...]
    task: str


def read_labels(
    values: Sequence[Any],
    *,
    task: str = "auto",
    separator: str = "|",
    class_names: Sequence[str] | None = None,
    name: str = "label",
    rows: Sequence[str] | None = None,
) -> Labels:
    """Reads one label cell for each item.

    "auto" decides so, and says it: a list, or text holding `separator`, in any cell is
    "multi-label" (a lone separator is an item of no class); numbers that are not all whole are a
    "regression"; everything else is "single-label". Numeric classes keep their numeric order,
    and 3.0 (what pandas makes of 3 beside an empty cell) is the class "3". A class that reads like
    several, as "cat;dog" beside "cat" and "dog" does, is warned of.

    Args:
        values: One label for each item: text, numbers, or lists of text.
        task: "auto" or a task's name, which overrides what would be recognised.
        separator: What stands between the classes of a multi-label cell.
        class_names: The classes to use, in this order, matched by name; None takes the sorted
            classes that occur.
        name: The name of the label column, which names a regression's target.
        rows: How to name each row in an error; None numbers them.

    Returns:
        The labels.

    Raises:
        InputError: A label is missing, unknown, a list of zeros and ones or of fractions, or does
            not fit the task; words are among fractional numbers (in "auto"); or the name of one of
            several classes holds "|".
    """
    _check_task(task)
    class_names = as_class_names(class_names)
    cells = [plain(value) for value in values]
    several = task == "multi-label" or (task == "auto" and has_several(cells, separator))
    _refuse_missing(cells, rows, f" (a lone {separator} is no class)" if several else "")
    refuse_listed_numbers(cells)
    numbers = as_numbers(cells)
    if task == "auto":
        task, why = recognise(cells, numbers, separator)
        if task == "single-label" and class_names is None:
            refuse_odd_numbers(cells, rows)
        log.info("Task %s, because %s in %r.", task, why, name)
    if task == "regression":
        if numbers is None:
            wanted, word = f"finite numbers in {name!r} for a regression", first_word(cells, rows)
            raise InputError(wanted, f"words, {word}", "Correct it, or name another task.")
        return _regression({name: numbers}, class_names)
    if task == "multi-label":
        labels = _multi_label(cells, separator, class_names)
    else:
        labels = _single_label(cells, numbers is not None, class_names)
    if class_names is None:
        warn_of_joined(labels.class_names, separator)
    return labels


def read_label_columns(
    columns: Mapping[str, Sequence[Any]],
    *,
    task: str = "auto",
    class_names: Sequence[str] | None = None,
    rows: Sequence[str] | None = None,
) -> Labels:
    """Reads several label columns: one of zeros and ones for each class, or regression targets.

    "auto" takes zeros and ones for "multi-label", unless every row holds exactly one 1 (one-hot
    classes), which is "single-label"; numbers that are not all whole are a "regression".

    Args:
        columns: Column names and their cells: numbers, booleans, or "true" and "false".
        task: "auto" or a task's name.
        class_names: The order to bring the columns into; None keeps theirs.
        rows: How to name each row in an error; None numbers them.

    Returns:
        The labels.

    Raises:
        InputError: A cell is missing or no number, or the numbers do not fit the task; or the
            name of one of several classes holds "|".
    """
    _check_task(task)
    class_names = as_class_names(class_names)
    numbers = {name: _column_numbers(name, values, rows) for name, values in columns.items()}
    table = np.array(list(numbers.values()), np.float64).T
    binary = bool(np.isin(table, (0, 1)).all())
    one_hot = binary and bool((table.sum(axis=1) == 1).all())
    if task == "auto":
        task = recognise_columns(table, binary, one_hot)
        log.info("Task %s, from %d label columns.", task, len(columns))
    if task == "regression":
        return _regression(numbers, class_names)
    if not binary or (task == "single-label" and not one_hot):
        wanted = "zeros and ones" if not binary else "exactly one 1 in each row"
        raise InputError(
            f"{wanted} in the label columns of a {task} task",
            "other numbers" if not binary else "rows with none or several",
            "Name one label column, or another task.",
        )
    names = _in_order(tuple(numbers), class_names)
    ordered = table[:, [list(numbers).index(name) for name in names]]
    if task == "multi-label":
        _refuse_joined(names)
        return Labels(ordered.astype(np.float32), names, task)
    return Labels(ordered.argmax(axis=1).astype(np.int64), names, task)


def class_counts(labels: np.ndarray, class_names: Sequence[str]) -> np.ndarray:
    """Counts the items of each class.

    Args:
        labels: int64 `[items]` indices, or `[items, classes]` of zeros and ones.
        class_names: The classes.

    Returns:
        int64 `[classes]`.
    """
    if labels.ndim == 1:
        return np.bincount(labels, minlength=len(class_names))
    return labels.sum(axis=0).astype(np.int64)


def refuse_emptied_classes(
    before: np.ndarray,
    after: np.ndarray,
    class_names: Sequence[str],
    task: str,
    noun: str = "image",
) -> None:
    """Refuses data in which a class has lost all its items.

    Args:
        before: Labels before items were left out.
        after: Labels of the items that are left.
        class_names: The classes.
        task: The task; a regression has no classes to lose, nor have items without labels.
        noun: What the items are.

    Raises:
        InputError: A class that had items has none any more.
    """
    if task == "regression" or not class_names:
        return
    had, has = class_counts(before, class_names), class_counts(after, class_names)
    lost = [name for name, old, new in zip(class_names, had, has, strict=True) if old and not new]
    if lost:
        raise InputError(
            f"at least one readable {noun} in each class",
            f"none in {first_few([repr(name) for name in lost])}",
            f"Repair or add {noun}s of that class, or leave the class out.",
        )


def first_few(names: Sequence[str], shown: int = 3) -> str:
    """Joins the first names and counts the others: "a, b, c and 7 more"."""
    rest = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {rest} more" if rest > 0 else "")


def _check_task(task: str) -> None:
    if task != "auto" and task not in TASK_NAMES:
        hint = did_you_mean(task, TASK_NAMES, f"Choose auto, {', '.join(TASK_NAMES)}.")
        raise InputError("a task's name", repr(task), hint)


def _refuse_missing(cells: Sequence[Any], rows: Sequence[str] | None, how: str = "") -> None:
    missing = [i for i, cell in enumerate(cells) if is_missing(cell)]
    if missing:
        named = [rows[i] if rows is not None else f"item {i}" for i in missing]
        raise InputError(
            "a label for every item",
            f"{len(missing)} without one ({first_few(named)})",
            f"Fill the labels in{how}, or delete those rows.",
        )


def _column_numbers(name: str, values: Sequence[Any], rows: Sequence[str] | None) -> list[float]:
    cells = [plain(value) for value in values]
    _refuse_missing(cells, rows)
    numbers = as_numbers([_BOOLEANS.get(str(cell).lower(), cell) for cell in cells])
    if numbers is None:
        word = next(c for c in cells if not is_number(c) and str(c).lower() not in _BOOLEANS)
        raise InputError(
            f"numbers in label column {name!r}, as there are several label columns",
            repr(word),
            "Name one label column where labels are words.",
        )
    return numbers


def _regression(columns: Mapping[str, list[float]], target_names: Sequence[str] | None) -> Labels:
    # A number that float32 cannot hold becomes infinite, and is refused as such.
    with np.errstate(over="ignore"):
        found = {name: np.array(numbers, np.float32) for name, numbers in columns.items()}
    for name, values in found.items():
        if not np.isfinite(values).all():
            raise InputError(
                f"finite numbers in {name!r} for a regression",
                "a value that is infinite in float32",
                "Correct the column, or name another task.",
            )
    names = _in_order(tuple(columns), target_names)
    return Labels(np.stack([found[name] for name in names], axis=1), names, "regression")


def _in_order(names: tuple[str, ...], wanted: Sequence[str] | None) -> tuple[str, ...]:
    """The column names in the wanted order."""
    if wanted is None:
        return names
    if len(wanted) != len(names) or set(wanted) != set(names):
        raise InputError(
            f"the label columns {', '.join(wanted)}",
            ", ".join(names),
            "Name the same columns that the model was trained on.",
        )
    return tuple(wanted)


def _single_label(cells: Sequence[Any], numeric: bool, class_names: Sequence[str] | None) -> Labels:
    lists = [cell for cell in cells if is_list(cell)]
    if lists:
        raise InputError(
            "one class for each item", f"a list, {lists[0]!r}", "Name the task multi-label."
        )
    given = by_label(class_names)
    texts = [_class_of(cell, numeric, given) for cell in cells]
    names = _classes(texts, numeric, class_names)
    if class_names is None and len(names) < 2:
        raise InputError(
            "at least two classes", f"{len(names)} ({', '.join(names)})", "Add another class."
        )
    index = {name: i for i, name in enumerate(names)}
    return Labels(np.array([index[text] for text in texts], np.int64), names, "single-label")


def _multi_label(cells: Sequence[Any], separator: str, class_names: Sequence[str] | None) -> Labels:
    parts = [_parts(cell, separator) for cell in cells]
    flat = [part for item in parts for part in item]
    numeric = as_numbers(flat) is not None
    given = by_label(class_names)
    texts = [[_class_of(part, numeric, given) for part in item] for item in parts]
    names = _classes([text for item in texts for text in item], numeric, class_names)
    if not names:
        raise InputError("at least one class", "labels without any", "Fill the labels in.")
    _refuse_joined(names)
    index = {name: i for i, name in enumerate(names)}
    values = np.zeros((len(cells), len(names)), np.float32)
    for row, item in enumerate(texts):
        values[row, [index[text] for text in item]] = 1.0
    return Labels(values, names, "multi-label")


def _parts(cell: Any, separator: str) -> list[Any]:
    """The classes of one multi-label cell."""
    if is_list(cell):
        return [part for part in map(plain, cell) if not is_missing(part)]
    if isinstance(cell, str):
        return [part for part in (text.strip() for text in cell.split(separator)) if part]
    return [cell]


def by_label(class_names: Sequence[str] | None) -> Callable[[str], str | None]:
    """Finds the given class name, which holds as it is, that a label's text is; None for none."""
    names = class_names or ()
    found = {composed(name): name for name in names} | {name: name for name in names}
    return lambda text: found.get(text, found.get(composed(text)))


def _class_of(cell: Any, numeric: bool, given: Callable[[str], str | None]) -> str:
    """A cell's class: the given one that its text is, else its `class_text`."""
    return given(str(cell)) or class_text(cell, numeric)


def _refuse_joined(names: Sequence[str]) -> None:
    """Refuses class names that, once written, would read as several classes."""
    joined = [repr(name) for name in names if _BETWEEN_CLASSES in name]
    if joined:
        raise InputError(
            f"classes without {_BETWEEN_CLASSES!r}, which stands between those of one item",
            first_few(joined),
            "Rename them.",
        )


def _classes(
    texts: Sequence[str], numeric: bool, class_names: Sequence[str] | None
) -> tuple[str, ...]:
    """The classes in order: those given, else those that occur, sorted."""
    counts = Counter(texts)
    if class_names is None:
        if numeric:
            return tuple(sorted(counts, key=lambda text: (float(text), text)))
        return tuple(sorted(counts))
    refuse_unknown_classes(counts, class_names)
    return tuple(class_names)


def refuse_unknown_classes(found: Mapping[str, int], class_names: Sequence[str]) -> None:
    """Refuses labels that are not among the classes asked for.

    Args:
        found: How many items there are of each class that occurs.
        class_names: The classes asked for.

    Raises:
        InputError: A class is not asked for, or one is named twice.
    """
    if len(set(class_names)) < len(class_names):
        raise InputError("different class names", repr(tuple(class_names)), "Name each one once.")
    unknown = sorted(set(found) - set(class_names))
    if unknown:
        items = sum(found[name] for name in unknown)
        named = first_few([repr(name) for name in unknown])
        raise InputError(
            f"labels among {first_few([repr(name) for name in class_names], 10)}",
            f"{items} items labelled {named}",
            _mend(unknown, class_names),
        )


def _mend(unknown: Sequence[str], class_names: Sequence[str]) -> str:
    """What to do about labels that are no class."""
    numbers = [name for name in (*unknown, *class_names) if name.isdecimal()]
    if numbers == unknown and max(map(float, unknown)) < len(class_names):
        order = first_few([f"{i} is {name!r}" for i, name in enumerate(class_names)], 10)
        return f"Numbers do not say in which order: give names (here {order})."
    return did_you_mean(unknown[0], class_names, "Rename or leave out those labels.")
