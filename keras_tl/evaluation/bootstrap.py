"""Intervals of figures by resampling the images they were measured on, and paired comparisons.

The percentile bootstrap (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, ch. 13):
images are drawn with replacement, as many as there are, the figure is computed again, and of many
such figures the middle 95 % are the interval. Images that belong to one group (a patient) are
drawn together, since they say the same thing more than once. An interval says how far the figure
might lie on other images of the same kind; it knows nothing of other seeds or splits. Shares have
Wilson's interval instead: where all images are right, so they are in every resample.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.stats import binomtest

from keras_tl.evaluation.wilson import wilson

RESAMPLES = 1000
LEVEL = 0.95
# Weights of so many images are held at once.
CHUNK = 4_000_000
# Figures of so many classes are resampled at once.
CLASSES = 256


@dataclass(frozen=True)
class Intervals:
    """Bounds of a figure or of several.

    Attributes:
        low: Lower bounds, float64, of the figures' shape; NaN where a figure is never defined.
        high: Upper bounds.
    """

    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True)
class Difference:
    """What a second model does better than a first one on the same images.

    Attributes:
        value: Mean of second minus first.
        low: Lower bound of its interval.
        high: Upper bound.
    """

    value: float
    low: float
    high: float


def resamples(
    samples: int, *, groups: np.ndarray | None = None, count: int = RESAMPLES
) -> Iterator[np.ndarray]:
    """Draws samples with replacement, many times, the same ones in every call.

    Args:
        samples: How many there are, at least 1.
        groups: int64 `[samples]`, the group of each, counted from 0; None draws them singly.
        count: How many times.

    Yields:
        Chunks int64 `[resamples, samples]`: how often each sample was drawn. Their rows are
        `count` in all.
    """
    random = np.random.default_rng(0)
    units = samples if groups is None else int(groups.max()) + 1
    rows = max(1, CHUNK // max(samples, units))
    for first in range(0, count, rows):
        chunk = min(rows, count - first)
        drawn = random.integers(0, units, (chunk, units)) + units * np.arange(chunk)[:, None]
        times = np.bincount(drawn.ravel(), minlength=chunk * units).reshape(chunk, units)
        yield times if groups is None else times[:, groups]


def intervals(figures: np.ndarray, level: float = LEVEL) -> Intervals:
    """The middle part of resampled figures.

    Args:
        figures: Float64 `[resamples, ...]`; NaN where a figure was not defined.
        level: The share of the resamples inside, in (0, 1).

    Returns:
        Bounds of shape `[...]`, over the resamples in which the figure is defined.
    """
    never = np.isnan(figures).all(axis=0)
    known = np.where(never, 0.0, figures)
    low, high = np.nanquantile(known, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return Intervals(np.where(never, np.nan, low), np.where(never, np.nan, high))


def classification_intervals(
    present: np.ndarray,
    chosen: np.ndarray,
    *,
    groups: np.ndarray | None = None,
    count: int = RESAMPLES,
) -> dict[str, Intervals]:
    """Intervals of the figures of a classification.

    Args:
        present: Bool `[samples, classes]`, the truth; of one class for each sample, one-hot. It
            and `chosen` may be SciPy's sparse arrays.
        chosen: Bool `[samples, classes]`, what was decided.
        groups: See `resamples`.
        count: See `resamples`.

    Returns:
        Of each class, `[classes]`: "precision" (not defined where the class was not chosen),
        "recall" (nor where it does not occur), both Wilson's, see `keras_tl.evaluation.wilson`,
        and "f1" (not defined in a resample with neither). Overall, scalars: "accuracy" (share of
        samples with every class right; Wilson's), "balanced_accuracy" (mean recall of the classes
        that occur) and "macro_f1" (a class neither true nor chosen in any sample counts 0; one
        that only a resample lacks is left out of that resample's mean).
    """
    true, taken = (sparse.csr_array(values).astype(np.int64) for values in (present, chosen))
    hits = true.multiply(taken)
    samples, classes = true.shape
    # A sample is right where all of its classes were chosen, and no other.
    right = (hits.sum(axis=1) == true.sum(axis=1)) & (hits.sum(axis=1) == taken.sum(axis=1))
    done = 0
    drawn = np.empty((3, count, classes), np.int32)
    for times in resamples(samples, groups=groups, count=count):
        for place, matrix in zip(drawn, (hits, true, taken), strict=True):
            place[done : done + len(times)] = (matrix.T @ times.T).T
        done += len(times)
    of_classes: list[Intervals] = []
    recalls, f1s, known = np.zeros(count), np.zeros(count), np.zeros(count)
    for first in range(0, classes, CLASSES):
        hit, of_true, of_taken = drawn[:, :, first : first + CLASSES].astype(np.float64)
        f1 = _ratio(2 * hit, of_true + of_taken)
        of_classes.append(intervals(f1))
        recalls += np.nansum(_ratio(hit, of_true), axis=1)
        f1s += np.nansum(f1, axis=1)
        known += (~np.isnan(f1)).sum(axis=1)
    occurs = np.maximum((drawn[1] > 0).sum(axis=1), 1)
    anywhere = float((true.sum(axis=0) + taken.sum(axis=0) > 0).mean())
    macro = f1s / np.maximum(known, 1) * anywhere
    low, high = wilson(right[:, None], np.ones((samples, 1)), groups)
    return {
        "precision": Intervals(*wilson(hits, taken, groups)),
        "recall": Intervals(*wilson(hits, true, groups)),
        "f1": _joined(of_classes),
        "accuracy": Intervals(low[0], high[0]),
        "balanced_accuracy": intervals(recalls / occurs),
        "macro_f1": intervals(np.where(known > 0, macro, np.nan)),
    }


def _joined(parts: list[Intervals]) -> Intervals:
    """The intervals of all classes."""
    lows, highs = [part.low for part in parts], [part.high for part in parts]
    return Intervals(np.concatenate(lows), np.concatenate(highs))


def ranking_intervals(
    present: np.ndarray,
    scores: np.ndarray,
    *,
    groups: np.ndarray | None = None,
    count: int = RESAMPLES,
) -> dict[str, Intervals]:
    """Intervals of the figures of a classification that no threshold decides.

    Args:
        present: Bool `[samples, classes]`, the truth.
        scores: Float `[samples, classes]`, higher for what is likelier present.
        groups: See `resamples`.
        count: See `resamples`.

    Returns:
        "average_precision" of each class, `[classes]` (not defined in a resample in which it does
        not occur), and scalars: "mean_average_precision", over the classes that occur, and
        "roc_auc", the mean of each class against the rest, not defined in a resample that lacks
        a class or has nothing else. All as in scikit-learn: what scores the same is taken at once.
    """
    rows = [
        np.stack(
            [
                resampled_ranking(times, *pair)
                for pair in zip(present.T, np.transpose(scores), strict=True)
            ],
            axis=1,
        )
        for times in resamples(len(scores), groups=groups, count=count)
    ]
    areas, precisions = np.moveaxis(np.concatenate(rows), -1, 0)
    occurs = np.maximum((~np.isnan(precisions)).sum(axis=1), 1)
    return {
        "average_precision": intervals(precisions),
        "mean_average_precision": intervals(np.nansum(precisions, axis=1) / occurs),
        "roc_auc": intervals(areas.mean(axis=1)),
    }


def regression_intervals(
    true: np.ndarray,
    predicted: np.ndarray,
    *,
    groups: np.ndarray | None = None,
    count: int = RESAMPLES,
) -> dict[str, Intervals]:
    """Intervals of the figures of a regression.

    Args:
        true: Float `[samples, targets]`.
        predicted: Float `[samples, targets]`.
        groups: See `resamples`.
        count: See `resamples`.

    Returns:
        Of each target, `[targets]`: "mae", "rmse", "r2" (1 - squared errors / squared distances
        from the mean; not defined in a resample that does not vary) and "spearman" (the
        correlation of ranks; nor defined where the predictions do not vary).
    """
    # Around the middle: squares of large values would lose the digits that vary.
    true = np.asarray(true, np.float64)
    errors = np.asarray(predicted, np.float64) - true
    centred = true - true.mean(axis=0)
    rows: list[tuple[np.ndarray, ...]] = []
    for times in resamples(len(true), groups=groups, count=count):
        share = times / times.sum(axis=1, keepdims=True)
        sums = (np.abs(errors), errors**2, centred, centred**2)
        ranks = [
            _spearman(times, *pair) for pair in zip(true.T, np.transpose(predicted), strict=True)
        ]
        rows.append((*(share @ values for values in sums), np.stack(ranks, axis=1)))
    absolute, squared, mean, square, spearman = (
        np.concatenate(parts) for parts in zip(*rows, strict=True)
    )
    spread = square - mean**2
    # What is left of a constant target is rounding.
    spread = np.where(spread > 1e-12 * np.maximum(square, 1e-300), spread, 0.0)
    figures = {
        "mae": absolute,
        "rmse": np.sqrt(squared),
        "r2": 1.0 - _ratio(squared, spread),
        "spearman": spearman,
    }
    return {name: intervals(values) for name, values in figures.items()}


def paired_difference(
    first: np.ndarray,
    second: np.ndarray,
    *,
    groups: np.ndarray | None = None,
) -> Difference:
    """The difference of two means over the same samples, which are drawn together.

    Args:
        first: A score of each sample (1 where it is right, an absolute error), `[samples]`.
        second: The other model's, in the same order.
        groups: See `resamples`.

    Returns:
        Second minus first, with its interval.
    """
    gain = np.asarray(second, np.float64) - np.asarray(first, np.float64)
    chunks = resamples(len(gain), groups=groups)
    found = intervals(np.concatenate([times @ gain / times.sum(axis=1) for times in chunks]))
    return Difference(float(gain.mean()), float(found.low), float(found.high))


def mcnemar(first_right: np.ndarray, second_right: np.ndarray) -> float:
    """The exact McNemar test of two classifiers (Psychometrika 12, 1947).

    Only samples that one has right and the other wrong tell them apart. Were both as good, these
    would fall to either side like coins.

    Args:
        first_right: Bool `[samples]`.
        second_right: Bool `[samples]`, in the same order.

    Returns:
        The two-sided probability of sides at least as uneven, in [0, 1]; 1 where they never
        differ.
    """
    only_first = int((first_right & ~second_right).sum())
    only_second = int((~first_right & second_right).sum())
    if not only_first + only_second:
        return 1.0
    return float(binomtest(only_first, only_first + only_second, 0.5).pvalue)


def resampled_ranking(times: np.ndarray, positive: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The area under the ROC curve and the average precision in each resample.

    Args:
        times: How often each sample was drawn, int64 `[resamples, samples]`.
        positive: Bool `[samples]`, the truth.
        scores: Float `[samples]`, higher for what is likelier positive; what scores the same is
            taken at once.

    Returns:
        Float64 `[resamples, 2]`: area and average precision; NaN for an area without positives or
        without negatives, and for a precision without positives.
    """
    order = np.argsort(-scores, kind="stable")
    last_of_score = np.flatnonzero(np.r_[np.diff(scores[order]) != 0, True])
    drawn = times[:, order]
    hits = np.cumsum(drawn * positive[order], axis=1)[:, last_of_score]
    alarms = np.cumsum(drawn * ~positive[order], axis=1)[:, last_of_score]
    found, raised = np.diff(hits, prepend=0), np.diff(alarms, prepend=0)
    area = (raised * (hits - found / 2)).sum(axis=1)
    precision = hits / np.maximum(hits + alarms, 1)
    positives, negatives = (values[:, -1].astype(np.float64) for values in (hits, alarms))
    average = _ratio((found * precision).sum(axis=1), positives)
    return np.stack([_ratio(area, positives * negatives), average], axis=1)


def _spearman(times: np.ndarray, true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """The correlation of ranks in each resample: float64 `[resamples]`."""
    share = times / times.sum(axis=1, keepdims=True)
    centred = []
    for values in (true, predicted):
        ranks = _ranks(times, values)
        centred.append(ranks - (share * ranks).sum(axis=1, keepdims=True))
    first, second = centred
    spread = (share * first**2).sum(axis=1) * (share * second**2).sum(axis=1)
    # What is left of equal ranks is rounding.
    spread = np.where(spread > 1e-9, spread, 0.0)
    return _ratio((share * first * second).sum(axis=1), np.sqrt(spread))


def _ranks(times: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Ranks in each resample, those of equal values averaged: float64 `[resamples, samples]`."""
    order = np.argsort(values, kind="stable")
    _, first, place = np.unique(values[order], return_index=True, return_inverse=True)
    drawn = np.add.reduceat(times[:, order], first, axis=1)
    ranks = np.empty(times.shape)
    ranks[:, order] = (np.cumsum(drawn, axis=1) - drawn / 2)[:, place]
    return ranks


def _ratio(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """The quotient, NaN where there is nothing to divide by."""
    return np.divide(top, bottom, out=np.full(top.shape, np.nan), where=bottom > 0)
