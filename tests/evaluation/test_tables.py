import numpy as np

from keras_tl.data.image_input import ImageInput
from keras_tl.evaluation.metrics import evaluate
from keras_tl.evaluation.tables import format_confusion, summary
from keras_tl.model_info import ModelInfo


def _info(task, *names, thresholds=()):
    return ModelInfo(ImageInput(size=32), names, task, thresholds)


def _one_hot(labels, classes):
    return np.eye(classes, dtype=np.float32)[labels]


def _array(*rows):
    return np.array(rows, np.float32)


def test_summary_is_a_table():
    info = _info("single-label", "defective", "ok")
    figures = evaluate(_array([0.75, 0.25], [0.75, 0.25]), _one_hot([0, 1], 2), info)
    assert summary({**figures, "note": "the test split"}).splitlines() == [
        "samples            2",
        "loss               0.8370",
        "accuracy           0.5000",
        "balanced accuracy  0.5000",
        "macro F1           0.3333",
        "weighted F1        0.3333",
        "ROC AUC            0.5000",
        "",
        "class      precision    recall        f1   support  average precision",
        "defective     0.5000    1.0000    0.6667         1             0.5000",
        "ok            0.0000    0.0000    0.0000         1             0.5000",
    ]


def test_summary_of_many_classes_shows_the_worst():
    names = [f"class{index}" for index in range(30)]
    predicted = np.arange(30)
    predicted[7] = 8
    figures = evaluate(_one_hot(predicted, 30), np.eye(30), _info("single-label", *names))
    table = summary(figures).split("\n\n")[1].splitlines()
    assert table[0].startswith("lowest F1 of 30")
    assert table[1].startswith("class7 ")
    assert table[2].startswith("class8 ")
    assert len(table) == 21


def test_confusion_of_few_classes_is_a_table():
    assert format_confusion([[120, 4], [3, 9]], ("defective", "ok")).splitlines() == [
        "true \\ predicted    1    2",
        "1 defective       120    4",
        "2 ok                3    9",
    ]


def test_confusion_of_many_classes_lists_pairs():
    names = [f"class{index}" for index in range(11)]
    matrix = np.eye(11, dtype=int) * 5
    assert format_confusion(matrix.tolist(), names) == "No class was taken for another."
    matrix[2, 3], matrix[9, 0] = 5, 15
    assert format_confusion(matrix.tolist(), names).splitlines() == [
        "Most often confused (true -> predicted):",
        "    15  class9 -> class0 (75.0% of class9)",
        "     5  class2 -> class3 (50.0% of class2)",
    ]


def test_of_very_many_targets_the_worst_are_shown():
    random, names = np.random.default_rng(0), [f"t{i:02}" for i in range(30)]
    targets = random.normal(size=(40, 30)).astype(np.float32)
    targets[:, 7] = 1.0
    values = (targets + np.linspace(0.1, 2, 30) * random.normal(size=(40, 30))).astype(np.float32)
    table = summary(evaluate(values, targets, _info("regression", *names))).splitlines()
    assert any(line.startswith("lowest R2 of 30") for line in table)
    shown = [line.split()[0] for line in table if line.startswith("t")]
    assert len(shown) == 20 and "t29" in shown and not {"t00", "t07"} & set(shown)


def test_mean_errors_of_several_targets_are_not_shown():
    targets = np.array([[1.0, 1e4], [2.0, 3e4]], np.float32)
    several = summary(evaluate(targets + 1, targets, _info("regression", "age", "price")))
    shown = [line.split("  ")[0] for line in several.splitlines()]
    assert shown[:4] == ["samples", "R2", "Spearman", ""]
    one = summary(evaluate(targets[:, :1] + 1, targets[:, :1], _info("regression", "age")))
    assert "mean absolute error" in one


def test_names_with_line_breaks_stay_in_their_lines():
    matrix = format_confusion([[1, 0], [0, 1]], ("a\r\nb", "c"))
    assert len(matrix.splitlines()) == 3 and "1 a\\r\\nb" in matrix
    figures = evaluate(np.eye(2, dtype=np.float32), np.eye(2), _info("single-label", "a\nb", "c"))
    assert "a\\nb  " in summary(figures)


def test_wide_figures_stay_apart():
    targets = np.array([[1e7], [3e7], [2e7]], np.float32)
    figures = evaluate(targets * 1.5, targets, _info("regression", "price"))
    head, row = summary(figures).splitlines()[-2:]
    assert len(head) == len(row)
    assert row.split()[:3] == ["price", "10000000.0000", "10801234.4973"]
