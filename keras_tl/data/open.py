"""One word for any data: a folder, a CSV file or a TFDS name."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from keras_tl.data.folders import from_folder
from keras_tl.data.frames import from_csv
from keras_tl.data.source import Source
from keras_tl.data.tfds import from_tfds
from keras_tl.errors import InputError

TFDS_PREFIX = "tfds:"


def open_data(
    data: str,
    *,
    task: str = "auto",
    path_column: str = "path",
    label_column: str = "label",
    split_column: str = "split",
    group_column: str | None = None,
    class_names: tuple[str, ...] | None = None,
    download: bool = True,
) -> Source:
    """Opens data by what its name says it is.

    Args:
        data: "tfds:NAME", a `.csv` file, or a folder of class folders.
        task: "auto" or a name in `keras_tl.tasks`.
        path_column: CSV: the column of image paths.
        label_column: CSV: the column of labels, or several separated by commas.
        split_column: CSV: the column of splits.
        group_column: CSV: the column of groups.
        class_names: The classes of a trained model, matched by name, whose order the labels
            then have; None takes the classes that occur.
        download: TFDS: whether to download and prepare what is not there.

    Returns:
        The items; nothing is decoded yet.

    Raises:
        InputError: There is no such data, it is of no known kind, or has classes beside those
            that were given.
    """
    if data.startswith(TFDS_PREFIX):
        source = from_tfds(data.removeprefix(TFDS_PREFIX), task=task, download=download)
        return source if class_names is None else align_classes(source, class_names)
    if Path(data).is_file():
        labels = label_column.split(",")
        return from_csv(
            data,
            path_column=path_column,
            label_column=labels if len(labels) > 1 else label_column,
            split_column=split_column,
            group_column=group_column,
            task=task,
            class_names=class_names,
        )
    return from_folder(data, task=task, class_names=class_names)


def align_classes(source: Source, class_names: tuple[str, ...]) -> Source:
    """Brings labels into the class order of a trained model.

    Args:
        source: Labelled items; its class names in any order.
        class_names: The model's classes.

    Returns:
        The same items with labels that count `class_names`.

    Raises:
        InputError: The items have a class that the model does not know.
    """
    if source.class_names == class_names:
        return source
    unknown = sorted(set(source.class_names) - set(class_names))
    if unknown:
        raise InputError(
            f"the classes the model knows, {', '.join(class_names)}",
            f"also {', '.join(unknown)}",
            "Rename or remove them.",
        )
    position = np.array([class_names.index(name) for name in source.class_names])
    if source.task == "single-label":
        labels = position[source.labels]
    else:
        labels = np.zeros((len(source), len(class_names)), np.float32)
        labels[:, position] = source.labels
    return replace(source, labels=labels, class_names=class_names)
