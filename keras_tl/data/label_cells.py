"""What a cell of a label column is: missing, a number, a list."""

import re
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

# Types of `pandas.NA`, which cannot be compared, and `pandas.NaT`.
PANDAS_NOTHING = ("NAType", "NaTType")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def plain(value: Any) -> Any:
    """A Python value for a NumPy one, and text without blanks around it."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return value.strip() if isinstance(value, str) else value


def is_missing(cell: Any) -> bool:
    """Whether there is nothing in a plain cell: None, "", NaN, or what pandas has for it."""
    if cell is None or type(cell).__name__ in PANDAS_NOTHING:
        return True
    return bool(cell == "") or (isinstance(cell, float) and np.isnan(cell))


def is_list(cell: Any) -> bool:
    """Whether a plain cell has several values, or may have."""
    return isinstance(cell, list | tuple | set | frozenset)


def is_number(cell: Any) -> bool:
    """Whether a plain cell is a number, or text that is one; a boolean is none.

    Nor is an integer beyond the range of floats: in JSON it may have hundreds of digits.
    """
    if isinstance(cell, str):
        return _NUMBER.fullmatch(cell) is not None
    if isinstance(cell, int):
        return not isinstance(cell, bool) and abs(cell) <= sys.float_info.max
    return isinstance(cell, float)


def as_numbers(cells: Sequence[Any]) -> list[float] | None:
    """Plain cells as numbers; None if one of them is not a number."""
    if all(is_number(cell) for cell in cells):
        return [float(cell) for cell in cells]
    return None
