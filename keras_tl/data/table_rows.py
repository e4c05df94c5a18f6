"""The rows of a table one after the other, for tables that are larger than memory."""

import codecs
import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from typing import Any, BinaryIO, Literal

import pandas as pd

from keras_tl.data.label_cells import class_text, is_missing
from keras_tl.data.splits import SPLIT_ALIASES, parse_split
from keras_tl.data.tables import (
    JSON_EXTENSIONS,
    SPLIT_COLUMN,
    UTF_16,
    decoded,
    delimiter_of,
    largest_cell,
    may_be_rows,
    parsed_json,
    require_columns,
)
from keras_tl.errors import InputError

LABEL_COLUMN = "label"


@dataclass(frozen=True)
class Columns:
    """What the columns of a table are.

    Attributes:
        items: The column of paths, or those of texts.
        label: The column of labels, or several. One of the default name may be missing.
        split: The column of splits. One of the default name may be missing, or say something
            else.
        id: The column of ids; None names the lines.
    """

    items: tuple[str, ...]
    label: tuple[str, ...] = (LABEL_COLUMN,)
    split: str = SPLIT_COLUMN
    id: str | None = None

    @property
    def needed(self) -> list[str]:
        """Columns without which a table is refused."""
        wanted = [*self.items]
        wanted += [name for name in self.label if self.label != (LABEL_COLUMN,)]
        wanted += [self.split] if self.split != SPLIT_COLUMN else []
        wanted += [self.id] if self.id is not None else []
        return wanted


@dataclass(frozen=True)
class Row:
    """What a row says.

    Attributes:
        id: The cell of the id column, or the line, "line 17".
        cells: Those of the columns of items.
        label: The labels as they are written, joined by commas; None where there is none.
        split: "train", "val", "test", or None.
    """

    id: str
    cells: tuple[Any, ...]
    label: str | None
    split: str | None


def read_rows(
    open_file: Callable[[], BinaryIO], name: str, columns: Columns, *, encoding: str = "utf-8"
) -> Iterator[Row]:
    """Reads a table row by row; for what counts as one see `keras_tl.data.tables.read_table`.

    Args:
        open_file: Opens the file for reading. A file delimited by tabs is read more than
            once: only at its end is it known how quotes are meant.
        name: Its name, whose ending tells JSON from delimited files.
        columns: What its columns are.
        encoding: Its encoding.

    Yields:
        The rows, in order; those without a cell are left out.

    Raises:
        InputError: The file is empty, ragged, of another encoding, or a column is missing.
    """
    is_json = name.lower().endswith(JSON_EXTENSIONS)
    rows = 0
    quoting = csv.QUOTE_MINIMAL if is_json else _quoting(open_file, name, columns, encoding)
    with opened_text(open_file, name, encoding) as text:
        if is_json:
            found = _json_rows(text, name, columns)
        else:
            found = _delimited_rows(text, name, columns, quoting)
        for rows, (where, cells) in enumerate(found, 1):  # noqa: B007
            yield _row(where, cells, columns)
    if not rows:
        raise InputError("at least one row", f"none in {name!r}", "Fill the table.")


def _row(where: str, cells: dict[str, Any], columns: Columns) -> Row:
    # What `json.dumps` writes for a number that pandas took for missing is NaN.
    cells = {column: None if is_missing(cell) else cell for column, cell in cells.items()}
    name = where if columns.id is None else _said(cells.get(columns.id))
    if name is None:
        raise InputError(f"an id in each row of {columns.id!r}", f"none in {where}", "Fill it in.")
    labels = [_said(cells.get(column)) for column in columns.label]
    label = None if all(cell is None for cell in labels) else ",".join(c or "" for c in labels)
    split = _split(str(cells.get(columns.split) or ""), columns)
    return Row(name, tuple(cells.get(column) for column in columns.items), label, split)


def _split(cell: str, columns: Columns) -> str | None:
    """The split that a cell names; other words are ignored if the column has its default name."""
    if columns.split == SPLIT_COLUMN and cell.strip().lower() not in SPLIT_ALIASES:
        return None
    return parse_split(cell) or None


def _said(cell: Any) -> str | None:
    """A cell as text; None for what is missing or empty."""
    if isinstance(cell, list):
        return "|".join(map(str, cell))
    text = "" if cell is None else class_text(cell).strip()
    return text or None


@contextmanager
def opened_text(
    open_file: Callable[[], BinaryIO], name: str, encoding: str
) -> Iterator[io.TextIOWrapper]:
    """Opens a file as text without a byte order mark; lines end with a line feed.

    Args:
        open_file: Opens it for reading.
        name: Its name.
        encoding: Its encoding, unless a byte order mark says UTF-16.

    Yields:
        The text.

    Raises:
        InputError: It is of another encoding, or there is no such encoding.
    """
    try:
        with _text(open_file(), name, encoding) as text:
            yield text
    except UnicodeDecodeError as error:
        raise InputError(
            f"text in {encoding.upper()}",
            f"byte 0x{error.object[error.start]:02x} in {name!r}",
            "Save it as UTF-8, or give its encoding where texts are read (cp1252, latin-1).",
        ) from error


