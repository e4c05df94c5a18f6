"""Sections on a classification: what is confused, each class, curves, calibration."""

from typing import Any, TypeAlias

import numpy as np
from sklearn.metrics import (
    auc,
    average_precision_score,
    precision_recall_curve,
    roc_curve,
)

from keras_tl.evaluation.calibration import (
    BINS,
    COLDEST,
    HOTTEST,
    Reliability,
    cross_fitted,
    decisions,
    fit_temperature,
    negative_log_likelihood,
    reliability,
    with_temperature,
)
from keras_tl.evaluation.class_figures import NONE_CONFUSED, Pairs, pairs_of_matrix
from keras_tl.evaluation.many_classes import KEPT, MANY_CLASSES
from keras_tl.reporting.blocks import (
    Block,
    Cell,
    Chart,
    Charts,
    Key,
    Section,
    Table,
    Text,
    number,
    percent,
    row,
)
from keras_tl.reporting.facts import Facts, Outcome
from keras_tl.reporting.plot import Axes, Line, bar_chart, line_chart
from keras_tl.reporting.result import bounds

# What is shown at most: classes of a matrix, rows of a table, pairs, classes with own curves.
MATRIX_CLASSES, TABLE_ROWS, PAIRS, CURVE_CLASSES = 15, 30, 30, 6
# Below this an expected calibration error is mostly noise.
FEW_SAMPLES = 300
# Colours of a mean over classes, and of guessing.
MEAN, GUESS = 7, 9
Points: TypeAlias = tuple[np.ndarray, np.ndarray]
GRID = np.linspace(0.0, 1.0, 101)
_NO_PREDICTIONS = Text("This needs predictions.csv, which the run does not have.", "quiet")


def confusion(facts: Facts) -> Section:
    """Which class is taken for which; of many classes the most confused pairs."""
    counts = np.array(facts.metrics["confusion_matrix"])
    names = facts.class_names
    pairs = pairs_of_matrix(counts, names)
    blocks: list[Block] = []
    if len(names) <= MATRIX_CLASSES:
        blocks.append(_matrix(counts, names))
    elif pairs:
        blocks.append(_pairs(facts, pairs))
    if not pairs:
        blocks.append(Text(NONE_CONFUSED))
    return Section("Confusion matrix", tuple(blocks))


def confused(facts: Facts) -> Section:
    """The most confused pairs of very many classes."""
    pairs = facts.metrics["confused"]
    found = _pairs(facts, pairs) if pairs else Text(NONE_CONFUSED)
    return Section("Confusion", (found,))


def _matrix(counts: np.ndarray, names: tuple[str, ...]) -> Table:
    totals = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    numbered = len(names) > 4
    head = [str(k) if numbered else name for k, name in enumerate(names, start=1)]
    rows = []
    for i, name in enumerate(names):
        cells = [
            Cell(str(count), percent(count / totals[i, 0], 0), count / totals[i, 0], good=i == j)
            for j, count in enumerate(counts[i])
        ]
        rows.append([Cell(f"{i + 1} {name}" if numbered else name), *cells])
    caption = "Rows are the truth, columns the prediction; shares are of the row."
    return Table(["true \\ predicted", *head], rows, caption, look="heat")


def _pairs(facts: Facts, pairs: Pairs) -> Table:
    rows = []
    for true, predicted, count in pairs[:PAIRS]:
        share = count / facts.metrics["per_class"][true]["support"]
        cells = Cell(f"{count:,}"), Cell(percent(share), bar=share)
        rows.append([Cell(true), Cell(predicted), *cells])
    caption = f"The {len(rows)} most confused pairs of {len(facts.class_names):,} classes"
    if len(pairs) > len(rows) and "confused" in facts.metrics:
        caption += f"; all {len(pairs):,} are in metrics.json"
    head = ["true", "taken for", facts.nouns, "share of the class"]
    return Table(head, rows, f"{caption}.", names=2)


def per_class(facts: Facts) -> Section:
    """Precision, recall and F1 of each class with intervals, the worst first."""
    table: dict[str, dict[str, Any]] = facts.metrics["per_class"]
    occurring = [name for name in table if table[name]["support"]]
    names = sorted(occurring, key=lambda name: table[name]["f1"])[:TABLE_ROWS]
    position = {name: index for index, name in enumerate(facts.class_names)}
    rows = []
    for name in names:
        values = table[name]
        scores = [_score(facts, key, values[key], position[name]) for key in _SCORES]
        rows.append([Cell(name), Cell(f"{values['support']:,}"), *scores])
    which = "All classes, the lowest F1 first"
    if len(occurring) > len(rows):
        which = f"The {len(rows)} classes of {len(occurring):,} with the lowest F1"
    if len(table) > len(occurring):
        which += f"; {len(table) - len(occurring):,} that do not occur are left out"
    caption = f"{which}; with 95 % intervals."
    explained = Text(
        "Precision: how many of those called so are so. Recall: how many of those that are so "
        "were found. F1: their harmonic mean.",
        "quiet",
    )
    head = ["class", facts.nouns, "precision", "recall", "F1"]
    return Section("Each class", (Table(head, rows, caption), explained))


