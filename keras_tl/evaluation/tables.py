"""Figures laid out for a terminal."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_tl.evaluation.class_figures import format_confused, pairs_of_matrix
from keras_tl.evaluation.metrics import IN_A_UNIT

# What is shown at most: classes in a summary, classes in a confusion table.
SHOWN_CLASSES = 20
TABLE_CLASSES = 10
_TITLES = {
    "samples": "samples",
    "threshold": "threshold",
    "loss": "loss",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "weighted_f1": "weighted F1",
    "top5_accuracy": "top-5 accuracy",
    "roc_auc": "ROC AUC",
    "subset_accuracy": "subset accuracy",
    "hamming_loss": "Hamming loss",
    "micro_f1": "micro F1",
    "mean_average_precision": "mean average precision",
    "mae": "mean absolute error",
    "rmse": "root mean squared error",
    "r2": "R2",
    "spearman": "Spearman",
}


def summary(metrics: dict[str, Any]) -> str:
    """Lays figures out for a terminal: the overall ones, then a table of classes or targets.

    Args:
        metrics: What `evaluate` returned.

    Returns:
        Lines; of more than 20 classes the 20 with the lowest F1, of targets with the lowest R2.
        Mean errors of several targets, which may have different units, are not among them.
    """
    several = len(metrics.get("per_target", ())) > 1
    overall = {
        name: value
        for name, value in metrics.items()
        if name in _TITLES and not isinstance(value, dict) and not (several and name in IN_A_UNIT)
    }
    width = max(len(_TITLES[name]) for name in overall)
    lines = [f"{_TITLES[name]:<{width}}  {_shown(value)}" for name, value in overall.items()]
    rows = metrics.get("per_class") or metrics["per_target"]
    heading = "class" if "per_class" in metrics else "target"
    if len(rows) > SHOWN_CLASSES:
        figure = "f1" if heading == "class" else "r2"
        heading = f"lowest {figure.upper()} of {len(rows)}"
        by_figure = sorted(rows.items(), key=lambda row: _none_last(row[1][figure]))
        rows = dict(by_figure[:SHOWN_CLASSES])
    return "\n".join([*lines, "", *_table(heading, rows)])


def _none_last(value: float | None) -> float:
    return math.inf if value is None else value


def mistakes(metrics: Mapping[str, Any], class_names: Sequence[str]) -> str:
    """Says for a terminal which classes were taken for which.

    Args:
        metrics: What `evaluate` gives.
        class_names: The classes, in order.

    Returns:
        The confusion matrix, see `format_confusion`; of very many classes the most confused pairs;
        "" where a sample has not one class.
    """
    if "confusion_matrix" in metrics:
        return format_confusion(metrics["confusion_matrix"], class_names)
    if "confused" not in metrics:
        return ""
    support = {name: row["support"] for name, row in metrics["per_class"].items()}
    return format_confused(metrics["confused"], support)


def format_confusion(matrix: Sequence[Sequence[int]], class_names: Sequence[str]) -> str:
    """Lays a confusion matrix out for a terminal.

    Args:
        matrix: Samples `[true class][predicted class]`.
        class_names: The classes, in that order.

    Returns:
        Up to ten classes a table, one row for each true class, the columns numbered like the
        rows; of more classes the ten most confused pairs.
    """
    counts = np.asarray(matrix)
    if len(class_names) > TABLE_CLASSES:
        support = dict(zip(class_names, counts.sum(axis=1).tolist(), strict=True))
        return format_confused(pairs_of_matrix(counts, class_names), support)
    titles = [f"{index} {_one_line(name)}" for index, name in enumerate(class_names, start=1)]
    corner = "true \\ predicted"
    first = max(len(corner), *(len(title) for title in titles))
    width = max(len(str(counts.max())), len(str(len(titles)))) + 2
    head = "".join(f"{index:>{width}}" for index in range(1, len(titles) + 1))
    rows = [
        f"{title:<{first}}" + "".join(f"{count:>{width}}" for count in row)
        for title, row in zip(titles, counts, strict=True)
    ]
    return "\n".join([f"{corner:<{first}}{head}", *rows])


def _shown(value: float | int | None) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.4f}"


def _table(heading: str, rows: dict[str, dict[str, Any]]) -> list[str]:
    """A line of column titles, then a line for each named row."""
    columns = list(next(iter(rows.values())))
    titles = [column.replace("_", " ") for column in columns]
    shown = {_one_line(n): [_shown(row[c]) for c in columns] for n, row in rows.items()}
    first = max(len(heading), *(len(name) for name in shown))
    # Eight at least, so that tables of shares look alike.
    widths = [max(8, *map(len, cells)) + 2 for cells in zip(titles, *shown.values(), strict=True)]
    lines = [f"{name:<{first}}" + _right_aligned(cells, widths) for name, cells in shown.items()]
    return [f"{heading:<{first}}" + _right_aligned(titles, widths), *lines]


def _one_line(name: str) -> str:
    return name.replace("\r", "\\r").replace("\n", "\\n")


def _right_aligned(cells: list[str], widths: list[int]) -> str:
    return "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
