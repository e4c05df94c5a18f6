import pytest

from keras_tl import tasks
from keras_tl.errors import CheckError, InputError, KerasTLError, did_you_mean, in_one_line


def test_the_message_is_one_sentence_in_one_grammar():
    error = InputError("a folder", "'photoz'", "Did you mean photos?")
    assert str(error) == "Expected a folder, received 'photoz'. Did you mean photos?"
    assert isinstance(error, ValueError)
    assert isinstance(CheckError("a", "b", "c"), KerasTLError)


def test_near_misses_are_suggested_whatever_their_case():
    assert did_you_mean("mobilenetv2", ["MobileNetV2", "VGG16"]) == "Did you mean MobileNetV2?"
    assert did_you_mean("zzz", ["VGG16"], "See the list.") == "See the list."


def test_errors_of_other_libraries_become_one_line():
    assert in_one_line(ValueError("what\n  is it")) == "what is it"
    assert in_one_line(ValueError("a" * 300), 10) == "a" * 10
    assert in_one_line(TimeoutError()) == "TimeoutError"


def test_a_task_is_a_row():
    row = tasks.get("multi-label")
    assert (row.activation, row.classifies) == ("sigmoid", True)
    with pytest.raises(InputError, match="Did you mean single-label"):
        tasks.get("single_label")


def test_label_smoothing_spreads_a_target():
    # Targets 1, 0 smoothed by 0.2 are 0.9, 0.1; both probabilities are 1/2: ln 2 either way.
    # With 0.9 and 0.1 predicted, the entropy of (0.9, 0.1).
    loss = tasks.get("single-label").build_loss(0.2)
    assert float(loss([[1.0, 0.0]], [[0.9, 0.1]])) == pytest.approx(0.3250830, abs=1e-5)
    with pytest.raises(InputError, match="regression"):
        tasks.get("regression").build_loss(0.1)
