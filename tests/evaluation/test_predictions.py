import io
import json

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from keras_tl.data.image_input import ImageInput
from keras_tl.evaluation.predictions import predict, predictions_frame
from keras_tl.evaluation.shown import format_predictions
from keras_tl.model_info import ModelInfo

PIXELS = np.random.default_rng(0).integers(0, 256, (7, 4, 4, 3), dtype=np.uint8)


def _mean_of_channels():
    """Outputs that NumPy can say: the mean of each channel; dropout must stay out of it."""
    inputs = keras.Input((4, 4, 3))
    features = keras.layers.Dropout(0.5)(inputs)
    return keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(features))


def _info(task, *names, thresholds=()):
    return ModelInfo(ImageInput(size=32), names, task, thresholds)


@pytest.mark.parametrize("labelled", [True, False])
def test_predict_gives_every_sample_in_order(labelled):
    data = (PIXELS, np.zeros((7, 3), np.float32)) if labelled else PIXELS
    outputs = predict(_mean_of_channels(), tf.data.Dataset.from_tensor_slices(data).batch(3))
    assert outputs.dtype == np.float32
    np.testing.assert_allclose(outputs, PIXELS.mean(axis=(1, 2)), rtol=1e-5)


def test_predict_without_known_length_or_without_samples():
    dataset = tf.data.Dataset.from_tensor_slices(PIXELS)
    some = predict(_mean_of_channels(), dataset.filter(lambda x: True).batch(3))
    none = predict(_mean_of_channels(), dataset.take(0).batch(3))
    assert some.shape == (7, 3)
    assert none.shape == (0, 3)


def test_tensorflow_is_given_no_reason_to_warn_of_tracing(monkeypatch):
    said = []
    monkeypatch.setattr(tf.get_logger(), "handle", lambda record: said.append(record.getMessage()))
    dataset = tf.data.Dataset.from_tensor_slices(PIXELS).batch(3)
    for _ in range(6):
        predict(_mean_of_channels(), dataset)
    assert said == []


def test_predict_returns_float32_of_a_bfloat16_model():
    inputs = keras.Input((4, 4, 3))
    outputs = keras.layers.GlobalAveragePooling2D(dtype="bfloat16")(inputs)
    dataset = tf.data.Dataset.from_tensor_slices(PIXELS).batch(7)
    assert predict(keras.Model(inputs, outputs), dataset).dtype == np.float32


def test_the_confidence_is_that_of_what_the_threshold_decides():
    probabilities = np.array([[0.75, 0.25], [0.875, 0.125]], np.float32)
    info = _info("single-label", "ok", "bad", thresholds=(0.25,))
    frame = predictions_frame(["a", "b"], probabilities, None, info)
    assert frame["predicted"].tolist() == ["bad", "ok"]
    assert frame["confidence"].tolist() == [0.25, 0.875]


def test_single_label_table():
    probabilities = np.array([[0.25, 0.75], [0.5, 0.5]], np.float32)
    targets = np.array([[1, 0], [1, 0]], np.float32)
    frame = predictions_frame(
        ["a.png", "b.png"], probabilities, targets, _info("single-label", "ok", "bad")
    )
    assert frame.to_dict("list") == {
        "id": ["a.png", "b.png"],
        "true": ["ok", "ok"],
        "predicted": ["bad", "ok"],
        "confidence": [0.75, 0.5],
        "p_ok": [0.25, 0.5],
        "p_bad": [0.75, 0.5],
    }


def test_multi_label_table():
    probabilities = np.array([[0.75, 0.5, 0.25], [0.125, 0.25, 0.25]], np.float32)
    targets = np.array([[1, 0, 1], [0, 0, 0]], np.float32)
    info = _info("multi-label", "x", "y", "z", thresholds=(0.5, 0.5, 0.75))
    frame = predictions_frame(np.array([1, 2]), probabilities, targets, info)
    assert list(frame["id"]) == ["1", "2"]
    assert list(frame["true"]) == ["x|z", ""]
    assert list(frame["predicted"]) == ["x|y", ""]
    assert list(frame["confidence"]) == [0.5, 0.75]
    assert list(frame["p_z"]) == [0.25, 0.25]


def test_regression_table():
    values = np.array([[1.5, -2.0]], np.float32)
    targets = np.array([[1.0, -1.0]], np.float32)
    frame = predictions_frame(["a"], values, targets, _info("regression", "age", "mass"))
    assert frame.to_dict("list") == {
        "id": ["a"],
        "true_age": [1.0],
        "predicted_age": [1.5],
        "true_mass": [-1.0],
        "predicted_mass": [-2.0],
    }


@pytest.mark.parametrize("task", ["single-label", "multi-label", "regression"])
def test_without_targets_there_are_no_true_columns(task):
    frame = predictions_frame(["a"], np.zeros((1, 2), np.float32), None, _info(task, "u", "v"))
    assert len(frame) == 1
    assert not [name for name in frame if name.startswith("true")]


def test_what_thresholds_choose_is_shown_first():
    several = _info("multi-label", "a", "b", "c", thresholds=(0.6, 0.1, 0.5))
    one = _info("single-label", "a", "b", thresholds=(0.2,))
    rows = np.float32([[0.5, 0.2, 0.3], [0.7, 0.05, 0.9]])
    told = format_predictions(["x", "y"], rows, several, top=2).splitlines()
    assert told == ["x  b 0.2000*   a 0.5000", "y  c 0.9000*   a 0.7000*"]
    assert format_predictions(["x"], rows[:1, :2], one, top=1).split()[1] == "b"


def test_programs_are_told_which_of_several_labels_are_predicted():
    several = _info("multi-label", "a", "b", "c", thresholds=(0.6, 0.1, 0.5))
    rows = np.float32([[0.5, 0.2, 0.3]])
    [found] = json.loads(format_predictions(["x"], rows, several, top=2, style="json"))
    assert [(p["class"], p["predicted"]) for p in found["predictions"]] == [
        ("b", True),
        ("a", False),
    ]
    table = pd.read_csv(io.StringIO(format_predictions(["x"], rows, several, top=2, style="csv")))
    assert table.columns.tolist()[1:4] == ["class_1", "probability_1", "predicted_1"]
    assert table[["predicted_1", "predicted_2"]].to_numpy().tolist() == [[True, False]]
    # All that is shown without `top` is predicted.
    assert "predicted" not in format_predictions(["x"], rows, several, style="json")