def _text(file: BinaryIO, name: str, encoding: str) -> io.TextIOWrapper:
    buffered = file if isinstance(file, io.BufferedReader) else io.BufferedReader(file)  # type: ignore[type-var]
    start = buffered.peek(2)[:2]
    if start in UTF_16:
        return io.TextIOWrapper(buffered, encoding="utf-16")
    # Refuses an unknown encoding, and zero bytes if the encoding has none.
    decoded(start if b"\0" in start else b" ", encoding, name)
    is_utf8 = codecs.lookup(encoding).name == "utf-8"
    return io.TextIOWrapper(buffered, encoding="utf-8-sig" if is_utf8 else encoding)


def _quoting(
    open_file: Callable[[], BinaryIO], name: str, columns: Columns, encoding: str
) -> Literal[0, 3]:
    """How to read quotes: in a file with tabs they may be plain characters, see `read_table`."""
    with opened_text(open_file, name, encoding) as text:
        _, first = _first_line(text)
        if delimiter_of(first, columns.items) != "\t":
            return csv.QUOTE_MINIMAL
    doubtful = False
    with opened_text(open_file, name, encoding) as text:
        try:
            for _, row in _delimited_rows(text, name, columns, csv.QUOTE_MINIMAL):
                doubtful = doubtful or any(map(may_be_rows, row.values()))
        except InputError:
            return csv.QUOTE_NONE
    if doubtful:
        with opened_text(open_file, name, encoding) as text, suppress(InputError):
            for _ in _delimited_rows(text, name, columns, csv.QUOTE_NONE):
                pass
            return csv.QUOTE_NONE
    return csv.QUOTE_MINIMAL


def _delimited_rows(
    text: io.TextIOWrapper, name: str, columns: Columns, quoting: Literal[0, 3]
) -> Iterator[tuple[str, dict[str, Any]]]:
    blank, first = _first_line(text)
    lines, delimiter = chain([first], text), delimiter_of(first, columns.items)
    reader = csv.reader(lines, delimiter=delimiter, strict=True, quoting=quoting)
    header: list[str] = []
    begins = blank + 1
    try:
        with largest_cell():
            for record in reader:
                if record and not header:
                    header = [cell.strip() for cell in record]
                    require_columns(pd.DataFrame(columns=header), columns.needed)
                elif record:
                    _refuse_ragged(record, header, begins, name)
                    yield f"line {begins}", dict(zip(header, record, strict=True))
                begins = blank + reader.line_num + 1
    except csv.Error as error:
        where = f"line {begins} of {name!r}: {error}"
        raise InputError("a CSV file", where, "Correct that line.") from error


def _refuse_ragged(record: list[str], header: list[str], line: int, name: str) -> None:
    if len(record) != len(header):
        raise InputError(
            f"{len(header)} cells in each line of {name!r}",
            f"{len(record)} in line {line}",
            "Correct that line, with quotes around cells that hold the delimiter.",
        )


def _first_line(text: io.TextIOWrapper) -> tuple[int, str]:
    """How many blank lines a text begins with, and the first line that is not blank."""
    return next(((i, line) for i, line in enumerate(text) if line.strip()), (0, ""))


def _json_rows(
    text: io.TextIOWrapper, name: str, columns: Columns
) -> Iterator[tuple[str, dict[str, Any]]]:
    """One object a line, or one list of objects, which is read at once.

    Columns are looked for in the first row: later rows may leave some out.
    """
    blank, first = _first_line(text)
    if first.lstrip().startswith("["):
        found: Iterable[tuple[int, Any]] = enumerate(parsed_json(first + text.read(), repr(name)))
        noun = "row"
    else:
        lines = enumerate(chain([first], text), blank + 1)
        found = ((i, parsed_json(s, f"line {i} of {name!r}")) for i, s in lines if s.strip())
        noun = "line"
    checked = False
    for i, row in found:
        if not isinstance(row, dict):
            received = f"{type(row).__name__} in {noun} {i} of {name!r}"
            raise InputError("a JSON object", received, 'Such as {"text": "...", "label": "..."}.')
        if not checked:
            require_columns(pd.DataFrame(columns=list(row)), columns.needed)
        checked = True
        yield f"{noun} {i}", row


def named(text: str | Sequence[str]) -> tuple[str, ...]:
    """Names of columns, in a list or separated by commas."""
    names = text.split(",") if isinstance(text, str) else text
    return tuple(name.strip() for name in names)
