"""The run folder: what is in it, and reading it back.

config.yaml      everything needed to run it again
splits.csv       which image or text was in which split
audit.json       what is wrong with them, or might be
history.csv      one row an epoch
model.keras      the Keras model, of stock layers where it can be
saved_model/     encoded images or strings in, probabilities and class names out
model.json       how they become inputs, class names, task, thresholds
predictions.csv  the items that the final figures were measured on
predictions_val.csv  those that chose the weights; thresholds and the temperature come from them
metrics.json     the figures; a run that has them is whole
checkpoint/      a training that is under way; gone when the run is whole
report.html      all of it as a page, made from the rest
MODEL_CARD.md    what the model is and is not good for, in words
"""

import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_tl.config import TrainConfig
from keras_tl.config_files import make_config, read_config
from keras_tl.errors import InputError, in_one_line
from keras_tl.files import finish_changes, has_others, remove_leftovers
from keras_tl.locks import LOCK, Hold

# Settings that do not affect training, so that a resumed run may have others.
FREE = ("out", "strict", "tensorboard", "baseline")

if TYPE_CHECKING:
    import keras

    from keras_tl.model_info import ModelInfo


class Run:
    """A run folder.

    Args:
        folder: The folder.
    """

    CONFIG = "config.yaml"
    SPLITS = "splits.csv"
    AUDIT = "audit.json"
    HISTORY = "history.csv"
    MODEL = "model.keras"
    SAVED_MODEL = "saved_model"
    PREDICTIONS = "predictions.csv"
    VAL_PREDICTIONS = "predictions_val.csv"
    CHECKPOINT = "checkpoint"
    METRICS = "metrics.json"
    REPORT = "report.html"
    MODEL_CARD = "MODEL_CARD.md"

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self._hold: Hold | None = None

    def path(self, name: str) -> Path:
        """Path of a file in the run."""
        return self.folder / name

    @property
    def is_whole(self) -> bool:
        """Whether the run came to its end."""
        return self.path(self.METRICS).is_file()

    @property
    def config(self) -> TrainConfig:
        """The settings of the run."""
        return make_config(read_config(self.path(self.CONFIG)))

    @property
    def metrics(self) -> dict[str, Any]:
        """The figures of the run, see `keras_tl.evaluation.metrics`."""
        return self.read(self.METRICS, _read_metrics)

    def read(self, name: str, how: Callable[[Path], Any]) -> Any:
        """Reads one of the run's files.

        Args:
            name: Its name.
            how: Reads a path.

        Raises:
            InputError: It is missing, or not as it was written.
        """
        path = self.path(name)
        try:
            return how(path)
        except InputError:
            raise
        # What pandas, json and a look into their contents raise: most are ValueErrors.
        except (
            OSError,
            LookupError,
            TypeError,
            ValueError,
            AttributeError,
            RecursionError,
        ) as error:
            reason = in_one_line(error)
            fix = "Copy it again from where it was trained."
            raise InputError(f"{path} as it was written", f"another ({reason})", fix) from error

    @property
    def info(self) -> "ModelInfo":
        """What the model takes and gives."""
        from keras_tl.model_info import ModelInfo

        return ModelInfo.read(self.folder)

    def model(self) -> "keras.Model":
        """Loads the Keras model, not compiled.

        Its layers are Keras' own. To fine-tune it further with what is frozen in inference as a
        whole, take `keras_tl.backbones.graph.to_freezable(model)`.

        Raises:
            InputError: The file is missing or damaged, or a layer cannot be made here, as where
                tensorflow-text is not installed, or could run code of its own (Lambda).
        """
        from keras_tl.backbones.keras_archives import load_model

        return load_model(self.path(self.MODEL))

    def is_of(self, config: TrainConfig) -> bool:
        """Whether the run came to its end with these settings."""
        return self.is_whole and not self._differing(config)

    def check_free(self, config: TrainConfig | None = None) -> None:
        """Refuses a folder that a run must not write to.

        Args:
            config: The settings of the run; an unfinished run must have the same.

        Raises:
            InputError: It holds a whole run, files that no run wrote, or an unfinished run with
                other settings.
        """
        if self.is_whole:
            self._remove_checkpoint()
        self._check_unfinished()
        foreign = self.folder.exists() and (
            not self.folder.is_dir()
            or (has_others(self.folder, LOCK) and not self.path(self.CONFIG).is_file())
        )
        if foreign:
            raise InputError(
                "a folder for a new run",
                f"{self.folder}, which has other things in it",
                "Choose another --out.",
            )

        if config and self.path(self.CHECKPOINT).is_dir():
            self._check_same(config)

    def _check_unfinished(self) -> None:
        if self.is_whole:
            raise InputError(
                "a folder for a new run", f"{self.folder}, a finished run", "Choose another --out."
            )

    def _remove_checkpoint(self) -> None:
        """Removes the checkpoint that a killed process left beside a whole run, if it can be."""
        if not self.path(self.CHECKPOINT).is_dir():
            return
        with suppress(InputError, OSError):
            hold = Hold(self.path(LOCK), shared=False)
            if hold.alone:
                shutil.rmtree(self.path(self.CHECKPOINT), ignore_errors=True)
                self.path(LOCK).unlink(missing_ok=True)
            hold.release()

    def _check_same(self, config: TrainConfig) -> None:
        if differing := self._differing(config):
            raise InputError(
                f"the settings of the unfinished run in {self.folder}",
                ", ".join(differing),
                f"Give the same, or delete {self.path(self.CHECKPOINT)} to begin anew.",
            )

    def _differing(self, config: TrainConfig) -> list[str]:
        """The settings that are not the run's, with both values."""
        now, then = (asdict(c) for c in (config.with_absolute_paths(), self.config))
        names = [name for name in now if name not in FREE and now[name] != then[name]]
        return [f"{name} {now[name]!r} (it has {then[name]!r})" for name in names]

    def begin(self, config: TrainConfig | None = None) -> None:
        """Makes the folder, locks it until `close`, and removes what a killed process left.

        Args:
            config: The settings of the run, compared as in `check_free`.

        Raises:
            InputError: It cannot be written, another process trains in it or has just finished, or
                has just left it unfinished with other settings.
        """
        fix = "Change --out."
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._hold = Hold(self.path(LOCK), shared=False, fix=fix)
            if not self._hold.alone:
                received = f"{self.folder}, in which another one is training"
                raise InputError("a folder for this process alone", received, "Wait for it.")
            # Another process may have come and gone since `check_free`.
            self._check_unfinished()
            if config and all(self.path(n).exists() for n in (self.CHECKPOINT, self.CONFIG)):
                self._check_same(config)
            remove_leftovers(self.folder)
        except OSError as error:
            raise InputError(
                "a folder that can be written", f"{self.folder}: {error.strerror}", fix
            ) from error

    def close(self) -> None:
        """Releases the folder."""
        if self._hold and self._hold.alone:
            self.path(LOCK).unlink(missing_ok=True)
            self._hold.release()
        self._hold = None

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from keras_tl.evaluation.notebook import metrics_html

        page = self.path(self.REPORT)
        metrics = self.metrics if self.is_whole else {}
        has_texts = self.path(self.CONFIG).is_file() and self.config.has_texts
        nouns = "texts" if has_texts else "images"
        link = str(page) if page.is_file() else None
        return metrics_html(self.folder.name, metrics, link, nouns)


