"""The gate of every export: what was written must say what the Keras model says."""

import logging
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_tl.data.decoding import decode
from keras_tl.data.image_input import ImageInput
from keras_tl.errors import CheckError, InputError
from keras_tl.heads import HEAD_UNIT
from keras_tl.model_info import ModelInfo

# Largest difference allowed, by the lowest precision a layer computes in. float32 leaves room for
# another order of summation; the other two for a few roundings of their 8 and 11 bits.
TOLERANCES = {"bfloat16": 3e-2, "float16": 5e-3, "float32": 1e-4}
# Resizing in another graph may round a value that lies between two levels the other way.
PIXEL_TOLERANCE = 1
FIX = "What was written must not be used; raise the tolerance only if this is harmless to you."

log = logging.getLogger("keras_tl")


def verify_saved_model(
    folder: str | Path,
    model: keras.Model,
    info: ModelInfo,
    *,
    sample_files: Sequence[str | Path | bytes] = (),
    tolerance: float | None = None,
) -> float:
    """Runs a written SavedModel and the Keras model on the same files, and compares.

    The SavedModel is loaded anew and reads the encoded files itself; the Keras model is fed by
    the data pipeline's decoding of them. Compared are the decoded pixels, the outputs of both
    signatures, and the class names, which must follow from the probabilities. The images are
    the `probe_images` and the sample files.

    Args:
        folder: The SavedModel.
        model: The Keras model it was written from.
        info: What the model takes and gives.
        sample_files: A few encoded images, paths or contents, beside the `probe_images`.
        tolerance: The largest absolute difference of a probability that is allowed; for a
            regression, relative to `scales_of`. By default 1e-4, for a model with
            float16 layers 5e-3, with bfloat16 layers 3e-2.

    Returns:
        The largest difference found, in the unit of the tolerance.

    Raises:
        InputError: A sample file cannot be read or decoded.
        CheckError: Something differs.
    """
    allowed = default_tolerance(model) if tolerance is None else tolerance
    images = {**probe_images(), **read_samples(sample_files)}
    pixels = decode_as_in_training(images, info.images)
    expected = keras_outputs(model, pixels)
    signatures = tf.saved_model.load(str(folder)).signatures
    encoded = tf.constant(list(images.values()))
    check_pixels(signatures["decode"](image_bytes=encoded)["pixels"].numpy(), pixels, images)
    results = {
        "serving_default": signatures["serving_default"](image_bytes=encoded),
        "pixels": signatures["pixels"](pixels=tf.constant(pixels)),
    }
    largest, scales = 0.0, scales_of(model, expected, info)
    for name, result in results.items():
        outputs = result["values" if info.task == "regression" else "probabilities"].numpy()
        what = f"signature {name}"
        largest = max(largest, check_outputs(what, outputs, expected, images, scales, allowed))
        check_labels(name, result, outputs, info)
    log.info(
        "The SavedModel agrees with the Keras model on %d images: difference %.1e, allowed %.1e",
        len(images),
        largest,
        allowed,
    )
    return largest


def default_tolerance(model: keras.Model) -> float:
    """The difference allowed for the lowest precision that a layer of `model` computes in."""
    computed_in = {layer.compute_dtype for layer in model.layers}
    return next(
        (allowed for dtype, allowed in TOLERANCES.items() if dtype in computed_in),
        TOLERANCES["float32"],
    )


def keras_outputs(model: keras.Model, inputs: np.ndarray | tf.Tensor) -> np.ndarray:
    """What a Keras model makes of a few pixels, tokens or strings: float32 `[batch, outputs]`.

    Run eagerly: to trace a graph would take longer than a few images.
    """
    outputs = model(tf.cast(inputs, model.input.dtype), training=False)
    return np.asarray(tf.cast(outputs, tf.float32), np.float32)


