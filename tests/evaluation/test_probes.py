import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    f1_score,
    r2_score,
)
from sklearn.preprocessing import StandardScaler

from keras_tl.errors import InputError
from keras_tl.evaluation.linear_fits import deal, deal_groups, fit_logistic, fit_ridge
from keras_tl.evaluation.probes import few_shot, linear_probe, tied
from keras_tl.evaluation.wilson import wilson
from keras_tl.features import scaling


def blobs(count=120, width=12, classes=3, spread=2.0, seed=0):
    random = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    centres = random.normal(size=(classes, width))
    features = centres[labels] + spread * random.normal(size=(count, width))
    return features.astype(np.float32), labels


def test_an_item_is_predicted_by_the_fit_that_did_not_see_it():
    features, labels = blobs()
    probe = linear_probe(features, labels, penalties=(0.1,))
    fold_of = deal(labels, 5, seed=0)
    expected = np.zeros((len(labels), 3))
    for fold in range(5):
        test = fold_of == fold
        mean, deviation = features[~test].mean(axis=0), features[~test].std(axis=0)
        model = LogisticRegression(C=1 / (0.1 * (~test).sum()), tol=1e-6, max_iter=1000)
        model.fit((features[~test] - mean) / deviation, labels[~test])
        expected[test] = model.predict_proba((features[test] - mean) / deviation)
    np.testing.assert_allclose(probe.outputs, expected, atol=5e-3)
    predicted = probe.outputs.argmax(axis=1)
    assert probe.score == pytest.approx(accuracy_score(labels, predicted))
    balanced = balanced_accuracy_score(labels, predicted)
    assert probe.figures["balanced_accuracy"] == pytest.approx(balanced)
    macro = f1_score(labels, predicted, average="macro")
    assert probe.figures["macro_f1"] == pytest.approx(macro)


def test_noise_is_guessed_and_no_better():
    random = np.random.default_rng(1)
    features = random.normal(size=(200, 300)).astype(np.float32)
    probe = linear_probe(features, np.arange(200) % 2)
    assert 0.38 < probe.score < 0.62
    # The planted fault: measured on what it was fitted to, the same noise is learned by heart.
    targets = np.eye(2, dtype=np.float32)[np.arange(200) % 2]
    predict, _ = fit_logistic(features, targets, (1e-3,))
    assert (predict(features).argmax(axis=1) == np.arange(200) % 2).mean() > 0.95


def test_a_group_is_never_divided():
    random = np.random.default_rng(6)
    # Items of a group are copies, labelled at random: who sees one knows the others.
    groups = np.repeat([f"g{i}" for i in range(40)], 5)
    features = random.normal(size=(40, 60)).astype(np.float32).repeat(5, axis=0)
    labels = np.repeat(random.permutation(40) % 2, 5)
    divided = linear_probe(features, labels)
    whole = linear_probe(features, labels, groups=groups)
    assert divided.score > 0.9
    assert whole.score < 0.75
    # 200 items of which each says what 4 others say: an interval as wide as that of 40.
    low, high = whole.interval
    right = np.arange(40)[:, None] < round(40 * whole.score)
    (lowest,), (highest,) = wilson(right, np.ones((40, 1)))
    assert high - low == pytest.approx(highest - lowest, rel=0.05)


def test_the_penalty_follows_the_noise():
    clear, labels = blobs(spread=0.3)
    noisy, _ = blobs(width=200, spread=6.0)
    strong = linear_probe(noisy, labels).penalties
    weak = linear_probe(clear, labels).penalties
    assert np.mean(strong) > np.mean(weak)


def test_scale_and_shift_of_features_change_nothing():
    features, labels = blobs()
    moved = features * np.linspace(0.1, 50, features.shape[1], dtype=np.float32) - 7
    a, b = linear_probe(features, labels), linear_probe(moved, labels)
    np.testing.assert_allclose(a.outputs, b.outputs, atol=1e-3)


def test_a_feature_that_does_not_vary_and_a_class_of_one_are_no_trouble():
    features, labels = blobs(count=61)
    features[:, 0] = 3.3
    labels = np.where(np.arange(61) == 60, 3, labels)
    probe = linear_probe(features, labels)
    assert np.isfinite(probe.outputs).all()
    assert probe.outputs[60, 3] == 0


def test_a_feature_that_is_mostly_0_weighs_as_one():
    """Nor more: beside eight others, one dead channel would else be as strong as all of them."""
    random = np.random.default_rng(0)
    features = random.normal(3, 2, (100, 9)).astype("f")
    features[:, 8] = np.where(np.arange(100) < 10, 5, 0)
    shift, scale = scaling(features)
    scaled = (features - shift) * scale
    usual = StandardScaler().fit_transform(features[:, :8])
    np.testing.assert_allclose(scaled[:, :8], usual, atol=1e-4)
    # 10 of 100 are not 0, so their square is 10 where the mean of all squares is 1.
    np.testing.assert_allclose(scaled[:, 8], features[:, 8] / 5 * np.sqrt(10), rtol=1e-5)


