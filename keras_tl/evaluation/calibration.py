"""Whether probabilities mean what they say, and one number that mends them.

Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", ICML 2017: networks
are too sure; dividing the logits by one temperature, fitted on data that did not train the model,
mends most of it and changes no decision of a softmax.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from keras_tl.evaluation.class_figures import EPSILON, log_loss

BINS = 15
FOLDS = 5
# Temperatures that are looked through.
COLDEST, HOTTEST = 0.05, 20.0


@dataclass(frozen=True)
class Reliability:
    """Confidence against success, bin by bin.

    Attributes:
        count: Decisions in each bin, int64 `[bins]`.
        confidence: Their mean probability, float64 `[bins]`; NaN in an empty bin.
        share: The share of them that came true, float64 `[bins]`; NaN in an empty bin.
        error: The expected calibration error: the mean over decisions of their bin's
            |share - confidence|, in [0, 1].
    """

    count: np.ndarray
    confidence: np.ndarray
    share: np.ndarray
    error: float


def reliability(probabilities: np.ndarray, came_true: np.ndarray, bins: int = BINS) -> Reliability:
    """Sorts decisions by their probability into bins of equal width.

    Args:
        probabilities: Float `[decisions]` in [0, 1], at least one.
        came_true: Bool `[decisions]`.
        bins: How many bins; bin k holds k/bins <= p < (k+1)/bins, the last one also 1.

    Returns:
        The bins and the expected calibration error.
    """
    place = np.minimum((np.asarray(probabilities) * bins).astype(np.int64), bins - 1)
    count = np.bincount(place, minlength=bins)
    total = np.maximum(count, 1)
    confidence = np.bincount(place, weights=probabilities, minlength=bins) / total
    share = np.bincount(place, weights=came_true, minlength=bins) / total
    error = float((np.abs(share - confidence) * count).sum() / count.sum())
    empty = count == 0
    return Reliability(
        count,
        np.where(empty, np.nan, confidence),
        np.where(empty, np.nan, share),
        error,
    )


def decisions(
    probabilities: np.ndarray, present: np.ndarray, multi_label: bool
) -> tuple[np.ndarray, np.ndarray]:
    """What `reliability` takes of a classification.

    Args:
        probabilities: Float `[samples, classes]`.
        present: Bool `[samples, classes]`, the truth.
        multi_label: Whether each class is a decision of its own.

    Returns:
        Single-label: the largest probability of each sample and whether its class is the true
        one. Multi-label: the probability of every class of every sample and whether it is there.
    """
    if multi_label:
        return probabilities.ravel(), present.ravel()
    rows, chosen = np.arange(len(probabilities)), probabilities.argmax(axis=1)
    return probabilities[rows, chosen], present[rows, chosen]


def with_temperature(
    probabilities: np.ndarray, temperature: float, multi_label: bool
) -> np.ndarray:
    """Probabilities after dividing their logits by a temperature.

    Args:
        probabilities: Float `[samples, classes]` in [0, 1]; of a softmax (rows add up to 1), or
            of sigmoids where `multi_label`.
        temperature: Above 0; more than 1 makes less sure.
        multi_label: Whether each class is a decision of its own.

    Returns:
        Float64 `[samples, classes]`.
    """
    logits = _logits(probabilities, multi_label) / temperature
    if multi_label:
        return 1.0 / (1.0 + np.exp(-logits))
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def negative_log_likelihood(
    probabilities: np.ndarray, present: np.ndarray, multi_label: bool
) -> float:
    """Mean of -ln(probability of the truth), at least 1e-7 each.

    Args:
        probabilities: Float `[samples, classes]`.
        present: Bool `[samples, classes]`, the truth.
        multi_label: Whether each class is a decision of its own.
    """
    if multi_label:
        of_truth = np.where(present, probabilities, 1.0 - probabilities)
    else:
        of_truth = np.where(present, probabilities, 0.0).sum(axis=1)
    return log_loss(of_truth)


def fit_temperature(probabilities: np.ndarray, present: np.ndarray, multi_label: bool) -> float:
    """Finds the temperature with the smallest negative log-likelihood.

    Args:
        probabilities: Float `[samples, classes]`, of data that did not train the model.
        present: Bool `[samples, classes]`, the truth.
        multi_label: Whether each class is a decision of its own.

    Returns:
        A temperature between 0.05 and 20.
    """
    logits = _logits(probabilities, multi_label)

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        if multi_label:
            return float(np.logaddexp(0.0, np.where(present, -scaled, scaled)).mean())
        return float((logsumexp(scaled, axis=1) - scaled[present]).mean())

    bounds = (float(np.log(COLDEST)), float(np.log(HOTTEST)))
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x))


def cross_fitted(
    probabilities: np.ndarray,
    present: np.ndarray,
    multi_label: bool,
    *,
    groups: np.ndarray | None = None,
) -> tuple[np.ndarray, float]:
    """Scales each fifth of the samples by a temperature fitted on the other four.

    So no sample is judged by a temperature that has seen it.

    Args:
        probabilities: Float `[samples, classes]`, at least two samples (or groups).
        present: Bool `[samples, classes]`, the truth.
        multi_label: Whether each class is a decision of its own.
        groups: int64 `[samples]` counted from 0; a group is never divided. None: each its own.

    Returns:
        The scaled probabilities, and the geometric mean of the temperatures.
    """
    groups = np.arange(len(probabilities)) if groups is None else groups
    units = int(groups.max()) + 1
    fold = (np.random.default_rng(0).permutation(units) % min(FOLDS, units))[groups]
    scaled, logs = np.empty(probabilities.shape, np.float64), []
    for k in range(int(fold.max()) + 1):
        held_out = fold == k
        temperature = fit_temperature(probabilities[~held_out], present[~held_out], multi_label)
        scaled[held_out] = with_temperature(probabilities[held_out], temperature, multi_label)
        logs.append(np.log(temperature))
    return scaled, float(np.exp(np.mean(logs)))


def _logits(probabilities: np.ndarray, multi_label: bool) -> np.ndarray:
    """Logits of probabilities; those of a softmax up to a constant for each sample."""
    kept = np.clip(np.asarray(probabilities, np.float64), EPSILON, 1.0)
    if not multi_label:
        return np.log(kept)
    return np.log(kept) - np.log(np.clip(1.0 - np.asarray(probabilities), EPSILON, 1.0))
