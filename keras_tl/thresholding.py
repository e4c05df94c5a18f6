"""Setting the thresholds of a finished run: chosen on its val split, stored in what it exports."""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from keras_tl.errors import InputError, did_you_mean
from keras_tl.evaluation import thresholds as rules
from keras_tl.evaluation.metrics import evaluate
from keras_tl.evaluation.predictions import predictions_frame
from keras_tl.export.saved_model import export_saved_model
from keras_tl.files import atomic_changes, atomic_write_text, csv_text
from keras_tl.model_info import FILE_NAME, ModelInfo
from keras_tl.reporting.facts import Outcome, read_facts
from keras_tl.reporting.page import write_report
from keras_tl.reporting.result import thresholds_text
from keras_tl.runs import Run

# Rules that reach a share, and rules that look for a maximum.
WITH_SHARE = {
    "specificity": rules.at_specificity,
    "sensitivity": rules.at_sensitivity,
    "precision": rules.at_precision,
}
WITHOUT_SHARE = {"f1": rules.best_f1, "youden": rules.best_youden}
# With fewer positives or negatives, a threshold is mostly chance.
FEW = 30

log = logging.getLogger("keras_tl")


def choose_thresholds(
    run: Run, rule: str, share: float | None = None, *, positive: str | None = None
) -> tuple[float, ...]:
    """Chooses thresholds on a run's val split and stores them.

    See `set_thresholds` for where. With several labels, each class gets its own threshold; if the
    rule cannot be followed for a class, it keeps its threshold, with a warning.

    Args:
        run: A finished run that tells two classes apart, or has several labels.
        rule: "specificity", "sensitivity" or "precision" of at least `share`; "f1" or "youden"
            for the highest. See `keras_tl.evaluation.thresholds`.
        share: In (0, 1], for the first three.
        positive: Of two classes the one looked for; None takes the rarer one of the val split.

    Returns:
        The thresholds, as in `ModelInfo`.

    Raises:
        InputError: The run has no val predictions or other kinds of classes, the rule or the
            class does not exist, or the rule cannot be followed.
        CheckError: The new SavedModel differs from the Keras model.
    """
    choose = _rule(rule, share)
    facts = read_facts(run)
    info, val = facts.info, facts.val_outcome
    if info is None or val is None or not len(val):
        raise InputError(
            f"a run with {Run.VAL_PREDICTIONS}",
            str(run.folder),
            "Train it again with a val split: thresholds are chosen there.",
        )
    left: list[str] = []
    if info.task == "multi-label":
        if positive is not None:
            raise InputError("no positive class for several labels", positive, "Leave it out.")
        chosen, left = _one_each(val, info, choose)
    else:
        positive = _positive(val, info, positive)
        index = info.class_names.index(positive)
        _warn_of_few(val.present[:, index], positive, info.nouns)
        chosen = (_between_two(val, index, choose, must_hold=share is not None),)
    how = {"rule": rule, "share": share, "positive": positive, "images": len(val), "left": left}
    set_thresholds(run, chosen, how)
    log.info("%s", thresholds_text(read_facts(run)))
    return chosen


def set_thresholds(
    run: Run, thresholds: Sequence[float], chosen_by: dict[str, Any] | None = None
) -> None:
    """Stores thresholds in a run, and measures it again with them.

    `model.json`, the SavedModel (written anew, and compared with the Keras model), exports in
    the run's folder, the tables of predictions, the figures, the report and the model card are
    updated with them, all together: after a kill the run is as it was, or `load_run` finds it
    wholly changed.

    Args:
        run: A finished run.
        thresholds: As in `ModelInfo`; none for what a new run has.
        chosen_by: How they were chosen, to be kept with the figures.

    Raises:
        InputError: They do not fit the run's task and classes.
        CheckError: The new SavedModel differs from the Keras model.
    """
    with atomic_changes(run.folder) as changed:
        info = replace(run.info, thresholds=tuple(thresholds))
        model = run.model()
        export_saved_model(model, changed / Run.SAVED_MODEL, info)
        _write_descriptions(run, info, changed)
        _write_figures(run, info, chosen_by, changed)
        write_report(_Changed(run.folder, changed), model=model, out=changed)


class _Changed(Run):
    """A run with files of another folder in place of its own."""

    def __init__(self, folder: Path, changed: Path):
        super().__init__(folder)
        self._changed = changed

    def path(self, name: str) -> Path:
        path = self._changed / name
        return path if path.exists() else super().path(name)


def _write_descriptions(run: Run, info: ModelInfo, out: Path) -> None:
    """Writes the run's `model.json`, and those of exports that were equal to it."""
    before = run.info
    for path in sorted(run.folder.glob(f"*/{FILE_NAME}")):
        # Hidden folders are being written, or are left from a killed process.
        is_other = path.parent.name.startswith(".") or Run(path.parent).is_whole
        if not is_other and ModelInfo.read(path) == before:
            log.info("%s follows the new thresholds too", path.parent)
            info.write(out / path.parent.name)
    info.write(out)