_SCORES = ("precision", "recall", "f1")


def _score(facts: Facts, key: str, value: float, index: int) -> Cell:
    found = bounds(facts, key, index)
    if found is None:
        return Cell(f"{value:.2f}")
    low, high = found
    return Cell(f"{value:.2f}", f"{low:.2f}–{high:.2f}", span=(low, value, high))


def curves(facts: Facts) -> Section:
    """ROC and precision-recall curves: of two classes one, of more each against the rest."""
    outcome = facts.outcome
    title = "ROC and precision-recall"
    if outcome is None:
        return Section(title, (_NO_PREDICTIONS,))
    if outcome.is_sparse:
        return Section(title, (Text(_of_many(facts, "Curves"), "quiet"),))
    shown = _curve_classes(facts, outcome)
    if not shown:
        why = f"Curves need, for some class, {facts.nouns} that are of it and some that are not."
        return Section(title, (Text(why, "quiet"),))
    truth, scores = outcome.present[:, shown], outcome.outputs[:, shown]
    names = [facts.class_names[i] for i in shown]
    about = "Each class against the rest."
    if len(shown) == 1:
        about = f"The class looked for is “{names[0]}”."
    charts = (_roc_chart(truth, scores, names), _precision_chart(truth, scores, names))
    text = Text(f"{about} The dashed line is guessing.", "quiet")
    return Section(title, (text, Charts(charts)))


def _curve_classes(facts: Facts, outcome: Outcome) -> list[int]:
    """Classes that some samples are of and some are not.

    Of two exclusive classes it is the one that a threshold was chosen for, else the rarer one.
    """
    occurs = outcome.present.sum(axis=0)
    defined = [int(i) for i in np.flatnonzero((occurs > 0) & (occurs < len(outcome)))]
    if facts.task == "single-label" and len(facts.class_names) == 2:
        looked_for = facts.metrics.get("thresholds_chosen_by", {}).get("positive")
        if looked_for in facts.class_names:
            return [i for i in defined if facts.class_names[i] == looked_for]
        return sorted(defined, key=lambda i: (occurs[i], -i))[:1]
    return defined


def _roc_chart(truth: np.ndarray, scores: np.ndarray, names: list[str]) -> Chart:
    points = [roc_curve(truth[:, k], scores[:, k])[:2] for k in range(len(names))]
    mean = np.mean([np.interp(GRID, x, y) for x, y in points], axis=0)
    area = np.mean([auc(x, y) for x, y in points])
    axes = Axes((0.0, 1.0), (0.0, 1.0), "false positive rate", "true positive rate")
    lines = _lines(points, names, (np.r_[0.0, GRID], np.r_[0.0, mean]))
    return Chart(f"ROC, area {area:.3f}", line_chart(axes, lines, diagonal=True), _keys(lines))


def _precision_chart(truth: np.ndarray, scores: np.ndarray, names: list[str]) -> Chart:
    points: list[Points] = []
    for k in range(len(names)):
        precision, recall, _ = precision_recall_curve(truth[:, k], scores[:, k])
        # By recall, which rises from 0.
        points.append((recall[::-1], precision[::-1]))
    # Of each class the precision at the threshold that reaches a recall.
    mean = np.mean([y[np.searchsorted(x, GRID)] for x, y in points], axis=0)
    average = np.mean(
        [average_precision_score(truth[:, k], scores[:, k]) for k in range(len(names))]
    )
    axes = Axes((0.0, 1.0), (0.0, 1.0), "recall", "precision")
    lines = _lines(points, names, (GRID, mean))
    guess = float(truth.mean())
    dashed = Line((0.0, 1.0), (guess, guess), color=GUESS, dashed=True, name="guessing")
    svg = line_chart(axes, [dashed, *lines])
    return Chart(f"Precision and recall, average {average:.3f}", svg, _keys(lines))


