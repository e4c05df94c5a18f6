"""The gate of exports for other runtimes: their program must say what the Keras model says.

`predict.py` is run as a program of its own on image files. In float32 and float16 every output
must be within a tolerance; in int8, where each is rounded to one of 256 values, what counts is that
the decisions agree and are about as often right, on images that the model was not trained on.
"""

import importlib.util
import io
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import keras
import numpy as np

from keras_tl.cores import usable_cores
from keras_tl.data.pipeline import Samples
from keras_tl.engines.base import TensorFlowEngine
from keras_tl.errors import CheckError
from keras_tl.export.verify import (
    FIX,
    check_outputs,
    check_pixels,
    decided,
    decode_as_in_training,
    default_tolerance,
    keras_outputs,
    probe_images,
    read_samples,
    scales_of,
)
from keras_tl.model_info import ModelInfo

PROGRAM = "predict.py"
# Largest difference allowed. float32: for another order of summation and a few pixels rounded the
# other way; float16: for weights, or all of the computation, with 11 bits.
TOLERANCES = {"float32": 1e-3, "float16": 1e-2}
# int8: the share of decisions that must be the same, and the accuracy that may be lost, or more if
# chance alone explains it: by chance, the difference of two models varies by the square root of the
# number of images that only one has right (McNemar, Psychometrika 12, 1947; one-sided 5 %).
LEAST_AGREEMENT = 0.9
LARGEST_LOSS = 0.02
CHANCE = 1.645
# int8, a regression: root mean squared difference, in standard deviations of the target.
LARGEST_DEVIATION = 0.1
HELD_OUT_IMAGES = 500
FILES_A_RUN, BATCH = 100, 32
# Timing: the fewest and the most rounds, and the seconds after which no more than the fewest run.
ROUNDS, TIMED_SECONDS = (5, 50), 2.0
FIX_INT8 = "Take float16, or allow it by the tolerance."


def verify_program(
    folder: Path,
    model: keras.Model,
    info: ModelInfo,
    *,
    precision: str = "float32",
    sample_files: Sequence[str | Path | bytes] = (),
    held_out: Samples | None = None,
    calibration: Samples | None = None,
    tolerance: float | None = None,
) -> dict[str, Any]:
    """Runs a folder's `predict.py` on image files and compares with the Keras model.

    Args:
        folder: With the model, `model.json` and `predict.py`.
        model: The Keras model.
        info: What it takes and gives.
        precision: "float32", "float16" or "int8".
        sample_files: Not for "int8": encoded images beside the `probe_images`.
        held_out: For "int8": labelled images; at most 500 are drawn.
        calibration: For "int8": labelled training images, whose targets give a regression's spread
            if those held out are all the same.
        tolerance: The largest difference of a probability allowed (of a regression, see
            `keras_tl.export.verify.scales_of`); by default 1e-3 for float32 and 1e-2 for float16,
            more if the Keras model itself computes in a lower precision. For "int8" the accuracy
            that may be lost, by default 0.02, more where chance explains it; of a regression the
            root mean squared difference, in standard deviations of the target, by default 0.1.

    Returns:
        What was found, ready for JSON: "images" and "largest_difference" with "allowed"; for
        "int8" "agreement", "accuracy" and "keras_accuracy", or a regression's "difference".

    Raises:
        InputError: A sample file cannot be read or decoded.
        CheckError: The program fails, or something differs.
    """
    images = {**probe_images(), **read_samples(sample_files)}
    pixels = decode_as_in_training(images, info.images)
    program = load_program(folder)
    spec = json.loads(info.to_json())["image_input"]
    received = [program.read_pixels(io.BytesIO(content), spec) for content in images.values()]
    check_pixels(np.stack(received), pixels, images)
    outputs = run_program(folder, list(images.values()), info)
    if precision == "int8":
        assert held_out is not None
        return _compare_decisions(folder, model, info, held_out, tolerance, calibration)
    least = max(TOLERANCES[precision], default_tolerance(model))
    allowed = least if tolerance is None else tolerance
    expected = keras_outputs(model, pixels)
    scales = scales_of(model, expected, info)
    largest = check_outputs(PROGRAM, outputs, expected, images, scales, allowed)
    return {"images": len(images), "largest_difference": largest, "allowed": allowed}


