"""Figures of very many classes: the same numbers, without a column or a matrix for each."""

import json
import time
import tracemalloc

import numpy as np
import pytest

from keras_tl.data.arrays import from_arrays
from keras_tl.data.image_input import ImageInput
from keras_tl.evaluation import many_classes as many
from keras_tl.evaluation.class_figures import format_confused, pairs_of_matrix
from keras_tl.evaluation.metrics import evaluate, single_label
from keras_tl.evaluation.predictions import predictions_frame
from keras_tl.evaluation.tables import mistakes
from keras_tl.model_info import ModelInfo


def info_of(classes):
    return ModelInfo(ImageInput(), tuple(f"class {i}" for i in range(classes)), "single-label")


def outcome(samples, classes, seed=0, ties=True):
    """Probabilities that lean to the truth, some of them equal, and class indices."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, classes, samples)
    true[:classes] = np.arange(classes)[:samples]
    scores = rng.gumbel(size=(samples, classes))
    scores[np.arange(samples), true] += 3
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    return np.round(probabilities, 3 if ties else 9).astype(np.float32), true


@pytest.fixture
def measured():
    return *outcome(900, 250), info_of(250)


def test_the_figures_are_those_of_few_classes(measured):
    probabilities, true, info = measured
    found = evaluate(probabilities, true, info)
    wanted = single_label(probabilities, np.eye(250, dtype=np.float32)[true], info)
    assert found.pop("task") == "single-label"
    assert found.pop("samples") == 900
    matrix, pairs = np.array(wanted.pop("confusion_matrix")), found.pop("confused")
    per_class, wanted_per_class = found.pop("per_class"), wanted.pop("per_class")
    assert found == pytest.approx(wanted, rel=1e-6)
    assert list(per_class) == list(wanted_per_class)
    for name, row in per_class.items():
        assert row == pytest.approx(wanted_per_class[name], rel=1e-6)
    assert pairs_of_matrix(matrix, info.class_names) == pairs
    index = {name: i for i, name in enumerate(info.class_names)}
    for one, other, count in pairs:
        assert matrix[index[one], index[other]] == count
        matrix[index[one], index[other]] = 0
    assert (matrix == np.diag(np.diag(matrix))).all()
    assert [count for *_, count in pairs] == sorted((c for *_, c in pairs), reverse=True)


def test_one_hot_and_indices_give_the_same(measured):
    probabilities, true, info = measured
    one_hot = np.eye(250, dtype=np.float32)[true]
    assert evaluate(probabilities, one_hot, info) == evaluate(probabilities, true, info)
    few = info_of(5)
    probabilities, true = outcome(60, 5)
    one_hot = np.eye(5, dtype=np.float32)[true]
    assert evaluate(probabilities, one_hot, few) == evaluate(probabilities, true, few)
    frames = [predictions_frame(list("ab" * 30), probabilities, t, few) for t in (one_hot, true)]
    assert frames[0].equals(frames[1])


def test_a_class_that_does_not_occur_has_no_average_precision(measured):
    probabilities, true, info = measured
    kept = true != 7
    figures = evaluate(probabilities[kept], true[kept], info)
    assert figures["per_class"]["class 7"]["average_precision"] is None
    assert figures["per_class"]["class 7"]["support"] == 0
    assert figures["roc_auc"] is None


def test_the_most_confused_are_shown_with_their_share():
    support = {"cat": 2000, "dog": 40}
    pairs = [["cat", "dog", 500], ["dog", "cat", 30]]
    assert format_confused(pairs, support).splitlines() == [
        "Most often confused (true -> predicted):",
        "   500  cat -> dog (25.0% of cat)",
        "    30  dog -> cat (75.0% of dog)",
    ]


def test_what_was_taken_for_what_is_said_of_few_and_of_many_classes(measured):
    probabilities, true, info = measured
    figures = evaluate(probabilities, true, info)
    told = mistakes(figures, info.class_names).splitlines()
    wrong, right, count = figures["confused"][0]
    assert told[1].split("(")[0].split() == [str(count), *wrong.split(), "->", *right.split()]
    assert mistakes({"confusion_matrix": [[3, 1], [0, 2]]}, "ab").splitlines()[1].split() == list(
        "1a31"
    )
    assert mistakes({"mae": 1.0}, ("age",)) == ""


def test_the_table_holds_the_ten_most_probable(measured):
    probabilities, true, info = measured
    frame = predictions_frame([str(i) for i in range(900)], probabilities, true, info)
    assert len(frame.columns) == 5 + 2 * many.KEPT
    order = np.argsort(-probabilities, axis=1, kind="stable")
    for k in range(many.KEPT):
        names = [info.class_names[i] for i in order[:, k]]
        assert frame[f"class_{k + 1}"].tolist() == names
        wanted = np.take_along_axis(probabilities, order, 1)[:, k]
        assert frame[f"probability_{k + 1}"].to_numpy(np.float32).tolist() == wanted.tolist()
    assert frame["predicted"].tolist() == frame["class_1"].tolist()
    assert frame["confidence"].tolist() == frame["probability_1"].tolist()
    assert frame["true"].tolist() == [info.class_names[i] for i in true]
    assert frame["p_true"].to_numpy(np.float32).tolist() == probabilities[range(900), true].tolist()


def test_up_to_200_classes_the_table_has_all():
    probabilities, true = outcome(30, 200)
    frame = predictions_frame([str(i) for i in range(30)], probabilities, true, info_of(200))
    assert len(frame.columns) == 4 + 200


def test_truth_is_class_indices_only_of_many():
    pixels = [np.full((4, 4, 3), i % 250, np.uint8) for i in range(402)]
    few = from_arrays(pixels[:400], [i % 200 for i in range(400)])
    assert (many.truth_of(few) == few.targets()).all()
    lots = from_arrays(pixels, [i % 201 for i in range(402)])
    assert many.truth_of(lots).tolist() == lots.labels.tolist()


def test_neither_bytes_nor_memory_grow_with_the_square_of_the_classes():
    """2,000 classes with two samples each: a matrix alone would have 4 million cells."""
    probabilities, true = outcome(4000, 2000, ties=False)
    info = info_of(2000)
    tracemalloc.start()
    figures = evaluate(probabilities, true, info)
    frame = predictions_frame([str(i) for i in range(4000)], probabilities, true, info)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(json.dumps(figures, indent=2)) < 4000 * 250
    assert len(frame.to_csv(index=False)) < 4000 * 700
    # One copy of the probabilities has 32 MB.
    assert peak < 100e6


@pytest.mark.slow
def test_ten_thousand_classes_take_seconds():
    probabilities, true = outcome(10_000, 10_000, ties=False)
    started = time.process_time()
    figures = evaluate(probabilities, true, info_of(10_000))
    assert time.process_time() - started < 120
    assert len(json.dumps(figures, indent=2)) < 5e6
