"""Figures from a model's outputs.

The figures are plain numbers, lists and dictionaries, ready for JSON; a figure that is not
defined for the data (an AUC without a positive sample) is None. Those that scikit-learn knows are
scikit-learn's (https://scikit-learn.org/stable/modules/model_evaluation.html).
"""

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
    log_loss,
    overall_figures,
)
from keras_tl.evaluation.many_classes import (
    class_indices,
    has_many,
    single_label_of_many,
    top5_accuracy,
)
from keras_tl.model_info import ModelInfo

# Figures in a target's unit.
IN_A_UNIT = ("loss", "mae", "rmse")


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


def no_better_than_the_mean(figures: dict[str, Any]) -> list[str]:
    """The targets of a regression's figures whose R2 is not above 0."""
    scores = {name: row["r2"] for name, row in figures.get("per_target", {}).items()}
    return [name for name, r2 in scores.items() if r2 is not None and r2 <= 0]


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
