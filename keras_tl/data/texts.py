"""Texts as a `Source`: from tables, folders, or memory."""

import os
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from keras_tl.data.arrays import check_lengths, labelled
from keras_tl.data.columns import named_by_text
from keras_tl.data.folders import TEXTS, class_folders
from keras_tl.data.in_memory import label_list, text_list
from keras_tl.data.inspection import check_bad_fraction, refuse_too_many_bad
from keras_tl.data.label_cells import class_text
from keras_tl.data.labels import first_few, refuse_emptied_classes
from keras_tl.data.source import Skipped, Source, content_hash
from keras_tl.data.tables import (
    LARGEST_CELL,
    SPLIT_COLUMN,
    cells,
    decoded,
    read_notes,
    read_table,
)
from keras_tl.errors import InputError

# Unicode categories of invisible characters: controls, formats (a zero-width blank), separators.
INVISIBLE = ("Cc", "Cf", "Zs", "Zl", "Zp")


def from_text_csv(
    path: str | os.PathLike[str],
    text_column: str | Sequence[str] = "text",
    *,
    label_column: str | Sequence[str] | None = "label",
    pair: bool = False,
    split_column: str | None = SPLIT_COLUMN,
    group_column: str | None = None,
    id_column: str | None = None,
    task: str = "auto",
    separator: str = "|",
    class_names: Sequence[str] | None = None,
    encoding: str = "utf-8",
) -> Source:
    """Reads a table that has one row for each text: a CSV, TSV or JSON-lines file.

    For what counts as a table see `keras_tl.data.tables.read_table`.

    Args:
        path: The file.
        text_column: See `from_text_dataframe`.
        label_column: See `from_text_dataframe`.
        pair: See `from_text_dataframe`.
        split_column: See `from_text_dataframe`.
        group_column: See `from_text_dataframe`.
        id_column: See `from_text_dataframe`.
        task: See `from_text_dataframe`.
        separator: See `from_text_dataframe`.
        class_names: See `from_text_dataframe`.
        encoding: Of the file.

    Returns:
        A source like that of `from_text_dataframe`; without an id column ids are the lines in
        which rows begin, "line 17".

    Raises:
        InputError: The file cannot be read, is empty or ragged, or `from_text_dataframe` refuses
            what is in it.
    """
    frame = read_table(path, _named(text_column), encoding=encoding)
    return from_text_dataframe(
        frame,
        text_column,
        label_column=label_column,
        pair=pair,
        split_column=split_column,
        group_column=group_column,
        id_column=id_column,
        task=task,
        separator=separator,
        class_names=class_names,
    )


def from_text_dataframe(
    frame: pd.DataFrame,
    text_column: str | Sequence[str] = "text",
    *,
    label_column: str | Sequence[str] | None = "label",
    pair: bool = False,
    split_column: str | None = SPLIT_COLUMN,
    group_column: str | None = None,
    id_column: str | None = None,
    task: str = "auto",
    separator: str = "|",
    class_names: Sequence[str] | None = None,
) -> Source:
    """Reads a DataFrame that has one row for each text.

    A text in which nothing can be seen is listed in `skipped` as bad. Equal texts stay; they are
    never divided between splits.

    Args:
        frame: The rows; their columns may be numbered, see `from_dataframe`.
        text_column: The column of texts; or several, in a list or separated by commas.
        label_column: The column of labels, or several, see `from_dataframe`; None reads none (to
            predict).
        pair: Whether two columns are a pair of texts, which an encoder tells apart. Else they
            are joined, each on lines of its own.
        split_column: See `from_dataframe`; None reads none (to predict).
        group_column: See `from_dataframe`.
        id_column: The column of ids, each of them once; None names the rows.
        task: "auto" or a task's name.
        separator: What stands between the classes of a multi-label cell.
        class_names: The classes to use, in this order, matched by name; None takes the sorted
            classes that occur.

    Returns:
        A source whose items are tuples of one text, or of two, in the order of the rows.

    Raises:
        InputError: A column is missing, a label is empty or cannot be read, ids repeat, there is
            no row, or a class has no text left.
    """
    if not frame.index.is_unique:
        frame = frame.reset_index(drop=True)
    asked = (text_column, label_column, split_column, group_column, id_column)
    frame, named = named_by_text(frame, *asked)
    text_column, label_column, split_column, group_column, id_column = named
    columns = _named(text_column)
    if pair and len(columns) != 2:
        fix = "Name two: --text-column title,body."
        raise InputError("two text columns for a pair", ", ".join(columns), fix)
    notes = read_notes(
        frame,
        [*columns, *([id_column] if id_column is not None else [])],
        label_column=label_column,
        split_column=split_column,
        group_column=group_column,
        task=task,
        separator=separator,
        class_names=class_names,
    )
    ids = notes.rows if id_column is None else _ids(frame[id_column], id_column, notes.rows)
    rows = Source(
        ids=np.array(ids, dtype=object),
        items=list(zip(*(cells(frame[name]) for name in columns), strict=True)),
        labels=notes.labels.values,
        class_names=notes.labels.class_names,
        task=notes.labels.task,
        groups=notes.groups,
        splits=notes.splits,
        given_splits=notes.given_splits,
    )
    return as_texts(rows, pair)


