"""The task that label cells suggest, and cells that suggest none."""

import logging
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_tl.data.label_cells import is_list, is_number
from keras_tl.errors import InputError, sentence

log = logging.getLogger("keras_tl")

# A list as Python or JSON writes it.
_LIST = re.compile(r"\[(['\"\d].*)?\]", re.DOTALL)
# A number with a fraction, as it is written in several countries, or a percentage.
_FRACTION = re.compile(r"[+-]?\d+([.,]\d{3})*[.,]\d+ ?%?")
# Fewest such cells, and their least share, that are no classes.
_FRACTIONS, _SHARE = 10, 0.9


def recognise(cells: Sequence[Any], numbers: list[float] | None, separator: str) -> tuple[str, str]:
    """The task that the cells of one column suggest, and why."""
    if any(is_list(cell) for cell in cells):
        return "multi-label", "there are lists"
    if has_several(cells, separator):
        return "multi-label", f"there is a separator {separator!r}"
    if numbers is not None and not all(number.is_integer() for number in numbers):
        return "regression", "not all numbers are whole"
    return "single-label", "there are " + ("words" if numbers is None else "whole numbers")


def has_several(cells: Sequence[Any], separator: str) -> bool:
    """Whether there is a separator of classes in a cell."""
    return any(isinstance(cell, str) and separator in cell for cell in cells)


def recognise_columns(table: np.ndarray, binary: bool, one_hot: bool) -> str:
    """The task that several columns of numbers suggest.

    Args:
        table: `[items, columns]`.
        binary: Whether all are zeros and ones.
        one_hot: Whether each row has exactly one 1 besides.

    Returns:
        The task.

    Raises:
        InputError: They could be of either task.
    """
    if one_hot:
        return "single-label"
    if binary:
        return "multi-label"
    if not (table == np.round(table)).all():
        return "regression"
    raise InputError(
        "label columns of zeros and ones, or of fractional numbers",
        "whole numbers beyond 0 and 1, which could be either",
        "Name the task (regression), or one label column.",
    )


def refuse_listed_numbers(cells: Sequence[Any]) -> None:
    """Refuses lists of numbers that are no names of classes: one for each class or target.

    Args:
        cells: Plain label cells.

    Raises:
        InputError: All lists are of one length and hold zeros and ones, or fractions.
    """
    lists = [cell for cell in cells if isinstance(cell, list | tuple)]
    if len({len(cell) for cell in lists}) != 1 or len(lists[0]) < 2:
        return
    parts = [part for cell in lists for part in cell]
    if not all(isinstance(part, int | float | np.number | np.bool_) for part in parts):
        return
    if all(part in (0, 1) for part in parts) or any(part % 1 > 0 for part in parts):
        raise InputError(
            "names of classes in a list of labels",
            f"numbers, {lists[0]!r}",
            "Name one column per class or target.",
        )


def refuse_odd_numbers(cells: Sequence[Any], rows: Sequence[str] | None) -> None:
    """Refuses words among fractional numbers, which would make each number a class.

    Args:
        cells: Plain label cells.
        rows: How to name each row; None numbers them.

    Raises:
        InputError: Nearly all cells are fractional numbers, in some writing.
    """
    fractions = sum(map(_is_fraction, cells))
    if fractions >= max(_FRACTIONS, _SHARE * len(cells)) and (word := first_word(cells, rows)):
        fix = "Write numbers with a point, or name the task (single-label)."
        raise InputError("numbers, as nearly all labels are fractions", word, fix)


def warn_of_joined(names: Sequence[str], separator: str) -> None:
    """Warns of a class whose name is a list, or other classes between commas or semicolons.

    Args:
        names: The classes.
        separator: What should stand between the classes of a cell.
    """
    known = set(names)
    for name in names:
        parts = {part.strip() for part in re.split("[,;]", name)}
        if _LIST.fullmatch(name) or (name not in parts and parts <= known):
            fix = f"Separate several classes in a cell with {separator}."
            log.warning("%s", sentence("names of single classes", repr(name), fix))
            return


def first_word(cells: Sequence[Any], rows: Sequence[str] | None) -> str:
    """Names the first plain cell that is no number, and its row; "" if there is none."""
    for i, cell in enumerate(cells):
        if not is_number(cell):
            return f"{cell!r} in {rows[i] if rows is not None else f'item {i}'}"
    return ""


def _is_fraction(cell: Any) -> bool:
    if is_number(cell):
        return not float(cell).is_integer()
    return isinstance(cell, str) and _FRACTION.fullmatch(cell) is not None
