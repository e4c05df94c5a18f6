"""What is needed to use a model correctly, in one versioned file: `model.json`.

It lies in a run's folder and in every export (a SavedModel carries it in `assets.extra`, the
folder that SavedModel reserves for files the graph does not load). Training, prediction and
export read the input, the class names and the thresholds from it alone.
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_tl import tasks
from keras_tl.data.image_input import ImageInput
from keras_tl.data.text_input import TextInput
from keras_tl.errors import InputError, did_you_mean
from keras_tl.files import atomic_write_text

# Version 1 had images only; version 2 read only the beginnings of texts; version 3 read all markup;
# version 4 had no bags of words.
FORMAT_VERSION = 5
# The setting of texts that files up to a version lack, and the value to read them with.
_TEXT_SETTINGS = {2: ("truncate", "head"), 3: ("markup", "keep"), 4: ("bag_of_words", 0)}
FILE_NAME = "model.json"
_TYPES = {
    **dict.fromkeys(("task", "backbone", "resize", "truncate", "markup"), str),
    **dict.fromkeys(("size", "max_pixels", "decoder_version"), int),
    **dict.fromkeys(("max_tokens", "windows", "texts", "bag_of_words", "tokenizer_version"), int),
    "antialias": bool,
}
ASSETS_FOLDER = "assets.extra"


@dataclass(frozen=True)
class ModelInfo:
    """The description that travels with a model.

    Attributes:
        image_input: How an encoded image becomes the model's pixels; None for a model of texts.
        class_names: The classes, in the order of the outputs; for a regression the targets.
        task: A name in `keras_tl.tasks`.
        thresholds: Probabilities in [0, 1]. For "multi-label" one for each class, which counts as
            present at or above it (0.5 each when left out). For "single-label" with two classes
            none, and the more probable one is predicted; or one, at or above which the second class
            is predicted, and below it the first. Empty otherwise.
        backbone: The registry's name of the backbone.
        text_input: How a text becomes the model's tokens; None for a model of images.
        format_version: The version of this description.

    Raises:
        InputError: The task is unknown, there is not one kind of input, or the thresholds do not
            fit the task and classes or lie outside [0, 1].
    """

    image_input: ImageInput | None
    class_names: tuple[str, ...]
    task: str
    thresholds: tuple[float, ...] = ()
    backbone: str = ""
    text_input: TextInput | None = None
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        tasks.get(self.task)
        for name in ("class_names", "thresholds"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if (self.image_input is None) == (self.text_input is None):
            kinds = "both" if self.image_input else "neither"
            raise InputError("either image_input or text_input", kinds, "Give the model's own.")
        outputs = len(self.class_names)
        if self.task == "multi-label" and not self.thresholds:
            object.__setattr__(self, "thresholds", (0.5,) * outputs)
        expected = outputs if self.task == "multi-label" else 0
        one_between_two = self.task == "single-label" and outputs == 2
        if len(self.thresholds) != expected and not (one_between_two and len(self.thresholds) == 1):
            raise InputError(
                f"{expected} thresholds for {outputs} {self.task} outputs",
                str(len(self.thresholds)),
                "Multi-label classes have one each; two exclusive classes may have one.",
            )
        if not all(0.0 <= threshold <= 1.0 for threshold in self.thresholds):
            raise InputError(
                "thresholds between 0 and 1", str(list(self.thresholds)), "Choose them again."
            )

    @property
    def nouns(self) -> str:
        """What the model takes, "images" or "texts"."""
        return "images" if self.text_input is None else "texts"

    @property
    def images(self) -> ImageInput:
        """How an encoded image becomes the model's pixels.

        Raises:
            InputError: The model is one of texts.
        """
        if self.image_input is None:
            fix = "That is there for images only; the export of texts is the run's SavedModel."
            raise InputError("a model of images", "one of texts", fix)
        return self.image_input

    def to_json(self) -> str:
        """Returns the content of `model.json`: readable, in the order of the attributes."""
        values = dataclasses.asdict(self)
        values = {"format_version": values.pop("format_version"), **values}
        return json.dumps(values, ensure_ascii=False, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str, origin: str = FILE_NAME) -> "ModelInfo":
        """Reads the content of a `model.json`.

        Args:
            text: The file's text.
            origin: What to call the text in an error (its path).

        Raises:
            InputError: It is no JSON object, is of a newer version, or a key is unknown or
                missing.
        """
        values = _parse(text, origin)
        _check_version(values, origin)
        _check_keys(values, cls, origin)
        _check_types(values, origin)
        for key, kind in (("image_input", ImageInput), ("text_input", TextInput)):
            if values[key] is not None:
                _check_keys(values[key], kind, f"{key} of {origin}")
                _check_types(values[key], f"{key} of {origin}")
                values[key] = kind(**values[key])
        values["class_names"] = tuple(values["class_names"])
        values["thresholds"] = tuple(values["thresholds"])
        return cls(**values)

    def write(self, folder: str | Path) -> Path:
        """Writes `model.json` into `folder` and returns its path."""
        path = Path(folder) / FILE_NAME
        atomic_write_text(path, self.to_json())
        return path

    @classmethod
    def read(cls, path: str | Path) -> "ModelInfo":
        """Reads the description of a run or an export.

        Args:
            path: A `model.json`, or a folder that holds one (a SavedModel: in `assets.extra`).

        Raises:
            InputError: There is none, or it cannot be used (see `from_json`).
        """
        path = Path(path)
        candidates = (path, path / FILE_NAME, path / ASSETS_FOLDER / FILE_NAME)
        for candidate in candidates:
            if candidate.is_file():
                text = candidate.read_text(encoding="utf-8", errors="replace")
                return cls.from_json(text, str(candidate))
        raise InputError(
            f"a folder with a {FILE_NAME}",
            str(path) if path.exists() else f"{path}, which does not exist",
            "Give the folder that training or export has written.",
        )


def _parse(text: str, origin: str) -> dict[str, Any]:
    fix = "Take the file as it was written, or write the model again."
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"JSON in {origin}", f"a text that is none ({error})", fix) from error
    if not isinstance(values, dict):
        raise InputError(f"a JSON object in {origin}", f"a {type(values).__name__}", fix)
    return values


def _check_version(values: dict[str, Any], origin: str) -> None:
    version = values.get("format_version")
    if not isinstance(version, int) or version < 1:
        raise InputError(
            f"a format_version of 1 or more in {origin}",
            repr(version),
            "Take the file as it was written.",
        )
    if version > FORMAT_VERSION:
        raise InputError(
            f"format_version {FORMAT_VERSION} or older in {origin}",
            f"format_version {version}",
            "It was written by a newer keras_tl: install that one.",
        )
    if version == 1:
        values["text_input"] = None
    if isinstance(values.get("text_input"), dict):
        lacking = dict(setting for last, setting in _TEXT_SETTINGS.items() if version <= last)
        values["text_input"] = lacking | values["text_input"]
    values["format_version"] = FORMAT_VERSION


def _check_types(values: dict[str, Any], origin: str) -> None:
    """Refuses values of the wrong type, and lists with entries of the wrong type."""
    fix = "Take the file as it was written."
    for key, value in values.items():
        kind = _TYPES.get(key)
        if kind and type(value) is not kind:
            raise InputError(f"{key} of type {kind.__name__} in {origin}", repr(value)[:80], fix)
    for key, kinds in (("class_names", (str,)), ("thresholds", (int, float))):
        found = values.get(key, [])
        if not isinstance(found, list) or not all(isinstance(value, kinds) for value in found):
            raise InputError(f"a list as {key} in {origin}", repr(found)[:80], fix)
    if values.get("class_names") == []:
        raise InputError(f"class_names in {origin}", "none", fix)


def _check_keys(values: Any, described: type, origin: str) -> None:
    """Refuses keys that are not exactly the fields of the dataclass `described`."""
    known = [field.name for field in dataclasses.fields(described)]
    fix = f"The keys are {', '.join(known)}."
    if not isinstance(values, dict):
        raise InputError(f"a JSON object as {origin}", repr(values), fix)
    for key in values:
        if key not in known:
            raise InputError(f"a known key in {origin}", repr(key), did_you_mean(key, known, fix))
    missing = [name for name in known if name not in values]
    if missing:
        raise InputError(f"every key in {origin}", f"none named {', '.join(missing)}", fix)