def from_text_folder(
    path: str | os.PathLike[str],
    *,
    task: str = "auto",
    class_names: Sequence[str] | None = None,
    encoding: str = "utf-8",
) -> Source:
    """Reads a folder that holds one folder of `.txt` files for each class.

    Folders are understood as `from_folder` does. Files without a visible character, or of
    another encoding, are listed in `skipped` as bad.

    Args:
        path: The folder.
        task: "auto" or "single-label": folders can say nothing else.
        class_names: See `from_folder`.
        encoding: Of the files.

    Returns:
        A source whose ids are paths relative to `path` and whose items are tuples of one text.

    Raises:
        InputError: As of `from_folder`, or a class has no text left.
    """
    decoded(b" ", encoding, str(path))  # refuses what is no encoding, before the first file does
    files = class_folders(path, TEXTS, task=task, class_names=class_names)
    read = [read_text_file(file, encoding) for file in files.items]
    bad = [Skipped(str(files.ids[i]), reason) for i, (_, reason) in enumerate(read) if reason]
    kept = np.array([i for i, (_, reason) in enumerate(read) if not reason], np.int64)
    items: list[Any] = [(text,) for text, _ in read]
    source = replace(files, items=items, skipped=(*files.skipped, *bad)).take(kept)
    refuse_emptied_classes(files.labels, source.labels, files.class_names, files.task, "text")
    return as_texts(source, pair=False)


def from_texts(
    texts: Sequence[str | Sequence[str]],
    labels: Sequence[Any] | np.ndarray | pd.DataFrame | None = None,
    *,
    ids: Sequence[str] | None = None,
    splits: Sequence[str] | None = None,
    groups: Sequence[Any] | None = None,
    task: str = "auto",
    class_names: Sequence[str] | None = None,
) -> Source:
    """Takes texts from memory, with labels or without (to predict).

    Args:
        texts: The texts, or pairs of them.
        labels: As for `from_arrays`: one label for each, or a column for each class or target.
        ids: Unique names of the texts; None numbers them: "text 0".
        splits: "train", "val" or "test" for each; "" or None for what is to be assigned.
        groups: One group for each, "" or None for a text on its own.
        task: "auto" or a task's name.
        class_names: See `from_arrays`.

    Returns:
        A source whose items are tuples of one text, or of two. What shows nothing is listed in
        `skipped` as bad.

    Raises:
        InputError: Lengths differ, the labels do not fit the task, or texts are a single one, a
            table, bytes, or partly pairs.
    """
    texts, labels = text_list(texts), label_list(labels)
    check_lengths(len(texts), "text", labels=labels, splits=splits, groups=groups, ids=ids)
    if not texts:
        raise InputError("at least one text", "none", "Pass texts.")
    columns = [cells(pd.Series(side, dtype=object)) for side in _sides(texts)]
    rows = [f"text {i}" for i in range(len(texts))]
    names = rows if ids is None else _ids(pd.Series(list(ids), dtype=object), "id", rows)
    source = labelled(
        np.array(names, dtype=object),
        list(zip(*columns, strict=True)),
        labels,
        class_names=class_names,
        groups=groups,
        splits=splits,
        task=task,
    )
    return as_texts(source, pair=len(columns) > 1)


