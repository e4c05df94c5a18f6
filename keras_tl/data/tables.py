"""Tables of items in any file format: what tables of images and of texts have in common."""

import codecs
import csv
import io
import json
import logging
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from keras_tl.data.label_cells import class_text
from keras_tl.data.labels import Labels, first_few, read_label_columns, read_labels
from keras_tl.data.source import SPLITS
from keras_tl.data.splits import parse_split
from keras_tl.errors import InputError, did_you_mean

log = logging.getLogger("keras_tl")

SPLIT_COLUMN = "split"
# JSON's escape of a surrogate, whether it stands alone or in a pair.
HALF = re.compile(r"\\u[dD]")
GROUP_COLUMN = "group"
DELIMITERS = (",", ";", "\t", " ")
JSON_EXTENSIONS = (".jsonl", ".ndjson", ".json")
# Most characters of a cell.
LARGEST_CELL = 2**24
# Characters of a column's name shown in an error: without a header, a name may be a whole text.
SHOWN_NAME = 40
# Columns shown in an error.
SHOWN_COLUMNS = 30
# Most cells of a JSON table, in all or for each value: if each row has keys of its own, the empty
# cells of a small file would fill the memory.
CELLS = 2**22
CELLS_OF_A_VALUE = 64
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True)
class Notes:
    """What a table says of its items.

    Attributes:
        rows: How to name each row ("line 17").
        labels: The labels; without classes where they were not asked for.
        splits: "train", "val", "test" or "" for each row.
        groups: One group name for each row, "" for an item on its own; None without groups.
    """

    rows: list[str]
    labels: Labels
    splits: np.ndarray
    groups: np.ndarray | None

    @property
    def given_splits(self) -> tuple[str, ...]:
        """The splits that occur."""
        return tuple(name for name in SPLITS if name in self.splits)


def read_notes(
    frame: pd.DataFrame,
    item_columns: Sequence[str],
    *,
    label_column: str | Sequence[str] | None,
    split_column: str | None = SPLIT_COLUMN,
    group_column: str | None = None,
    task: str = "auto",
    separator: str = "|",
    class_names: Sequence[str] | None = None,
) -> Notes:
    """Reads labels, splits and groups.

    Args:
        frame: One row for each item.
        item_columns: The columns of the items themselves, which must be there too.
        label_column: The column of labels, or several; None reads none.
        split_column: The column of splits; one of the default name may be missing, and None reads
            none.
        group_column: The column of groups; None takes "group" where there is one.
        task: "auto" or a task's name.
        separator: What stands between the classes of a multi-label cell.
        class_names: The classes to use, in this order.

    Returns:
        What was read.

    Raises:
        InputError: A column is missing or named twice, there is no row, or a cell cannot be read.
    """
    labelled = [label_column] if isinstance(label_column, str) else list(label_column or ())
    taken = (*item_columns, *labelled)
    if group_column is None and GROUP_COLUMN in frame.columns and GROUP_COLUMN not in taken:
        group_column = GROUP_COLUMN
        log.info("Groups are those of column %r: no split divides one.", group_column)
    if split_column == SPLIT_COLUMN and SPLIT_COLUMN not in frame.columns:
        split_column = None
    if group_column is not None and group_column in labelled:
        received = f"the label column {group_column!r}"
        raise InputError("another column for groups than for labels", received, "Name another.")
    wanted = [*taken]
    wanted += [split_column] if split_column is not None else []
    wanted += [group_column] if group_column is not None else []
    require_columns(frame, wanted)
    rows = [f"{frame.index.name or 'row'} {label}" for label in frame.index]
    if not rows:
        raise InputError("at least one row", "none", "Fill the table.")
    splits = [""] * len(rows)
    if split_column is not None:
        splits = [parse_split(str(cell or "")) for cell in cells(frame[split_column])]
    return Notes(
        rows,
        _read_labels(frame, labelled, rows, task, separator, class_names),
        np.array(splits, dtype=object),
        None if group_column is None else _read_groups(frame[group_column]),
    )


