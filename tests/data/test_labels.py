import logging
import re
from decimal import Decimal

import numpy as np
import pytest

from keras_tl.data.label_cells import class_text
from keras_tl.data.labels import (
    class_counts,
    first_few,
    read_label_columns,
    read_labels,
    refuse_emptied_classes,
)
from keras_tl.errors import InputError


def test_words_are_sorted_classes():
    labels = read_labels(["dog", "cat", " dog ", "ant"])
    assert labels.task == "single-label"
    assert labels.class_names == ("ant", "cat", "dog")
    assert labels.values.tolist() == [2, 1, 2, 0]
    assert labels.values.dtype == np.int64


@pytest.mark.parametrize(
    "values", [[10, 9, 2], [10.0, 9.0, 2.0], ["10", "9", "2"], ["10.0", "9", "2"]]
)
def test_numeric_classes_keep_numeric_order_and_whole_names(values):
    assert read_labels(values).class_names == ("2", "9", "10")


def test_leading_zeros_stay_and_words_are_not_shortened():
    assert read_labels(["007", "1"]).class_names == ("1", "007")
    assert read_labels(["1.0", "beta"]).class_names == ("1.0", "beta")


def test_words_that_pandas_would_take_for_missing_are_classes():
    assert read_labels(["NA", "nan", "None"]).class_names == ("NA", "None", "nan")


@pytest.mark.parametrize("values", [[0.5, 1.0, 2.0], ["0.5", "1", "2e0"], np.array([0.5, 1, 2])])
def test_fractional_numbers_are_a_regression(values):
    labels = read_labels(list(values), name="size")
    assert (labels.task, labels.class_names) == ("regression", ("size",))
    assert labels.values.dtype == np.float32
    assert labels.values.tolist() == [[0.5], [1.0], [2.0]]


def test_decimals_are_numbers():
    assert read_labels([Decimal("0.5"), Decimal(2)]).values.tolist() == [[0.5], [2.0]]
    assert read_labels([Decimal(3), Decimal(2)]).class_names == ("2", "3")


@pytest.mark.parametrize("odd", ["0,5", "1,000.5", "1.000,5", "1.5%", "-1.5 %", "n/a"])
def test_a_word_among_fractional_numbers_is_refused_unless_the_task_is_told(odd):
    values = [*(f"{i}.5" for i in range(9)), odd, "10.5"]
    rows = [f"line {i}" for i in range(2, 13)]
    with pytest.raises(InputError, match=f"received '{odd}' in line 11"):
        read_labels(values, rows=rows)
    assert len(read_labels(values, task="single-label").class_names) == 11
    with pytest.raises(InputError, match="received '0,5' in item 0"):
        read_labels([f"{i},5" for i in range(10)])
    # A model's own classes, fewer cells, or whole numbers may be classes.
    assert read_labels(values, class_names=values).task == "single-label"
    assert read_labels(["1.5", "2,5"] * 4).task == "single-label"
    assert read_labels([*map(str, range(20)), "other"]).task == "single-label"


def test_separator_makes_multi_label():
    labels = read_labels(["cat|dog", "dog", "|", "ant | cat"])
    assert (labels.task, labels.class_names) == ("multi-label", ("ant", "cat", "dog"))
    assert labels.values.tolist() == [[0, 1, 1], [0, 0, 1], [0, 0, 0], [1, 1, 0]]


def test_lists_make_multi_label():
    labels = read_labels([["b", "a"], []], separator=",")
    assert labels.values.tolist() == [[1, 1], [0, 0]]


@pytest.mark.parametrize(
    "values", [[[1, 0, 1], [0, 1, 0]], [[True, False], (0, 1)], [[0.5, 2], np.array([1, 3])]]
)
def test_lists_of_a_number_for_each_class_or_target_are_refused(values):
    for task in ("auto", "multi-label", "regression"):
        with pytest.raises(InputError, match="Name one column per class or target"):
            read_labels(values, task=task)


def test_lists_of_numbers_that_name_classes_are_read():
    assert read_labels([[3, 1], [1, 2]]).class_names == ("1", "2", "3")
    assert read_labels([[0, 1], [1], []]).values.tolist() == [[1, 1], [0, 1], [0, 0]]
    assert read_labels([[3, 2], [1, float("nan")]]).values.tolist() == [[0, 1, 1], [1, 0, 0]]
    assert read_labels([["1", "0"], ["0", "2"]]).class_names == ("0", "1", "2")


def warnings_of(caplog):
    return [record for record in caplog.records if record.levelname == "WARNING"]


@pytest.mark.parametrize("joined", ["cat;dog", "cat, dog", "['cat', 'dog']", '["bird"]', "[1, 2]"])
def test_classes_joined_by_another_separator_are_warned_of_once(joined, caplog):
    names = read_labels([joined, "cat", "dog", "dog; cat"]).class_names
    assert set(names) == {joined, "cat", "dog", "dog; cat"}
    [record] = warnings_of(caplog)
    assert record.message.endswith("Separate several classes in a cell with |.")


