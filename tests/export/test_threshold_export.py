"""A threshold between two classes in what is exported."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_tl.data.image_input import ImageInput
from keras_tl.errors import CheckError
from keras_tl.export import saved_model
from keras_tl.export.saved_model import export_saved_model
from keras_tl.model_info import ModelInfo

pytestmark = pytest.mark.usefixtures("small_decoder")
SIZE = 8
described = saved_model.described


@pytest.fixture
def model():
    """The probability of the second class is the mean of the pixels / 255."""
    inputs = keras.Input((SIZE, SIZE, 3))
    mean = keras.layers.Flatten()(inputs)
    share = keras.ops.mean(mean, axis=1, keepdims=True) / 255.0
    return keras.Model(inputs, keras.ops.concatenate([1 - share, share], axis=1))


def info(*thresholds):
    return ModelInfo(ImageInput(size=SIZE), ("well", "ill"), "single-label", thresholds)


def grey(*levels):
    return tf.constant(
        np.array(levels, np.uint8).repeat(SIZE * SIZE * 3).reshape(-1, SIZE, SIZE, 3)
    )


@pytest.mark.parametrize(
    ("thresholds", "names"),
    [((), ["well", "well", "ill"]), ((0.3,), ["well", "ill", "ill"])],
)
def test_the_class_name_follows_the_threshold(tmp_path, model, thresholds, names):
    export_saved_model(model, tmp_path / "out", info(*thresholds))
    answer = tf.saved_model.load(str(tmp_path / "out")).signatures["pixels"](
        pixels=grey(51, 102, 204)
    )
    assert [name.decode() for name in answer["class_name"].numpy()] == names
    assert answer["class_index"].dtype == tf.int64
    np.testing.assert_allclose(answer["probabilities"][:, 1], [0.2, 0.4, 0.8], rtol=1e-6)
    assert ModelInfo.read(tmp_path / "out").thresholds == thresholds


def test_another_threshold_in_the_graph_is_refused(tmp_path, model, monkeypatch):
    monkeypatch.setattr(saved_model, "described", lambda out, _: described(out, info(0.0)))
    with pytest.raises(CheckError, match="class_index"):
        export_saved_model(model, tmp_path / "out", info(1.0))
    assert not (tmp_path / "out").exists()