def read_table(
    path: str | os.PathLike[str], columns: Sequence[str], *, encoding: str = "utf-8"
) -> pd.DataFrame:
    """Reads a table whose first row, or whose keys, name its columns.

    A `.jsonl`, `.ndjson` or `.json` file has one JSON object a line (or is one list of them);
    any other file is delimited by the first of comma, semicolon, tab and blank that makes
    `columns` columns. In a file that is delimited by tabs, quotes that do not pair up, or that
    enclose what could as well be whole rows, are plain characters. A byte order mark is understood.

    Args:
        path: The file.
        columns: Names of columns that it should have.
        encoding: Its encoding.

    Returns:
        All cells of a delimited file as text, JSON's values as they are; None is a missing one.
        The index holds the number of the line where a row begins (its place in a list).

    Raises:
        InputError: The file cannot be read, is empty, ragged, of another encoding, has a cell of
            more than `LARGEST_CELL` characters, or is JSON whose rows have few keys in common.
    """
    path = Path(path)
    text = read_text(path, encoding)
    if path.suffix.lower() in JSON_EXTENSIONS:
        return _read_json(text, path)
    delimiter = delimiter_of(text, columns)
    if delimiter != "\t":
        return _read_delimited(text, path, delimiter, csv.QUOTE_MINIMAL)
    with suppress(InputError):
        quoted = _read_delimited(text, path, delimiter, csv.QUOTE_MINIMAL)
        if any(map(may_be_rows, quoted.to_numpy().flat)):
            with suppress(InputError):
                return _read_delimited(text, path, delimiter, csv.QUOTE_NONE)
        return quoted
    return _read_delimited(text, path, delimiter, csv.QUOTE_NONE)


def may_be_rows(cell: str) -> bool:
    """Whether a quoted cell of a file delimited by tabs may be rows between two stray quotes."""
    return "\t" in cell and "\n" in cell


def read_text(path: Path, encoding: str = "utf-8") -> str:
    """Reads a text file, see `decoded`.

    Args:
        path: The file.
        encoding: Its encoding.

    Returns:
        The text.

    Raises:
        InputError: It cannot be read, or is of another encoding.
    """
    try:
        # To read a pipe or a device might never end.
        if path.exists() and not path.is_file():
            raise InputError("a file of text", f"{str(path)!r}, which is no file", "Check it.")
        content = path.read_bytes()
    except (OSError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or "too large for the memory"
        raise InputError("a file of text", f"{str(path)!r}: {reason}", "Check it.") from error
    return decoded(content, encoding, str(path))


def decoded(content: bytes, encoding: str, name: str) -> str:
    """Decodes the content of a file of text.

    Args:
        content: The bytes.
        encoding: Their encoding, unless a byte order mark says UTF-16.
        name: The file's name.

    Returns:
        The text without a byte order mark; lines end with a line feed.

    Raises:
        InputError: They are of another encoding, or there is no such encoding.
    """
    if content.startswith(UTF_16):
        encoding = "utf-16"
    try:
        if b"\0" in content[:2] and b"\0" not in "a".encode(encoding):
            fix = "Save it as UTF-8, or give its encoding (utf-16-le, utf-16-be)."
            received = f"zeros between letters in {name!r}"
            raise InputError(f"text in {encoding.upper()}", received, fix)
        text = content.decode(encoding)
    except LookupError as error:
        raise InputError(
            "an encoding such as utf-8 or cp1252", repr(encoding), "Try utf-8."
        ) from error
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"text in {encoding.upper()}",
            f"byte 0x{content[error.start]:02x} at offset {error.start} (line {line}) of {name!r}",
            "Save it as UTF-8, or give its encoding where texts are read (cp1252, latin-1).",
        ) from error
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def require_columns(
    frame: pd.DataFrame, wanted: Sequence[str], fix: str = "Name the column to use instead."
) -> None:
    """Refuses a table without one of the columns, or with several of one name.

    Args:
        frame: The table.
        wanted: The columns.
        fix: What to do if no column has a similar name.

    Raises:
        InputError: A column is missing, or there are several of its name.
    """
    columns = [str(name) for name in frame.columns]
    for name in wanted:
        if columns.count(name) == 1:
            continue
        if name in columns:
            raise InputError(f"one column {name!r}", "several", "Rename the others.")
        shown = [c if len(c) <= SHOWN_NAME else f"{c[:SHOWN_NAME]}..." for c in columns]
        raise InputError(
            f"a column {name!r}",
            f"the columns {first_few(shown, SHOWN_COLUMNS)}",
            did_you_mean(name, columns, fix),
        )


def cells(column: pd.Series) -> list[Any]:
    """Python objects, None for what is missing."""
    return column.astype(object).where(column.notna(), None).tolist()


def _read_delimited(text: str, path: Path, delimiter: str, quoting: Literal[0, 3]) -> pd.DataFrame:
    """All cells as text.

    The csv module is used because pandas takes a first row that is too long for an index column,
    fills one that is too short, and makes numbers or missing values of words.
    """
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True, quoting=quoting)
    records: list[list[str]] = []
    numbers: list[int] = []
    begins = 1
    try:
        with largest_cell():
            for record in reader:
                if record:
                    records.append(record)
                    numbers.append(begins)
                begins = reader.line_num + 1
    except csv.Error as error:
        raise InputError(
            "a CSV file", f"line {begins} of {str(path)!r}: {error}", "Correct that line."
        ) from error
    return _frame(records, numbers, path)


