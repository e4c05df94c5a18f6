"""From which probability on something counts as found.

Each function looks through every threshold that tells the given scores apart and returns the one
that its rule asks for, in the middle between the two scores it parts, so that a score that a
rounding moves stays on its side. A threshold belongs on images that neither trained the model nor
measure it: the validation split.
"""

from dataclasses import dataclass

import numpy as np

from keras_tl.errors import InputError


@dataclass(frozen=True)
class _Cuts:
    """Every way to part scores, from "none is positive" down to "all are".

    Attributes:
        scores: The different scores, falling, `[k]`; cut j takes the first j of them.
        hits: Positives that a cut takes, float64 `[k + 1]`.
        alarms: Negatives that it takes, float64 `[k + 1]`.
    """

    scores: np.ndarray
    hits: np.ndarray
    alarms: np.ndarray

    @property
    def sensitivity(self) -> np.ndarray:
        """The share of the positives that a cut takes."""
        return self.hits / self.hits[-1]

    @property
    def specificity(self) -> np.ndarray:
        """The share of the negatives that it leaves."""
        return 1.0 - self.alarms / self.alarms[-1]

    def threshold(self, cut: int) -> float:
        """A number between the last score that a cut takes and the first that it leaves."""
        taken = self.scores[cut - 1] if cut else 1.0
        left = self.scores[cut] if cut < len(self.scores) else 0.0
        middle = self.scores.dtype.type((float(taken) + float(left)) / 2)
        # Between two neighbouring numbers there is nothing.
        return float(middle) if middle > left else float(taken)


def at_specificity(positive: np.ndarray, scores: np.ndarray, specificity: float) -> float:
    """The threshold with the highest sensitivity among those of enough specificity.

    Args:
        positive: Bool `[samples]`, the truth: at least one positive and one negative.
        scores: Float `[samples]` in [0, 1].
        specificity: The least share of the negatives that stay below the threshold, in (0, 1].

    Returns:
        A threshold in [0, 1]: positive is what scores it or more.

    Raises:
        InputError: There is no positive or no negative, or a negative scores 1.0 and no
            threshold keeps enough of them below it.
    """
    cuts = _cuts(positive, scores)
    enough = cuts.specificity >= check_share("specificity", specificity) - 1e-12
    return _best(cuts, cuts.sensitivity, enough, f"a specificity of {specificity:g}")


def at_sensitivity(positive: np.ndarray, scores: np.ndarray, sensitivity: float) -> float:
    """The threshold with the highest specificity among those of enough sensitivity.

    Args:
        positive: See `at_specificity`.
        scores: See `at_specificity`.
        sensitivity: The least share of the positives that reach the threshold, in (0, 1].

    Returns:
        See `at_specificity`.

    Raises:
        InputError: There is no positive or no negative.
    """
    cuts = _cuts(positive, scores)
    enough = cuts.sensitivity >= check_share("sensitivity", sensitivity) - 1e-12
    # Of the same specificity, as many of the positives as there are for it.
    highest = cuts.specificity[enough].max()
    enough &= cuts.sensitivity >= cuts.sensitivity[cuts.specificity == highest].max()
    return _best(cuts, cuts.specificity, enough, f"a sensitivity of {sensitivity:g}")


def at_precision(positive: np.ndarray, scores: np.ndarray, precision: float) -> float:
    """The threshold with the highest recall among those of enough precision.

    Args:
        positive: See `at_specificity`.
        scores: See `at_specificity`.
        precision: The least share of positives among what reaches the threshold, in (0, 1].

    Returns:
        See `at_specificity`.

    Raises:
        InputError: There is no positive or no negative, or no threshold is so precise.
    """
    cuts = _cuts(positive, scores)
    taken = cuts.hits + cuts.alarms
    precise = cuts.hits / np.maximum(taken, 1) >= check_share("precision", precision) - 1e-12
    return _best(cuts, cuts.sensitivity, precise & (taken > 0), f"a precision of {precision:g}")


def best_f1(positive: np.ndarray, scores: np.ndarray) -> float:
    """The threshold with the highest F1.

    Args:
        positive: See `at_specificity`.
        scores: See `at_specificity`.

    Returns:
        See `at_specificity`.

    Raises:
        InputError: There is no positive or no negative.
    """
    cuts = _cuts(positive, scores)
    f1 = 2 * cuts.hits / (cuts.hits + cuts.alarms + cuts.hits[-1])
    return _best(cuts, f1)


def best_youden(positive: np.ndarray, scores: np.ndarray) -> float:
    """The threshold with the highest sensitivity + specificity - 1.

    Youden, "Index for rating diagnostic tests", Cancer 3, 1950.

    Args:
        positive: See `at_specificity`.
        scores: See `at_specificity`.

    Returns:
        See `at_specificity`.

    Raises:
        InputError: There is no positive or no negative.
    """
    cuts = _cuts(positive, scores)
    return _best(cuts, cuts.sensitivity + cuts.specificity)


def _cuts(positive: np.ndarray, scores: np.ndarray) -> _Cuts:
    positives = int(positive.sum())
    if not 0 < positives < len(positive):
        raise InputError(
            "both positive and negative samples to choose a threshold on",
            f"{positives} positive and {len(positive) - positives} negative",
            "Give the validation split more of them.",
        )
    if not ((scores >= 0) & (scores <= 1)).all():
        raise InputError("scores between 0 and 1", f"up to {np.max(scores)}", "Give probabilities.")
    rising, place = np.unique(scores, return_inverse=True)
    of_score = np.stack([np.bincount(place, kind, len(rising)) for kind in (positive, ~positive)])
    hits, alarms = np.cumsum(of_score[:, ::-1], axis=1)
    return _Cuts(rising[::-1], np.r_[0.0, hits], np.r_[0.0, alarms])


def _best(
    cuts: _Cuts, figure: np.ndarray, allowed: np.ndarray | None = None, what: str = ""
) -> float:
    """The threshold of the cut with the highest figure; of equals the one that takes fewest."""
    allowed = np.ones(len(figure), bool) if allowed is None else allowed.copy()
    # Nothing is above a probability of 1.
    allowed[0] &= bool(cuts.scores[0] < 1.0)
    if not allowed.any():
        raise InputError(
            f"scores that some threshold gives {what}",
            "none that does",
            "Ask for less, or train a model that tells them apart better.",
        )
    return cuts.threshold(int(np.where(allowed, figure, -1.0).argmax()))


def check_share(name: str, value: float) -> float:
    """The value if it is in (0, 1], else an `InputError`."""
    if not 0.0 < value <= 1.0:
        raise InputError(f"a {name} above 0 and at most 1", f"{value:g}", "Try 0.95.")
    return value