def test_leave_one_out_chooses_the_penalty_of_ridge_regression():
    features, _ = blobs(count=30, width=8)
    random = np.random.default_rng(3)
    targets = (features @ random.normal(size=(8, 2)) + 4 * random.normal(size=(30, 2))) * [1, 50]
    shift, scale = scaling(features)
    train, test = (features - shift) * scale, (features[:5] + 1 - shift) * scale
    penalties = (0.01, 0.1, 1.0, 10.0)
    unit = targets.std(axis=0)
    errors = []
    for penalty in penalties:
        residuals = []
        for i in range(30):
            others = np.arange(30) != i
            # The penalty counts beside the mean of 30 errors, and features stay standardised.
            model = Ridge(alpha=penalty * 30).fit(train[others], targets[others])
            residuals.append((targets[i] - model.predict(train[i : i + 1])[0]) / unit)
        errors.append(np.mean(np.square(residuals)))
    predict, penalty = fit_ridge(train, targets.astype(np.float32), penalties)
    assert penalty == penalties[int(np.argmin(errors))]
    model = Ridge(alpha=penalty * 30).fit(train, targets)
    np.testing.assert_allclose(predict(test), model.predict(test), rtol=1e-3)


def test_ridge_regression_on_features_that_are_mostly_0():
    random = np.random.default_rng(8)
    words = (random.random((90, 20)) < np.linspace(0.05, 0.6, 20)).astype(np.float32)
    targets = words.sum(axis=1, keepdims=True) + random.normal(size=(90, 1)) + 5
    shift, scale = scaling(words)
    assert (shift == 0).sum() > 10
    train, test = (words[:60] - shift) * scale, (words[60:] - shift) * scale
    predict, _ = fit_ridge(train, targets[:60].astype(np.float32), (0.1,))
    # The penalty counts in units of the targets' deviation, so it is the same.
    model = Ridge(alpha=0.1 * 60).fit(train, targets[:60])
    np.testing.assert_allclose(predict(test), model.predict(test).reshape(-1, 1), rtol=1e-4)


def test_a_regression_is_measured_by_r2():
    features, _ = blobs()
    random = np.random.default_rng(4)
    targets = (features @ random.normal(size=(12, 2)) + random.normal(size=(120, 2)) + 100) * 3
    probe = linear_probe(features, targets.astype(np.float32), task="regression")
    assert probe.metric == "r2"
    assert probe.score == pytest.approx(r2_score(targets, probe.outputs), abs=1e-4)
    assert probe.interval[0] < probe.score < probe.interval[1]
    assert probe.figures["mae"] == pytest.approx(np.abs(targets - probe.outputs).mean(), rel=1e-4)


@pytest.mark.parametrize("are_tied", [False, True])
def test_several_labels_are_measured_by_mean_average_precision(are_tied):
    features, labels = blobs(classes=4)
    if are_tied:
        # Four kinds of items: those of one kind have the same outputs in a fold.
        features = np.sign(features[:, :2])
    targets = np.stack([labels == 0, labels >= 2, labels == 9], axis=1).astype(np.float32)
    probe = linear_probe(features, targets, task="multi-label")
    expected = [average_precision_score(targets[:, i], probe.outputs[:, i]) for i in (0, 1)]
    assert probe.score == pytest.approx(np.mean(expected))
    assert probe.interval[0] < probe.score < probe.interval[1]


def test_what_differs_is_told_apart_and_what_does_not_is_not():
    features, labels = blobs(count=300, spread=1.0)
    better = linear_probe(features, labels)
    same = linear_probe(features * 2, labels)
    worse = linear_probe(features[:, :3], labels)
    assert tied(better, same) and tied(same, better)
    assert not tied(better, worse)
    # The intervals of the two scores alone need not say so: it is the same items.
    assert worse.score < better.score


def test_few_shots_are_measured_on_the_rest():
    features, labels = blobs(count=200, classes=4, spread=0.8)
    rows = few_shot(features, labels, shots=(1, 5, 25, 50), seeds=(0, 1, 2))
    assert [row.shots for row in rows] == [1, 5, 25]  # a class has 50 items, none to spare
    assert rows[0].mean < rows[2].mean
    accuracies = np.array(rows[1].accuracies)
    assert len(accuracies) == 3
    half = 4.3027 * accuracies.std(ddof=1) / np.sqrt(3)  # Student's t, two degrees of freedom
    assert rows[1].half_width == pytest.approx(half, rel=1e-4)
    # 200 - 4 * 5 items are measured: an accuracy is a multiple of 1/180.
    assert accuracies * 180 == pytest.approx(np.round(accuracies * 180))


