"""Scores of features in closed form: how much they say about labels, without fitting a head."""

import numpy as np
from sklearn.covariance import ledoit_wolf_shrinkage

# LogME's alternation converges in a handful of steps.
MAX_STEPS = 100
TOLERANCE = 1e-4
TINY = 1e-12
# What keeps a covariance with dead features invertible.
LEAST_SHARE = 1e-6


def h_score(features: np.ndarray, labels: np.ndarray) -> float:
    """How far apart class means lie, measured by the spread of the features.

    Bao et al., "An Information-Theoretic Approach to Transferability in Task Transfer Learning"
    (ICIP 2019): tr(cov(f)^-1 cov(E[f|y])). The covariance of many features and few items is
    shrunk towards a multiple of the identity by Ledoit and Wolf's share a, and the means' by
    1 - a, as Ibrahim et al. found necessary ("Newer is not always better", ECML PKDD 2022).

    Args:
        features: Float `[items, features]`.
        labels: Classes, int64 `[items]`.

    Returns:
        From 0 to the number of classes less one; more is better.
    """
    centred = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
    count, width = centred.shape
    share = max(float(ledoit_wolf_shrinkage(centred, assume_centered=True)), LEAST_SHARE)
    covariance = centred.T @ centred / count
    level = max(float(np.trace(covariance)) / width, TINY)
    shrunk = (1 - share) * covariance + share * level * np.eye(width)
    weighted = np.stack(
        [
            np.sqrt((labels == label).mean()) * centred[labels == label].mean(axis=0)
            for label in np.unique(labels)
        ]
    )
    return float((1 - share) * (weighted.T * np.linalg.solve(shrunk, weighted.T)).sum())


def log_me(features: np.ndarray, targets: np.ndarray) -> float:
    """The log evidence of the targets under a Bayesian linear model, by item.

    You et al., "LogME: Practical Assessment of Pre-trained Models for Transfer Learning" (ICML
    2021): each target column is linear in the features, with a Gaussian prior on the weights and
    Gaussian noise, whose two precisions are those that make the evidence largest (MacKay,
    "Bayesian Interpolation", Neural Computation 4, 1992).

    Args:
        features: Float `[items, features]`.
        targets: Float `[items, outputs]`: one-hot classes, labels, or values. Outputs that are 0 in
            all items, such as classes without any, do not count: there is nothing to explain.

    Returns:
        The mean over outputs of log evidence / items; more is better. It has the unit of the
        targets: compare it between features of the same items only.
    """
    x, y = features.astype(np.float64), targets.astype(np.float64)
    y = y[:, y.any(axis=0)] if y.any() else y
    squares, along = _principal(x, y)
    totals = (y**2).sum(axis=0)
    found = [
        _log_evidence(a, squares, float(total), x.shape)
        for a, total in zip(along.T, totals, strict=True)
    ]
    return float(np.mean(found))


def _principal(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Squared singular values `[k]` of x, and y along its left singular vectors `[k, outputs]`.

    By way of the smaller Gram matrix, several times as fast as a singular value decomposition.
    """
    if len(x) <= x.shape[1]:
        squares, left = np.linalg.eigh(x @ x.T)
        along = left.T @ y
    else:
        squares, right = np.linalg.eigh(x.T @ x)
        along = right.T @ (x.T @ y) / np.sqrt(np.maximum(squares, TINY))[:, None]
    # What is below rounding is not a direction of x at all.
    kept = squares > squares.max() * max(x.shape) * np.finfo(np.float64).eps
    return squares[kept], along[kept]


def _log_evidence(
    along: np.ndarray, squares: np.ndarray, total: float, shape: tuple[int, ...]
) -> float:
    """Log evidence per item, the precisions found by fixed-point steps.

    Args:
        along: `[k]`: the target along the left singular vectors of the features.
        squares: `[k]`: squared singular values, all above 0.
        total: The target's squared length.
        shape: Items and features.
    """
    count, width = shape
    alpha = beta = 1.0
    outside = max(total - float((along**2).sum()), 0.0)
    for _ in range(MAX_STEPS):
        weights, residual = _fit(along, squares, outside, alpha / beta)
        used = float((squares / (squares + alpha / beta)).sum())
        new_alpha = max(used, TINY) / max(weights, TINY)
        new_beta = max(count - used, TINY) / max(residual, TINY)
        ratio = new_alpha / new_beta
        settled = abs(ratio - alpha / beta) <= TOLERANCE * (alpha / beta)
        alpha, beta = new_alpha, new_beta
        if settled:
            break
    weights, residual = _fit(along, squares, outside, alpha / beta)
    determinant = float(np.log(alpha + beta * squares).sum())
    determinant += (width - len(squares)) * np.log(alpha)
    evidence = width * np.log(alpha) + count * np.log(beta) - determinant
    evidence += -beta * residual - alpha * weights - count * np.log(2 * np.pi)
    return float(evidence / 2 / count)


def _fit(
    along: np.ndarray, squares: np.ndarray, outside: float, ratio: float
) -> tuple[float, float]:
    """Squared length of the weights, and of the residuals, of ridge regression."""
    weights = squares * along**2 / (squares + ratio) ** 2
    residual = (ratio * along / (squares + ratio)) ** 2
    return float(weights.sum()), float(residual.sum()) + outside
