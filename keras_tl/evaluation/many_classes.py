"""Figures and tables of exclusive classes of which there are very many.

Beside ten thousand classes a table with a column for each, or a matrix of all, has gigabytes, and
nobody reads it. Of more than `MANY_CLASSES` the ten most probable classes of each sample are kept
and the pairs of classes that were confused; every figure is of all classes all the same.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import precision_recall_fscore_support

from keras_tl.data.source import Source
from keras_tl.model_info import ModelInfo

# From more on, tables hold the `KEPT` most probable ones.
MANY_CLASSES, KEPT = 200, 10
# Probabilities that are looked at together; confused pairs that are shown in a terminal.
CHUNK, SHOWN = 4_000_000, 10
# What Keras keeps probabilities away from 0 by.
SMALLEST = 1e-7


def has_many(info: ModelInfo) -> bool:
    """Whether a model has so many exclusive classes."""
    return info.task == "single-label" and len(info.class_names) > MANY_CLASSES


def truth_of(source: Source) -> np.ndarray:
    """What `evaluate` takes: the targets, but of many exclusive classes their indices alone.

    Args:
        source: Labelled items.

    Returns:
        Float32 `[items, outputs]`, or int64 `[items]`.
    """
    if source.task == "single-label" and len(source.class_names) > MANY_CLASSES:
        return source.labels
    return source.targets()


def class_indices(truth: np.ndarray) -> np.ndarray:
    """The class of each sample, int64 `[samples]`, of indices or of one-hot rows."""
    return truth if truth.ndim == 1 else truth.argmax(axis=1)


@dataclass(frozen=True)
class Ranked:
    """The most probable classes of each sample.

    Attributes:
        classes: int64 `[samples, KEPT]`, the most probable first, of equals the first.
        probabilities: Float32 `[samples, KEPT]`, theirs.
    """

    classes: np.ndarray
    probabilities: np.ndarray

    @classmethod
    def of(cls, probabilities: np.ndarray) -> "Ranked":
        """Ranks the classes of each row of float32 `[samples, classes]`."""
        parts = [_ranked(rows) for rows in _rows(probabilities)]
        parts = parts or [_ranked(probabilities)]
        classes, found = (np.concatenate(part) for part in zip(*parts, strict=True))
        return cls(classes, found)


def single_label_of_many(
    probabilities: np.ndarray, true: np.ndarray, info: ModelInfo
) -> dict[str, Any]:
    """Measures a classification into one of more than `MANY_CLASSES` classes.

    The figures are those of `keras_tl.evaluation.metrics.single_label`, but for the matrix, in
    whose place stands:

    - confused: `[true class, predicted class, samples]` of each pair that occurs, the most
      frequent first; a class's own hits are its recall times its support.

    Args:
        probabilities: Float32 `[samples, classes]`.
        true: Class indices, int64 `[samples]`.
        info: The class names.
    """
    classes, predicted = np.arange(len(info.class_names)), probabilities.argmax(axis=1)
    of_true = probabilities[np.arange(len(true)), true]
    precision, recall, f1, support = precision_recall_fscore_support(
        true, predicted, labels=classes, zero_division=0
    )
    average, area = ranking_figures(probabilities, true)
    per_class = {
        name: {
            "precision": float(precision[index]),
            "recall": float(recall[index]),
            "f1": float(f1[index]),
            "support": int(support[index]),
            "average_precision": float(average[index]) if support[index] else None,
        }
        for index, name in enumerate(info.class_names)
    }
    return {
        "loss": float(-np.log(np.clip(of_true, SMALLEST, 1.0)).mean()),
        "accuracy": float((true == predicted).mean()),
        "balanced_accuracy": float(recall[support > 0].mean()),
        "macro_f1": float(f1.mean()),
        "weighted_f1": float(np.average(f1, weights=support)),
        "top5_accuracy": float((rank_of_true(probabilities, true) < 5).mean()),
        "roc_auc": area,
        "per_class": per_class,
        "confused": confused_pairs(true, predicted, info),
    }


def format_confused(pairs: Sequence[Sequence[Any]], per_class: dict[str, Any]) -> str:
    """Lays the confused pairs of many classes out for a terminal.

    Args:
        pairs: `confused` of `single_label_of_many`.
        per_class: Its `per_class`.

    Returns:
        The ten most confused ones.
    """
    if not pairs:
        return "No class was taken for another."
    lines = ["Most often confused (true -> predicted):"]
    for true, predicted, count in pairs[:SHOWN]:
        share = count / per_class[true]["support"]
        lines.append(f"{count:>6}  {true} -> {predicted} ({share:.1%} of {true})")
    return "\n".join(lines)


def ranked_columns(
    probabilities: np.ndarray, truth: np.ndarray | None, info: ModelInfo
) -> dict[str, list]:
    """A table's columns of many classes.

    Args:
        probabilities: Float32 `[samples, classes]`.
        truth: See `class_indices`; None where it is not known.
        info: The class names.

    Returns:
        `true` and its probability `p_true` (where the truth is known), `predicted`, `confidence`,
        and `class_1`, `probability_1` to `class_10`, `probability_10`, the most probable first.
    """
    names = np.array(info.class_names, dtype=object)
    ranked = Ranked.of(probabilities)
    columns: dict[str, list] = {}
    if truth is not None:
        true = class_indices(truth)
        columns["true"] = names[true].tolist()
        columns["p_true"] = probabilities[np.arange(len(true)), true].tolist()
    columns["predicted"] = names[ranked.classes[:, 0]].tolist()
    columns["confidence"] = ranked.probabilities[:, 0].tolist()
    for k in range(ranked.classes.shape[1]):
        columns[f"class_{k + 1}"] = names[ranked.classes[:, k]].tolist()
        columns[f"probability_{k + 1}"] = ranked.probabilities[:, k].tolist()
    return columns


def confused_pairs(true: np.ndarray, predicted: np.ndarray, info: ModelInfo) -> list[list[Any]]:
    """Which class was taken for which: `[true, predicted, samples]`, the most frequent first.

    No more than there are samples; of equals those of the first classes come first.
    """
    wrong = true != predicted
    keys, counts = np.unique(
        true[wrong] * len(info.class_names) + predicted[wrong], return_counts=True
    )
    order = np.argsort(-counts, kind="stable")
    pairs = zip(keys[order].tolist(), counts[order].tolist(), strict=True)
    names, width = info.class_names, len(info.class_names)
    return [[names[key // width], names[key % width], count] for key, count in pairs]


def rank_of_true(probabilities: np.ndarray, true: np.ndarray) -> np.ndarray:
    """How many classes are more probable than the true one: int64 `[samples]`."""
    of_true = probabilities[np.arange(len(true)), true]
    step = _step(probabilities.shape[1])
    parts = [
        (probabilities[at : at + step] > of_true[at : at + step, None]).sum(axis=1)
        for at in range(0, len(true), step)
    ]
    return np.concatenate(parts)


def ranking_figures(probabilities: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, float | None]:
    """Average precision of each class, and the mean area under its ROC curve.

    Each positive sample's probability is compared with all, which with few samples of a class is
    much less than sorting every class; what is equally probable counts as scikit-learn counts it.

    Args:
        probabilities: Float32 `[samples, classes]`.
        true: int64 `[samples]`.

    Returns:
        Float64 `[classes]`, NaN for one that does not occur; the mean over all classes of the area
        of one against the rest, None where a class does not occur or nothing else does.
    """
    samples, classes = probabilities.shape
    order = np.argsort(true, kind="stable")
    starts = np.searchsorted(true[order], np.arange(classes + 1))
    precisions, areas = np.full(classes, np.nan), np.full(classes, np.nan)
    step = _step(samples)
    for first in range(0, classes, step):
        columns = np.ascontiguousarray(probabilities[:, first : first + step].T)
        for c, scores in enumerate(columns, first):
            mine = order[starts[c] : starts[c + 1]]
            if len(mine):
                precisions[c], areas[c] = _of_class(np.sort(scores), np.sort(scores[mine]))
    defined = np.isfinite(areas).all()
    return precisions, float(areas.mean()) if defined else None


def _of_class(scores: np.ndarray, positive: np.ndarray) -> tuple[float, float]:
    """Average precision and area under the ROC curve, of sorted scores."""
    count, hits = len(scores), len(positive)
    above = hits - np.searchsorted(positive, positive, "left")
    taken = count - np.searchsorted(scores, positive, "left")
    precision = float((above / taken).mean())
    if count == hits:
        return precision, float("nan")
    # Of the others, those below and half of those at the same probability.
    below = np.searchsorted(scores, positive, "left") - np.searchsorted(positive, positive, "left")
    up_to = np.searchsorted(scores, positive, "right") - np.searchsorted(
        positive, positive, "right"
    )
    return precision, float((below + up_to).mean() / 2 / (count - hits))


def _ranked(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    kept = min(KEPT, rows.shape[1])
    # Those that might be among the first: `argpartition` says nothing of equals.
    least = -np.partition(-rows, kept - 1, axis=1)[:, kept - 1 : kept]
    classes = np.empty((len(rows), kept), np.int64)
    for i, (row, bound) in enumerate(zip(rows, least[:, 0], strict=True)):
        found = np.flatnonzero(row >= bound)
        classes[i] = found[np.argsort(-row[found], kind="stable")[:kept]]
    return classes, np.take_along_axis(rows, classes, axis=1)


def _rows(probabilities: np.ndarray) -> Iterator[np.ndarray]:
    step = _step(probabilities.shape[1])
    for at in range(0, len(probabilities), step):
        yield probabilities[at : at + step]


def _step(width: int) -> int:
    return max(CHUNK // max(width, 1), 1)
