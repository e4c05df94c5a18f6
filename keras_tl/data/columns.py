"""The names of a table's columns, as text: pandas numbers them where there is no header."""

from collections.abc import Iterable
from typing import Any

import pandas as pd


def named_by_text(frame: pd.DataFrame, *columns: Any) -> tuple[pd.DataFrame, list[Any]]:
    """Makes text of the names of columns.

    Args:
        frame: The table.
        *columns: Columns that are asked for: a name, a number, several in a list, or None.

    Returns:
        The same table, and the columns asked for, in which numbers are text too.
    """
    if not all(isinstance(name, str) for name in frame.columns):
        frame = frame.set_axis([str(name) for name in frame.columns], axis=1)
    return frame, [_as_text(column) for column in columns]


def _as_text(column: Any) -> Any:
    if column is None or isinstance(column, str):
        return column
    return [str(name) for name in column] if isinstance(column, Iterable) else str(column)
