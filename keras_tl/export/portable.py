"""Folders with a model for a runtime other than TensorFlow, and a program that uses it.

In the folder:

- `model.tflite` or `model.onnx`: RGB pixels in 0..255, float32 `[1, size, size, 3]` (ONNX: any
  number of images), to probabilities (values of a regression), float32 `[1, outputs]`.
- `model.json`: what the model takes and gives, see `keras_tl.model_info`; `labels.txt`: the
  class names, one a line.
- `predict.py`: reads image files and prints what the model says, with NumPy, Pillow and the
  runtime alone, as listed in `requirements.txt`; `README.md` says how.
- `export.json`: size, times and what was compared with the Keras model.
"""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import keras
import numpy as np

from keras_tl.backbones.graph import in_float32
from keras_tl.data.pipeline import Samples
from keras_tl.errors import CheckError, InputError, did_you_mean
from keras_tl.export import predict
from keras_tl.export.facts import FACTS, describe
from keras_tl.export.gate import PROGRAM, milliseconds, verify_program
from keras_tl.export.saved_model import check_fit
from keras_tl.files import atomic_folder
from keras_tl.model_info import ModelInfo
from keras_tl.training.arguments import functional

PRECISIONS = ("float32", "float16", "int8")
# Ranges are the smallest and largest activations, so that more images bring more outliers: with
# 300 solar cells EfficientNet-Lite0 lost 4.6 points of accuracy, with 100 of them 3.1.
CALIBRATION_IMAGES = 100

# What the program needs beside the runtime.
_BESIDE_RUNTIME = ("numpy", "pillow")

log = logging.getLogger("keras_tl")


@dataclass(frozen=True)
class Runtime:
    """What runs an exported model.

    Attributes:
        name: The format's name ("litert").
        title: The runtime's name, for people.
        file: The model's file.
        package: The package that runs it.
        convert: Makes the file's content from a model, a precision, and for "int8" uint8
            calibration images `[images, size, size, 3]`.
        reads: What a program needs to know to run the file.
    """

    name: str
    title: str
    file: str
    package: str
    convert: Callable[[keras.Model, str, np.ndarray | None], bytes]
    reads: str


def export_portable(
    model: keras.Model,
    path: str | Path,
    info: ModelInfo,
    runtime: Runtime,
    *,
    precision: str = "float32",
    calibration: Samples | None = None,
    held_out: Samples | None = None,
    sample_files: Sequence[str | Path | bytes] = (),
    tolerance: float | None = None,
) -> Path:
    """Writes the folder for a runtime, if its program agrees with the Keras model.

    Args:
        model: Takes float32 `[batch, size, size, 3]`, RGB in 0..255; gives probabilities (values
            for a regression) `[batch, outputs]`.
        path: The folder; an older export that is there is replaced.
        info: What the model takes and gives.
        runtime: What is to run it.
        precision: "float32", "float16" or "int8".
        calibration: For "int8": images whose activations set the ranges, some of those that the
            model was trained on; at most 100 are drawn.
        held_out: For "int8": labelled images that the model was not trained on, to compare on;
            at most 500 are drawn.
        sample_files: For the other two: a few encoded images, paths or contents, to compare on,
            beside the images that are compared always.
        tolerance: The largest difference of a probability allowed; for "int8" the accuracy that
            may be lost. By default 1e-3 for "float32", 1e-2 for "float16", 0.02 for "int8". For a
            regression, the largest difference relative to a target's largest output; for "int8" the
            root mean squared difference in standard deviations of the target, by default 0.1.

    Returns:
        The path.

    Raises:
        InputError: The model does not fit `info`, an argument is missing or unknown, a package
            is not installed, a file cannot be decoded, or the folder has other things in it.
        CheckError: The model does not convert, or what was written differs from it.
    """
    if precision not in PRECISIONS:
        hint = did_you_mean(precision, PRECISIONS, f"Choose {', '.join(PRECISIONS)}.")
        raise InputError("a precision", repr(precision), hint)
    model = functional(model)
    check_fit(model, info)
    images = _calibration_images(calibration, held_out) if precision == "int8" else None
    log.info("Exporting %s", path)
    with atomic_folder(path, known_by=FACTS) as aside:
        content = runtime.convert(in_float32(model), precision, images)
        (aside / runtime.file).write_bytes(content)
        _write_beside(aside, info, runtime, precision)
        compared = verify_program(
            aside,
            model,
            info,
            precision=precision,
            sample_files=sample_files,
            held_out=held_out,
            calibration=calibration,
            tolerance=tolerance,
        )
        facts = {
            "format": runtime.name,
            "precision": precision,
            "bytes": len(content),
            "milliseconds": milliseconds(aside, info),
            "compared": compared,
            "versions": {name: _version(name) for name in (runtime.package, *_BESIDE_RUNTIME)},
        }
        (aside / FACTS).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    log.info("%s", describe(facts))
    return Path(path)


