"""One word for any data: a folder, a table or a TFDS name."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from keras_tl.data.folders import from_folder, require_utf8
from keras_tl.data.frames import from_csv
from keras_tl.data.label_cells import as_class_names
from keras_tl.data.labels import by_label
from keras_tl.data.source import Source
from keras_tl.data.texts import from_text_csv, from_text_folder
from keras_tl.data.tfds import from_text_tfds, from_tfds
from keras_tl.errors import InputError

TFDS_PREFIX = "tfds:"
# Arguments that only tables take, and the values that mean that nothing was asked for.
_OF_TABLES = {
    "path_column": "path",
    "label_column": "label",
    "split_column": "split",
    "group_column": None,
    "id_column": None,
    "pair": False,
}


def open_data(
    data: str | os.PathLike[str],
    *,
    task: str = "auto",
    path_column: str = "path",
    label_column: str = "label",
    split_column: str = "split",
    group_column: str | None = None,
    class_names: tuple[str, ...] | None = None,
    download: bool = True,
    text_column: str | None = None,
    pair: bool = False,
    id_column: str | None = None,
    encoding: str = "utf-8",
) -> Source:
    """Opens data by what its name says it is.

    Args:
        data: "tfds:NAME", a `.csv` file (of texts also `.tsv`, `.jsonl`), or a folder of class
            folders.
        task: "auto" or a name in `keras_tl.tasks`.
        path_column: CSV: the column of image paths.
        label_column: CSV: the column of labels, or several separated by commas.
        split_column: CSV: the column of splits.
        group_column: CSV: the column of groups.
        class_names: The classes of a trained model, matched by name, whose order the labels
            then have; None takes the classes that occur.
        download: TFDS: whether to download and prepare what is not there.
        text_column: The column, or the TFDS feature, of texts, or several separated by commas. If
            it is given the data are texts; of a folder it says no more than that.
        pair: Texts: whether two columns are a pair rather than joined.
        id_column: Texts in a table: the column of ids.
        encoding: Texts: of the file or the files.

    Returns:
        The items; nothing is decoded yet.

    Raises:
        InputError: There is no such data, it is of no known kind, its path is no UTF-8, it has
            classes beside those that were given, or columns are named that it cannot have.
    """
    data, class_names = os.fspath(data), as_class_names(class_names)
    named: dict[str, Any] = {
        "path_column": path_column,
        "label_column": label_column,
        "split_column": split_column,
        "group_column": group_column,
        "id_column": id_column,
    }
    refuse_encoding(encoding, text_column)
    if data.startswith(TFDS_PREFIX):
        refuse_columns(named, "a data set of TFDS")
        name = data.removeprefix(TFDS_PREFIX)
        if text_column is None:
            source = from_tfds(name, task=task, download=download)
        else:
            source = from_text_tfds(name, text_column, pair=pair, task=task, download=download)
        return source if class_names is None else align_classes(source, class_names)
    require_utf8(data)
    if Path(data).is_dir():
        refuse_columns({**named, "pair": pair}, "a folder")
    labels = label_column.split(",")
    columns: dict[str, Any] = {
        "label_column": labels if len(labels) > 1 else label_column,
        "split_column": split_column,
        "group_column": group_column,
    }
    options: dict[str, Any] = {"task": task, "class_names": class_names}
    if text_column is None:
        if Path(data).is_file():
            return from_csv(data, path_column=path_column, **columns, **options)
        return from_folder(data, **options)
    options["encoding"] = encoding
    if Path(data).is_dir():
        return from_text_folder(data, **options)
    return from_text_csv(data, text_column, pair=pair, id_column=id_column, **columns, **options)


def as_source(data: str | os.PathLike[str] | Source, **options: Any) -> Source:
    """Opens data unless they are open already.

    Args:
        data: See `open_data`, or an opened source.
        **options: See `open_data`; an opened source has them.

    Returns:
        The items.

    Raises:
        InputError: They are neither, or cannot be opened.
    """
    if isinstance(data, Source):
        return data
    if isinstance(data, str | os.PathLike):
        return open_data(data, **options)
    fix = "Make a source: from_dataframe(frame), or from_arrays(images, labels)."
    if isinstance(getattr(data, "source", None), Source):
        fix = "Pass its .source."
    raise InputError("a path, a name of TFDS, or an opened source", type(data).__name__, fix)


def is_table(data: str) -> bool:
    """Whether data of this name have columns."""
    return not data.startswith(TFDS_PREFIX) and Path(data).is_file()


def refuse_encoding(encoding: str, text_column: str | None) -> None:
    """Refuses an encoding for images.

    Raises:
        InputError: There is one, and no column of texts.
    """
    if encoding != "utf-8" and text_column is None:
        raise InputError("texts for an encoding", "images", "Leave the encoding out.")


def refuse_columns(named: dict[str, Any], what: str) -> None:
    """Refuses arguments that would be ignored: groups that are not kept together leak.

    Args:
        named: Arguments by name, some of those of `open_data`.
        what: What has no such columns.

    Raises:
        InputError: One is not the default.
    """
    for name, value in named.items():
        if value != _OF_TABLES[name]:
            fix = "Leave it out, or write a table with such columns."
            raise InputError(f"no {name} for {what}", f"{name}={value!r}", fix)


def align_classes(source: Source, class_names: tuple[str, ...]) -> Source:
    """Brings labels into the class order of a trained model.

    Args:
        source: Labelled items; its class names in any order.
        class_names: The model's classes.

    Returns:
        The same items with labels that count `class_names`.

    Raises:
        InputError: The items have a class that the model does not know, or lack a target.
    """
    if source.class_names == class_names:
        return source
    if source.task == "regression" and set(source.class_names) != set(class_names):
        raise InputError(
            f"the targets {', '.join(class_names)}",
            ", ".join(source.class_names),
            "Name the same that the model was trained on.",
        )
    given = by_label(class_names)
    names = [given(name) or name for name in source.class_names]
    unknown = sorted(set(names) - set(class_names))
    if unknown:
        raise InputError(
            f"the classes the model knows, {', '.join(class_names)}",
            f"also {', '.join(unknown)}",
            "Rename or remove them.",
        )
    position = np.array([class_names.index(name) for name in names])
    if source.task == "single-label":
        labels = position[source.labels]
    else:
        labels = np.zeros((len(source), len(class_names)), np.float32)
        labels[:, position] = source.labels
    return replace(source, labels=labels, class_names=class_names)
