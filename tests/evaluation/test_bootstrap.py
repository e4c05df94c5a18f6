import numpy as np
import pytest
from scipy.stats import binom, binomtest, spearmanr
from sklearn.metrics import (
    average_precision_score,
    mean_absolute_error,
    precision_recall_fscore_support,
    r2_score,
    roc_auc_score,
)

from keras_tl.evaluation import bootstrap
from keras_tl.evaluation.bootstrap import (
    classification_intervals,
    intervals,
    mcnemar,
    paired_difference,
    ranking_intervals,
    regression_intervals,
    resamples,
)


def draws(samples, **options):
    return np.concatenate(list(resamples(samples, **options)))


def test_every_resample_has_as_many_samples_as_there_are():
    times = draws(7, count=50)
    assert times.shape == (50, 7)
    assert (times.sum(axis=1) == 7).all()
    # A sample is drawn once on average, and left out with (1 - 1/7)^7 = 0.34.
    assert times.mean() == 1
    assert (draws(7, count=4000) == 0).mean() == pytest.approx((6 / 7) ** 7, abs=0.01)


def test_chunks_do_not_change_how_many_there_are(monkeypatch):
    monkeypatch.setattr(bootstrap, "CHUNK", 20)
    assert [len(chunk) for chunk in resamples(7, count=5)] == [2, 2, 1]


def test_a_group_is_drawn_as_a_whole():
    groups = np.array([0, 0, 0, 1, 2, 2])
    times = draws(6, groups=groups, count=30)
    assert (times[:, 0] == times[:, 1]).all() and (times[:, 0] == times[:, 2]).all()
    assert (times[:, 4] == times[:, 5]).all()
    assert (times[:, [0, 3, 4]].sum(axis=1) == 3).all()
    # The twin: drawn singly, they part.
    assert not (draws(6, count=30)[:, 0] == draws(6, count=30)[:, 1]).all()


def test_accuracy_has_the_interval_of_its_binomial():
    present = np.zeros((200, 2), bool)
    present[:, 0] = True
    chosen = present.copy()
    chosen[:50] = ~present[:50]
    found = classification_intervals(present, chosen, count=4000)["accuracy"]
    low, high = binom(200, 0.75).ppf([0.025, 0.975]) / 200
    assert found.low == pytest.approx(low, abs=0.011)
    assert found.high == pytest.approx(high, abs=0.011)


def slow_figures(true, predicted, classes, count, groups=None):
    """Precision, recall and F1 by scikit-learn of the same draws, written out."""
    rows = []
    for times in draws(len(true), count=count, groups=groups):
        drawn = np.repeat(np.arange(len(true)), times)
        scores = precision_recall_fscore_support(
            true[drawn], predicted[drawn], labels=range(classes), zero_division=np.nan
        )
        rows.append(scores[:3])
    return np.quantile(np.array(rows), [0.025, 0.975], axis=0)


