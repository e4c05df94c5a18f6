"""The columns of a run's predictions, as shards hold them."""

import numpy as np
import pytest
import tensorflow as tf

from keras_tl import shard_formats
from keras_tl.data.image_input import ImageInput
from keras_tl.data.streams import Item
from keras_tl.model_info import ModelInfo
from keras_tl.scorers import PREDICTIONS, computed

# One more than has a column each.
MANY = 201


def many(names):
    return ModelInfo(ImageInput(size=8), tuple(names), "single-label")


def rising(items):
    """The class of each item's index is its most probable one, the next class the second."""
    outputs = np.full((items, MANY), 0.1 / (MANY - 2), np.float32)
    for i in range(items):
        outputs[i, [i, i + 1]] = 0.6, 0.3
    return outputs


WORDS = [f"c{i:03}" for i in range(MANY)]
DIGITS = [str(i + 17) for i in range(MANY)]


@pytest.mark.parametrize("names", [WORDS, DIGITS])
def test_names_of_many_classes_are_text_and_their_figures_numbers(names):
    columns = computed(rising(3), many(names), PREDICTIONS)
    assert columns["predicted"] == columns["class_1"] == names[:3]
    assert columns["class_2"] == names[1:4]
    np.testing.assert_array_equal(columns["confidence"], np.float32([0.6] * 3))
    np.testing.assert_array_equal(columns["probability_2"], np.float32([0.3] * 3))
    texts = [name for name, values in columns.items() if not isinstance(values, np.ndarray)]
    assert texts == ["predicted", *(f"class_{k}" for k in range(1, 11))]
    assert len(columns) == 22


@pytest.mark.parametrize("items", [2, 0])
def test_many_classes_as_parquet(items, tmp_path):
    pq = pytest.importorskip("pyarrow.parquet", reason="the extra parquet")
    columns = computed(rising(items), many(DIGITS), PREDICTIONS)
    whole = shard_formats.columns_of([Item(f"{i}.png", "") for i in range(items)], columns)
    shard_formats.get("parquet").write(whole, tmp_path / "a.parquet")
    table = pq.read_table(tmp_path / "a.parquet")
    types = {name: str(table.schema.field(name).type) for name in table.column_names}
    assert {types["class_1"], types["class_10"], types["predicted"]} == {"string"}
    assert {types["confidence"], types["probability_10"]} == {"float"}
    assert table.column("class_2").to_pylist() == ["18", "19"][:items]


def test_many_classes_as_tfrecord(tmp_path):
    columns = computed(rising(2), many(DIGITS), PREDICTIONS)
    whole = shard_formats.columns_of([Item("a", ""), Item("b", "")], columns)
    shard_formats.get("tfrecord").write(whole, tmp_path / "a.tfrecord")
    records = tf.data.TFRecordDataset(str(tmp_path / "a.tfrecord"))
    first, second = (tf.train.Example.FromString(r.numpy()).features.feature for r in records)
    assert first["class_1"].bytes_list.value[:] == [b"17"]
    assert second["class_2"].bytes_list.value[:] == [b"19"]
    assert second["probability_1"].float_list.value[0] == np.float32(0.6)


def test_a_class_or_a_target_of_such_a_name_is_a_number():
    """The twin: of few classes and of targets the names stand in columns that begin otherwise."""
    values = np.float32([[0.25, 0.75]])
    few = ModelInfo(ImageInput(size=8), ("class_1", "predicted"), "single-label")
    columns = computed(values, few, PREDICTIONS)
    assert columns["predicted"] == ["predicted"]
    np.testing.assert_array_equal(columns["p_class_1"], np.float32([0.25]))
    targets = ModelInfo(ImageInput(size=8), ("class_1", "b"), "regression")
    columns = computed(values, targets, PREDICTIONS)
    np.testing.assert_array_equal(columns["predicted_class_1"], np.float32([0.25]))
    assert list(columns) == ["predicted_class_1", "predicted_b"]
