"""Images that are in memory already as a `Source`."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from keras_tl.data.checks import other_pixels, refuse_scaled_pixels
from keras_tl.data.in_memory import image_list, label_list
from keras_tl.data.label_cells import as_class_names, class_text, is_missing, plain
from keras_tl.data.labels import (
    Labels,
    read_label_columns,
    read_labels,
    refuse_unknown_classes,
)
from keras_tl.data.source import SPLITS, Source
from keras_tl.data.splits import parse_split
from keras_tl.errors import InputError

CHANNELS = (1, 3, 4)


def from_arrays(
    images: np.ndarray | Iterable[np.ndarray | bytes],
    labels: np.ndarray | pd.DataFrame | Iterable[Any],
    *,
    class_names: Sequence[str] | None = None,
    groups: Sequence[Any] | None = None,
    splits: Sequence[str] | None = None,
    task: str = "auto",
    ids: Sequence[str] | None = None,
) -> Source:
    """Takes images and labels from memory, without copying the pixels.

    Args:
        images: uint8 0..255, `[items, height, width, channels]` with 1 (grey), 3 (RGB) or 4
            (RGBA) channels, or `[items, height, width]`; or a list of such images of any sizes;
            or a list of encoded images (`bytes`). Tensors and images of PIL are understood.
        labels: One label for each item (class names, class indices, numbers, lists of class
            names), or numbers `[items, outputs]` with a column for each class or target, in a
            DataFrame with their names. Tensors are understood.
        class_names: The classes in order. Whole numbers as labels are then indices into them;
            None takes the classes that occur, sorted. With a column for each class, the columns'
            names.
        groups: One group for each item, "" or None for an item on its own.
        splits: "train", "val" or "test" for each item, "" or None for what is to be assigned.
        task: "auto" or a task's name.
        ids: Unique names of the items; None numbers them.

    Returns:
        A source whose items are uint8 arrays `[height, width, channels]` or `bytes`.

    Raises:
        InputError: Lengths differ, images are paths or pairs with labels, pixels are no uint8,
            all 0 or 1, or of another shape, ids repeat, or the labels do not fit the task.
    """
    images, read = image_list(images), label_list(labels)
    count = len(images)
    if not count:
        raise InputError("at least one image", "none", "Pass images.")
    check_lengths(count, "image", labels=read, groups=groups, splits=splits, ids=ids)
    items = [_item(images, i) for i in range(count)]
    refuse_scaled_pixels(items)
    return labelled(
        _ids(ids, count),
        items,
        read,
        class_names=class_names,
        groups=groups,
        splits=splits,
        task=task,
    )


def check_lengths(count: int, noun: str, **given: Any) -> None:
    """Refuses values that are not given once for each item.

    Raises:
        InputError: A length differs from `count`.
    """
    for name, values in given.items():
        if values is not None and len(values) != count:
            fix = f"Pass one for each {noun}, in the same order."
            raise InputError(f"{count} {name}", str(len(values)), fix)


def labelled(
    ids: np.ndarray,
    items: list[Any],
    labels: np.ndarray | pd.DataFrame | Sequence[Any] | None,
    *,
    class_names: Sequence[str] | None,
    groups: Sequence[Any] | None,
    splits: Sequence[str] | None,
    task: str,
) -> Source:
    """Makes a source of items and `from_arrays`' other arguments; no labels: to predict."""
    unlabelled = Labels(np.zeros(len(items), np.int64), (), "single-label")
    read = unlabelled if labels is None else _read_labels(labels, class_names, task)
    check_lengths(len(items), "item", labels=read.values)
    given = [""] * len(items) if splits is None else splits
    cells = [plain(name) for name in given]
    parsed = [parse_split("" if is_missing(cell) else str(cell)) for cell in cells]
    return Source(
        ids=ids,
        items=items,
        labels=read.values,
        class_names=read.class_names,
        task=read.task,
        groups=None if groups is None else _groups(groups),
        splits=np.array(parsed, dtype=object),
        given_splits=tuple(name for name in SPLITS if name in parsed),
    )


def _item(images: np.ndarray | Sequence[Any], index: int) -> np.ndarray | bytes:
    image = images[index]
    if isinstance(image, bytes):
        return image
    pixels = np.asarray(image)
    if pixels.dtype != np.uint8:
        raise other_pixels(images, index)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.ndim != 3 or pixels.shape[2] not in CHANNELS or not pixels.size:
        raise InputError(
            "images [height, width] or [height, width, 1, 3 or 4 channels]",
            f"shape {list(pixels.shape)} in image {index}",
            "Move the channels to the end if they come first: np.moveaxis(images, 1, -1).",
        )
    return pixels


