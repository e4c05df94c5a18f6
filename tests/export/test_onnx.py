import json

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from portable_models import SIZE, info, model, samples

from keras_tl.errors import CheckError, InputError
from keras_tl.export import onnx as export
from keras_tl.export.onnx import export_onnx


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return export_onnx(model(), tmp_path_factory.mktemp("onnx") / "out", info())


def outputs(folder, pixels):
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
    return session.run(None, {"pixels": pixels.astype(np.float32)})[0]


def test_it_takes_any_number_of_images_and_says_what_keras_says(exported):
    pixels = np.random.default_rng(0).integers(0, 256, (5, SIZE, SIZE, 3))
    expected = model().predict(pixels.astype(float), verbose=0)
    np.testing.assert_allclose(outputs(exported, pixels), expected, atol=1e-5)


def test_the_gate_has_run_its_program(exported):
    facts = json.loads((exported / "export.json").read_text())
    assert facts["format"] == "onnx"
    assert facts["compared"]["largest_difference"] < 1e-5
    assert (exported / "predict.py").is_file()
    needed = (exported / "requirements.txt").read_text()
    assert "onnxruntime" in needed and "litert" not in needed


@pytest.mark.slow
def test_normalization_grouped_convolutions_and_gelu_convert(tmp_path):
    """What ConvNeXt has: constants, a part that Keras compiles for XLA, and TensorFlow's erfc."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Normalization(mean=[120.0, 110.0, 100.0], variance=[900.0, 800.0, 700.0])(
        inputs
    )
    x = keras.layers.Conv2D(8, 3, padding="same")(x)
    x = keras.layers.Conv2D(8, 7, groups=8, padding="same")(x)
    x = keras.layers.LayerNormalization(epsilon=1e-6)(x)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Dense(16, activation="gelu")(x))
    blocks = keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(x))
    path = export_onnx(blocks, tmp_path / "out", info())
    pixels = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3))
    expected = blocks.predict(pixels.astype(float), verbose=0)
    np.testing.assert_allclose(outputs(path, pixels), expected, atol=1e-5)


@pytest.mark.slow
def test_float16_computes_in_half_precision(tmp_path):
    path = export_onnx(model(), tmp_path / "out", info(), precision="float16")
    graph = onnx.load(path / "model.onnx").graph
    kinds = {tensor.data_type for tensor in graph.initializer}
    assert onnx.TensorProto.FLOAT16 in kinds
    assert graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT


def test_int8_is_quantized_and_decides_alike(tmp_path):
    images = {"calibration": samples(20), "held_out": samples(20, seed=5)}
    path = export_onnx(model(), tmp_path / "out", info(), precision="int8", **images)
    nodes = [node.op_type for node in onnx.load(path / "model.onnx").graph.node]
    assert nodes.count("QuantizeLinear") >= 2
    compared = json.loads((path / "export.json").read_text())["compared"]
    assert compared["accuracy"] == compared["agreement"] == 1.0


def test_swapped_channels_are_refused(tmp_path, monkeypatch):
    to_onnx = export._to_onnx
    swapped = model()
    kernel, bias = swapped.get_layer("conv").get_weights()
    swapped.get_layer("conv").set_weights([kernel[:, :, ::-1], bias])
    monkeypatch.setattr(export, "_to_onnx", lambda _: to_onnx(swapped))
    with pytest.raises(CheckError, match=r"outputs of predict\.py within"):
        export_onnx(model(), tmp_path / "out", info())
    assert list(tmp_path.iterdir()) == []


def test_missing_packages_are_named_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "find_spec", lambda name: None if name == "tf2onnx" else name)
    with pytest.raises(InputError, match=r"none named tf2onnx\. .*keras_tl\[onnx\]"):
        export_onnx(model(), tmp_path / "out", info())


def test_what_does_not_convert_is_said_in_one_line(tmp_path, monkeypatch):
    def fail(_):
        raise KeyError("Unsupported op")

    monkeypatch.setattr(export, "_to_onnx", fail)
    with pytest.raises(CheckError, match="KeyError: 'Unsupported op'"):
        export_onnx(model(), tmp_path / "out", info())