def _write_figures(run: Run, info: ModelInfo, chosen_by: dict[str, Any] | None, out: Path) -> None:
    """The tables of predictions, and `metrics.json`."""
    facts = read_facts(run)
    _write_predictions(out / Run.VAL_PREDICTIONS, facts.val_outcome, info)
    _write_predictions(out / Run.PREDICTIONS, facts.outcome, info)
    metrics = {name: value for name, value in run.metrics.items() if name not in _REPLACED}
    if facts.outcome is not None and not facts.outcome.is_sparse:
        metrics |= evaluate(_outputs(facts.outcome), facts.outcome.truth, info)
    if chosen_by is not None:
        metrics["thresholds_chosen_by"] = chosen_by
    if gap := metrics.get("baseline", {}).get("difference"):
        gap.pop("before_thresholds", None)
        if info.thresholds != replace(info, thresholds=()).thresholds:
            gap["before_thresholds"] = True
    atomic_write_text(out / Run.METRICS, json.dumps(metrics, indent=2) + "\n")


# Figures that exist only if thresholds were set.
_REPLACED = ("threshold", "thresholds_chosen_by")


def _rule(rule: str, share: float | None) -> Callable[[np.ndarray, np.ndarray], float]:
    if rule in WITHOUT_SHARE and share is None:
        return WITHOUT_SHARE[rule]
    if rule in WITH_SHARE and share is not None:
        # Here, since what fails for one of several classes leaves only that class as it is.
        rules.check_share(rule, share)
        find = WITH_SHARE[rule]
        return lambda positive, scores: find(positive, scores, share)
    if rule in WITHOUT_SHARE or rule in WITH_SHARE:
        expected, fix = ("a share", "Try 0.95.") if share is None else ("no share", "Leave it out.")
        raise InputError(f"{expected} with {rule!r}", str(share), fix)
    known = (*WITH_SHARE, *WITHOUT_SHARE)
    raise InputError("a rule", repr(rule), did_you_mean(rule, known, f"Take {', '.join(known)}."))


def _positive(val: Outcome, info: ModelInfo, name: str | None) -> str:
    """The class looked for."""
    if info.task != "single-label" or len(info.class_names) != 2:
        raise InputError(
            "two classes, or several labels, to choose thresholds for",
            f"{len(info.class_names)} outputs of a {info.task} task",
            "The most probable of more classes needs none.",
        )
    if name is None:
        first, second = val.present.sum(axis=0)
        return info.class_names[0] if first < second else info.class_names[1]
    if name not in info.class_names:
        hint = did_you_mean(name, info.class_names, f"Take {' or '.join(info.class_names)}.")
        raise InputError("a class of the run", repr(name), hint)
    return name


def _between_two(
    val: Outcome,
    positive: int,
    choose: Callable[[np.ndarray, np.ndarray], float],
    *,
    must_hold: bool,
) -> float:
    """The probability of the second class at or above which it is predicted.

    If a share was asked for it must be met, which fails if the threshold would be above 1.
    """
    truth, second = val.present[:, positive], _outputs(val)[:, 1]
    if positive == 1:
        return choose(truth, second)
    first = 1.0 - second.astype(np.float64)
    is_first = first >= choose(truth, first)
    # The threshold parts the items' own float32 numbers: 1 - t may be rounded past one of them.
    below = np.max(second[is_first], initial=0.0).astype(np.float32)
    above = np.min(second[~is_first], initial=1.0).astype(np.float32)
    if below >= 1 and must_hold:
        received = "items of the class of which the model is wholly sure that they are none"
        raise InputError("a threshold that gives what was asked for", received, "Ask for less.")
    middle = np.float32((float(below) + float(above)) / 2)
    return float(middle if middle > below else above)


def _one_each(
    val: Outcome, info: ModelInfo, choose: Callable[[np.ndarray, np.ndarray], float]
) -> tuple[tuple[float, ...], list[str]]:
    """Thresholds, and the classes that keep theirs."""
    chosen, left = list(info.thresholds), []
    for index, name in enumerate(info.class_names):
        truth = val.present[:, index]
        try:
            chosen[index] = choose(truth, _outputs(val)[:, index])
            _warn_of_few(truth, name, info.nouns)
        except InputError as error:
            left.append(name)
            log.warning("%s keeps the threshold %.4f: %s", name, chosen[index], error)
    if len(left) == len(chosen):
        received = "none: the warnings say why"
        raise InputError("a class for which the rule can be followed", received, "Try another.")
    return tuple(chosen), left


def _warn_of_few(truth: np.ndarray, name: str, nouns: str) -> None:
    fewest = min(int(truth.sum()), int((~truth).sum()))
    # Without any there is no threshold to warn of.
    if 0 < fewest < FEW:
        told = "The threshold of %s was chosen by only %d %s on one side: others may need another"
        log.warning(told, name, fewest, nouns if fewest > 1 else nouns[:-1])


def _outputs(outcome: Outcome) -> np.ndarray:
    """Outputs as the model gave them; the table's text has all their digits."""
    return outcome.outputs.astype(np.float32)


def _write_predictions(path: Path, outcome: Outcome | None, info: ModelInfo) -> None:
    # With very many classes, only the most probable one counts, whatever the thresholds.
    if outcome is not None and not outcome.is_sparse:
        frame = predictions_frame(outcome.ids, _outputs(outcome), outcome.truth, info)
        atomic_write_text(path, csv_text(frame))