def _read_labels(
    labels: np.ndarray | pd.DataFrame | Sequence[Any],
    class_names: Sequence[str] | None,
    task: str,
) -> Labels:
    class_names, name = as_class_names(class_names), "label"
    if isinstance(labels, pd.DataFrame):
        if labels.shape[1] != 1:
            return _read_frame(labels, class_names, task)
        name, labels = str(labels.columns[0]), labels.iloc[:, [0]].to_numpy()
    table = _table(labels)
    is_column = table is None or (
        task in ("auto", "single-label") and (class_names is None or len(class_names) > 1)
    )
    if is_column and (column := _only_column(labels, table)) is not None:
        # One label for each item, as Keras' own data sets have them.
        labels, table = column, None
    if table is not None:
        return _read_table(table, class_names, task, name)
    cells = list(labels)
    if class_names is not None and task != "regression" and _all_integers(cells):
        cells = _named(np.array(cells), class_names)
    return read_labels(cells, task=task, class_names=class_names, name=name)


def _only_column(labels: np.ndarray | Sequence[Any], table: np.ndarray | None) -> Any:
    """The column of labels `[items, 1]`, words or numbers; None if they are otherwise."""
    array = labels if isinstance(labels, np.ndarray) else table
    return array[:, 0] if array is not None and array.shape[1:] == (1,) else None


def _read_frame(labels: pd.DataFrame, class_names: tuple[str, ...] | None, task: str) -> Labels:
    """Reads a column for each class or target, which has its name unless pandas numbered it."""
    names = [str(name) for name in labels.columns]
    if class_names is not None and names == [str(number) for number in range(len(names))]:
        return _read_table(labels.to_numpy(), class_names, task)
    refuse_unknown_classes({}, names)
    cells = {name: labels.iloc[:, i].tolist() for i, name in enumerate(names)}
    return read_label_columns(cells, task=task, class_names=class_names)


def _read_table(
    table: np.ndarray, class_names: Sequence[str] | None, task: str, name: str = "label"
) -> Labels:
    """Reads a column for each class or target, in the order of the names."""
    width = table.shape[1]
    names = class_names or ([name] if width == 1 and name != "label" else map(str, range(width)))
    names = list(names)
    if len(names) != width:
        raise InputError(f"{width} class names", str(len(names)), "Name every column.")
    refuse_unknown_classes({}, names)
    cells = {name: table[:, i].tolist() for i, name in enumerate(names)}
    return read_label_columns(cells, task=task)


def _table(labels: np.ndarray | Sequence[Any]) -> np.ndarray | None:
    """Labels with a column for each output, as an array; None if there is one label for each item.

    Lists of numbers, all of one length, are rows of such a table; lists of words are classes.
    """
    first = labels[0] if isinstance(labels, list | tuple) else None
    if isinstance(first, list | tuple | np.ndarray):
        same_length = len({len(row) for row in labels}) == 1
        labels = np.array(labels) if same_length else np.array([], dtype=object)
    if not isinstance(labels, np.ndarray) or labels.ndim == 1:
        return None
    if labels.ndim > 2:
        shape = list(labels.shape)
        raise InputError("labels [items] or [items, outputs]", f"shape {shape}", "Reshape them.")
    if labels.dtype == object:
        labels = _of_numbers(labels)
    return labels if labels.dtype.kind in "biuf" else None


def _of_numbers(table: np.ndarray) -> np.ndarray:
    """The same cells as numbers, if all that are filled are numbers or booleans."""
    cells = [plain(cell) for cell in table.flat]
    filled = [cell for cell in cells if not is_missing(cell)]
    if not filled or not all(isinstance(cell, int | float) for cell in filled):
        return table
    numbers = [float("nan") if is_missing(cell) else cell for cell in cells]
    return np.array(numbers).reshape(table.shape)


def _all_integers(labels: Sequence[Any]) -> bool:
    return all(isinstance(x, int | np.integer) and not isinstance(x, bool) for x in labels)


def _named(indices: np.ndarray, class_names: Sequence[str]) -> list[str]:
    out = indices[(indices < 0) | (indices >= len(class_names))]
    if len(out):
        raise InputError(
            f"class indices from 0 to {len(class_names) - 1}",
            f"{len(out)} others, such as {out[0]}",
            "Name every class in class_names.",
        )
    return [class_names[i] for i in indices]


def _ids(ids: Sequence[str] | None, count: int) -> np.ndarray:
    if ids is None:
        width = len(str(count - 1))
        return np.array([f"{i:0{width}d}" for i in range(count)], dtype=object)
    names = np.array([str(name) for name in ids], dtype=object)
    if len(set(names)) < count:
        raise InputError("a different id for each item", "repeated ids", "Make them unique.")
    return names


def _groups(groups: Sequence[Any]) -> np.ndarray:
    cells = [plain(group) for group in groups]
    texts = ["" if is_missing(cell) else class_text(cell) for cell in cells]
    return np.array(texts, dtype=object)
