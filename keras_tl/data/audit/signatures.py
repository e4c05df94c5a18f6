"""Numbers that tell a picture from all others of its data set, however alike they are."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.fft import dctn

# Frequencies of each axis that count for a rough and for a close comparison.
ROUGH, CLOSE = 10, 24
# Weight of the smooth spectrum that is mixed into the measured covariance, in images.
PRIOR_IMAGES = 50
# Noise that re-encoding adds to each wave, as a share of the data set's variance: waves that vary
# less are no evidence.
NOISE = 5e-5


def spectrum(pictures: np.ndarray) -> np.ndarray:
    """The cosine transform of pictures, without the mean, scaled to length 1.

    Args:
        pictures: Float32 `[pictures, 32, 32]`.

    Returns:
        Float32 `[pictures, 575]`: 24 x 24 frequencies without the first, row by row.
    """
    waves = dctn(pictures, axes=(1, 2), norm="ortho")[:, :CLOSE, :CLOSE]
    return _unit(waves.reshape(len(pictures), -1)[:, 1:].astype(np.float32))


def mirrored(waves: np.ndarray) -> np.ndarray:
    """The spectra of the same pictures seen in a mirror: odd waves along a row change sign."""
    return waves * _MIRROR


@dataclass(frozen=True)
class Moments:
    """What a data set's spectra are like together.

    Attributes:
        count: How many there are.
        mean: Float64 `[575]`.
        products: Float64 `[575, 575]`, the mean product of each two waves.
    """

    count: int
    mean: np.ndarray
    products: np.ndarray


def moments(parts: Iterable[np.ndarray]) -> Moments:
    """Looks at spectra once, some at a time.

    Args:
        parts: What `spectrum` gave, at least one in all.

    Returns:
        Their moments.
    """
    count, total, products = 0, np.zeros(CLOSE * CLOSE - 1), np.zeros((CLOSE * CLOSE - 1,) * 2)
    for waves in parts:
        count += len(waves)
        total += waves.sum(axis=0, dtype=np.float64)
        products += waves.T @ waves
    return Moments(count, total / count, products / count)


class Whitening:
    """Turns spectra into signatures in which what a data set's images share counts little.

    Photographs of one kind of thing are alike: two solar cells correlate with 0.99. So spectra
    are centred and whitened by the data set's own covariance, as linear discriminant analysis
    does. A copy repeats what is peculiar to an image; another image does not. The covariance is
    shrunk towards a diagonal one, the same for all waves of one length (the idea of Ledoit and
    Wolf, "A well-conditioned estimator for large-dimensional covariance matrices", Journal of
    Multivariate Analysis 88, 2004; the weight here is fixed), so that it works for few images too.

    Args:
        seen: The moments of the data set's spectra.
        frequencies: How many of each axis count, `ROUGH` or `CLOSE`.
    """

    def __init__(self, seen: Moments, frequencies: int):
        row, column = np.divmod(np.arange(1, CLOSE * CLOSE), CLOSE)
        self._chosen = np.flatnonzero((row < frequencies) & (column < frequencies))
        lengths = np.rint(np.hypot(row, column)).astype(np.int64)[self._chosen]
        prior = PRIOR_IMAGES / (seen.count + PRIOR_IMAGES)
        mean = seen.mean[self._chosen]
        # Around the mean that is subtracted, which the prior pulls towards 0.
        covariance = seen.products[np.ix_(self._chosen, self._chosen)]
        covariance = covariance - (1 - prior**2) * np.outer(mean, mean)
        self._mean = ((1 - prior) * mean).astype(np.float32)
        of_length = np.bincount(lengths, np.diag(covariance))
        smooth = of_length / np.maximum(np.bincount(lengths), 1)
        covariance = (1 - prior) * covariance + prior * np.diag(smooth[lengths])
        noise = NOISE * np.trace(covariance)
        variances, axes = np.linalg.eigh(covariance)
        self._matrix = (axes / np.sqrt(np.maximum(variances, 0) + noise)).astype(np.float32)

    def __call__(self, waves: np.ndarray) -> np.ndarray:
        """The signatures, float32 of length 1: their scalar product is the similarity."""
        return _unit((waves[:, self._chosen] - self._mean) @ self._matrix)


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)


_MIRROR = np.tile(1 - 2 * (np.arange(CLOSE) % 2), CLOSE)[1:].astype(np.float32)
