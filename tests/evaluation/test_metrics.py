import json
from math import log, sqrt

import numpy as np
import pytest

from keras_tl.data.image_input import ImageInput
from keras_tl.errors import InputError
from keras_tl.evaluation.metrics import decide, evaluate, no_better_than_the_mean
from keras_tl.evaluation.tables import summary
from keras_tl.model_info import ModelInfo


def _info(task, *names, thresholds=()):
    return ModelInfo(ImageInput(size=32), names, task, thresholds)


def _one_hot(labels, classes):
    return np.eye(classes, dtype=np.float32)[labels]


def _array(*rows):
    return np.array(rows, np.float32)


THREE = _array([0.8, 0.1, 0.1], [0.3, 0.6, 0.1], [0.2, 0.5, 0.3], [0.5, 0.25, 0.25])


def test_single_label_against_figures_by_hand():
    figures = evaluate(THREE, _one_hot([0, 0, 1, 2], 3), _info("single-label", "a", "b", "c"))
    per_class = figures.pop("per_class")
    assert figures.pop("confusion_matrix") == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]
    assert figures.pop("task") == "single-label"
    assert figures == pytest.approx(
        {
            "samples": 4,
            "loss": -(log(0.8) + log(0.3) + log(0.5) + log(0.25)) / 4,
            "accuracy": 1 / 2,
            "balanced_accuracy": (1 / 2 + 1 + 0) / 3,
            "macro_f1": (1 / 2 + 2 / 3 + 0) / 3,
            "weighted_f1": (2 * 1 / 2 + 2 / 3 + 0) / 4,
            # Pairs of a sample of the class and one of the rest, rightly ordered.
            "roc_auc": (3 / 4 + 2 / 3 + 2 / 3) / 3,
        },
        rel=1e-6,
    )
    # By falling probability of a: true, not, true. Of b: not, true. Of c: true and not at once.
    average = {"average_precision": (1 + 2 / 3) / 2}
    assert per_class["a"] == pytest.approx(
        {"precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 2, **average}
    )
    average = {"average_precision": 1 / 2}
    assert per_class["b"] == pytest.approx(
        {"precision": 1 / 2, "recall": 1, "f1": 2 / 3, "support": 1, **average}
    )
    assert per_class["c"] == {"precision": 0, "recall": 0, "f1": 0, "support": 1, **average}


def test_two_classes_with_a_threshold():
    probabilities = _array([0.9, 0.1], [0.7, 0.3], [0.6, 0.4], [0.2, 0.8])
    targets = _one_hot([0, 1, 0, 1], 2)
    info = _info("single-label", "well", "ill", thresholds=(0.3,))
    assert decide(probabilities, info).argmax(axis=1).tolist() == [0, 1, 1, 1]
    figures = evaluate(probabilities, targets, info)
    assert figures["threshold"] == 0.3
    assert figures["accuracy"] == 3 / 4
    assert figures["confusion_matrix"] == [[1, 1], [0, 2]]
    assert figures["per_class"]["ill"]["recall"] == 1
    assert "threshold" in summary(figures)
    # The twin: by the larger probability the second image is called well.
    plain = evaluate(probabilities, targets, _info("single-label", "well", "ill"))
    assert plain["confusion_matrix"] == [[2, 0], [1, 1]]
    assert "threshold" not in plain
    assert plain["roc_auc"] == figures["roc_auc"]


def test_single_label_with_classes_that_do_not_occur():
    figures = evaluate(THREE[:2], _one_hot([0, 0], 3), _info("single-label", "a", "b", "c"))
    assert figures["confusion_matrix"] == [[1, 1, 0], [0, 0, 0], [0, 0, 0]]
    assert figures["balanced_accuracy"] == 0.5
    assert figures["roc_auc"] is None
    assert figures["macro_f1"] == pytest.approx(2 / 9)
    assert figures["per_class"]["c"]["support"] == 0


def test_loss_of_a_sure_mistake_is_finite():
    figures = evaluate(_array([1.0, 0.0]), _one_hot([1], 2), _info("single-label", "a", "b"))
    assert figures["loss"] == pytest.approx(-log(1e-7), rel=1e-5)


def test_top5_only_with_more_than_five_classes():
    probabilities = _array([0.3, 0.25, 0.2, 0.1, 0.1, 0.05]).repeat(4, axis=0)
    info = _info("single-label", *"abcdef")
    assert evaluate(probabilities, _one_hot([0, 4, 5, 5], 6), info)["top5_accuracy"] == 0.5
    five = evaluate(np.eye(5, dtype=np.float32), np.eye(5), _info("single-label", *"abcde"))
    assert "top5_accuracy" not in five


@pytest.mark.parametrize("classes", [10, 300])
def test_of_equally_probable_classes_the_first_are_among_the_five(classes):
    """One that says the same class each time is not right for all others."""
    names = [f"c{i:03}" for i in range(classes)]
    info = _info("single-label", *names)
    same = np.tile(np.eye(classes, dtype=np.float32)[0], (classes, 1))
    figures = evaluate(same, np.eye(classes, dtype=np.float32), info)
    assert figures["top5_accuracy"] == pytest.approx(5 / classes)


def test_multi_label_against_figures_by_hand():
    probabilities = _array([0.9, 0.74], [0.4, 0.8], [0.6, 0.7])
    targets = _array([1, 0], [1, 1], [0, 1])
    info = _info("multi-label", "x", "y", thresholds=(0.5, 0.75))
    assert decide(probabilities, info).tolist() == [[True, False], [False, True], [True, False]]
    figures = evaluate(probabilities, targets, info)
    per_class = figures.pop("per_class")
    assert figures.pop("task") == "multi-label"
    logs = [log(p) for p in (0.9, 0.26, 0.4, 0.8, 0.4, 0.7)]
    assert figures == pytest.approx(
        {
            "samples": 3,
            "loss": -sum(logs) / 6,
            "subset_accuracy": 1 / 3,
            "hamming_loss": 3 / 6,
            # Two hits, one false alarm, two misses.
            "micro_f1": 2 * 2 / (2 * 2 + 1 + 2),
            "macro_f1": (1 / 2 + 2 / 3) / 2,
            "mean_average_precision": 5 / 6,
        },
        rel=1e-6,
    )
    assert per_class["y"] == pytest.approx(
        {
            "precision": 1.0,
            "recall": 0.5,
            "f1": 2 / 3,
            "support": 2,
            "average_precision": 1 / 2 * 1 + 1 / 2 * 2 / 3,
            "threshold": 0.75,
        }
    )


def test_multi_label_of_one_class_that_does_not_occur():
    figures = evaluate(_array([0.2], [0.7]), _array([0], [0]), _info("multi-label", "x"))
    assert figures["per_class"]["x"]["average_precision"] is None
    assert figures["mean_average_precision"] is None
    assert figures["subset_accuracy"] == 0.5
    assert figures["macro_f1"] == 0


def test_regression_against_figures_by_hand():
    values = _array([1, 10], [3, 10], [3, 13])
    targets = _array([1, 10], [2, 10], [3, 10])
    assert evaluate(values, targets, _info("regression", "u", "v")) == {
        "task": "regression",
        "samples": 3,
        "loss": pytest.approx(10 / 6),
        "mae": pytest.approx(4 / 6),
        "rmse": pytest.approx(sqrt(10 / 6)),
        "r2": None,
        "spearman": None,
        "per_target": {
            # Ranks 1, 2.5, 2.5 beside 1, 2, 3.
            "u": pytest.approx(
                {"mae": 1 / 3, "rmse": sqrt(1 / 3), "r2": 1 - 1 / 2, "spearman": sqrt(3) / 2}
            ),
            "v": {"mae": 1, "rmse": pytest.approx(sqrt(3)), "r2": None, "spearman": None},
        },
    }


@pytest.mark.parametrize("task", ["single-label", "multi-label", "regression"])
def test_figures_survive_json(task):
    figures = evaluate(_array([0.25, 0.75], [0.75, 0.25]), np.eye(2), _info(task, "a", "b"))
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    assert summary(json.loads(json.dumps(figures))) == summary(figures)


@pytest.mark.parametrize(
    ("probabilities", "targets", "message"),
    [
        (np.zeros((0, 2)), np.zeros((0, 2)), "at least one sample"),
        (np.zeros((3, 2)), np.zeros((3, 4)), "shape"),
        (np.zeros((2, 2)), np.zeros((3, 2)), "shape"),
        (_array([0.5, 0.5], [np.nan, 0.5]), np.eye(2), "for 1 of 2 samples.*diverged"),
    ],
)
def test_what_cannot_be_measured_is_refused(probabilities, targets, message):
    with pytest.raises(InputError, match=message):
        evaluate(probabilities, targets, _info("single-label", "a", "b"))


def test_r2_of_large_targets_is_that_of_64_bits():
    random = np.random.default_rng(0)
    targets = (1e6 + random.normal(size=(200, 1))).astype(np.float32)
    values = (targets + 0.5 * random.normal(size=(200, 1))).astype(np.float32)
    wide = [array[:, 0].astype(np.float64) for array in (targets, values)]
    expected = 1 - ((wide[0] - wide[1]) ** 2).sum() / ((wide[0] - wide[0].mean()) ** 2).sum()
    found = evaluate(values, targets, _info("regression", "t"))["r2"]
    assert found == pytest.approx(expected, abs=1e-6)


def test_targets_that_the_mean_would_answer_as_well_are_named():
    truth = np.float32([[1, 1, 5], [2, 2, 5], [3, 3, 5]])
    values = np.float32([[1, 3, 4], [2, 2, 5], [4, 1, 6]])
    figures = evaluate(values, truth, _info("regression", "good", "turned", "constant"))
    assert no_better_than_the_mean(figures) == ["turned"]
    classes = evaluate(np.float32([[0.4, 0.6]]), np.array([0]), _info("single-label", "a", "b"))
    assert no_better_than_the_mean(classes) == []
