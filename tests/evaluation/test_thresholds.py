import numpy as np
import pytest
from sklearn.metrics import precision_recall_curve, roc_curve

from keras_tl.errors import InputError
from keras_tl.evaluation.thresholds import (
    at_precision,
    at_sensitivity,
    at_specificity,
    best_f1,
    best_youden,
)

# Two of four negatives and three of four positives score 0.5 or more.
TRUTH = np.array([0, 0, 1, 0, 1, 0, 1, 1], bool)
SCORES = np.array([0.1, 0.2, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9], np.float32)


def drawn(seed, count=200, ties=False):
    """Scores of positives are higher, mostly."""
    random = np.random.default_rng(seed)
    truth = random.random(count) < 0.3
    scores = 1 / (1 + np.exp(-random.normal(np.where(truth, 1.0, -1.0), 1.5)))
    return truth, (np.round(scores, 1) if ties else scores).astype(np.float32)


def rates(truth, scores, threshold):
    """Sensitivity, specificity and precision, counted."""
    called = scores >= np.float32(threshold)
    return (
        called[truth].mean(),
        (~called[~truth]).mean(),
        truth[called].mean() if called.any() else 0.0,
    )


def test_by_hand():
    # One false alarm of four is allowed: cut between 0.6 and 0.5.
    assert at_specificity(TRUTH, SCORES, 0.75) == pytest.approx(0.55)
    assert at_specificity(TRUTH, SCORES, 1.0) == pytest.approx(0.75)
    assert at_sensitivity(TRUTH, SCORES, 0.75) == pytest.approx(0.55)
    assert at_sensitivity(TRUTH, SCORES, 1.0) == pytest.approx(0.25)
    assert at_precision(TRUTH, SCORES, 1.0) == pytest.approx(0.75)
    assert at_precision(TRUTH, SCORES, 0.75) == pytest.approx(0.55)
    # From 0.3 on: 4 hits, 2 alarms, F1 8/10. From 0.6 on: 3 hits, 1 alarm, 6/8.
    assert best_f1(TRUTH, SCORES) == pytest.approx(0.25)
    # 1/2 + 1, 3/4 + 3/4 and 1 + 1/2: of equals the one that calls fewest.
    assert best_youden(TRUTH, SCORES) == pytest.approx(0.75)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_against_the_curves_of_scikit_learn(seed, ties):
    truth, scores = drawn(seed, ties=ties)
    alarms, found, _ = roc_curve(truth, scores, drop_intermediate=False)
    precision, recall, _ = precision_recall_curve(truth, scores)
    with np.errstate(invalid="ignore"):
        f1 = np.nanmax(2 * precision * recall / (precision + recall))
    for share in (0.5, 0.8, 0.95):
        sensitivity, specificity, _ = rates(truth, scores, at_specificity(truth, scores, share))
        assert specificity >= share - 1e-12
        assert sensitivity == pytest.approx(found[1 - alarms >= share - 1e-12].max())
        sensitivity, specificity, _ = rates(truth, scores, at_sensitivity(truth, scores, share))
        assert sensitivity >= share - 1e-12
        assert specificity == pytest.approx((1 - alarms)[found >= share - 1e-12].max())
    # The last point of the curve calls nothing.
    reached = precision[:-1] >= 0.7
    got, _, precise = rates(truth, scores, at_precision(truth, scores, 0.7))
    assert precise >= 0.7 and got == pytest.approx(recall[:-1][reached].max())
    got, _, precise = rates(truth, scores, best_f1(truth, scores))
    assert 2 * got * precise / (got + precise) == pytest.approx(f1)
    got, left, _ = rates(truth, scores, best_youden(truth, scores))
    assert got + left - 1 == pytest.approx((found - alarms).max())


def test_a_threshold_parts_neighbours_of_float32():
    low = np.float32(0.3)
    high = np.nextafter(low, np.float32(1))
    truth, scores = np.array([False, True]), np.array([low, high])
    for threshold in (best_f1(truth, scores), at_specificity(truth, scores, 1.0)):
        assert low < np.float32(threshold) <= high


def test_all_and_none_can_be_called():
    truth = np.array([True, False])
    assert at_specificity(truth, np.array([0.2, 0.8], np.float32), 1.0) == pytest.approx(0.9)
    assert at_sensitivity(truth, np.array([0.2, 0.8], np.float32), 1.0) == pytest.approx(0.1)
    assert at_sensitivity(truth, np.array([0.0, 0.8], np.float32), 1.0) == 0.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: at_specificity(TRUTH | True, SCORES, 0.9), "8 positive and 0 negative"),
        (lambda: best_f1(TRUTH & False, SCORES), "0 positive"),
        (lambda: best_youden(TRUTH, SCORES * 2), "scores between 0 and 1"),
        (lambda: at_specificity(TRUTH, SCORES, 95), "specificity above 0 and at most 1"),
        (lambda: at_precision(TRUTH, 1 - SCORES, 0.9), "a precision of 0.9"),
        (lambda: at_specificity(TRUTH, np.ones(8, np.float32), 0.9), "a specificity of 0.9"),
    ],
)
def test_what_cannot_be_followed_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_of_the_same_specificity_most_positives_are_found():
    """All are told apart from 0.4 on: to miss some of them would gain nothing."""
    scores = np.r_[np.linspace(0.6, 0.99, 10), np.linspace(0.01, 0.4, 10)]
    truth = np.arange(20) < 10
    for share in (0.1, 0.5, 1.0):
        assert at_sensitivity(truth, scores, share) == pytest.approx(0.5)