def load_program(folder: Path) -> ModuleType:
    """Loads the `predict.py` of a folder as a module, whatever other modules have that name."""
    spec = importlib.util.spec_from_file_location("exported_program", folder / PROGRAM)
    assert spec and spec.loader
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    return program


def run_program(folder: Path, files: Sequence[str | bytes], info: ModelInfo) -> np.ndarray:
    """Runs a folder's `predict.py` as a program of its own.

    Args:
        folder: With the model, `model.json` and `predict.py`.
        files: Image files, paths or contents.
        info: The class names, and the thresholds that its decisions must follow from.

    Returns:
        Its outputs, float64 `[files, outputs]`.

    Raises:
        CheckError: It fails, or decides what does not follow from its outputs.
    """
    answers: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as aside:
        names = [_as_file(file, Path(aside) / str(i)) for i, file in enumerate(files)]
        for first in range(0, len(names), FILES_A_RUN):
            chunk = names[first : first + FILES_A_RUN]
            command = [sys.executable, str(folder / PROGRAM), "--json", *chunk]
            done = subprocess.run(command, capture_output=True, encoding="utf-8")
            if done.returncode:
                lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
                raise CheckError(f"{PROGRAM} to run", lines[-1], FIX)
            answers += [json.loads(line) for line in done.stdout.strip("\n").split("\n")]
    key = "values" if info.task == "regression" else "probabilities"
    outputs = np.array([[answer[key][name] for name in info.class_names] for answer in answers])
    _check_decisions(answers, outputs, info)
    return outputs


def milliseconds(folder: Path, info: ModelInfo) -> dict[str, float | int]:
    """Times a folder's model on a decoded image, with one thread and with all cores.

    Returns:
        "one_thread" and "all_cores", medians of runs taken in turn, in milliseconds, and "cores".
    """
    program, cores, size = load_program(folder), usable_cores(), info.images.size
    pixels = np.random.default_rng(0).integers(0, 256, (size, size, 3)).astype(np.uint8)
    names = {"one_thread": 1, "all_cores": cores}
    models = {name: program.load(folder, threads) for name, threads in names.items()}
    taken: dict[str, list[float]] = {name: [] for name in models}
    started = time.perf_counter()
    for done in range(1 + ROUNDS[1]):
        if done > ROUNDS[0] and time.perf_counter() - started > TIMED_SECONDS:
            break
        for name, run in models.items():
            before = time.perf_counter()
            run(pixels)
            taken[name].append(time.perf_counter() - before)
    # The first run of each is a warm-up.
    medians = {name: round(1e3 * float(np.median(t[1:])), 3) for name, t in taken.items()}
    return {**medians, "cores": cores}


def _as_file(file: str | bytes, aside: Path) -> str:
    """The path of an image, written to `aside` if only its content is given."""
    if isinstance(file, str):
        return str(Path(file).absolute())
    aside.write_bytes(file)
    return str(aside)


def _check_decisions(
    answers: Sequence[Mapping[str, Any]], outputs: np.ndarray, info: ModelInfo
) -> None:
    """Raises where classes do not follow from the program's own probabilities."""
    follows = decided(outputs.astype(np.float32), info)
    for key, name in (("class", "class_name"), ("classes", "labels")):
        if name in follows:
            found = [answer[key] for answer in answers]
            received = ["|".join(f) if isinstance(f, list) else f for f in found]
            if received != follows[name]:
                raise CheckError(f"{PROGRAM} to say {follows[name]}", str(received), FIX)


