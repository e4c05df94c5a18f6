import logging
import sys

import keras
import numpy as np
import pytest

from keras_tl import engines, freezing, frozen_prefix
from keras_tl.engines import LiteRTEngine, TensorFlowEngine


@pytest.fixture
def prefix(tiny_model):
    freezing.AllButLast(1).apply(tiny_model)
    return frozen_prefix.split(tiny_model).prefix


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), np.uint8)


def test_tensorflow_is_keras(prefix, pixels):
    (output,) = TensorFlowEngine(prefix)(pixels)
    expected = prefix(pixels.astype("float32"), training=False)
    np.testing.assert_allclose(output, keras.tree.flatten(expected)[0], atol=1e-6)


def test_litert_agrees_and_fills_a_batch_up(prefix, pixels, tmp_path):
    engine = LiteRTEngine(prefix, tmp_path / "prefix.tflite")
    expected = TensorFlowEngine(prefix)(pixels)[0]
    for part in (slice(0, 4), slice(4, 5)):
        (output,) = engine(pixels[part])
        np.testing.assert_allclose(output, expected[part], atol=1e-4)


def test_several_tensors_come_in_the_order_of_the_cut(tiny_model, pixels, tmp_path):
    names = ("two_add", "stem_out", "one_conv", "head_pool")
    outputs = [tiny_model.get_layer(name).output for name in names]
    model = keras.Model(tiny_model.input, outputs)
    found = LiteRTEngine(model, tmp_path / "m.tflite")(pixels)
    for output, expected in zip(found, TensorFlowEngine(model)(pixels), strict=True):
        np.testing.assert_allclose(output, expected, atol=1e-4)


def test_a_prefix_is_converted_once(prefix, pixels, tmp_path, monkeypatch):
    first = engines.choose(prefix, pixels[:4], tmp_path)
    monkeypatch.setattr(engines, "_convert", lambda *_: pytest.fail("converted again"))
    second = engines.choose(prefix, pixels[:4], tmp_path)
    assert first.name == second.name == "LiteRT"
    np.testing.assert_array_equal(first(pixels[:4])[0], second(pixels[:4])[0])


def test_a_damaged_file_is_converted_again(prefix, pixels, tmp_path):
    (tmp_path / engines.CONVERTED).write_bytes(b"not a model")
    assert engines.choose(prefix, pixels[:4], tmp_path).name == "LiteRT"


def wrong_channels(self, pixels):
    return [output[..., ::-1] for output in TensorFlowEngine(self.prefix)(pixels)]


def not_finite(self, pixels):
    return [np.full_like(output, np.nan) for output in TensorFlowEngine(self.prefix)(pixels)]


@pytest.mark.parametrize("fault", [wrong_channels, not_finite])
def test_an_engine_that_differs_gives_way(prefix, pixels, tmp_path, monkeypatch, caplog, fault):
    monkeypatch.setattr(LiteRTEngine, "prefix", prefix, raising=False)
    monkeypatch.setattr(LiteRTEngine, "__call__", fault)
    caplog.set_level(logging.INFO, logger="keras_tl")
    assert engines.choose(prefix, pixels[:4], tmp_path).name == "TensorFlow"
    assert "LiteRT differs" in caplog.text


def test_without_the_package_it_is_tensorflow(prefix, pixels, tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    caplog.set_level(logging.INFO, logger="keras_tl")
    assert engines.choose(prefix, pixels, tmp_path).name == "TensorFlow"
    assert "ai_edge_litert" in caplog.text
