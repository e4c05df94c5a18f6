"""Linear probes: what a linear layer makes of features, measured on items it was not fitted to.

A new head on a frozen backbone is a linear layer on that backbone's features, so a probe says in
seconds what the head will reach.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.stats import t as student
from sklearn.metrics import balanced_accuracy_score, f1_score

from keras_tl.data.one_hot import OneHotRows
from keras_tl.data.stratify import strata
from keras_tl.errors import InputError
from keras_tl.evaluation.bootstrap import intervals, resampled_ranking, resamples
from keras_tl.evaluation.held_out import HeldOut
from keras_tl.evaluation.linear_fits import deal, deal_groups, fit_logistic
from keras_tl.evaluation.wilson import wilson
from keras_tl.features import scaling

# The penalty of a squared weight beside an item's loss, on standardised features.
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)
RESAMPLES = 500
METRICS = {"single-label": "accuracy", "multi-label": "mean_average_precision", "regression": "r2"}


@dataclass(frozen=True)
class Probe:
    """A cross-validated linear probe.

    Attributes:
        metric: What `score` is: "accuracy", "mean_average_precision" or "r2".
        score: The figure over all items, each predicted by the fit that did not see it.
        interval: Its 95 % interval.
        outputs: Float32 `[items, outputs]`: those predictions; probabilities for classes.
        penalties: The penalty that was chosen in each fold, within its training items.
        resampled: Float64 `[RESAMPLES]`: the score on items (or groups) drawn again with
            replacement. The draws are the same for every probe of the same items.
        figures: Further figures: balanced_accuracy and macro_f1, or mae.
    """

    metric: str
    score: float
    interval: tuple[float, float]
    outputs: np.ndarray
    penalties: tuple[float, ...]
    resampled: np.ndarray
    figures: dict[str, float] = field(default_factory=dict)


def linear_probe(
    features: np.ndarray,
    labels: np.ndarray,
    *,
    task: str = "single-label",
    groups: np.ndarray | None = None,
    folds: int = 5,
    seed: int = 0,
    penalties: Sequence[float] = PENALTIES,
    trusted: np.ndarray | None = None,
    remember: bool = False,
) -> Probe:
    """Fits a linear layer to features in stratified folds and measures it on what was held out.

    Standardisation and the choice of the penalty happen inside the training items of each fold.
    Classes: multinomial logistic regression. Several labels and regression: ridge regression.

    The interval of an accuracy is Wilson's (JASA 22, 1927; recommended by Brown, Cai and
    DasGupta, Statistical Science 16, 2001) over the items, since it holds near 0 and 1 too; with
    groups, over so many independent items as the groups are worth. That of other figures is the
    bootstrap's over items or groups. The spread between folds is not used: folds share training
    items, and no estimate of their variance is without bias (Bengio and Grandvalet, JMLR 5,
    2004).

    Args:
        features: Float `[items, features]`.
        labels: As in a `Source`: int64 `[items]`, or float32 `[items, outputs]`.
        task: "single-label", "multi-label" or "regression".
        groups: A name for each item; a group is never divided between folds, nor where a penalty is
            chosen.
        folds: At least 2.
        seed: Decides the folds.
        penalties: Those to choose from; where there is one it is taken.
        trusted: Bool `[items]`, which ones may be fitted to; all are measured. None is all. Where
            a fold leaves none of them, its items get zeros.
        remember: Whether what is predicted is remembered in the cache folder, so that nothing is
            fitted again to the same features, labels and folds.

    Returns:
        The probe.

    Raises:
        InputError: Fewer than 2 folds, or fewer items or groups than folds.
    """
    fold_of = _folds(strata(labels, task), groups, folds, seed)
    fitted = np.ones(len(labels), bool) if trusted is None else trusted
    held_out = HeldOut(features, labels, task, fold_of, fitted, tuple(penalties), groups)
    outputs, chosen = held_out.recall_or_predict() if remember else held_out.predict()
    return _measured(task, held_out.targets, outputs, groups, chosen)


def tied(a: Probe, b: Probe) -> bool:
    """Whether two probes of the same items cannot be told apart.

    It is their difference that is resampled: hard items are hard for both, so its interval is
    much narrower than that of either score.

    Returns:
        True where the 95 % interval of the difference holds 0.
    """
    difference = intervals(a.resampled - b.resampled)
    return bool(difference.low <= 0 <= difference.high)


@dataclass(frozen=True)
class FewShot:
    """A probe that was fitted to a few items of each class.

    Attributes:
        shots: Items of each class.
        accuracies: On the rest, one for each seed.
    """

    shots: int
    accuracies: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean over the seeds."""
        return float(np.mean(self.accuracies))

    @property
    def half_width(self) -> float | None:
        """Half the 95 % interval of the mean over seeds, by Student's t; None for one seed."""
        count = len(self.accuracies)
        if count < 2:
            return None
        error = np.std(self.accuracies, ddof=1) / np.sqrt(count)
        return float(student.ppf(0.975, count - 1) * error)