def test_names_with_commas_are_classes(caplog):
    read_labels(["cat", "cat, black", "[UNK]", ";", "a;b|cat"])
    read_labels(["cat", "cat;dog", "dog"], class_names=["cat", "dog", "cat;dog"])
    assert not warnings_of(caplog)


def test_explicit_task_overrides():
    assert read_labels([1, 2, 3], task="regression").values.tolist() == [[1], [2], [3]]
    assert read_labels(["0.5", "1.5"], task="single-label").class_names == ("0.5", "1.5")
    assert read_labels(["cat", "dog"], task="multi-label").values.tolist() == [[1, 0], [0, 1]]
    assert read_labels(["a|b", "c"], task="single-label").class_names == ("a|b", "c")


def test_decision_is_said(caplog):
    with caplog.at_level(logging.INFO, "keras_tl"):
        read_labels([0.5, 1.0])
    assert "regression" in caplog.text and "not all numbers are whole" in caplog.text


@pytest.mark.parametrize("missing", [None, "", "  ", float("nan"), np.float32("nan")])
def test_missing_labels_are_counted_and_named(missing):
    message = r"2 without one \(line 3, line 4\)"
    with pytest.raises(InputError, match=message):
        read_labels(["a", missing, missing, "b"], rows=["line 2", "line 3", "line 4", "line 5"])


def test_a_missing_label_among_several_classes_may_be_none_of_them():
    for values, task in ((["a|b", ""], "auto"), (["a", ""], "multi-label")):
        with pytest.raises(InputError, match=r"Fill the labels in \(a lone \| is no class\)"):
            read_labels(values, task=task)
    with pytest.raises(InputError, match="Fill the labels in, or delete"):
        read_labels(["a", ""])


@pytest.mark.parametrize(
    ("values", "task", "message"),
    [
        (["1", "b"], "regression", "received words, 'b' in item 1"),
        ([1.0, float("inf")], "regression", "infinite"),
        ([1.0, 1e300], "regression", "infinite in float32"),
        (["0.5", "-3.5e38"], "regression", "infinite in float32"),
        ([1.5, 10**310], "regression", "received words"),
        (["a", "a"], "auto", "two classes"),
        ([["a"], ["b"]], "single-label", "one class for each item"),
        (["a", "b"], "singel-label", "Did you mean single-label"),
        (["|", "|"], "auto", "at least one class"),
        ([["a|b"], ["a", "b"]], "auto", r"classes without '\|'.*received 'a\|b'"),
    ],
)
def test_impossible_labels_are_refused(values, task, message):
    with pytest.raises(InputError, match=message):
        read_labels(values, task=task)


def test_an_accent_may_be_a_character_of_its_own():
    two = "cafe\u0301"
    labels = read_labels(["caf\u00e9", two, "th\u00e9"])
    assert labels.class_names == ("caf\u00e9", "th\u00e9")
    assert labels.values.tolist() == [0, 0, 1]
    # A model's own names hold as they are.
    assert read_labels([two], class_names=[two, "x"]).class_names == (two, "x")
    assert read_labels(["caf\u00e9"], class_names=[two, "x"]).values.tolist() == [0]
    both = ["caf\u00e9", two]
    assert read_labels(both, class_names=both).values.tolist() == [0, 1]


def test_given_classes_are_matched_by_name_not_by_index():
    labels = read_labels([3, 1], class_names=("1", "2", "3"))
    assert labels.values.tolist() == [2, 0]


def test_numbers_are_given_classes_as_they_are_written():
    # Trained beside "unknown", where "1.0" is a word.
    names = ("1.0", "2.0", "unknown")
    assert read_labels(["2.0", "1.0"], class_names=names).values.tolist() == [1, 0]
    assert read_labels([2.0, 1.0], class_names=names).values.tolist() == [1, 0]
    several = read_labels(["1.0|2.0", "2.0"], class_names=names)
    assert several.values.tolist() == [[1, 1, 0], [0, 1, 0]]
    # What is not written so is still matched as a number.
    assert read_labels(["2.0", "1"], class_names=("1", "2")).values.tolist() == [1, 0]
    assert read_labels(["1.0", "1"], class_names=("1", "1.0")).values.tolist() == [1, 0]


def test_whole_numbers_that_no_float_holds_are_words():
    long = 10**310
    assert read_labels([long, 2]).class_names == (str(long), "2")
    assert read_labels([[long], [2]]).values.tolist() == [[1, 0], [0, 1]]
    with pytest.raises(InputError, match="numbers in label column 'b'"):
        read_label_columns({"a": [0, 1], "b": [1, long]})
    with pytest.raises(InputError, match="labelled '111"):
        read_labels(["1" * 5000, "cat"], class_names=("cat", "dog"))


