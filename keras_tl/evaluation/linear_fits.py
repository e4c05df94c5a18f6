"""Linear layers fitted to features: logistic regression for classes, ridge regression else."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from keras_tl.evaluation.class_figures import log_loss

# An L-BFGS that stops here is near enough: the penalty, not the last digit, decides.
MAX_STEPS = 200
TOLERANCE = 1e-3
# One of this many folds of the training items chooses the penalty.
INNER_FOLDS = 5

# From standardised features of other items, float32 `[others, features]`, to their outputs.
Predict: TypeAlias = Callable[[np.ndarray], np.ndarray]


def deal(strata: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Deals items out to folds, stratum by stratum.

    Args:
        strata: int64 `[items]`.
        folds: How many folds.
        seed: Decides who goes where.

    Returns:
        int64 `[items]`: each item's fold. Each fold has each stratum's share within one item.
    """
    order = np.random.default_rng(seed).permutation(len(strata))
    order = order[np.argsort(strata[order], kind="stable")]
    fold_of = np.empty(len(strata), np.int64)
    fold_of[order] = np.arange(len(strata)) % folds
    return fold_of


def deal_groups(strata: np.ndarray, groups: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Deals items out to folds, stratum by stratum; divides no group and leaves no fold empty.

    Groups of several items come first, the largest first, each to the fold that lacks most of its
    strata; single items then fill what each fold lacks. Time and memory grow with the items.

    Args:
        strata: int64 `[items]`, numbered from 0.
        groups: A name for each item, `[items]`; there are as many groups as folds at least.
        folds: How many folds.
        seed: Decides who goes where.

    Returns:
        int64 `[items]`: each item's fold.
    """
    _, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(strata))
    # Group by group, the largest first, and within one size in a random order.
    places = np.empty(len(sizes), np.int64)
    places[group[order[::-1]]] = np.arange(len(order))[::-1]
    order = order[np.lexsort((places[group[order]], -sizes[group[order]]))]
    lacking = np.tile(np.bincount(strata) / folds, (folds, 1))
    fold_of = np.empty(len(strata), np.int64)
    at = 0
    while at < len(order) and (size := sizes[group[order[at]]]) > 1:
        items = order[at : at + size]
        held, counts = np.unique(strata[items], return_counts=True)
        # The fold that lacks most of these strata; of equals the emptiest.
        best = int(np.lexsort((lacking.sum(axis=1), lacking[:, held] @ counts))[-1])
        lacking[best, held] -= counts
        fold_of[items] = best
        at += size
    singles = order[at:]
    singles = singles[np.argsort(strata[singles], kind="stable")]
    for items in np.split(singles, np.flatnonzero(np.diff(strata[singles])) + 1):
        if len(items):
            fold_of[items] = _filling(np.maximum(lacking[:, strata[items[0]]], 0), len(items), seed)
    for empty in np.setdiff1d(np.arange(folds), fold_of):
        # It gets the smallest group that is not alone in its fold.
        dealt = np.empty(len(sizes), np.int64)
        dealt[group] = fold_of
        movable = np.flatnonzero(np.bincount(dealt)[dealt] > 1)
        fold_of[group == movable[sizes[movable].argmin()]] = empty
    return fold_of


def _filling(lacking: np.ndarray, items: int, seed: int) -> np.ndarray:
    """Folds for so many items, in proportion to what each lacks; remainders at random."""
    weights = lacking if lacking.sum() else np.ones(len(lacking))
    share = weights / weights.sum() * items
    counts = np.floor(share + 1e-9).astype(np.int64)
    rest = np.random.default_rng([seed, items]).permutation(len(lacking))
    rest = rest[np.argsort(counts[rest] - share[rest], kind="stable")]
    counts[rest[: items - counts.sum()]] += 1
    return np.repeat(np.arange(len(lacking)), counts)


def fit_logistic(
    train: np.ndarray,
    targets: Any,
    penalties: tuple[float, ...],
    groups: np.ndarray | None = None,
) -> tuple[Predict, float]:
    """Multinomial logistic regression by L-BFGS.

    Args:
        train: Standardised features, float32 `[items, features]`.
        targets: One-hot float32 `[items, classes]`.
        penalties: Half the penalty of a squared weight beside the mean loss of an item. Of
            several, the one with the least loss on a stratified fifth of the items, which is
            held out for that, is taken.
        groups: A name for each item; the fifth divides no group, or siblings on both sides would
            make the weakest penalty look best.

    Returns:
        What gives the probabilities of other items, and the penalty.
    """
    classes = targets.argmax(axis=1)
    # The sums are small: a second thread would cost more than it brings, much more on a busy
    # machine.
    with threadpool_limits(1):
        best = penalties[0]
        if len(penalties) > 1:
            held = _a_fifth(classes, groups)
            best = _least_loss(train, classes, targets.shape[1], penalties, held)
        fitted = _logistic_fit(train, classes, targets.shape[1])
        fitted(train[:1], best)

    def predict(others: np.ndarray) -> np.ndarray:
        with threadpool_limits(1):
            return fitted(others, None)

    return predict, best


def _a_fifth(strata: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
    """Which items choose the penalty: bool `[items]`, all of them if they cannot be divided."""
    if groups is None:
        return deal(strata, INNER_FOLDS, seed=0) == 0
    folds = min(INNER_FOLDS, len(np.unique(groups)))
    return deal_groups(strata, groups, folds, seed=0) == 0


def _least_loss(
    train: np.ndarray,
    classes: np.ndarray,
    outputs: int,
    penalties: tuple[float, ...],
    held: np.ndarray,
) -> float:
    if held.all():
        # There is one item, or one group.
        return max(penalties)
    fit = _logistic_fit(train[~held], classes[~held], outputs)
    losses = []
    for penalty in sorted(penalties, reverse=True):
        of_true = fit(train[held], penalty)[np.arange(held.sum()), classes[held]]
        losses.append((log_loss(of_true), penalty))
    return min(losses)[1]


def _logistic_fit(
    train: np.ndarray, classes: np.ndarray, outputs: int
) -> Callable[[np.ndarray, float | None], np.ndarray]:
    """Gives probabilities for other items and a penalty, each fit going on from the last.

    Without a penalty nothing is fitted anew.
    """
    model = LogisticRegression(max_iter=MAX_STEPS, tol=TOLERANCE, warm_start=True)
    known = np.unique(classes)

    def probabilities(test: np.ndarray, penalty: float | None) -> np.ndarray:
        found = np.zeros((len(test), outputs), np.float32)
        if len(known) == 1:
            found[:, known] = 1.0
            return found
        if penalty is not None:
            model.set_params(C=1 / (penalty * len(train)))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                # Classes are not a regression's values, be there ever so many.
                warnings.filterwarnings("ignore", "The number of unique classes is greater")
                model.fit(train, classes)
        found[:, known] = model.predict_proba(test)
        return found

    return probabilities


def fit_ridge(
    train: np.ndarray,
    targets: np.ndarray,
    penalties: tuple[float, ...],
    groups: np.ndarray | None = None,
) -> tuple[Predict, float]:
    """Ridge regression in closed form.

    The penalty is the one with the least leave-one-out error, which needs no further fit (Allen,
    "The Relationship Between Variable Selection and Data Augmentation and a Method for
    Prediction", Technometrics 16, 1974). With groups it is the one with the least error on a fifth
    that divides none of them: what is left out must not have siblings among what is fitted to.

    Args:
        train: Standardised features, float32 `[items, features]`.
        targets: Float32 `[items, targets]`.
        penalties: The penalty of a squared weight beside the mean squared error of an item.
        groups: A name for each item.

    Returns:
        What predicts the targets of other items, and the penalty.
    """
    targets = targets.astype(np.float64)
    mean, deviation = targets.mean(axis=0), targets.std(axis=0)
    # Rounding leaves something of what does not vary.
    unit = np.where(deviation > 1e-12 * np.abs(mean), deviation, 1)
    y = (targets - mean) / unit
    with threadpool_limits(1):
        best = penalties[0]
        if groups is not None and len(penalties) > 1:
            best = _least_error(train, y, penalties, groups)
        ridge = _Ridge.of(train, y)
        if groups is None:
            best = min((ridge.left_out(y, penalty), penalty) for penalty in penalties)[1]
        weights = ridge.weights(best)

    def predict(others: np.ndarray) -> np.ndarray:
        with threadpool_limits(1):
            return (ridge.predict(others, weights) * unit + mean).astype(np.float32)

    return predict, best


def _least_error(
    train: np.ndarray, y: np.ndarray, penalties: tuple[float, ...], groups: np.ndarray
) -> float:
    held = _a_fifth(np.zeros(len(y), np.int64), groups)
    if held.all():
        return max(penalties)
    ridge, errors = _Ridge.of(train[~held], y[~held]), []
    for penalty in penalties:
        missed = ridge.predict(train[held], ridge.weights(penalty)) - y[held]
        errors.append((float((missed**2).mean()), penalty))
    return min(errors)[1]


@dataclass(frozen=True)
class _Ridge:
    """Features taken apart once, so that each penalty costs little.

    Attributes:
        middle: Mean of the features: standardising leaves those that are mostly 0 where they are.
        level: Mean of the targets.
        left: Left singular vectors of the centred features, `[items, k]`.
        singular: Singular values `[k]`.
        right: Right singular vectors, `[k, features]`.
        along: The targets along the left ones, `[k, targets]`.
    """

    middle: np.ndarray
    level: np.ndarray
    left: np.ndarray
    singular: np.ndarray
    right: np.ndarray
    along: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray, y: np.ndarray) -> "_Ridge":
        middle, level = x.mean(axis=0, dtype=np.float64).astype(x.dtype), y.mean(axis=0)
        left, singular, right = np.linalg.svd(x - middle, full_matrices=False)
        return cls(middle, level, left, singular, right, left.T @ (y - level))

    def weights(self, penalty: float) -> np.ndarray:
        """`[features, targets]`."""
        shrunk = self.singular / (self.singular**2 + penalty * len(self.left))
        return self.right.T @ (shrunk[:, None] * self.along)

    def predict(self, others: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return (others - self.middle) @ weights + self.level

    def left_out(self, y: np.ndarray, penalty: float) -> float:
        """Mean squared error of each item, predicted by all others."""
        kept = self.singular**2 / (self.singular**2 + penalty * len(self.left))
        residuals = y - self.level - self.left @ (kept[:, None] * self.along)
        # Features and targets are centred, so the intercept's leverage is 1 / items.
        leverage = (self.left**2) @ kept + 1 / len(self.left)
        errors = residuals / np.maximum(1 - leverage, 1e-6)[:, None]
        return float((errors**2).mean())