def _compare_decisions(
    folder: Path,
    model: keras.Model,
    info: ModelInfo,
    held_out: Samples,
    tolerance: float | None,
    calibration: Samples | None = None,
) -> dict[str, Any]:
    """Compares what program and Keras model make of held-out images."""
    chosen = np.random.default_rng(0).permutation(len(held_out))[:HELD_OUT_IMAGES]
    chosen.sort()
    run = TensorFlowEngine(model)
    expected = np.concatenate(
        [run(batch)[0] for batch in held_out.images(chosen).batch(BATCH).as_numpy_iterator()]
    )
    files = [_encoded(held_out.source.items[i]) for i in chosen]
    outputs, targets = run_program(folder, files, info), held_out.targets()[chosen]
    if info.task == "regression":
        in_training = targets if calibration is None else calibration.targets()
        allowed = LARGEST_DEVIATION if tolerance is None else tolerance
        return _compare_values(outputs, expected, targets, in_training, allowed)
    allowed = LARGEST_LOSS if tolerance is None else tolerance
    theirs, ours, true = _choices(outputs, info), _choices(expected, info), targets > 0.5
    right, keras_right = ((choices == true).all(axis=1) for choices in (theirs, ours))
    # Among few images, one may always be decided differently.
    least = min(LEAST_AGREEMENT, 1 - 1 / len(chosen))
    figures = {
        "agreement": float((theirs == ours).all(axis=1).mean()),
        "least_agreement": least,
        "accuracy": float(right.mean()),
        "keras_accuracy": float(keras_right.mean()),
        "loss_allowed": max(
            allowed, CHANCE * float(np.sqrt((right != keras_right).sum())) / len(chosen)
        ),
    }
    loss = round(figures["keras_accuracy"] - figures["accuracy"], 9)
    if figures["agreement"] < least or loss > figures["loss_allowed"]:
        raise CheckError(
            f"int8 to decide as Keras does on {least:.1%} of {len(chosen)} held-out images and to "
            f"lose at most {figures['loss_allowed']:.1%} of accuracy",
            f"{figures['agreement']:.1%}, and {figures['accuracy']:.1%} right where Keras has "
            f"{figures['keras_accuracy']:.1%}",
            FIX_INT8,
        )
    return {"images": len(chosen), **figures}


def _choices(outputs: np.ndarray, info: ModelInfo) -> np.ndarray:
    """Bool `[images, classes]`: the classes decided for."""
    found = decided(outputs.astype(np.float32), info)
    if info.task == "multi-label":
        return np.array(found["predicted"])
    return np.arange(len(info.class_names)) == np.array(found["class_index"])[:, None]


def _compare_values(
    outputs: np.ndarray,
    expected: np.ndarray,
    targets: np.ndarray,
    in_training: np.ndarray,
    allowed: float,
) -> dict[str, Any]:
    unit = _spread(targets, in_training, expected)
    difference = float(np.sqrt((((outputs - expected) / unit) ** 2).mean(axis=0)).max())
    if not difference <= allowed:
        raise CheckError(
            f"int8 within {allowed:g} standard deviations of the target from Keras, on "
            f"{len(targets)} held-out images",
            f"{difference:.3f}",
            FIX_INT8,
        )
    return {
        "images": len(targets),
        "difference": difference,
        "largest_difference_allowed": allowed,
        "mean_absolute_error": float(np.abs(outputs - targets).mean()),
        "keras_mean_absolute_error": float(np.abs(expected - targets).mean()),
    }


def _spread(targets: np.ndarray, in_training: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Each target's standard deviation; that in training if those held out are all the same.

    If those in training are, too, the largest output stands for it, as in float32.
    """
    unit = np.maximum(np.abs(expected).max(axis=0), 1e-12)
    for values in (in_training, targets):
        unit = np.where(np.ptp(values, axis=0) > 0, values.std(axis=0), unit)
    return unit


def _encoded(item: str | bytes | np.ndarray) -> str | bytes:
    """An image as a file; decoded pixels become a PNG."""
    if not isinstance(item, np.ndarray):
        return item
    import tensorflow as tf

    return tf.io.encode_png(item).numpy()
