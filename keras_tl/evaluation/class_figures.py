"""Figures of classes that few and very many of them share, and the pairs that are confused."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

# What Keras keeps probabilities away from 0 and 1 by, so that both report the same loss.
EPSILON = 1e-7
# Confused pairs that are shown in a terminal at most.
SHOWN_PAIRS = 10
NONE_CONFUSED = "No class was taken for another."

# True class, predicted class, samples.
Pairs: TypeAlias = Sequence[Sequence[Any]]


def log_loss(of_truth: np.ndarray) -> float:
    """Mean of -ln(probability of the truth), each probability at least 1e-7."""
    return float(-np.log(np.clip(of_truth, EPSILON, 1.0)).mean())


def overall_figures(
    of_true: np.ndarray, right: np.ndarray, recall: np.ndarray, f1: np.ndarray, support: np.ndarray
) -> dict[str, float]:
    """The figures over all exclusive classes; see `keras_tl.evaluation.metrics.single_label`.

    Args:
        of_true: Probability of each sample's true class, float `[samples]`.
        right: Whether its predicted class is the true one, bool `[samples]`.
        recall: Of each class, float `[classes]`.
        f1: Of each class, float `[classes]`.
        support: Samples truly of each class, int `[classes]`.
    """
    return {
        "loss": log_loss(of_true),
        "accuracy": float(right.mean()),
        "balanced_accuracy": float(recall[support > 0].mean()),
        "macro_f1": float(f1.mean()),
        "weighted_f1": float(np.average(f1, weights=support)),
    }


def class_figures(precision: float, recall: float, f1: float, support: int) -> dict[str, Any]:
    """The figures of one class, ready for JSON."""
    return {
        "precision": float(precision),
        "recall": float(recall),
        "f1": float(f1),
        "support": int(support),
    }


def confused_pairs(
    true: np.ndarray, predicted: np.ndarray, class_names: Sequence[str]
) -> list[list[Any]]:
    """Which class was taken for which: `[true, predicted, samples]`, the most frequent first.

    No more than there are samples; of equals those of the first classes come first.
    """
    wrong, width = true != predicted, len(class_names)
    keys, counts = np.unique(true[wrong] * width + predicted[wrong], return_counts=True)
    return _named(keys // width, keys % width, counts, class_names)


def pairs_of_matrix(matrix: np.ndarray, class_names: Sequence[str]) -> list[list[Any]]:
    """As `confused_pairs`, from int `[classes, classes]`: samples `[true][predicted]`."""
    wrong = matrix * ~np.eye(len(matrix), dtype=bool)
    true, predicted = wrong.nonzero()
    return _named(true, predicted, wrong[true, predicted], class_names)


def format_confused(pairs: Pairs, support: Mapping[str, int]) -> str:
    """Lays confused pairs out for a terminal.

    Args:
        pairs: As `confused_pairs` returns them.
        support: How many samples each class truly has, by name.

    Returns:
        The ten most confused ones.
    """
    if not pairs:
        return NONE_CONFUSED
    lines = ["Most often confused (true -> predicted):"]
    for true, predicted, count in pairs[:SHOWN_PAIRS]:
        share = count / support[true]
        lines.append(f"{count:>6}  {true} -> {predicted} ({share:.1%} of {true})")
    return "\n".join(lines)


def _named(
    true: np.ndarray, predicted: np.ndarray, counts: np.ndarray, names: Sequence[str]
) -> list[list[Any]]:
    """Pairs by name, the most frequent first, of equals in the order given."""
    order = np.argsort(-counts, kind="stable")
    pairs = zip(*(values[order].tolist() for values in (true, predicted, counts)), strict=True)
    return [[names[one], names[other], count] for one, other, count in pairs]