@pytest.mark.parametrize("groups", [None, np.arange(60) // 3])
def test_class_figures_are_those_of_scikit_learn_on_the_same_draws(groups):
    random = np.random.default_rng(0)
    true = random.integers(0, 3, 60)
    predicted = np.where(random.random(60) < 0.7, true, (true + 1) % 3)
    found = classification_intervals(
        np.eye(3, dtype=bool)[true], np.eye(3, dtype=bool)[predicted], count=100, groups=groups
    )
    low, high = slow_figures(true, predicted, 3, 100, groups)
    np.testing.assert_allclose(found["f1"].low, low[2])
    np.testing.assert_allclose(found["f1"].high, high[2])
    if groups is None:
        for name, of in (("precision", predicted), ("recall", true)):
            for k in range(3):
                hits, count = ((true == k) & (predicted == k)).sum(), (of == k).sum()
                wanted = binomtest(int(hits), int(count)).proportion_ci(method="wilson")
                assert (found[name].low[k], found[name].high[k]) == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("groups", [None, np.arange(60) // 3])
def test_ranking_figures_are_those_of_scikit_learn_on_the_same_draws(groups):
    random = np.random.default_rng(0)
    positive = random.random(60) < 0.3
    # Rounded, so that scores tie.
    scores = np.round(random.normal(positive * 1.0, 1.0), 1)
    present = np.stack([~positive, positive], axis=1)
    both = np.stack([-scores, scores + 0.5 * (np.arange(60) % 2)], axis=1)
    found = ranking_intervals(present, both, count=100, groups=groups)
    rows = []
    for times in draws(60, count=100, groups=groups):
        k = np.repeat(np.arange(60), times)
        areas, precisions = (
            [figure(present[k, c], both[k, c]) for c in range(2)]
            for figure in (roc_auc_score, average_precision_score)
        )
        rows.append([*precisions, np.mean(precisions), np.mean(areas)])
    bounds = np.quantile(rows, [0.025, 0.975], axis=0)
    names = ("average_precision", "mean_average_precision", "roc_auc")
    for side, expected in zip(("low", "high"), bounds, strict=True):
        received = np.hstack([getattr(found[name], side) for name in names])
        np.testing.assert_allclose(received, expected)
    # The twin: drawn singly where there are groups, or together where there are none, it shows.
    other = ranking_intervals(
        present, both, count=100, groups=np.arange(60) // 3 if groups is None else None
    )
    assert other["roc_auc"].low != pytest.approx(found["roc_auc"].low)


def test_without_negatives_nothing_is_ranked():
    found = ranking_intervals(np.ones((5, 1), bool), np.arange(5.0)[:, None], count=20)
    assert np.isnan(found["roc_auc"].low)
    assert found["average_precision"].low == found["mean_average_precision"].high == 1


def test_spearman_is_that_of_scipy_on_the_same_draws():
    random = np.random.default_rng(1)
    true = np.round(random.normal(size=(40, 2)), 1)
    predicted = np.round(true + random.normal(size=(40, 2)), 1)
    found = regression_intervals(true, predicted, count=60)["spearman"]
    rows = []
    for times in draws(40, count=60):
        k = np.repeat(np.arange(40), times)
        rows.append([spearmanr(true[k, i], predicted[k, i]).statistic for i in range(2)])
    low, high = np.quantile(rows, [0.025, 0.975], axis=0)
    np.testing.assert_allclose([found.low, found.high], [low, high])
    # What does not vary has no ranks.
    constant = regression_intervals(true, np.full_like(true, 0.1), count=20)["spearman"]
    assert np.isnan(constant.low).all()


def test_a_figure_that_is_never_defined_has_no_interval():
    present = np.eye(3, dtype=bool)[[0, 0, 1, 1]]
    found = classification_intervals(present, present, count=50)
    assert np.isnan(found["recall"].low[2]) and np.isnan(found["f1"].high[2])
    # Where it is defined in some resamples, it is perfect in all of these.
    assert found["f1"].low[:2].tolist() == [1, 1]


def test_an_interval_is_the_middle_of_the_resamples():
    found = intervals(np.arange(101.0), level=0.9)
    assert (found.low, found.high) == (pytest.approx(5), pytest.approx(95))


def test_regression_figures_are_those_of_scikit_learn_on_the_same_draws():
    random = np.random.default_rng(1)
    # Far from zero: R2 must not drown in rounding.
    true = 1e6 + random.normal(size=(40, 2))
    predicted = true + random.normal(size=(40, 2)) * 0.3
    found = regression_intervals(true, predicted, count=60)
    rows = []
    for times in draws(40, count=60):
        k = np.repeat(np.arange(40), times)
        rows.append(
            [
                mean_absolute_error(true[k], predicted[k], multioutput="raw_values"),
                r2_score(true[k], predicted[k], multioutput="raw_values"),
            ]
        )
    low, high = np.quantile(rows, [0.025, 0.975], axis=0)
    np.testing.assert_allclose([found["mae"].low, found["r2"].low], low, rtol=1e-6)
    np.testing.assert_allclose([found["mae"].high, found["r2"].high], high, rtol=1e-6)


def test_a_target_that_does_not_vary_has_no_r2():
    found = regression_intervals(np.full((9, 1), 0.1), np.zeros((9, 1)), count=20)
    assert np.isnan(found["r2"].low).all()
    assert found["mae"].low == pytest.approx(0.1)


def test_a_paired_difference_is_narrower_than_two_intervals():
    random = np.random.default_rng(2)
    first = random.random(400) < 0.6
    second = first.copy()
    second[np.flatnonzero(~first)[:20]] = True
    found = paired_difference(first, second)
    assert found.value == pytest.approx(20 / 400)
    # Of 400 differences 20 are 1 and the others 0: a binomial again.
    assert [found.low, found.high] == pytest.approx(
        binom(400, 0.05).ppf([0.025, 0.975]) / 400, abs=0.006
    )


def test_mcnemar_by_hand():
    # 7 to one side, 1 to the other: 2 * (C(8,0) + C(8,1)) / 2^8.
    first = np.array([True] * 7 + [False] + [True] * 5)
    second = np.array([False] * 7 + [True] + [True] * 5)
    assert mcnemar(first, second) == pytest.approx(2 * 9 / 256)
    assert mcnemar(second, first) == pytest.approx(2 * 9 / 256)
    assert mcnemar(first, first) == 1
