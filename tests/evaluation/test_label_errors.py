import numpy as np
import pytest
from sklearn.datasets import make_blobs

from keras_tl.evaluation.label_errors import LEAST_ITEMS, doubtful_labels, suspected_labels
from keras_tl.evaluation.probes import linear_probe


def of_two(of_first):
    of_first = np.array(of_first)
    return np.stack((of_first, 1 - of_first), axis=1)


def test_thresholds_by_hand():
    """Thresholds: class 0 (0.9+0.8+0.7+0.6+0.2)/5 = 0.64, class 1 (0.9+0.8+0.7+0.3+0.38)/5 = 0.616.

    Item 4 gives class 1 0.8, over 0.616: doubtful. Item 8 gives class 0 0.7, over 0.64, too. Item
    9 gives class 0 0.62, below 0.64, though it is the more probable one: not doubtful.
    """
    probabilities = of_two([0.9, 0.8, 0.7, 0.6, 0.2, 0.1, 0.2, 0.3, 0.7, 0.62])
    labels = np.repeat([0, 1], 5)
    assert np.flatnonzero(doubtful_labels(labels, probabilities)).tolist() == [4, 8]


def test_a_label_is_suspected_where_both_contradict_it():
    labels = np.repeat([0, 1], 5)
    first = of_two([0.9, 0.2, 0.2, 0.3, 0.9, 0.1, 0.2, 0.3, 0.8, 0.1])
    second = of_two([0.9, 0.1, 0.9, 0.1, 0.9, 0.1, 0.2, 0.3, 0.9, 0.1])
    found = suspected_labels(labels, first, second)
    # Item 8: 0.6 and 0.8, item 1: 0.6 and 0.8; item 2 only by the first, item 3 by 0.4 in it.
    assert [(suspect.item, suspect.suggested) for suspect in found] == [(1, 1), (8, 0)]
    assert found[0].given_probability == pytest.approx(0.1)
    assert found[0].suggested_probability == pytest.approx(0.9)


def test_a_model_that_is_unsure_of_a_class_casts_no_doubt_on_it():
    """It puts items of class 1 at 0.45: more of them are called class 0 than class 1."""
    probabilities = of_two([0.95] * 10 + [0.55] * 9 + [0.97])
    labels = np.repeat([0, 1], 10)
    assert (probabilities.argmax(axis=1) != labels).sum() == 10
    assert np.flatnonzero(doubtful_labels(labels, probabilities)).tolist() == [19]
    found = suspected_labels(labels, probabilities, probabilities)
    assert [suspect.item for suspect in found] == [19]


def noisy():
    points, classes = make_blobs(600, 20, centers=4, cluster_std=4, random_state=0)
    random = np.random.default_rng(0)
    wrong = random.permutation(600)[:30]
    labels = classes.copy()
    labels[wrong] = (labels[wrong] + random.integers(1, 4, 30)) % 4
    return points.astype(np.float32), classes, labels, set(wrong.tolist())


def test_shuffled_labels_are_found_and_others_are_not():
    points, classes, labels, wrong = noisy()
    probe = linear_probe(points, labels)
    doubtful = doubtful_labels(labels, probe.outputs)
    again = linear_probe(points, labels, trusted=~doubtful)
    suspects = suspected_labels(labels, probe.outputs, again.outputs)
    found = {suspect.item for suspect in suspects}
    assert len(found & wrong) >= 26
    assert len(found - wrong) <= 6
    right = [suspect.suggested == classes[suspect.item] for suspect in suspects[:20]]
    assert np.mean(right) > 0.9
    assert again.score < probe.score + 0.05  # measured on all items, the doubtful ones included


def test_clean_labels_are_left_alone():
    points, classes, *_ = noisy()
    probe = linear_probe(points, classes)
    again = linear_probe(points, classes, trusted=~doubtful_labels(classes, probe.outputs))
    assert len(suspected_labels(classes, probe.outputs, again.outputs)) <= 6


def test_tiny_classes_are_left_alone():
    labels = np.array([0] * 10 + [1] * (LEAST_ITEMS - 1) + [2] * 10)
    probabilities = np.full((len(labels), 3), 0.01)
    probabilities[np.arange(len(labels)), (labels + 1) % 3] = 0.98
    suspects = suspected_labels(labels, probabilities, probabilities)
    # Labels of 0 look like the tiny class 1, its items like 2, those of 2 like 0.
    assert {labels[suspect.item] for suspect in suspects} == {2}


def test_a_class_that_was_not_learned_is_not_suspected():
    """All its items are in the fold that is asked about: given probabilities are exactly 0."""
    labels = np.repeat([0, 1], 10)
    probabilities = of_two([1.0] * 20)
    assert suspected_labels(labels, probabilities, probabilities) == []
    groups = np.repeat(["a", "b", "c", "d"], [5, 5, 6, 4])
    points = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    probe = linear_probe(points, np.repeat([0, 1, 2], [5, 5, 10]), groups=groups, folds=4)
    assert (probe.outputs[:5, 0] == 0).all()


def test_classes_that_do_not_occur():
    labels = np.repeat([0, 2], 6)
    probabilities = np.tile([0.1, 0.8, 0.1], (12, 1))
    assert suspected_labels(labels, probabilities, probabilities) == []


def test_models_that_suggest_different_classes_cast_no_suspicion():
    labels = np.repeat([0, 1, 2], 6)
    sure = np.eye(3)[labels] * 0.88 + 0.04
    first, second = sure.copy(), sure.copy()
    first[0], second[0] = (0.05, 0.9, 0.05), (0.05, 0.05, 0.9)
    first[1], second[1] = (0.05, 0.9, 0.05), (0.05, 0.85, 0.1)
    found = suspected_labels(labels, first, second)
    assert [(suspect.item, suspect.suggested) for suspect in found] == [(1, 1)]
