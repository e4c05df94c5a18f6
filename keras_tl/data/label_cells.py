"""What a cell of a label column is: missing, a number, a list, and how a class is written."""

import re
import sys
import unicodedata
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np

from keras_tl.errors import InputError

# Types of `pandas.NA`, which cannot be compared, and `pandas.NaT`.
PANDAS_NOTHING = ("NAType", "NaTType")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_WHOLE_WITH_POINT = re.compile(r"([+-]?\d+)\.0*")


def plain(value: Any) -> Any:
    """A Python value for a NumPy one, and text without blanks around it."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Decimal):
        value = float(value)
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


def composed(text: str) -> str:
    """A letter and its accent as one character: systems differ in that."""
    return unicodedata.normalize("NFC", text)


def class_text(cell: Any, numeric: bool = False) -> str:
    """Names a class or a group by its cell: 3.0 is "3", so is "3.0" where all are `numeric`."""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    text = composed(str(cell))
    whole = _WHOLE_WITH_POINT.fullmatch(text) if numeric else None
    return whole.group(1) if whole else text


def as_class_names(class_names: Sequence[Any] | None) -> tuple[str, ...] | None:
    """Class names as text: pandas and NumPy have lists that are neither true nor false.

    Args:
        class_names: A list, array or pandas Index of names, or of numbers; or None.

    Returns:
        The names, or None.

    Raises:
        InputError: They are one text.
    """
    if class_names is None:
        return None
    if isinstance(class_names, str):
        raise InputError("a list of class names", repr(class_names), "Pass a list of them.")
    return tuple(
        str(name) if isinstance(name, str) else class_text(plain(name)) for name in class_names
    )
