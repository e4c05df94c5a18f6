"""What a run folder says, read once; a file that is not there is None."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from keras_tl.data.audit.findings import Audit, read_audit
from keras_tl.evaluation.bootstrap import (
    Intervals,
    classification_intervals,
    ranking_intervals,
    regression_intervals,
)
from keras_tl.evaluation.many_classes import KEPT, has_many
from keras_tl.evaluation.metrics import decide
from keras_tl.model_info import FILE_NAME, ModelInfo
from keras_tl.runs import Run

# Curves of more outputs than these would take seconds to resample.
MAX_RANKED = 100_000
# Between the classes or targets of one sample in the run's tables.
SEPARATOR = "|"
# What the pages read of the run's tables.
HISTORY_COLUMNS = ("phase", "epoch", "loss", "learning_rate")
SPLITS_COLUMNS = ("id", "label", "group", "split", "sha256")
# What a model is judged by, item by item, by task.
MAIN_FIGURES = {"single-label": "accuracy", "multi-label": "subset_accuracy", "regression": "mae"}


@dataclass(frozen=True)
class Outcome:
    """A model's answers beside the truth.

    Of very many classes (see `keras_tl.evaluation.many_classes`) the arrays are SciPy's sparse
    ones, and of the outputs only those are there that the run's table has.

    Attributes:
        ids: Names of the images or texts, `[samples]`.
        outputs: Float64 `[samples, outputs]`: probabilities, or values of a regression.
        truth: Float64 `[samples, outputs]`: zeros and ones, or values.
        chosen: Bool `[samples, outputs]`, the classes decided for; all False for a regression.
    """

    ids: np.ndarray
    outputs: Any
    truth: Any
    chosen: Any

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def is_sparse(self) -> bool:
        """Whether there are very many classes."""
        return sparse.issparse(self.truth)

    @property
    def present(self) -> Any:
        """The truth of a classification as bool."""
        return self.truth > 0.5

    @cached_property
    def right(self) -> np.ndarray:
        """Bool `[samples]`: whether every class was decided rightly."""
        if self.is_sparse:
            return self.true_class == self.chosen_class
        return (self.present == self.chosen).all(axis=1)

    def errors(self, outputs: np.ndarray | None = None) -> np.ndarray:
        """How far values of a regression are from the truth.

        Args:
            outputs: Others than the model's own, `[samples, targets]`.

        Returns:
            Float64 `[samples]`: of one target absolute errors; of several their mean in deviations
            of each, since their units may differ.
        """
        found = np.abs((self.outputs if outputs is None else outputs) - self.truth)
        if found.shape[1] > 1:
            deviations = self.truth.std(axis=0)
            found = found / np.where(deviations > 0, deviations, 1.0)
        return found.mean(axis=1)

    @cached_property
    def true_class(self) -> np.ndarray:
        """Of exclusive classes the true one: int64 `[samples]`."""
        return np.asarray(self.truth.argmax(axis=1)).ravel()

    @cached_property
    def chosen_class(self) -> np.ndarray:
        """Of exclusive classes the one decided for: int64 `[samples]`."""
        chosen = self.chosen.astype(np.int8) if self.is_sparse else self.chosen
        return np.asarray(chosen.argmax(axis=1)).ravel()

    @property
    def confidence(self) -> np.ndarray:
        """Of exclusive classes the probability of the one decided for: float64 `[samples]`."""
        return np.asarray(self.outputs[np.arange(len(self)), self.chosen_class]).ravel()

    @property
    def margin(self) -> np.ndarray:
        """By how much the most probable class is ahead of the next one: float64 `[samples]`."""
        if self.outputs.shape[1] == 1:
            return self.outputs[:, 0]
        if not self.is_sparse:
            best = np.sort(self.outputs, axis=1)
            return best[:, -1] - best[:, -2]
        first = self.outputs.max(axis=1).toarray().ravel()
        rest = self.outputs - self.outputs.multiply(self.chosen)
        return first - rest.max(axis=1).toarray().ravel()


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
        # It may have bytes that are no text.
        name = self.run.folder.resolve().name
        return name.encode("utf-8", "backslashreplace").decode("utf-8")

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

    @property
    def has_several_units(self) -> bool:
        """Whether there are several targets: means over them would mix their units."""
        return self.task == "regression" and len(self.class_names) > 1

    @property
    def error_name(self) -> str:
        """What `Outcome.errors` are the mean of."""
        return "mean absolute error" + (" in deviations" if self.has_several_units else "")

    @property
    def groups(self) -> np.ndarray | None:
        """The group of each measured sample as int64 codes; None where there are no several."""
        return None if self.of_one_group else self._groups

    @property
    def of_one_group(self) -> bool:
        """Whether all measured samples are of one group: of other groups they say nothing."""
        return self._groups is not None and not self._groups.any()

    @cached_property
    def _groups(self) -> np.ndarray | None:
        if self.outcome is None or self.splits is None or not len(self.outcome):
            return None
        of_id = dict(zip(self.splits["id"], self.splits["group"], strict=True))
        names = [of_id.get(name, "") or f"\0{name}" for name in self.outcome.ids]
        codes = pd.factorize(np.array(names, dtype=object))[0]
        return codes if codes.max() + 1 < len(codes) else None

    @cached_property
    def intervals(self) -> dict[str, Intervals]:
        """95 % intervals of the figures by name; empty without predictions, or of one group."""
        if self.outcome is None or not len(self.outcome) or self.of_one_group:
            return {}
        if self.task == "regression":
            return regression_intervals(
                self.outcome.truth, self.outcome.outputs, groups=self.groups
            )
        present, outputs = self.outcome.present, self.outcome.outputs
        found = classification_intervals(present, self.outcome.chosen, groups=self.groups)
        if not self.outcome.is_sparse and outputs.size <= MAX_RANKED:
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
        InputError: A file is there and cannot be used.
    """

    def read(name: str, how: Callable[[Path], Any]) -> Any:
        path = run.path(name)
        return run.read(name, how) if path.is_file() else None

    info = read(FILE_NAME, ModelInfo.read)
    outcomes = [
        read(name, lambda path: _read_outcome(path, info)) if info else None
        for name in (Run.PREDICTIONS, Run.VAL_PREDICTIONS)
    ]
    if metrics is None:
        metrics = read(Run.METRICS, lambda _: _measured(run, info)) or {}
    return Facts(
        run=run,
        metrics=metrics,
        info=info,
        history=read(Run.HISTORY, lambda path: _with(pd.read_csv(path), HISTORY_COLUMNS)),
        outcome=outcomes[0],
        val_outcome=outcomes[1],
        splits=read(Run.SPLITS, lambda path: _with(_read_text_table(path), SPLITS_COLUMNS)),
        config=read(Run.CONFIG, lambda path: path.read_text(encoding="utf-8")),
        audit=read(Run.AUDIT, read_audit),
    )