def probe_images() -> dict[str, bytes]:
    """Encoded images that show a wrong decoding, by a name for each.

    No side, corner or channel of them is like another: a turn, a flip or swapped channels show.
    """
    rows, columns = np.indices((48, 64))
    board = (rows // 8 + columns // 8) % 2 * 255
    picture = np.stack([rows * 5, columns * 4, board], axis=-1).astype(np.uint8)
    alpha = ((rows + columns) * 2).astype(np.uint8)[..., None]
    jpeg = tf.io.encode_jpeg(picture).numpy()
    return {
        "a JPEG": jpeg,
        "a JPEG that EXIF says to turn": _with_orientation(jpeg, 6),
        "a grey JPEG": tf.io.encode_jpeg(picture[..., :1]).numpy(),
        "a PNG with transparency": tf.io.encode_png(np.concatenate([picture, alpha], -1)).numpy(),
    }


def _with_orientation(jpeg: bytes, orientation: int) -> bytes:
    """Puts an EXIF orientation (1..8) into a JPEG: one entry, big-endian, behind its start."""
    entry = struct.pack(">HHIHH", 0x0112, 3, 1, orientation, 0)
    tiff = b"MM\x00*" + struct.pack(">IH", 8, 1) + entry + struct.pack(">I", 0)
    segment = b"Exif\x00\x00" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + jpeg[2:]


def read_samples(sample_files: Sequence[str | Path | bytes]) -> dict[str, bytes]:
    """Reads encoded images, paths or contents, by a name for each.

    Raises:
        InputError: A file cannot be read.
    """
    contents = {}
    for index, file in enumerate(sample_files):
        if isinstance(file, bytes):
            contents[f"sample {index}"] = file
            continue
        try:
            contents[str(file)] = Path(file).read_bytes()
        except OSError as error:
            raise InputError("readable sample files", str(error), "Give other ones.") from error
    return contents


def decode_as_in_training(images: Mapping[str, bytes], image_input: ImageInput) -> np.ndarray:
    """What the data pipeline makes of encoded images.

    Args:
        images: Encoded images by name.
        image_input: How they are decoded and resized.

    Returns:
        uint8 `[images, size, size, 3]`.

    Raises:
        InputError: One cannot be decoded.
    """
    dataset = tf.data.Dataset.from_tensor_slices(list(images.values()))
    plainly = tf.autograph.experimental.do_not_convert(lambda c: decode(c, image_input))
    decoded = iter(dataset.map(plainly))
    pixels = []
    for name in images:
        try:
            pixels.append(next(decoded).numpy())
        except tf.errors.InvalidArgumentError as error:
            raise InputError(
                "sample files that can be decoded", name, "Give images only."
            ) from error
    return np.stack(pixels)


def check_pixels(received: np.ndarray, expected: np.ndarray, images: Mapping[str, bytes]) -> None:
    """Raises where decoded pixels differ by more than a level.

    Args:
        received: uint8 `[images, size, size, 3]`, from what was exported.
        expected: The same from the data pipeline.
        images: The images, by name.

    Raises:
        CheckError: They do.
    """
    difference = np.abs(received.astype(int) - expected.astype(int)).max(axis=(1, 2, 3))
    worst = int(difference.argmax())
    if difference[worst] > PIXEL_TOLERANCE:
        raise CheckError(
            f"pixels within {PIXEL_TOLERANCE} level of the data pipeline's",
            f"a difference of {difference[worst]} levels for {list(images)[worst]}",
            FIX,
        )


def check_outputs(
    what: str,
    received: np.ndarray,
    expected: np.ndarray,
    images: Mapping[str, bytes],
    scales: np.ndarray,
    allowed: float,
) -> float:
    """Compares outputs.

    Args:
        what: Where the outputs come from, for the error.
        received: Float `[images, outputs]`, from what was exported.
        expected: The same from the Keras model.
        images: The images, by name.
        scales: See `scales_of`.
        allowed: The largest difference allowed.

    Returns:
        The largest difference, in these scales.

    Raises:
        CheckError: It is larger than allowed, or not a number.
    """
    differences = (np.abs(received - expected) / scales).max(axis=1)
    worst = int(differences.argmax())
    difference = float(differences[worst])
    if not difference <= allowed:  # also where it is NaN
        raise CheckError(
            f"outputs of {what} within {allowed:.1e} of the Keras model's",
            f"a difference of {difference:.1e} for {list(images)[worst]}",
            FIX,
        )
    return difference


def scales_of(model: keras.Model, expected: np.ndarray, info: ModelInfo) -> np.ndarray:
    """What a difference of each output is measured by.

    Args:
        model: The Keras model.
        expected: Its outputs, float `[images, outputs]`.
        info: The task.

    Returns:
        Float `[outputs]`: for probabilities 1. Of a regression each target's largest output, or its
        deviation in training where that is larger; without a head of keras_tl, the largest output
        of all: features near 0 have no scale of their own.
    """
    if info.task != "regression":
        return np.ones(expected.shape[1])
    largest = np.abs(expected).max(axis=0)
    units = [layer.scale for layer in model.layers if layer.name == HEAD_UNIT]
    if not units:
        return np.full(len(largest), float(largest.max()) or 1.0)
    return np.maximum(largest, np.abs(np.asarray(units[0], np.float64)))


def check_labels(
    signature: str, result: Mapping[str, tf.Tensor], outputs: np.ndarray, info: ModelInfo
) -> None:
    """Raises where classes or names do not follow from the SavedModel's own probabilities.

    Args:
        signature: The signature's name, for the error.
        result: What it returned.
        outputs: Its probabilities or values, float32 `[batch, outputs]`.
        info: Task, class names and thresholds.

    Raises:
        CheckError: They do not.
    """
    for name, expected in decided(outputs, info).items():
        received = [
            item.decode() if isinstance(item, bytes) else item
            for item in result[name].numpy().tolist()
        ]
        if received != expected:
            raise CheckError(
                f"{name} of signature {signature} to be {expected}", str(received), FIX
            )


def decided(outputs: np.ndarray, info: ModelInfo) -> dict[str, list]:
    """What follows from outputs, float32 `[images, outputs]`, by the SavedModel's names for it."""
    if info.task == "regression":
        return {}
    if info.task == "multi-label":
        predicted = outputs >= np.array(info.thresholds, np.float32)
        names = np.array(info.class_names, dtype=object)
        return {
            "predicted": predicted.tolist(),
            "labels": ["|".join(names[row]) for row in predicted],
        }
    class_index = outputs.argmax(axis=1).tolist()
    if info.thresholds:
        class_index = (outputs[:, 1] >= np.float32(info.thresholds[0])).astype(int).tolist()
    return {
        "class_index": class_index,
        "class_name": [info.class_names[index] for index in class_index],
    }
