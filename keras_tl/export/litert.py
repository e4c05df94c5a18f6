"""Export for LiteRT, which was TensorFlow Lite: phones, small computers, browsers."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_tl.data.pipeline import Samples
from keras_tl.engines.base import INPUT, saved_model
from keras_tl.errors import CheckError
from keras_tl.export.portable import Runtime, does_not_convert, export_portable
from keras_tl.model_info import ModelInfo
from keras_tl.quiet import quiet

# The share of operators that must compute in integers for a model to be called int8.
LEAST_INTEGER_SHARE = 0.5

log = logging.getLogger("keras_tl")


def export_litert(
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
    """Exports a model for LiteRT, with a program that needs neither TensorFlow nor keras_tl.

    "float16" stores weights in half the space and computes in float32. "int8" computes in
    integers, activations too, and leaves in float32 the operators that have no integer kernel
    (Jacob et al., "Quantization and Training of Neural Networks for Efficient
    Integer-Arithmetic-Only Inference", CVPR 2018); probabilities then come in steps of 1/256.

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
        InputError: Something given cannot be used.
        CheckError: The model does not convert, or what was written differs from it.
    """
    return export_portable(
        model,
        path,
        info,
        LITERT,
        precision=precision,
        calibration=calibration,
        held_out=held_out,
        sample_files=sample_files,
        tolerance=tolerance,
    )


def _convert(model: keras.Model, precision: str, calibration: np.ndarray | None) -> bytes:
    try:
        with quiet():
            content = _to_litert(model, precision, calibration)
    # A converter may raise anything, from TypeError to its own errors.
    except Exception as error:
        raise does_not_convert(LITERT.title, model, error) from error
    if precision == "int8":
        _check_integers(content)
    return content


def _to_litert(model: keras.Model, precision: str, calibration: np.ndarray | None) -> bytes:
    with saved_model(model) as folder:
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        if precision != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if precision == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if calibration is not None:
            converter.representative_dataset = lambda: (
                {INPUT: image[None].astype(np.float32)} for image in calibration
            )
        return converter.convert()


def _check_integers(content: bytes) -> None:
    """Raises where only the weights were quantized, or hardly more."""
    integer, operators = integer_operators(content)
    log.info("%d of %d operators compute in integers", integer, operators)
    if integer < LEAST_INTEGER_SHARE * operators:
        raise CheckError(
            "a model of which most operators compute in integers",
            f"{integer} of {operators}",
            "Take float16, or another backbone.",
        )


def integer_operators(content: bytes) -> tuple[int, int]:
    """Counts the operators whose outputs are 8-bit integers.

    Args:
        content: A LiteRT model.

    Returns:
        Their number, and that of all operators except conversions between float and integers.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    # Delegates put one operator of their own in the place of many.
    interpreter: Any = Interpreter(
        model_content=content,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    dtypes = {tensor["index"]: tensor["dtype"] for tensor in interpreter.get_tensor_details()}
    outputs = [
        dtypes[op["outputs"][0]]
        for op in interpreter._get_ops_details()
        if op["op_name"] not in ("QUANTIZE", "DEQUANTIZE")
    ]
    return sum(dtype == np.int8 for dtype in outputs), len(outputs)


LITERT = Runtime(
    name="litert",
    title="LiteRT",
    file="model.tflite",
    package="ai-edge-litert",
    convert=_convert,
    reads="`model.tflite` has one signature, `serving_default`, from `pixels` to `output_0`.",
)