def one_line(error: Exception) -> str:
    """The last line of a converter's error, which tends to be the one that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1] if lines else ''}"[:300]


def does_not_convert(runtime: str, model: keras.Model, error: Exception) -> CheckError:
    """The error for a model that a converter cannot take."""
    return CheckError(
        f"a model that {runtime} can be made of",
        f"{model.name}, on which its converter fails ({one_line(error)})",
        "Take another format or backbone; the SavedModel has the whole model.",
    )


def _calibration_images(calibration: Samples | None, held_out: Samples | None) -> np.ndarray:
    if calibration is None or held_out is None or not len(calibration) or not len(held_out):
        raise InputError(
            "images to calibrate on and labelled ones to compare on, for int8",
            "none",
            "Export a run with a test or a val split; in Python give calibration= and held_out=.",
        )
    chosen = np.random.default_rng(0).permutation(len(calibration))[:CALIBRATION_IMAGES]
    return np.stack(list(calibration.images(np.sort(chosen)).as_numpy_iterator()))


def _version(package: str) -> str:
    """A package's version, also where another provides its module, as onnxruntime-gpu does."""
    try:
        return version(package)
    except PackageNotFoundError:
        return str(import_module(package.replace("-", "_")).__version__)


def _write_beside(folder: Path, info: ModelInfo, runtime: Runtime, precision: str) -> None:
    """Writes all but the model and `export.json`."""
    info.write(folder)
    names = "".join(" ".join(name.split()) + "\n" for name in info.class_names)
    needed = "".join(
        f"{name}~={'.'.join(_version(name).split('.')[:2])}\n"
        for name in (runtime.package, *_BESIDE_RUNTIME)
    )
    texts = {
        "labels.txt": names,
        PROGRAM: Path(predict.__file__).read_text(encoding="utf-8"),
        "requirements.txt": needed,
        "README.md": _readme(info, runtime, precision),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")


def _readme(info: ModelInfo, runtime: Runtime, precision: str) -> str:
    size = info.images.size
    given = "values" if info.task == "regression" else "probabilities"
    return f"""# A {info.task} model of images for {runtime.title}

    python -m venv env
    env/bin/pip install -r requirements.txt
    env/bin/python predict.py photo.jpg

`predict.py` prints a table; with `--json` all {given}, one object a line. It ends with exit code
2 where a file could not be read. In a program of yours:

    from predict import Predictor

    predictor = Predictor(".")
    print(predictor("photo.jpg"))

## To use the model without `predict.py`

{runtime.reads} It takes RGB pixels in 0..255 as float32, `[1, {size}, {size}, 3]`, with
nothing subtracted or divided, and gives {given}, float32 `[1, {len(info.class_names)}]`, in the
order of `labels.txt`. Files must be turned upright, resized with antialiasing
("{info.images.resize}" in `model.json`), and transparency put on white, as `read_pixels` in
`predict.py` does: its pixels are within one level of those in training. `thresholds` in
`model.json`, where there are any, decide: where an image may have several labels, each has its own;
of two classes, the second is predicted from that probability on.

Precision: {precision}. `export.json` has its size, times and what was compared with the Keras
model.
"""
