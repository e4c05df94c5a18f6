import numpy as np
import pytest
from scipy.special import expit, softmax

from keras_tl.evaluation.calibration import (
    cross_fitted,
    decisions,
    fit_temperature,
    negative_log_likelihood,
    reliability,
    with_temperature,
)


def test_reliability_by_hand():
    found = reliability(np.array([0.1, 0.2, 0.6, 1.0]), np.array([0, 1, 1, 1], bool), bins=2)
    assert found.count.tolist() == [2, 2]
    assert found.confidence.tolist() == pytest.approx([0.15, 0.8])
    assert found.share.tolist() == pytest.approx([0.5, 1.0])
    assert found.error == pytest.approx((2 * 0.35 + 2 * 0.2) / 4)


def test_an_empty_bin_says_nothing():
    found = reliability(np.array([0.9]), np.array([True]), bins=4)
    assert np.isnan(found.share[:3]).all() and found.share[3] == 1
    assert found.error == pytest.approx(0.1)


def test_decisions_of_both_tasks():
    probabilities = np.array([[0.7, 0.3], [0.4, 0.6]])
    present = np.array([[True, False], [True, False]])
    chosen, right = decisions(probabilities, present, multi_label=False)
    assert chosen.tolist() == [0.7, 0.6] and right.tolist() == [True, False]
    chosen, there = decisions(probabilities, present, multi_label=True)
    assert chosen.tolist() == [0.7, 0.3, 0.4, 0.6] and there.tolist() == [True, False, True, False]


@pytest.mark.parametrize("multi_label", [False, True])
def test_dividing_logits_is_what_it_says(multi_label):
    logits = np.random.default_rng(0).normal(size=(5, 4)) * 3
    squash = expit if multi_label else lambda values: softmax(values, axis=1)
    found = with_temperature(squash(logits), 2.5, multi_label)
    np.testing.assert_allclose(found, squash(logits / 2.5), rtol=1e-6)
    # The twin: multiplying is seen.
    assert not np.allclose(found, squash(logits * 2.5))


@pytest.mark.parametrize("multi_label", [False, True])
def test_the_temperature_by_hand(multi_label):
    # Always sure by a logit of 2, right in three of four: sigmoid(2 / T) = 3/4, T = 2 / ln 3.
    sure = expit(2.0)
    probabilities = np.tile([sure, 1 - sure], (4, 1))
    present = np.array([[True, False]] * 3 + [[False, True]])
    found = fit_temperature(probabilities, present, multi_label)
    assert found == pytest.approx(2 / np.log(3), rel=1e-3)


def test_what_is_certain_and_wrong_stays_finite():
    probabilities = np.array([[1.0, 0.0], [0.0, 1.0]])
    present = np.array([[False, True], [False, True]])
    assert np.isfinite(fit_temperature(probabilities, present, False))
    assert np.isfinite(negative_log_likelihood(probabilities, present, False))
    assert np.isfinite(with_temperature(probabilities, 3.0, True)).all()


def too_sure(count):
    """Softmax outputs three times as sure as they should be, and their truth."""
    random = np.random.default_rng(3)
    logits = random.normal(size=(count, 3)) * 2
    true = np.array([random.choice(3, p=p) for p in softmax(logits, axis=1)])
    return softmax(3 * logits, axis=1), np.eye(3, dtype=bool)[true]


def test_cross_fitting_mends_what_is_too_sure_and_changes_no_decision():
    probabilities, present = too_sure(900)
    scaled, temperature = cross_fitted(probabilities, present, False)
    assert temperature == pytest.approx(3, rel=0.15)
    before = reliability(*decisions(probabilities, present, False)).error
    after = reliability(*decisions(scaled, present, False)).error
    assert after < before / 3
    assert (scaled.argmax(axis=1) == probabilities.argmax(axis=1)).all()


def test_no_sample_is_scaled_by_what_has_seen_its_truth():
    probabilities, present = too_sure(40)
    changed = present.copy()
    changed[7] = np.roll(present[7], 1)
    one, _ = cross_fitted(probabilities, present, False)
    other, _ = cross_fitted(probabilities, changed, False)
    assert (one[7] == other[7]).all()
    # The twin: the samples of other folds do see it.
    assert (one != other).any()


def test_a_group_is_scaled_by_what_other_groups_say():
    probabilities, present = too_sure(40)
    groups = np.arange(40) // 10
    changed = present.copy()
    changed[:10] = np.roll(present[:10], 1, axis=1)
    one, _ = cross_fitted(probabilities, present, False, groups=groups)
    other, _ = cross_fitted(probabilities, changed, False, groups=groups)
    assert (one[:10] == other[:10]).all()
    assert (one[10:] != other[10:]).any()