def test_few_shots_leave_the_rest_of_a_chosen_group_out():
    random = np.random.default_rng(5)
    groups = np.repeat(np.arange(40), 5)
    features = random.normal(size=(40, 60)).astype(np.float32).repeat(5, axis=0)
    labels = np.repeat(random.permutation(40) % 2, 5)
    [leaking] = few_shot(features, labels, shots=(25,))
    [honest] = few_shot(features, labels, shots=(25,), groups=groups)
    assert leaking.mean > honest.mean + 0.15


def test_items_of_a_fold_that_leaves_nothing_to_trust_get_zeros():
    features, labels = blobs(count=40, classes=2)
    groups = np.where(np.arange(40) < 20, "a", "b")
    trusted = groups == "a"
    probe = linear_probe(features, labels, groups=groups, folds=2, trusted=trusted)
    assert (probe.outputs[trusted] == 0).all()
    np.testing.assert_allclose(probe.outputs[~trusted].sum(axis=1), 1, atol=1e-6)


def test_too_many_folds_are_refused():
    features, labels = blobs(count=9)
    for folds in (1, 10):
        with pytest.raises(InputError, match="folds"):
            linear_probe(features, labels, folds=folds)
    with pytest.raises(InputError, match="3 groups"):
        linear_probe(features, labels, groups=np.arange(9) % 3)


@pytest.mark.parametrize("unit", [1e-7, 1.0, 1e7])
def test_r2_does_not_hang_on_the_unit(unit):
    features, _ = blobs()
    targets = features @ np.random.default_rng(4).normal(size=(12, 1)) * unit
    targets = np.hstack([targets, np.full_like(targets, 0.1 * unit)]).astype(np.float32)
    probe = linear_probe(features, targets, task="regression")
    # The second target does not vary.
    assert probe.score == pytest.approx(0.5, abs=1e-3)


def test_a_fold_that_leaves_one_item_to_fit_to_says_its_class():
    features, _ = blobs()
    labels, groups = np.arange(60) % 2, np.array(["a"] * 59 + ["b"])
    probe = linear_probe(features[:60], labels, groups=groups, folds=2)
    # The last item is of class 1, and all others are predicted by it.
    assert (probe.outputs[:59].argmax(axis=1) == 1).all()


def siblings(seed, noise, groups=40, each=10, width=60):
    """Groups of near-equal items, whose targets and features have little in common."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(groups, width))
    values = centres[:, 0] + 2 * random.normal(size=groups)
    group = np.repeat(np.arange(groups), each)
    features = centres[group] + noise * random.normal(size=(len(group), width))
    return features.astype(np.float32), values[group], group


def test_the_penalty_is_not_chosen_by_siblings():
    """Among them the weakest looks best; on other groups a strong one is."""
    penalties, chosen, weakest, strongest, found = (0.001, 0.1, 1.0), [], [], [], []
    for seed in range(4):
        features, values, groups = siblings(seed, 0.1)
        how = {"task": "regression", "groups": groups}
        targets = values[:, None].astype(np.float32)
        found.append(linear_probe(features, targets, penalties=penalties, **how).score)
        weakest.append(linear_probe(features, targets, penalties=penalties[:1], **how).score)
        strongest.append(linear_probe(features, targets, penalties=penalties[-1:], **how).score)
        classes = (values > 0).astype(np.int64)
        chosen += linear_probe(features, classes, groups=groups, penalties=penalties).penalties
    assert np.mean(strongest) - np.mean(found) < (np.mean(strongest) - np.mean(weakest)) / 4
    assert np.mean(np.array(chosen) > 0.001) > 0.7


def test_with_groups_a_fifth_of_them_chooses_the_penalty_of_ridge_regression():
    features, values, groups = siblings(0, 0.5)
    targets, penalties = values[:, None].astype(np.float32), (0.01, 0.1, 1.0, 10.0)
    held = deal_groups(np.zeros(len(groups), np.int64), groups, 5, seed=0) == 0
    assert not np.isin(groups[held], groups[~held]).any()
    errors = []
    for penalty in penalties:
        model = Ridge(alpha=penalty * (~held).sum()).fit(features[~held], targets[~held])
        errors.append(np.mean((model.predict(features[held]) - targets[held].ravel()) ** 2))
    _, penalty = fit_ridge(features, targets, penalties, groups)
    assert (
        penalty == penalties[int(np.argmin(errors))] != fit_ridge(features, targets, penalties)[1]
    )


@pytest.mark.parametrize("fit", [fit_logistic, fit_ridge])
def test_one_group_to_fit_to_has_the_strongest_penalty(fit):
    features, labels = blobs(count=30, width=4)
    targets = np.eye(labels.max() + 1, dtype=np.float32)[labels]
    assert fit(features, targets, (0.1, 1.0), np.zeros(30, np.int64))[1] == 1.0