@contextmanager
def largest_cell() -> Iterator[None]:
    """Lets the csv module read cells of up to `LARGEST_CELL` characters."""
    before = csv.field_size_limit(LARGEST_CELL)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _frame(records: list[list[str]], numbers: list[int], path: Path) -> pd.DataFrame:
    if not records:
        raise InputError("a CSV file with a row of column names", "an empty file", "Fill it.")
    header = [name.strip() for name in records[0]]
    for record, number in zip(records, numbers, strict=True):
        if len(record) != len(header):
            raise InputError(
                f"{len(header)} cells in each line of {str(path)!r}",
                f"{len(record)} in line {number}",
                "Correct that line, with quotes around cells that hold the delimiter.",
            )
    index = pd.Index(numbers[1:], name="line")
    return pd.DataFrame(records[1:], columns=pd.Index(header), index=index, dtype=object)


def delimiter_of(text: str, columns: Sequence[str]) -> str:
    """The first delimiter that finds the columns; else the one that gives the most columns."""
    header = text.lstrip().partition("\n")[0]
    found = {delimiter: _split(header, delimiter) for delimiter in DELIMITERS}
    for delimiter, names in found.items():
        if {name.strip() for name in names}.issuperset(columns):
            return delimiter
    return max(DELIMITERS[:-1], key=lambda delimiter: len(found[delimiter]))


def _split(line: str, delimiter: str) -> list[str]:
    """The cells of a line; none where one is too large, which reading the table will refuse."""
    with largest_cell(), suppress(csv.Error):
        return next(csv.reader([line], delimiter=delimiter), [])
    return []


def _read_json(text: str, path: Path) -> pd.DataFrame:
    """One object a line, or one list of objects."""
    is_list = text.lstrip().startswith("[")
    name = "row" if is_list else "line"
    listed = enumerate(parsed_json(text, repr(str(path)))) if is_list else None
    found = dict(listed or _json_lines(text, path))
    if not found:
        raise InputError("one JSON object a line", "an empty file", "Fill it.")
    for number, row in found.items():
        if not isinstance(row, dict):
            received = f"{type(row).__name__} in {name} {number} of {str(path)!r}"
            raise InputError("a JSON object", received, 'Such as {"text": "...", "label": "..."}.')
    columns = list(dict.fromkeys(key for row in found.values() for key in row))
    if len(found) * len(columns) > max(CELLS, CELLS_OF_A_VALUE * sum(map(len, found.values()))):
        received = f"{len(columns)} keys in {len(found)} rows, few of them in each"
        fix = "Leave out what is not read, or write it as one object."
        raise InputError(f"rows with the same keys in {str(path)!r}", received, fix)
    table = [[row.get(key) for key in columns] for row in found.values()]
    return pd.DataFrame(table, columns=columns, index=pd.Index(found, name=name), dtype=object)


def _json_lines(text: str, path: Path) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, parsed_json(line, f"line {number} of {str(path)!r}")


def parsed_json(text: str, where: str) -> Any:
    """Parses JSON; `where` is the place that an error names.

    Lone surrogates, which no file can hold, become question marks.
    """
    try:
        found = json.loads(text)
        if HALF.search(text):
            found = json.loads(json.dumps(found, ensure_ascii=False).encode("utf-8", "replace"))
        return found
    except (ValueError, RecursionError) as error:
        raise InputError("JSON", f"{where}: {error}", "Correct it.") from error


def _read_labels(
    frame: pd.DataFrame,
    columns: Sequence[str],
    rows: Sequence[str],
    task: str,
    separator: str,
    class_names: Sequence[str] | None,
) -> Labels:
    if len(set(columns)) < len(columns):
        raise InputError("different label columns", ", ".join(columns), "Name each one once.")
    if not columns:
        return Labels(np.zeros(len(rows), np.int64), (), "single-label")
    if len(columns) == 1:
        return read_labels(
            cells(frame[columns[0]]),
            task=task,
            separator=separator,
            class_names=class_names,
            name=columns[0],
            rows=rows,
        )
    values = {name: cells(frame[name]) for name in columns}
    return read_label_columns(values, task=task, class_names=class_names, rows=rows)


def _read_groups(column: pd.Series) -> np.ndarray:
    names = ["" if cell is None else class_text(cell).strip() for cell in cells(column)]
    return np.array(names, dtype=object)