def as_texts(source: Source, pair: bool) -> Source:
    """Makes texts of cells, and leaves out those in which nothing can be seen.

    Args:
        source: Items that are tuples of cells: text, bytes in UTF-8, numbers, or None.
        pair: Whether two cells stay a pair; else they are joined, each on lines of its own.

    Returns:
        A source of texts; those left out are listed in `skipped` as bad.

    Raises:
        InputError: None is left, or none of a class.
    """
    items = [text_item(item, pair) for item in source.items]
    blank = np.array([all(map(is_blank, item)) for item in items], bool)
    bad = [Skipped(str(name), "no text") for name in source.ids[blank]]
    if blank.all():
        received = f"{len(bad)} without any ({first_few([skip.id for skip in bad])})"
        raise InputError("texts", received, "Name another column.")
    source = replace(source, items=items, skipped=(*source.skipped, *bad))
    kept = source.take(np.flatnonzero(~blank))
    refuse_emptied_classes(source.labels, kept.labels, source.class_names, source.task, "text")
    return kept


def text_item(item: Sequence[Any], pair: bool) -> tuple[str, ...]:
    """Makes a text, or a pair, of the cells of a row; see `as_texts`."""
    texts = tuple(map(_text, item))
    if pair:
        return texts
    return ("\n".join(text for text in texts if not is_blank(text)),)


def inspect_texts(source: Source, *, max_bad_fraction: float = 0.1) -> Source:
    """Hashes every text, logs which were passed over, and refuses too many of these.

    Args:
        source: Texts; labels may be missing (`class_names` empty), to predict.
        max_bad_fraction: The share of bad texts above which this raises, in [0, 1].

    Returns:
        The texts with `hashes` filled in.

    Raises:
        InputError: Too many texts are bad, or none is left.
    """
    check_bad_fraction(max_bad_fraction)
    bad = [skip for skip in source.skipped if skip.bad]
    refuse_too_many_bad(bad, len(source) + len(bad), max_bad_fraction, "text")
    hashes = np.array([content_hash(item) for item in source.items], dtype=object)
    return replace(source, hashes=hashes)


def is_blank(text: str) -> bool:
    """Whether a text has no visible character."""
    return all(unicodedata.category(character) in INVISIBLE for character in text)


def _sides(texts: list[Any]) -> list[list[Any]]:
    """The columns that texts from memory make: one, or one for each text of a pair."""
    sizes = {len(text) if isinstance(text, (list, tuple, np.ndarray)) else 0 for text in texts}
    if any(isinstance(text, bytes) for text in texts):
        raise InputError("texts as strings", "bytes", "Decode them: text.decode().")
    if not sizes <= {0} and sizes != {2}:
        received = "others among them, or tuples of other lengths"
        raise InputError("texts, or pairs of two each", received, "Pass all of one kind.")
    return [list(side) for side in zip(*texts, strict=True)] if sizes == {2} else [texts]


def _named(text_column: str | Sequence[str]) -> list[str]:
    if isinstance(text_column, str):
        return [name.strip() for name in text_column.split(",")]
    return list(text_column)


def _text(cell: Any) -> str:
    """A cell as text that UTF-8 can encode: JSON may hold lone surrogates."""
    if isinstance(cell, bytes):
        return cell.decode("utf-8", "replace")
    if cell is None:
        return ""
    return str(cell).encode("utf-8", "replace").decode("utf-8")


def _ids(column: pd.Series, name: str, rows: Sequence[str]) -> list[str]:
    ids = ["" if cell is None else class_text(cell).strip() for cell in cells(column)]
    first: dict[str, str] = {}
    for row, cell in zip(rows, ids, strict=True):
        earlier = first.setdefault(cell, row)
        if not cell:
            raise InputError(f"an id in each row of {name!r}", f"none in {row}", "Fill it in.")
        if earlier != row:
            received = f"{cell!r} in {earlier} and in {row}"
            raise InputError(f"each id once in {name!r}", received, "Name another id column.")
    return ids


def read_text_file(path: str, encoding: str) -> tuple[str, str]:
    """The text of a file and ""; or "" and why it cannot be used."""
    try:
        if os.path.getsize(path) > LARGEST_CELL:
            return "", f"file of {os.path.getsize(path) / 2**20:.0f} MiB, too large"
        text = decoded(Path(path).read_bytes(), encoding, path)
    except OSError as error:
        return "", f"unreadable: {error.strerror}"
    except InputError:
        return "", f"not in {encoding.upper()}"
    return text, ""