def check_outside(data: str, out: str) -> None:
    """Refuses a run inside its data folder, where it would be taken for a class.

    Args:
        data: The data.
        out: The run's folder.

    Raises:
        InputError: `out` is in `data`, after links are resolved.
    """
    inside, whole = (Path(os.path.realpath(path)) for path in (out, data))
    if whole.is_dir() and whole in inside.parents:
        beside = os.path.relpath(Path(os.path.abspath(data)).parent / inside.name)
        received = f"{out}, which is in {data}"
        raise InputError("a folder for the run outside the data", received, f"Try --out {beside}.")


def _read_metrics(path: Path) -> dict[str, Any]:
    """The figures; those that an older version did not write may be missing."""
    facts = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(facts, dict):
        raise ValueError(f"a {type(facts).__name__} rather than an object")
    for name in ("measured_on", "note"):
        if not isinstance(facts.get(name, ""), str):
            raise ValueError(f"{name} is no text")
    images = facts.get("images", {})
    if not isinstance(images, dict) or not all(isinstance(n, int) for n in images.values()):
        raise ValueError("images are not counted by split")
    return facts


def load_run(folder: str | Path) -> Run:
    """Opens a finished run; an interrupted change of its thresholds is completed.

    Args:
        folder: What `keras-tl train --out` was given.

    Returns:
        The run.

    Raises:
        InputError: The folder is no run, or one that did not come to its end.
    """
    finish_changes(folder)
    run = Run(folder)
    if not run.is_whole:
        raise InputError(
            "a finished run's folder",
            str(folder),
            f"It has no {Run.METRICS}: give the --out of a `keras-tl train` that ended well.",
        )
    return run
