"""Export to ONNX, for ONNX Runtime and whatever else reads it."""

import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_tl.data.pipeline import Samples
from keras_tl.engines.base import INPUT, output_name
from keras_tl.errors import InputError
from keras_tl.export.portable import Runtime, does_not_convert, export_portable
from keras_tl.model_info import ModelInfo
from keras_tl.quiet import quiet

PACKAGES = ("onnx", "tf2onnx", "onnxruntime")
# The newest that every ONNX Runtime since 1.17 reads, with kernels for all its operators.
OPSET = 18


def export_onnx(
    model: keras.Model,
    path: str | Path,
    info: ModelInfo,
    *,
    precision: str = "float32",
    calibration: Samples | None = None,
    held_out: Samples | None = None,
    sample_files: Sequence[str | Path | bytes] = (),
    tolerance: float | None = None,
) -> Path:
    """Exports a model to ONNX, with a program that needs neither TensorFlow nor keras_tl.

    It needs the extra `onnx`. "float16" computes in half precision, where the hardware has it;
    "int8" puts QuantizeLinear and DequantizeLinear around the operators, with ranges from the
    calibration images (static quantization, weights by channel).

    Args:
        model: See `keras_tl.export.portable.export_portable`.
        path: The folder; see `keras_tl.export.portable` for what is in it.
        info: What the model takes and gives.
        precision: "float32", "float16" or "int8".
        calibration: For "int8": some of the images that the model was trained on.
        held_out: For "int8": labelled images that it was not trained on.
        sample_files: For the other two: encoded images to compare on, beside those always used.
        tolerance: The largest difference of a probability allowed; for "int8" the accuracy that
            may be lost (of a regression see `export_portable`).

    Returns:
        The path.

    Raises:
        InputError: A package is missing, or something given cannot be used.
        CheckError: The model does not convert, or what was written differs from it.
    """
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        fix = "Install them with pip install 'keras_tl[onnx]'."
        raise InputError("the packages of the extra onnx", f"none named {', '.join(missing)}", fix)
    return export_portable(
        model,
        path,
        info,
        ONNX,
        precision=precision,
        calibration=calibration,
        held_out=held_out,
        sample_files=sample_files,
        tolerance=tolerance,
    )


def convert(
    model: keras.Model, precision: str = "float32", calibration: np.ndarray | None = None
) -> bytes:
    """Converts a model of one input, without checking the result.

    Args:
        model: A model of pixels, float32 `[batch, height, width, 3]`, with one output.
        precision: "float32" or "float16", of weights and computation.
        calibration: Pixels that int8 takes its ranges from, of the same shape; None keeps floats.

    Returns:
        The file's bytes.

    Raises:
        CheckError: It does not convert.
    """
    try:
        with quiet():
            graph = _to_onnx(model)
            if precision == "float16":
                graph = _to_float16(graph)
            if calibration is not None:
                graph = _to_int8(graph, calibration)
    # A converter may raise anything, from KeyError to its own errors.
    except Exception as error:
        raise does_not_convert(ONNX.title, model, error) from error
    return graph.SerializeToString()


def _to_onnx(model: keras.Model) -> Any:
    import tf2onnx

    signature = [tf.TensorSpec((None, *model.input_shape[1:]), tf.float32, INPUT)]

    @tf.function(input_signature=signature, autograph=False)
    def run(pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        return {output_name(0): tf.cast(model(pixels, training=False), tf.float32)}

    # Keras runs grouped convolutions in a function for XLA, which tf2onnx leaves as a call; while
    # functions run eagerly, the function's content is traced instead.
    eagerly = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        graph, _ = tf2onnx.convert.from_function(run, signature, opset=OPSET)
        captured = run.get_concrete_function().graph.captures
    finally:
        tf.config.run_functions_eagerly(eagerly)
    constants = {place.name: c for c, place in captured if c.dtype != tf.resource}
    return _with_erf(_with_constants(graph, constants))


def _with_constants(model: Any, constants: dict[str, tf.Tensor]) -> Any:
    """Stores layers' constants (a Normalization's mean), which tf2onnx turned into inputs."""
    from onnx import numpy_helper

    used = {name for node in model.graph.node for name in node.input}
    for asked in list(model.graph.input):
        if asked.name in constants:
            model.graph.input.remove(asked)
        if asked.name in used & constants.keys():
            value = constants[asked.name].numpy()
            model.graph.initializer.append(numpy_helper.from_array(value, asked.name))
    return model


def _with_erf(model: Any) -> Any:
    """Writes erfc(x), which GELU uses and ONNX lacks, as 1 - erf(x)."""
    from onnx import TensorProto, helper

    one, nodes = "one_of_erfc", []
    for node in model.graph.node:
        if node.op_type != "Erfc":
            nodes.append(node)
            continue
        (erf,) = names = [f"{node.name}_erf"]
        nodes.append(helper.make_node("Erf", node.input, names, erf))
        nodes.append(helper.make_node("Sub", [one, erf], node.output, node.name))
    if len(nodes) > len(model.graph.node):
        model.graph.initializer.append(helper.make_tensor(one, TensorProto.FLOAT, [], [1.0]))
        del model.graph.node[:]
        model.graph.node.extend(nodes)
    return model


def _to_float16(graph: Any) -> Any:
    from onnxruntime.transformers.float16 import convert_float_to_float16

    return convert_float_to_float16(graph, keep_io_types=True)


def _to_int8(graph: Any, calibration: np.ndarray) -> Any:
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        """One image after the other."""

        def __init__(self) -> None:
            self._images = iter(calibration)

        def get_next(self) -> dict[str, np.ndarray] | None:
            image = next(self._images, None)
            return None if image is None else {INPUT: image[None].astype(np.float32)}

    with tempfile.TemporaryDirectory() as aside:
        source, fused, target = (Path(aside) / f"{i}.onnx" for i in range(3))
        onnx.save(graph, source)
        quant_pre_process(source, fused, skip_symbolic_shape=True)
        quantize_static(
            fused,
            target,
            Reader(),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return onnx.load(target)


ONNX = Runtime(
    name="onnx",
    title="ONNX Runtime",
    file="model.onnx",
    package="onnxruntime",
    convert=convert,
    reads="`model.onnx` has one input, `pixels`, and one output, `output_0`.",
)