def _lines(points: list[Points], names: list[str], mean: Points) -> list[Line]:
    """A line for each class where they are few, and their mean where they are several."""
    lines = []
    if len(names) <= CURVE_CLASSES:
        lines = [
            Line(*curve, color=color, name=name)
            for color, (curve, name) in enumerate(zip(points, names, strict=True))
        ]
    if len(names) > 1:
        lines.append(Line(*mean, color=MEAN, name=f"mean of {len(names):,} classes"))
    return lines


def _keys(lines: list[Line]) -> tuple[Key, ...]:
    return tuple(Key(line.color, line.name) for line in lines)


def calibration(facts: Facts) -> Section:
    """Whether what is said with 80 % is right in 80 %, before and after temperature scaling."""
    outcome, title = facts.outcome, "Calibration"
    if outcome is None:
        return Section(title, (_NO_PREDICTIONS,))
    if len(outcome) < 2:
        return Section(title, (Text(f"One {facts.noun} says nothing of it.", "quiet"),))
    if outcome.is_sparse:
        return Section(title, _calibration_of_many(facts, outcome))
    multi_label = facts.task == "multi-label"
    scaled, how = _scaled(facts, outcome, multi_label)
    rows, charts, losses = [], [], []
    ways = [("as trained", outcome.outputs)]
    if scaled is not None:
        ways.append(("with temperature", scaled))
    for name, probabilities in ways:
        found = reliability(*decisions(probabilities, outcome.present, multi_label))
        loss = negative_log_likelihood(probabilities, outcome.present, multi_label)
        losses.append(loss)
        rows.append(row(name, percent(found.error), number(loss)))
        charts.append(Chart(name.capitalize(), _diagram(found, multi_label)))
    head = ["", "expected calibration error", "log loss"]
    about = (
        "Bars that end on the dashed line mean what they say, below it the model is too sure; "
        f"darker ones hold more {facts.nouns}. {how} Dividing the logits by a temperature above 1 "
        f"makes less sure (Guo et al. 2017).{_advice(losses)}"
    )
    if len(outcome) < FEW_SAMPLES:
        about += f" With {len(outcome)} {facts.nouns} much of the error is chance."
    return Section(title, (Charts(tuple(charts)), Table(head, rows), Text(about, "quiet")))


def _advice(losses: list[float]) -> str:
    """What to make of a temperature that does not help; "" where it does, or there is none."""
    if losses[-1] <= losses[0]:
        return ""
    return " Here it makes the log loss worse: leave the probabilities as they are."


def _calibration_of_many(facts: Facts, outcome: Outcome) -> tuple[Block, ...]:
    """The diagram as trained: of many classes the table has not all that a temperature takes."""
    found = reliability(outcome.confidence, outcome.right)
    chart = Chart("As trained", _diagram(found, False))
    about = (
        f"The expected calibration error is {percent(found.error)}. Bars that end on the dashed "
        "line mean what they say, below it the model is too sure; darker ones hold more "
        f"{facts.nouns}. {_of_many(facts, 'Temperatures')}"
    )
    return Charts((chart,)), Text(about, "quiet")


def _of_many(facts: Facts, what: str) -> str:
    return (
        f"{what} are left out: with more than {MANY_CLASSES} classes (here "
        f"{len(facts.class_names):,}) predictions.csv holds the {KEPT} most probable ones of each "
        f"{facts.noun} only."
    )


def _scaled(facts: Facts, outcome: Outcome, multi_label: bool) -> tuple[np.ndarray | None, str]:
    """Probabilities after temperature scaling, and where the temperature is from; or None, why."""
    val, split = facts.val_outcome, facts.metrics.get("measured_on", "test")
    if val is not None and split != "val" and len(val):
        temperature = fit_temperature(val.outputs, val.present, multi_label)
        if not 1.01 * COLDEST < temperature < 0.99 * HOTTEST:
            return None, "The val split has no mistake to fit a temperature to, or little else."
        scaled = with_temperature(outcome.outputs, temperature, multi_label)
        return scaled, f"Temperature {temperature:.2f}, fitted on the val split."
    scaled, temperature = cross_fitted(
        outcome.outputs, outcome.present, multi_label, groups=facts.groups
    )
    return scaled, (
        f"Temperature {temperature:.2f}, cross-fitted on the {split} split: each fifth of it is "
        "scaled by what was fitted on the rest."
    )


def _diagram(found: Reliability, multi_label: bool) -> Any:
    label = "share that is there" if multi_label else "share that is right"
    axes = Axes((0.0, 1.0), (0.0, 1.0), "probability", label)
    edges = np.linspace(0.0, 1.0, BINS + 1)
    weights = np.sqrt(found.count / found.count.max())
    return bar_chart(axes, edges, found.share, weights=weights, diagonal=True)
