"""Strata of labelled items, and how many items of each go to train, val and test."""

from collections import Counter

import numpy as np

from keras_tl.data.targets import standardised

# A combination of labels that fewer items share is stratified by its rarest label instead.
RARE_COMBINATION = 10
REGRESSION_BINS = 10

# Shares such as 20 * 0.15 should not be rounded up for their last binary digit.
_TOLERANCE = 1e-9


def strata(labels: np.ndarray, task: str) -> np.ndarray:
    """Numbers the strata that labels fall into.

    Args:
        labels: The labels of a `Source`, at least one.
        task: "single-label" (a stratum is a class), "multi-label" (a combination of labels; one
            that fewer than `RARE_COMBINATION` items share counts as its rarest label) or
            "regression" (a quantile bin of the mean of the standardised targets).

    Returns:
        int64 `[items]`, numbered from 0 without gaps.
    """
    if task == "multi-label":
        keys = _combinations(labels)
    elif task == "regression":
        keys = _quantile_bins(labels)
    else:
        keys = labels
    return np.unique(keys, return_inverse=True)[1]


def quotas(
    sizes: np.ndarray, val_fraction: float, test_fraction: float, rng: np.random.Generator
) -> np.ndarray:
    """Computes how many items of each stratum go to train, val and test.

    It rounds twice, first what is held out, then the test part of that, so that each count is
    within one item of its share and the totals are the rounded totals. Before that, a stratum of
    two items has one in test and of three or more one in val too; one always stays in train.

    Args:
        sizes: int64 `[strata]`, how many items each stratum has, at least 1.
        val_fraction: Share of val, in [0, 1).
        test_fraction: Share of test, in [0, 1).
        rng: Decides between equal remainders.

    Returns:
        int64 `[strata, 3]`: train, val, test.
    """
    val, test = sizes * val_fraction, sizes * test_fraction
    least_test = ((sizes > 1) & (test_fraction > 0)).astype(np.int64)
    least_val = ((sizes > 1 + least_test) & (val_fraction > 0)).astype(np.int64)
    val_low, val_high = _bounds(val, least_val)
    test_low, test_high = _bounds(test, least_test)
    # One stays for the other part and for train, too.
    val_low = np.minimum(val_low, sizes - 1 - least_test)
    test_low = np.minimum(test_low, sizes - 1 - least_val)
    low, high = _bounds(val + test, val_low + test_low)
    held = _round(val + test, np.minimum(low, sizes - 1), np.minimum(high, sizes - 1), rng)
    low = np.minimum(np.maximum(test_low, held - val_high), held)
    high = np.maximum(np.minimum(test_high, held - val_low), low)
    tested = _round(test, low, high, rng)
    return np.stack((sizes - held, held - tested, tested), axis=1)


def _bounds(shares: np.ndarray, least: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The shares rounded down and up, neither below `least`."""
    low = np.maximum(np.floor(shares + _TOLERANCE).astype(np.int64), least)
    return low, np.maximum(np.ceil(shares - _TOLERANCE).astype(np.int64), low)


def _round(
    shares: np.ndarray, low: np.ndarray, high: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """The low numbers, those with the largest remainders raised by one.

    Enough are raised to bring the sum to the rounded sum of the shares, as far as `high` allows.
    """
    missing = round(float(shares.sum())) - int(low.sum())
    order = rng.permutation(len(shares))
    order = order[np.argsort(low[order] - shares[order], kind="stable")]
    raisable = order[high[order] > low[order]]
    counts = low.copy()
    counts[raisable[: max(missing, 0)]] += 1
    return counts


def _combinations(labels: np.ndarray) -> np.ndarray:
    """Combinations of labels as text keys, rare ones replaced by their rarest label."""
    frequency = labels.sum(axis=0)
    rows = [np.flatnonzero(row) for row in labels]
    common = Counter(row.tobytes() for row in rows)
    keys = []
    for row in rows:
        rare = len(row) > 1 and common[row.tobytes()] < RARE_COMBINATION
        kept = row[[frequency[row].argmin()]] if rare else row
        keys.append(" ".join(map(str, kept)))
    return np.array(keys)


def _quantile_bins(values: np.ndarray) -> np.ndarray:
    """Bins of about equal size along the mean of the standardised targets."""
    score = standardised(values).mean(axis=1)
    bins = min(REGRESSION_BINS, max(len(values) // REGRESSION_BINS, 1))
    edges = np.unique(np.quantile(score, np.arange(1, bins) / bins))
    return np.digitize(score, edges)
