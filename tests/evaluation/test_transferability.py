import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import multivariate_normal
from sklearn.covariance import LedoitWolf

from keras_tl.evaluation.transferability import h_score, log_me


def data(count=60, width=7, classes=3, seed=0):
    random = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    centres = 2 * random.normal(size=(classes, width))
    return centres[labels] + random.normal(size=(count, width)), labels


def evidence(features, target):
    """The largest log evidence over both precisions, from the density of the targets itself."""
    count = len(target)

    def minus(logs):
        alpha, beta = np.exp(logs)
        covariance = np.eye(count) / beta + features @ features.T / alpha
        return -multivariate_normal.logpdf(target, cov=covariance)

    starts = [(0, 0), (3, 0), (-3, 3)]
    return max(-minimize(minus, start, method="Nelder-Mead").fun for start in starts)


@pytest.mark.parametrize("width", [7, 90])
def test_log_me_is_the_largest_evidence(width):
    features, labels = data(width=width)
    targets = np.eye(3)[labels] + 0.3 * np.random.default_rng(1).normal(size=(60, 3))
    expected = np.mean([evidence(features, column) for column in targets.T]) / 60
    assert log_me(features, targets) == pytest.approx(expected, abs=1e-3)


def test_features_that_say_more_have_higher_scores():
    features, labels = data()
    targets = np.eye(3)[labels]
    shuffled = np.random.default_rng(2).permutation(labels)
    assert log_me(features, targets) > log_me(features, np.eye(3)[shuffled]) + 0.1
    assert h_score(features, labels) > 3 * h_score(features, shuffled)


def test_h_score_by_its_formula():
    features, labels = data()
    shrunk = LedoitWolf().fit(features)
    means = np.stack([features[labels == label].mean(axis=0) for label in labels])
    between = np.cov(means, rowvar=False, bias=True)
    inverse = np.linalg.inv(shrunk.covariance_)
    expected = (1 - shrunk.shrinkage_) * np.trace(inverse @ between)
    assert h_score(features, labels) == pytest.approx(expected, rel=1e-6)


def test_h_score_knows_neither_shift_nor_scale_nor_the_classes_names():
    features, labels = data()
    value = h_score(features, labels)
    assert h_score(10 * features - 4, labels) == pytest.approx(value)
    assert h_score(features, (labels + 1) % 3 * 5) == pytest.approx(value)
    assert 0 < value < 2


def test_dead_features_are_no_trouble():
    features, labels = data()
    dead = np.concatenate([features, np.zeros((60, 30))], axis=1)
    assert np.isfinite(h_score(dead, labels))
    assert log_me(dead, np.eye(3)[labels]) == pytest.approx(log_me(features, np.eye(3)[labels]))


def test_a_class_without_items_changes_no_score():
    features, labels = data()
    assert log_me(features, np.eye(3)[labels]) == log_me(features, np.eye(4)[labels])