def few_shot(
    features: np.ndarray,
    labels: np.ndarray,
    *,
    groups: np.ndarray | None = None,
    shots: Sequence[int] = (1, 5, 10, 25),
    seeds: Sequence[int] = (0, 1, 2),
) -> list[FewShot]:
    """Fits a linear layer to a few items of each class and measures it on all others.

    Features are standardised by all items, which needs no labels: one item of a class says
    nothing of spread. The penalty is the strongest of `PENALTIES`, for there is nothing to choose
    it on (a fixed one is usual: Tian et al., "Rethinking Few-Shot Image Classification", ECCV
    2020).

    Args:
        features: Float `[items, features]`.
        labels: Classes, int64 `[items]`.
        groups: A name for each item; what shares a group with a chosen item is not measured on.
        shots: Items of each class to fit to.
        seeds: Each draws other items.

    Returns:
        A row for each number of shots that every class can fill with an item to spare.
    """
    shift, scale = scaling(features)
    standard = (features - shift) * scale
    least = int(np.unique(labels, return_counts=True)[1].min())
    targets = OneHotRows(labels, int(labels.max()) + 1)
    rows = []
    for count in (count for count in shots if count < least):
        found = []
        for seed in seeds:
            chosen, rest = draw(labels, count, seed=seed, groups=groups)
            if len(rest):
                predict, _ = fit_logistic(standard[chosen], targets[chosen], (max(PENALTIES),))
                predicted = predict(standard[rest]).argmax(axis=1)
                found.append(float((predicted == labels[rest]).mean()))
        if found:
            rows.append(FewShot(count, tuple(found)))
    return rows


def draw(
    labels: np.ndarray, count: int, *, seed: int = 0, groups: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Draws a few items of each class to learn from.

    Args:
        labels: Classes, int64 `[items]`.
        count: Items of each class.
        seed: Another one draws other items.
        groups: A name for each item.

    Returns:
        The indices of the drawn items, and of those to measure on: all others, but for what
        shares a group with a drawn one.
    """
    names = np.arange(len(labels)) if groups is None else groups
    order = np.random.default_rng(seed).permutation(len(labels))
    drawn = np.concatenate([order[labels[order] == label][:count] for label in np.unique(labels)])
    return drawn, np.flatnonzero(~np.isin(names, names[drawn]))


def _folds(stratum: np.ndarray, groups: np.ndarray | None, folds: int, seed: int) -> np.ndarray:
    """The fold of each item: int64 `[items]`."""
    units, what = len(stratum), "items"
    if groups is not None:
        units, what = len(np.unique(groups)), "groups"
    if not 2 <= folds <= units:
        expected = f"2 folds or more, and no more than the {units} {what}"
        raise InputError(expected, f"{folds} folds", "Give --folds another number.")
    if groups is None:
        return deal(stratum, folds, seed)
    if np.bincount(stratum).max() < folds:
        stratum = np.zeros_like(stratum)
    return deal_groups(stratum, groups, folds, seed)


def _measured(
    task: str,
    targets: np.ndarray,
    outputs: np.ndarray,
    groups: np.ndarray | None,
    penalties: tuple[float, ...],
) -> Probe:
    group_of = None if groups is None else np.unique(groups, return_inverse=True)[1]
    score = {"single-label": _accuracy, "multi-label": _precision, "regression": _r2}[task]
    chunks = resamples(len(targets), groups=group_of, count=RESAMPLES)
    resampled = np.concatenate([score(targets, outputs, times) for times in chunks])
    bounds = intervals(resampled)
    interval = float(bounds.low), float(bounds.high)
    figures = {}
    if task == "single-label":
        true, predicted = targets.argmax(axis=1), outputs.argmax(axis=1)
        right = (true == predicted)[:, None]
        low, high = wilson(right, np.ones_like(right), group_of)
        interval = float(low[0]), float(high[0])
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "y_pred contains classes not in y_true")
            figures["balanced_accuracy"] = float(balanced_accuracy_score(true, predicted))
        figures["macro_f1"] = float(f1_score(true, predicted, average="macro", zero_division=0))
    elif task == "regression":
        figures["mae"] = float(np.abs(outputs - targets).mean())
    whole = float(score(targets, outputs, np.ones((1, len(targets)), np.int64))[0])
    return Probe(METRICS[task], whole, interval, outputs, penalties, resampled, figures)


# The scores below take how often each item is drawn, int64 `[resamples, items]`, and give one
# figure for each resample.


def _accuracy(targets: np.ndarray, outputs: np.ndarray, times: np.ndarray) -> np.ndarray:
    right = targets.argmax(axis=1) == outputs.argmax(axis=1)
    return times @ right / times.sum(axis=1)


def _precision(targets: np.ndarray, outputs: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Mean average precision of the classes that occur; 0 where none does."""
    pairs = zip(targets.T > 0.5, outputs.T, strict=True)
    precisions = np.stack([resampled_ranking(times, *pair)[:, 1] for pair in pairs], axis=1)
    occurring = (~np.isnan(precisions)).sum(axis=1)
    return np.nansum(precisions, axis=1) / np.maximum(occurring, 1)


def _r2(targets: np.ndarray, outputs: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Mean R2 over the targets; 0 for one that does not vary."""
    centred = targets.astype(np.float64) - targets.mean(axis=0, dtype=np.float64)
    share = times / times.sum(axis=1, keepdims=True)
    squares = share @ (outputs.astype(np.float64) - targets) ** 2
    spread = share @ centred**2 - (share @ centred) ** 2
    # Rounding leaves something of what does not vary.
    varies = spread > 1e-12 * (centred**2).mean(axis=0)
    return np.where(varies, 1 - squares / np.where(varies, spread, 1), 0).mean(axis=1)
