"""A pandas DataFrame or a CSV file that lists images as a `Source`."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from keras_tl.data.columns import named_by_text
from keras_tl.data.labels import first_few, refuse_emptied_classes
from keras_tl.data.source import Skipped, Source
from keras_tl.data.tables import (
    SPLIT_COLUMN,
    Notes,
    cells,
    read_notes,
    read_table,
    require_columns,
)
from keras_tl.errors import InputError


def from_dataframe(
    frame: pd.DataFrame,
    *,
    root: str | os.PathLike[str] = ".",
    path_column: str = "path",
    label_column: str | Sequence[str] = "label",
    split_column: str = SPLIT_COLUMN,
    group_column: str | None = None,
    task: str = "auto",
    separator: str = "|",
    class_names: Sequence[str] | None = None,
) -> Source:
    """Reads a DataFrame that has one row for each image.

    A file that does not exist is listed in `skipped` as bad. A path listed twice with the same
    label, split and group counts once; with others it is refused.

    Args:
        frame: The rows. Text or numbers; pandas' own missing values are understood. Columns may
            be numbered: 0 is named as 0, or as "0".
        root: What relative paths are relative to.
        path_column: The column of image paths, relative or absolute.
        label_column: The column of labels, or several: zeros and ones for each class, or the
            targets of a regression. See `keras_tl.data.labels` for what "auto" recognises.
        split_column: The column of splits: a name of `keras_tl.data.splits.SPLIT_ALIASES` in any
            case, empty for what is to be assigned. A column of the default name may be missing.
        group_column: The column of groups, empty for an item on its own; None takes a column
            called "group" where there is one.
        task: "auto" or a task's name.
        separator: What stands between the classes of a multi-label cell.
        class_names: The classes to use, in this order, matched by name; None takes the sorted
            classes that occur.

    Returns:
        A source whose ids are paths relative to `root` (absolute outside it), with forward
        slashes, and whose items are absolute paths, in the order of the rows.

    Raises:
        InputError: A column is missing, a cell is empty or cannot be read, no file exists, a
            class has no file left, or a path has contradicting rows.
    """
    frame, named = named_by_text(frame, path_column, label_column, split_column, group_column)
    path_column, label_column, split_column, group_column = named
    notes = read_notes(
        frame,
        [path_column],
        label_column=label_column,
        split_column=split_column,
        group_column=group_column,
        task=task,
        separator=separator,
        class_names=class_names,
    )
    paths = _read_paths(frame[path_column], notes.rows)
    return _build(Path(os.path.abspath(root)), paths, notes)


def from_csv(
    path: str | os.PathLike[str],
    *,
    root: str | os.PathLike[str] | None = None,
    path_column: str = "path",
    label_column: str | Sequence[str] = "label",
    split_column: str = SPLIT_COLUMN,
    group_column: str | None = None,
    task: str = "auto",
    separator: str = "|",
    class_names: Sequence[str] | None = None,
) -> Source:
    """Reads a CSV file that has one row for each image, below a row of column names.

    The file is UTF-8, with or without a byte order mark. Its delimiter is the first of comma,
    semicolon, tab and blank that makes `path_column` one of the columns. Cells stay the text they
    are ("NA" is a class). Absolute paths are taken as they are; relative ones must stay inside
    `root`.

    Args:
        path: The file.
        root: What relative paths are relative to; None takes the file's folder.
        path_column: See `from_dataframe`.
        label_column: See `from_dataframe`.
        split_column: See `from_dataframe`.
        group_column: See `from_dataframe`.
        task: See `from_dataframe`.
        separator: See `from_dataframe`.
        class_names: See `from_dataframe`.

    Returns:
        A source like that of `from_dataframe`.

    Raises:
        InputError: The file cannot be read, is empty or ragged, a path leaves `root`, or
            `from_dataframe` refuses what is in it.
    """
    path = Path(path)
    frame = read_table(path, [path_column])
    fix = "Name that of the images' paths, or of texts that of the texts: --text-column."
    require_columns(frame, [path_column], fix)
    folder = Path(os.path.abspath(path.parent if root is None else root))
    for row, cell in frame[path_column].items():
        refuse_leaving(_path(cell), str(folder), f"{frame.index.name} {row}")
    return from_dataframe(
        frame,
        root=folder,
        path_column=path_column,
        label_column=label_column,
        split_column=split_column,
        group_column=group_column,
        task=task,
        separator=separator,
        class_names=class_names,
    )


def refuse_leaving(path: str, folder: str, where: str) -> None:
    """Refuses a relative path that leads out of the folder.

    Args:
        path: The path, without blanks around it; an absolute one is taken as it is.
        folder: The absolute path, or the address, of the folder.
        where: The row that the path is in.

    Raises:
        InputError: It does.
    """
    root, full = os.path.normpath(folder), os.path.normpath(os.path.join(folder, path))
    if not os.path.isabs(path) and not Path(full).is_relative_to(root):
        raise InputError(
            f"paths inside {folder!r}",
            f"{path!r} in {where}, which leaves it",
            "Give the folder that all paths are inside of as root, or absolute paths.",
        )


def _path(cell: Any) -> str:
    return "" if cell is None else str(cell).strip()


def _read_paths(column: pd.Series, rows: Sequence[str]) -> list[str]:
    paths = list(map(_path, cells(column)))
    empty = [row for row, path in zip(rows, paths, strict=True) if not path]
    if empty:
        raise InputError(
            "a path in every row",
            f"{len(empty)} without one ({first_few(empty)})",
            "Fill the paths in, or delete those rows.",
        )
    return paths


def _build(root: Path, paths: Sequence[str], notes: Notes) -> Source:
    labels = notes.labels
    files = [os.path.normpath(root / path) for path in paths]
    ids = [_id(file, root) for file in files]
    groups = notes.splits if notes.groups is None else notes.groups
    told = list(zip(labels.values.tolist(), notes.splits, groups, strict=True))
    once, repeated = _once(ids, notes.rows, told)
    kept = [i for i in once if os.path.isfile(files[i])]
    missing = [Skipped(ids[i], "file not found") for i in once if not os.path.isfile(files[i])]
    if not kept:
        raise InputError(
            f"files inside {str(root)!r}",
            f"{len(missing)} paths without a file ({first_few([skip.id for skip in missing])})",
            "Give the folder that the paths are relative to as root.",
        )
    values = labels.values[kept]
    refuse_emptied_classes(labels.values, values, labels.class_names, labels.task)
    return Source(
        ids=np.array([ids[i] for i in kept], dtype=object),
        items=[files[i] for i in kept],
        labels=values,
        class_names=labels.class_names,
        task=labels.task,
        groups=None if notes.groups is None else notes.groups[kept],
        splits=notes.splits[kept],
        given_splits=notes.given_splits,
        skipped=tuple(missing + repeated),
    )


def _id(file: str, root: Path) -> str:
    path = Path(file)
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()


def _once(
    ids: Sequence[str], rows: Sequence[str], told: Sequence[tuple[Any, ...]]
) -> tuple[list[int], list[Skipped]]:
    """The first row of each id, and the rows that repeat it."""
    first: dict[str, int] = {}
    repeated = []
    for i, name in enumerate(ids):
        earlier = first.setdefault(name, i)
        if told[i] != told[earlier]:
            raise InputError(
                "one label, split and group for each path",
                f"{name!r} in {rows[earlier]} and otherwise in {rows[i]}",
                "Keep one of the rows; several classes of one image go into one cell: cat|dog.",
            )
        if earlier != i:
            repeated.append(Skipped(name, f"listed again in {rows[i]}", bad=False))
    return list(first.values()), repeated
