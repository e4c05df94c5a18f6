"""Figures and tables of exclusive classes of which there are very many.

With ten thousand classes, a table with a column for each or a matrix of all has gigabytes, and
nobody reads it. With more than `MANY_CLASSES`, only each sample's ten most probable classes and the
pairs that were confused are kept; every figure is still of all classes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import precision_recall_fscore_support

from keras_tl.data.source import Source
from keras_tl.evaluation.class_figures import class_figures, confused_pairs, overall_figures
from keras_tl.model_info import ModelInfo

# From more on, tables hold the `KEPT` most probable ones.
MANY_CLASSES, KEPT = 200, 10
# Probabilities that are looked at together.
CHUNK = 4_000_000


def has_many(info: ModelInfo) -> bool:
    """Whether a model has more than `MANY_CLASSES` exclusive classes."""
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
    scores = precision_recall_fscore_support(true, predicted, labels=classes, zero_division=0)
    average, area = ranking_figures(probabilities, true)
    per_class = {
        name: class_figures(*(score[index] for score in scores))
        | {"average_precision": None if np.isnan(average[index]) else float(average[index])}
        for index, name in enumerate(info.class_names)
    }
    return {
        **overall_figures(of_true, true == predicted, *scores[1:]),
        "top5_accuracy": top5_accuracy(probabilities, true),
        "roc_auc": area,
        "per_class": per_class,
        "confused": confused_pairs(true, predicted, info.class_names),
    }


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


def top5_accuracy(probabilities: np.ndarray, true: np.ndarray) -> float:
    """The share of samples whose true class is among the five most probable.

    Of equally probable classes the first ones are, as in `Ranked`.
    """
    classes = np.arange(probabilities.shape[1])
    step, right = _step(len(classes)), 0
    for at in range(0, len(true), step):
        rows, chosen = probabilities[at : at + step], true[at : at + step, None]
        of_true = np.take_along_axis(rows, chosen, axis=1)
        before = (rows > of_true) | ((rows == of_true) & (classes < chosen))
        right += int((before.sum(axis=1) < 5).sum())
    return right / len(true)


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
    # All that share the last place, too: of equals `argpartition` would take any.
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