def test_the_largest_float32_is_a_target():
    largest = float(np.finfo(np.float32).max)
    assert read_labels([0.5, largest]).values.tolist() == [[0.5], [largest]]


def test_classes_that_could_not_be_told_from_several_are_refused():
    with pytest.raises(InputError, match=r"received 'a\|b'"):
        read_labels(["a|b;c", "c"], separator=";")
    columns = {"a|b": [1, 0, 1], "c": [1, 0, 0]}
    with pytest.raises(InputError, match=r"received 'a\|b'"):
        read_label_columns(columns)
    # A single class is written alone, and targets are never joined by their names.
    one_hot = {"a|b": [1, 0], "c": [0, 1]}
    assert read_label_columns(one_hot).class_names == ("a|b", "c")
    assert read_label_columns({"a|b": [0.5, 2], "c": [1, 2]}).task == "regression"


def test_unknown_and_repeated_classes_are_refused():
    with pytest.raises(InputError, match=r"1 items labelled 'dgo'.*Did you mean dog\?"):
        read_labels(["cat", "dgo"], class_names=("cat", "dog"))
    with pytest.raises(InputError, match="Name each one once"):
        read_labels(["cat"], class_names=("cat", "cat"))


def test_zero_one_columns_are_multi_label():
    labels = read_label_columns({"cat": [1, 0, 1], "dog": [True, False, False]})
    assert (labels.task, labels.class_names) == ("multi-label", ("cat", "dog"))
    assert labels.values.tolist() == [[1, 1], [0, 0], [1, 0]]


def test_booleans_in_label_columns_may_be_written():
    labels = read_label_columns({"cat": ["True", "FALSE", "true"], "dog": ["1", "false", 1]})
    assert labels.task == "multi-label"
    assert labels.values.tolist() == [[1, 1], [0, 0], [1, 1]]
    with pytest.raises(InputError, match="received 'yes'"):
        read_label_columns({"cat": ["True", "yes"], "dog": [1, 0]})


def test_one_hot_columns_are_single_label_unless_told():
    columns = {"cat": [1, 0, 0], "dog": [0, 1, 1]}
    assert read_label_columns(columns).values.tolist() == [0, 1, 1]
    assert read_label_columns(columns, task="multi-label").values.tolist() == [
        [1, 0],
        [0, 1],
        [0, 1],
    ]


def test_columns_come_in_the_wanted_order():
    columns = {"cat": [1, 0], "dog": [1, 1]}
    labels = read_label_columns(columns, class_names=("dog", "cat"))
    assert labels.class_names == ("dog", "cat")
    assert labels.values.tolist() == [[1, 1], [1, 0]]
    with pytest.raises(InputError, match="label columns dog, ant"):
        read_label_columns(columns, class_names=("dog", "ant"))


def test_fractional_columns_are_a_regression():
    labels = read_label_columns({"x": ["0.5", "1"], "y": [2, 3]})
    assert (labels.task, labels.class_names) == ("regression", ("x", "y"))
    assert labels.values.tolist() == [[0.5, 2.0], [1.0, 3.0]]


@pytest.mark.parametrize(
    ("columns", "task", "message"),
    [
        ({"a": [0, 1], "b": [3, 4]}, "auto", "either"),
        ({"a": [0, 1], "b": ["x", "y"]}, "auto", "'x'"),
        ({"a": [0, 1], "b": [None, 1]}, "auto", "1 without one"),
        ({"a": [1, 1], "b": [1, 1]}, "single-label", "exactly one 1"),
        ({"a": [0, 2], "b": [1, 1]}, "multi-label", "zeros and ones"),
    ],
)
def test_columns_that_do_not_fit_are_refused(columns, task, message):
    with pytest.raises(InputError, match=message):
        read_label_columns(columns, task=task)


def test_class_counts():
    assert class_counts(np.array([0, 2, 2]), "abc").tolist() == [1, 0, 2]
    assert class_counts(np.array([[1, 0], [1, 1]], np.float32), "ab").tolist() == [2, 1]


def test_emptied_classes_are_named():
    before, after = np.array([0, 0, 1]), np.array([0])
    with pytest.raises(InputError, match=re.escape("received none in 'b'.")):
        refuse_emptied_classes(before, after, ("a", "b", "never had any"), "single-label")
    refuse_emptied_classes(before, np.array([1, 0]), ("a", "b"), "single-label")


def test_texts():
    assert [class_text(cell) for cell in (3.0, 3, 2.5, True, "3.0")] == [
        "3",
        "3",
        "2.5",
        "True",
        "3.0",
    ]
    assert first_few(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"
