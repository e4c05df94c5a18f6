import numpy as np
import pytest
from sklearn.datasets import make_blobs

from keras_tl.evaluation.label_errors import LEAST_ITEMS, suspected_labels
from keras_tl.evaluation.probes import linear_probe


def test_the_confident_joint_by_hand():
    """Thresholds: class 0 (0.9+0.8+0.7+0.6+0.2)/5 = 0.64, class 1 (0.9+0.8+0.7+0.5+0.4)/5 = 0.66.

    Item 4 gives class 1 0.8, over 0.66: a suspect. Item 8 gives class 0 0.5, below 0.64: none.
    Item 9 gives class 0 0.6, below 0.64, though it is the more probable one: none.
    """
    of_first = np.array([0.9, 0.8, 0.7, 0.6, 0.2, 0.1, 0.2, 0.3, 0.5, 0.6])
    probabilities = np.stack((of_first, 1 - of_first), axis=1)
    labels = np.repeat([0, 1], 5)
    (suspect,) = suspected_labels(labels, probabilities)
    assert (suspect.item, suspect.suggested) == (4, 1)
    assert suspect.given_probability == pytest.approx(0.2)
    assert suspect.suggested_probability == pytest.approx(0.8)


def test_the_twin_with_one_threshold_for_all_suspects_more():
    """A model unsure of class 1 puts its items at 0.45: they are no suspects for that."""
    of_first = np.array([0.95] * 10 + [0.55] * 9 + [0.97])
    probabilities = np.stack((of_first, 1 - of_first), axis=1)
    labels = np.repeat([0, 1], 10)
    assert [suspect.item for suspect in suspected_labels(labels, probabilities)] == [19]
    assert (probabilities.argmax(axis=1) != labels).sum() == 10


def test_shuffled_labels_are_found_and_others_are_not():
    points, classes = make_blobs(600, 20, centers=4, cluster_std=4, random_state=0)
    random = np.random.default_rng(0)
    wrong = random.permutation(600)[:30]
    labels = classes.copy()
    labels[wrong] = (labels[wrong] + random.integers(1, 4, 30)) % 4
    probe = linear_probe(points.astype(np.float32), labels)
    suspects = suspected_labels(labels, probe.outputs)
    found = {suspect.item for suspect in suspects}
    assert len(found & set(wrong)) >= 24
    assert len(found - set(wrong)) <= 6
    right = [suspect.suggested == classes[suspect.item] for suspect in suspects[:20]]
    assert np.mean(right) > 0.9
    margins = [s.given_probability - s.suggested_probability for s in suspects]
    assert margins == sorted(margins)


def test_tiny_classes_are_left_alone():
    labels = np.array([0] * 10 + [1] * (LEAST_ITEMS - 1) + [2] * 10)
    probabilities = np.zeros((len(labels), 3))
    probabilities[np.arange(len(labels)), (labels + 1) % 3] = 1.0
    suspects = suspected_labels(labels, probabilities)
    assert {labels[suspect.item] for suspect in suspects} <= {0, 2}
    assert {suspect.suggested for suspect in suspects} <= {0, 2}


def test_classes_that_do_not_occur():
    labels = np.repeat([0, 2], 6)
    probabilities = np.tile([0.1, 0.8, 0.1], (12, 1))
    assert suspected_labels(labels, probabilities) == []
