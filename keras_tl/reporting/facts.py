"""What a run folder says, read once; a file that is not there is None."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from keras_tl.data.audit.findings import Audit, read_audit
from keras_tl.evaluation.bootstrap import (
    Intervals,
    classification_intervals,
    ranking_intervals,
    regression_intervals,
)
from keras_tl.evaluation.metrics import decide
from keras_tl.model_info import FILE_NAME, ModelInfo
from keras_tl.runs import Run

# Curves of more outputs than these would take seconds to resample.
MAX_RANKED = 100_000
# Between the classes or targets of one sample in the run's tables.
SEPARATOR = "|"


@dataclass(frozen=True)
class Outcome:
    """A model's answers beside the truth.

    Attributes:
        ids: Names of the images or texts, `[samples]`.
        outputs: Float64 `[samples, outputs]`: probabilities, or values of a regression.
        truth: Float64 `[samples, outputs]`: zeros and ones, or values.
        chosen: Bool `[samples, outputs]`, the classes decided for; all False for a regression.
    """

    ids: np.ndarray
    outputs: np.ndarray
    truth: np.ndarray
    chosen: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def present(self) -> np.ndarray:
        """The truth of a classification as bool."""
        return self.truth > 0.5

    @property
    def right(self) -> np.ndarray:
        """Bool `[samples]`: whether every class was decided rightly."""
        return (self.present == self.chosen).all(axis=1)


@dataclass(frozen=True)
class Facts:
    """A run folder's content.

    Attributes:
        run: The run.
        metrics: `metrics.json`; empty where it is missing.
        info: `model.json`.
        history: `history.csv`, a row for each epoch.
        outcome: `predictions.csv`, the samples measured.
        val_outcome: `predictions_val.csv`, which not every run has.
        splits: `splits.csv`, all text.
        config: The text of `config.yaml`.
        audit: `audit.json`, which not every run has.
    """

    run: Run
    metrics: dict[str, Any]
    info: ModelInfo | None
    history: pd.DataFrame | None
    outcome: Outcome | None
    val_outcome: Outcome | None
    splits: pd.DataFrame | None
    config: str | None
    audit: Audit | None = None

    @property
    def name(self) -> str:
        """The run folder's name."""
        return self.run.folder.resolve().name

    @property
    def task(self) -> str:
        """The task's name; "" where neither `model.json` nor `metrics.json` says it."""
        return self.info.task if self.info else self.metrics.get("task", "")

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes or targets, in the order of the outputs."""
        return self.info.class_names if self.info else ()

    @property
    def noun(self) -> str:
        """What the run's samples are, "image" or "text"."""
        return "text" if self.info and self.info.text_input else "image"

    @property
    def nouns(self) -> str:
        """The same for several."""
        return f"{self.noun}s"

    @cached_property
    def groups(self) -> np.ndarray | None:
        """The group of each measured sample as int64 codes; None where there are no groups."""
        if self.outcome is None or self.splits is None or not len(self.outcome):
            return None
        of_id = dict(zip(self.splits["id"], self.splits["group"], strict=True))
        names = [of_id.get(name, "") or f"\0{name}" for name in self.outcome.ids]
        codes = pd.factorize(np.array(names, dtype=object))[0]
        # Of one group alone nothing can be drawn that differs.
        return codes if 1 < codes.max() + 1 < len(codes) else None

    @cached_property
    def intervals(self) -> dict[str, Intervals]:
        """95 % intervals of the figures by name; empty without predictions."""
        if self.outcome is None or not len(self.outcome):
            return {}
        if self.task == "regression":
            return regression_intervals(
                self.outcome.truth, self.outcome.outputs, groups=self.groups
            )
        present, outputs = self.outcome.present, self.outcome.outputs
        found = classification_intervals(present, self.outcome.chosen, groups=self.groups)
        if outputs.size <= MAX_RANKED:
            found |= ranking_intervals(present, outputs, groups=self.groups)
        return found


def read_facts(run: Run, metrics: dict[str, Any] | None = None) -> Facts:
    """Reads what a run folder holds.

    Args:
        run: The run; of an older version, or not whole, it may lack files.
        metrics: What metrics.json will hold, where it is not yet written.

    Returns:
        Its content.

    Raises:
        InputError: `model.json` is there and cannot be used.
    """

    def read(name: str, how: Callable[[Path], Any]) -> Any:
        path = run.path(name)
        return how(path) if path.is_file() else None

    info = read(FILE_NAME, ModelInfo.read)
    outcomes = [
        read(name, lambda path: _read_outcome(path, info)) if info else None
        for name in (Run.PREDICTIONS, Run.VAL_PREDICTIONS)
    ]
    return Facts(
        run=run,
        metrics=metrics or (run.metrics if run.is_whole else {}),
        info=info,
        history=read(Run.HISTORY, pd.read_csv),
        outcome=outcomes[0],
        val_outcome=outcomes[1],
        splits=read(Run.SPLITS, _read_text_table),
        config=read(Run.CONFIG, lambda path: path.read_text(encoding="utf-8")),
        audit=read(Run.AUDIT, read_audit),
    )


def label_matrix(labels: pd.Series, info: ModelInfo) -> np.ndarray:
    """Labels written as text, as numbers.

    Args:
        labels: Class names; of several classes or targets joined by "|".
        info: The task and names.

    Returns:
        Float64 `[labels, outputs]`: zeros and ones, or a regression's values.
    """
    if info.task == "regression":
        return np.array([[float(cell) for cell in label.split(SEPARATOR)] for label in labels])
    column = {name: index for index, name in enumerate(info.class_names)}
    matrix = np.zeros((len(labels), len(column)))
    for row, label in enumerate(labels):
        names = [label] if info.task == "single-label" else label.split(SEPARATOR)
        matrix[row, [column[name] for name in names if name in column]] = 1.0
    return matrix


def _read_text_table(path: Path) -> pd.DataFrame:
    """Cells stay the text they are: "NA" is a class, 007 an id."""
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def _read_outcome(path: Path, info: ModelInfo) -> Outcome:
    table = _read_text_table(path)
    ids = table["id"].to_numpy(dtype=object)
    if info.task == "regression":
        true, outputs = (
            table[[f"{kind}_{name}" for name in info.class_names]].astype(float).to_numpy()
            for kind in ("true", "predicted")
        )
        return Outcome(ids, outputs, true, np.zeros(true.shape, bool))
    outputs = table[[f"p_{name}" for name in info.class_names]].astype(float).to_numpy()
    chosen = decide(outputs.astype(np.float32), info)
    return Outcome(ids, outputs, label_matrix(table["true"], info), chosen)