def _measured(run: Run, info: ModelInfo | None) -> dict[str, Any]:
    metrics = run.metrics
    if info is not None and (name := MAIN_FIGURES[info.task]) not in metrics:
        raise KeyError(f"no {name}")
    return metrics


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


def label_counts(labels: pd.Series, info: ModelInfo) -> np.ndarray:
    """How many of the labels, written as text, each class has: int64 `[classes]`."""
    column = {name: index for index, name in enumerate(info.class_names)}
    single = info.task == "single-label"
    counts = np.zeros(len(column), np.int64)
    for label, count in labels.value_counts().items():
        names = {str(label)} if single else set(str(label).split(SEPARATOR))
        counts[[column[name] for name in names if name in column]] += count
    return counts


def _with(table: pd.DataFrame, columns: tuple[str, ...]) -> pd.DataFrame:
    """A table that has these columns; `KeyError` names those that it has not."""
    if missing := [name for name in columns if name not in table]:
        raise KeyError(f"no column {', '.join(missing)}")
    return table


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
    if has_many(info):
        return _read_sparse(table, ids, info)
    outputs = table[[f"p_{name}" for name in info.class_names]].astype(float).to_numpy()
    chosen, truth = decide(outputs.astype(np.float32), info), label_matrix(table["true"], info)
    is_known = info.task == "multi-label" or truth.any(axis=1).all()
    if not (is_known and np.isfinite(outputs).all()):
        raise ValueError("a probability that is no number, or a true class that is none")
    return Outcome(ids, outputs, truth, chosen)


def _read_sparse(table: pd.DataFrame, ids: np.ndarray, info: ModelInfo) -> Outcome:
    """What `keras_tl.evaluation.many_classes.ranked_columns` wrote."""
    shape, rows = (len(ids), len(info.class_names)), np.arange(len(ids))
    names = pd.Index(info.class_names)

    def one_hot(column: str) -> sparse.csr_array:
        classes = names.get_indexer(pd.Index(table[column]))
        return sparse.csr_array((np.ones(len(ids)), (rows, classes)), shape)

    truth, chosen = one_hot("true"), one_hot("predicted")
    outputs = truth.multiply(table["p_true"].astype(float).to_numpy()[:, None]).tolil()
    for k in range(1, KEPT + 1):
        classes = names.get_indexer(pd.Index(table[f"class_{k}"]))
        outputs[rows, classes] = table[f"probability_{k}"].astype(float).to_numpy()
    return Outcome(ids, outputs.tocsr(), truth, chosen.astype(bool))
