"""Figures from a model's outputs, and how they are shown in a terminal.

The figures are plain numbers, lists and dictionaries, ready for JSON; a figure that is not
defined for the data (an AUC without a positive sample) is None. Those that scikit-learn knows are
scikit-learn's (https://scikit-learn.org/stable/modules/model_evaluation.html).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import spearmanr
from sklearn.metrics import (
    average_precision_score,
    confusion_matrix,
    f1_score,
    precision_recall_fscore_support,
    r2_score,
    roc_auc_score,
)

from keras_tl.errors import InputError
from keras_tl.evaluation.class_figures import (
    class_figures,
    format_confused,
    log_loss,
    overall_figures,
    pairs_of_matrix,
)
from keras_tl.evaluation.many_classes import (
    class_indices,
    has_many,
    single_label_of_many,
    top5_accuracy,
)
from keras_tl.model_info import ModelInfo

# What is shown at most: classes in a summary, classes in a confusion table.
SHOWN_CLASSES = 20
TABLE_CLASSES = 10


def evaluate(probabilities: np.ndarray, targets: np.ndarray, info: ModelInfo) -> dict[str, Any]:
    """Measures a model's outputs against the truth.

    Every result has `task`, `samples` and `loss`; what else is in it depends on the task: see
    `single_label`, `multi_label` and `regression`.

    Args:
        probabilities: The outputs, float32 `[samples, outputs]`: probabilities in [0, 1]; values
            for a regression.
        targets: The truth as the model is trained on it, float32 `[samples, outputs]`; of exclusive
            classes their indices will do, int64 `[samples]`.
        info: The task, class names and thresholds.

    Returns:
        The figures, ready for JSON.

    Raises:
        InputError: There is no sample, the shapes do not agree, or an output is not finite.
    """
    _check(probabilities, targets, info)
    if has_many(info):
        figures = single_label_of_many(probabilities, class_indices(targets), info)
        return {"task": info.task, "samples": len(targets), **figures}
    if targets.ndim == 1:
        targets = np.eye(len(info.class_names), dtype=np.float32)[targets]
    measure = {"single-label": single_label, "multi-label": multi_label, "regression": regression}
    figures = measure[info.task](probabilities, targets, info)
    return {"task": info.task, "samples": len(targets), **figures}


def decide(probabilities: np.ndarray, info: ModelInfo) -> np.ndarray:
    """Which classes the probabilities amount to.

    Args:
        probabilities: Float32 `[samples, classes]`, in [0, 1].
        info: The task and thresholds.

    Returns:
        Bool `[samples, classes]`. "multi-label": True from the class's threshold on.
        "single-label": True at each row's first largest probability; of two classes with a
        threshold, at the second from that threshold of its probability on, else at the first.
    """
    if info.task == "multi-label":
        return probabilities >= np.array(info.thresholds, np.float32)
    if info.thresholds:
        second = probabilities[:, 1] >= np.float32(info.thresholds[0])
        return np.stack([~second, second], axis=1)
    return np.arange(probabilities.shape[1]) == probabilities.argmax(axis=1)[:, None]


def single_label(probabilities: np.ndarray, targets: np.ndarray, info: ModelInfo) -> dict[str, Any]:
    """Measures a classification into one of several classes.

    - threshold (where the model has one): the probability of the second class from which on it
      is predicted.
    - loss: mean of -ln(probability of the true class), the probability at least 1e-7.
    - accuracy: share of samples whose predicted class is the true one: the most probable one,
      unless there is a threshold.
    - balanced_accuracy: mean recall of the classes that occur in the truth.
    - macro_f1: mean F1 of all classes; one neither true nor predicted anywhere counts 0.
    - weighted_f1: mean F1 of the classes, weighted by their true samples.
    - top5_accuracy (more than five classes): share whose true class is among the five most
      probable.
    - roc_auc: mean over classes of the area under the class-against-rest ROC curve; None unless
      every class occurs.
    - per_class: by name, precision = hits / predicted, recall = hits / true, f1 = their harmonic
      mean (0 where there is nothing to divide by), support = true samples; average_precision:
      the area under the precision-recall curve of the class against the rest, as the sum over
      thresholds of (recall gained) x precision, None where the class does not occur.
    - confusion_matrix: samples `[true class][predicted class]`.

    Args:
        probabilities: Float32 `[samples, classes]`.
        targets: One-hot float32 `[samples, classes]`.
        info: The class names, and the threshold if there is one.
    """
    classes = np.arange(len(info.class_names))
    true, predicted = targets.argmax(axis=1), decide(probabilities, info).argmax(axis=1)
    of_true = probabilities[np.arange(len(true)), true]
    scores = precision_recall_fscore_support(true, predicted, labels=classes, zero_division=0)
    figures: dict[str, Any] = {
        **({"threshold": info.thresholds[0]} if info.thresholds else {}),
        **overall_figures(of_true, true == predicted, *scores[1:]),
    }
    if len(classes) > 5:
        figures["top5_accuracy"] = top5_accuracy(probabilities, true)
    figures["roc_auc"] = None
    if len(classes) > 1 and (scores[3] > 0).all():
        figures["roc_auc"] = float(roc_auc_score(targets, probabilities, average="macro"))
    figures["per_class"] = {
        name: class_figures(*(score[index] for score in scores))
        | {"average_precision": _average_precision(true == index, probabilities[:, index])}
        for index, name in enumerate(info.class_names)
    }
    figures["confusion_matrix"] = confusion_matrix(true, predicted, labels=classes).tolist()
    return figures


def multi_label(probabilities: np.ndarray, targets: np.ndarray, info: ModelInfo) -> dict[str, Any]:
    """Measures a classification in which each class is present or not.

    - loss: mean, over samples and classes, of -ln(probability of the truth), at least 1e-7.
    - subset_accuracy: share of samples with every class right.
    - hamming_loss: share of all decisions that are wrong.
    - micro_f1: F1 of all decisions taken together.
    - macro_f1: mean F1 of the classes; one neither true nor predicted anywhere counts 0.
    - mean_average_precision: mean average precision of the classes that occur; None if none do.
    - per_class: by name, precision, recall, f1, support and average_precision as for
      `single_label`, at the class's threshold.

    Args:
        probabilities: Float32 `[samples, classes]`.
        targets: Zeros and ones, float32 `[samples, classes]`.
        info: The class names and thresholds.
    """
    present, chosen = targets > 0.5, decide(probabilities, info)
    of_truth = np.where(present, probabilities, 1.0 - probabilities)
    per_class = {
        name: _present_or_not(present[:, i], chosen[:, i], probabilities[:, i], info.thresholds[i])
        for i, name in enumerate(info.class_names)
    }
    precisions = [row["average_precision"] for row in per_class.values()]
    return {
        "loss": log_loss(of_truth),
        "subset_accuracy": float((present == chosen).all(axis=1).mean()),
        "hamming_loss": float((present != chosen).mean()),
        "micro_f1": float(f1_score(present.ravel(), chosen.ravel(), zero_division=0)),
        "macro_f1": float(np.mean([row["f1"] for row in per_class.values()])),
        "mean_average_precision": _mean([value for value in precisions if value is not None]),
        "per_class": per_class,
    }


def regression(values: np.ndarray, targets: np.ndarray, info: ModelInfo) -> dict[str, Any]:
    """Measures predicted values.

    - loss: mean of the squared errors, over samples and targets.
    - mae: mean of the absolute errors.
    - rmse: square root of the mean squared error.
    - r2: 1 - squared errors / squared distances from the target's mean; None where the target
      does not vary. Overall: the mean of the targets' r2, None if one of them is.
    - spearman: the correlation of the ranks, those of equal values averaged (Spearman, American
      Journal of Psychology 15, 1904); None where target or predictions do not vary. Overall: as
      for r2.
    - per_target: by name, mae, rmse, r2 and spearman of one target.

    Args:
        values: Float32 `[samples, targets]`.
        targets: Float32 `[samples, targets]`.
        info: The targets' names, as `class_names`.
    """
    errors = values.astype(np.float64) - targets
    per_target = {
        name: {
            **_error_figures(errors[:, i]),
            "r2": _r2(targets[:, i], values[:, i]),
            "spearman": _spearman(targets[:, i], values[:, i]),
        }
        for i, name in enumerate(info.class_names)
    }
    return {
        "loss": float((errors**2).mean()),
        **_error_figures(errors),
        "r2": _mean_of_all([row["r2"] for row in per_target.values()]),
        "spearman": _mean_of_all([row["spearman"] for row in per_target.values()]),
        "per_target": per_target,
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


# Figures in a target's unit.
IN_A_UNIT = ("loss", "mae", "rmse")
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


def _check(probabilities: np.ndarray, targets: np.ndarray, info: ModelInfo) -> None:
    expected = (len(targets), len(info.class_names))
    indices = info.task == "single-label" and targets.ndim == 1
    if not len(targets):
        raise InputError("at least one sample to measure on", "none", "Give labelled ones.")
    if probabilities.shape != expected or (targets.shape != expected and not indices):
        raise InputError(
            f"outputs and targets of shape {expected}",
            f"{probabilities.shape} and {targets.shape}",
            "Measure on data with the model's own classes.",
        )
    # A sum is not finite where an element is not; it makes no copy.
    if not np.isfinite(probabilities.sum(axis=1, dtype=np.float64)).all():
        bad = int((~np.isfinite(probabilities)).any(axis=1).sum())
        raise InputError(
            "finite outputs",
            f"NaN or infinity for {bad} of {len(targets)} samples",
            "Training has diverged: lower the learning rate.",
        )


def _present_or_not(
    present: np.ndarray, chosen: np.ndarray, probability: np.ndarray, threshold: float
) -> dict[str, Any]:
    """Figures of one class of a multi-label task, from its columns."""
    precision, recall, f1, _ = precision_recall_fscore_support(
        present, chosen, average="binary", zero_division=0
    )
    return {
        **class_figures(precision, recall, f1, present.sum()),
        "average_precision": _average_precision(present, probability),
        "threshold": threshold,
    }


def _average_precision(present: np.ndarray, probability: np.ndarray) -> float | None:
    return float(average_precision_score(present, probability)) if present.any() else None


def _error_figures(errors: np.ndarray) -> dict[str, float]:
    return {
        "mae": float(np.abs(errors).mean()),
        "rmse": float(np.sqrt((errors**2).mean())),
    }


def _r2(true: np.ndarray, predicted: np.ndarray) -> float | None:
    # In 32 bits, squares of large targets lose what varies.
    pair = true.astype(np.float64), predicted.astype(np.float64)
    return float(r2_score(*pair)) if np.ptp(true) > 0 else None


def _spearman(true: np.ndarray, predicted: np.ndarray) -> float | None:
    varies = np.ptp(true) > 0 and np.ptp(predicted) > 0
    return float(spearmanr(true, predicted).statistic) if varies else None


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _mean_of_all(values: list[float | None]) -> float | None:
    """The mean; None where a value is."""
    defined = [value for value in values if value is not None]
    return _mean(defined) if len(defined) == len(values) else None


def _shown(value: float | int | None) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.4f}"


def _table(heading: str, rows: dict[str, dict[str, Any]]) -> list[str]:
    """A line of column titles, then a line for each named row."""
    columns = list(next(iter(rows.values())))
    titles = [column.replace("_", " ") for column in columns]
    rows = {_one_line(name): row for name, row in rows.items()}
    first = max(len(heading), *(len(name) for name in rows))
    widths = [max(len(title), 8) + 2 for title in titles]
    lines = [f"{heading:<{first}}" + _right_aligned(titles, widths)]
    for name, row in rows.items():
        cells = [_shown(row[column]) for column in columns]
        lines.append(f"{name:<{first}}" + _right_aligned(cells, widths))
    return lines


def _one_line(name: str) -> str:
    return name.replace("\r", "\\r").replace("\n", "\\n")


def _right_aligned(cells: list[str], widths: list[int]) -> str:
    return "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
