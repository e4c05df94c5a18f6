"""Wilson's interval of shares, which holds near 0 and 1 too, where resamples all agree.

References: Wilson, JASA 22, 1927; recommended by Brown, Cai and DasGupta, "Interval Estimation for
a Binomial Proportion", Statistical Science 16, 2001.
"""

from typing import Any

import numpy as np
from scipy import sparse

Z95 = 1.96
# Shares of so many columns are computed at once.
COLUMNS = 256


def wilson(
    hits: Any, counted: Any, groups: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The 95 % intervals of shares.

    Samples in groups count as the number of independent ones that would give the share the
    variance it has over groups (Kish, "Survey Sampling", 1965).

    Args:
        hits: Zeros and ones `[samples, shares]`, an array or a SciPy sparse one.
        counted: Zeros and ones of the same kind and shape: the samples that each share is of.
        groups: int64 `[samples]`, the group of each, counted from 0.

    Returns:
        Lower and upper bounds, float64 `[shares]`; NaN where a share is of nothing.
    """
    found = [
        _of_columns(_part(hits, first), _part(counted, first), groups)
        for first in range(0, hits.shape[1], COLUMNS)
    ]
    low, high = np.concatenate(found, axis=1)
    return low, high


def _part(values: Any, first: int) -> Any:
    part = values[:, first : first + COLUMNS]
    return sparse.csr_array(part).astype(np.float64)


def _of_columns(hits: Any, counted: Any, groups: np.ndarray | None) -> np.ndarray:
    found, count = (np.asarray(values.sum(axis=0)).ravel() for values in (hits, counted))
    count = np.where(count > 0, count, np.nan)
    share = found / count
    if groups is not None:
        count = np.clip(_independent(hits, counted, share, count, groups), 1.0, count)
    middle = share + Z95**2 / (2 * count)
    half = Z95 * np.sqrt(share * (1 - share) / count + Z95**2 / (4 * count**2))
    scale = 1 + Z95**2 / count
    low, high = (middle - half) / scale, (middle + half) / scale
    # Of all or nothing the share is its own bound, but for rounding.
    return np.stack([np.clip(low, 0.0, share), np.clip(high, share, 1.0)])


def _independent(
    hits: Any, counted: Any, share: np.ndarray, count: np.ndarray, groups: np.ndarray
) -> np.ndarray:
    """How many independent samples each share is worth."""
    members = sparse.csr_array((np.ones(len(groups)), (groups, np.arange(len(groups)))))
    of_hits, of_counted = ((members @ values).toarray() for values in (hits, counted))
    variance = ((of_hits - share * of_counted) ** 2).sum(axis=0) / count**2
    several = (of_counted > 0).sum(axis=0).astype(np.float64)
    return np.divide(share * (1 - share), variance, out=several, where=variance > 0)
