"""The first section: the result in a sentence, and the figures that matter most."""

from dataclasses import replace
from typing import Any

import numpy as np

from keras_tl.data.labels import first_few
from keras_tl.reporting.baseline import baseline_text
from keras_tl.reporting.blocks import Block, Figure, Figures, Section, Text, number, percent
from keras_tl.reporting.doubts import leaked_text, suspects_text
from keras_tl.reporting.facts import Facts
from keras_tl.reporting.headlines import Show, headlines

SHOWN_WARNINGS = 10
SHOWN_TARGETS = 5
NO_WORSE = ", which is no worse than the model."
# Of fewer groups a bootstrap is too narrow.
FEW_GROUPS = 10
NO_BREAK = "\u00a0"
# What the intervals call a figure, where it has another name there.
_INTERVAL_NAMES = {"subset_accuracy": "accuracy"}


def result(facts: Facts) -> Section:
    """What came out, how sure that is, and what it was measured on."""
    blocks: list[Block] = [Text(_sentence(facts), "lead")]
    if leaked := leaked_text(facts):
        blocks.append(Text(leaked, "note"))
    for beside in (_always_the_same(facts), baseline_text(facts.metrics, facts.nouns)):
        if beside:
            blocks.append(Text(beside))
    blocks.append(Figures(tuple(_headline(facts, *row) for row in headlines(facts))))
    if suspects := suspects_text(facts):
        blocks.append(Text(suspects))
    if decided := thresholds_text(facts):
        blocks.append(Text(decided))
    if facts.metrics.get("measured_on", "test") != "test":
        blocks.append(Text(f"Measured on {facts.metrics.get('note', 'the split it has')}.", "note"))
    blocks.append(Text(_about_intervals(facts), "quiet"))
    return Section("Result", tuple(blocks))


def warned(facts: Facts) -> list[Section]:
    """What the run warned of while it ran; no section where that is nothing."""
    lines = facts.metrics.get("warnings", [])
    if not lines:
        return []
    blocks = [Text(line, "note") for line in lines[:SHOWN_WARNINGS]]
    if (left := len(lines) - len(blocks)) > 0:
        blocks.append(Text(f"{left:,} more are in metrics.json.", "quiet"))
    if facts.metrics.get("thresholds_chosen_by"):
        about = "They are of the training, and of its figures before thresholds were chosen."
        blocks.insert(0, Text(about, "quiet"))
    return [Section("Warnings", tuple(blocks))]


def bounds(facts: Facts, name: str, index: int | None = None) -> tuple[float, float] | None:
    """The interval of an overall figure, or of one class's or target's.

    Args:
        facts: The run.
        name: The figure's name in metrics.json.
        index: The class or target; None for the overall figure. The overall figure of a
            regression with one target is that target's.

    Returns:
        Lower and upper bound; None where there are none, where they do not hold the figure, or
        where all resamples agree, which says nothing of other samples.
    """
    found = facts.intervals.get(_INTERVAL_NAMES.get(name, name))
    if found is None:
        return None
    low, high = found.low, found.high
    if facts.task == "regression" and index is None:
        if len(low) > 1:
            return None
        index = 0
    if index is not None:
        low, high = low[index], high[index]
    value = facts.metrics.get(name) if index is None else None
    # With very few samples a class, F1 is lower in nearly every resample, which leaves classes out.
    if np.isnan(low) or low == high or (value is not None and not low <= value <= high):
        return None
    return float(low), float(high)


def range_text(found: tuple[float, float] | None, show: Show) -> str:
    """An interval as text that is not broken; "" where there is none."""
    if found is None:
        return ""
    low, high = found
    return f"{show(low)} to {show(high)}".replace(" ", NO_BREAK)


def _headline(facts: Facts, name: str, label: str, show: Show) -> Figure:
    return Figure(label, show(facts.metrics.get(name)), range_text(bounds(facts, name), show))


def _sentence(facts: Facts) -> str:
    metrics = facts.metrics
    samples, split = metrics.get("samples", 0), metrics.get("measured_on", "test")
    noun = facts.noun if samples == 1 else facts.nouns
    where = f"{samples:,} {noun} of the {split} split"
    if facts.task == "regression":
        errors = [(n, row["mae"]) for n, row in metrics.get("per_target", {}).items()]
        if len(errors) > 1:
            # They may have different units, so their mean would say nothing.
            told = ", ".join(f"{name} by {number(error)}" for name, error in errors[:SHOWN_TARGETS])
            more = f" (and {len(errors) - SHOWN_TARGETS:,} more targets)"
            told += more if len(errors) > SHOWN_TARGETS else ""
            return f"On {where}, the model is off on average: {told}."
        interval, name = _in_words(facts, "mae", number), facts.class_names[0]
        return f"On {where}, {name} is off by {number(metrics['mae'])} on average{interval}."
    if facts.task == "multi-label":
        interval = _in_words(facts, "subset_accuracy", percent)
        share = percent(metrics["subset_accuracy"])
        return f"Of {where}, the model got every class right in {share}{interval}."
    interval = _in_words(facts, "accuracy", percent)
    return f"Of {where}, the model got {percent(metrics['accuracy'])} right{interval}."


def _in_words(facts: Facts, name: str, show: Show) -> str:
    found = range_text(bounds(facts, name), show)
    return f" (95 % interval {found})" if found else ""


def _always_the_same(facts: Facts) -> str:
    """What an answer without looking would reach."""
    metrics: dict[str, Any] = facts.metrics
    if facts.task == "single-label" and "per_class" in metrics:
        support = {name: row["support"] for name, row in metrics["per_class"].items()}
        name = max(support, key=lambda key: support[key])
        share = support[name] / max(sum(support.values()), 1)
        told = f"Always answering “{name}”, the most frequent class, would get {percent(share)}"
        return f"{told}{NO_WORSE if share >= metrics['accuracy'] else '.'}"
    if facts.task == "regression" and facts.outcome is not None:
        truth = facts.outcome.truth
        errors = np.abs(truth - np.median(truth, axis=0)).mean(axis=0).tolist()
        told = "Always answering the median would be off by"
        if len(errors) == 1:
            return f"{told} {number(errors[0])}{NO_WORSE if errors[0] <= metrics['mae'] else '.'}"
        of_name = dict(zip(facts.class_names, errors, strict=True))
        rows: dict[str, Any] = metrics.get("per_target", {})
        worse = [name for name, row in rows.items() if of_name[name] <= row["mae"]]
        shown = [f"{number(error)} for {name}" for name, error in of_name.items()]
        told = f"{told} {first_few(shown, SHOWN_TARGETS)}"
        less = f", which is no worse than the model for {first_few(worse, SHOWN_TARGETS)}"
        return f"{told}{less if worse else ''}."
    return ""


def thresholds_text(facts: Facts) -> str:
    """What decides, where thresholds were chosen after training.

    Args:
        facts: The run.

    Returns:
        A sentence; "" where none were chosen.
    """
    if not (chosen := facts.metrics.get("thresholds_chosen_by")):
        return _given_thresholds(facts)
    rule = {"f1": "the highest F1", "youden": "the highest sensitivity + specificity"}
    share = f"{100 * (chosen['share'] or 0):g}{NO_BREAK}%"
    asked = rule.get(chosen["rule"], f"a {chosen['rule']} of {share}")
    where = f"chosen on {chosen['images']:,} {facts.nouns} of the val split for {asked}"
    if facts.task == "multi-label" or facts.info is None:
        told = f"Each class is called at a threshold of its own, {where}."
        if left := chosen.get("left"):
            told += (
                f" The rule cannot be followed for {', '.join(left)}: the threshold is as before."
            )
        return told
    threshold, positive = facts.info.thresholds[0], chosen["positive"]
    if positive == facts.class_names[0]:
        threshold = 1.0 - threshold
    return f"{_called_from(positive, threshold)}, {where}."


def _given_thresholds(facts: Facts) -> str:
    """The same where no rule chose them; "" where they are those of a new run."""
    info = facts.info
    if info is None or info.thresholds == replace(info, thresholds=()).thresholds:
        return ""
    if facts.task == "multi-label":
        return "Classes are called at thresholds that were given."
    return f"{_called_from(facts.class_names[1], info.thresholds[0])}, which was given."


def _called_from(name: str, threshold: float) -> str:
    return f"“{name}” is called from a probability of {percent(threshold, 2)} on"


def _about_intervals(facts: Facts) -> str:
    if facts.of_one_group:
        return f"There are no intervals: all measured {facts.nouns} are of one group."
    if not facts.intervals:
        return "There are no intervals: the run has no predictions.csv."
    groups = ""
    if facts.groups is not None:
        count = int(facts.groups.max()) + 1
        groups = f", {facts.nouns} of a group together"
        if count < FEW_GROUPS:
            groups += f" (of {count} groups, too few: they are wider in truth)"
    shares = (
        "" if facts.task == "regression" else "of accuracy, precision and recall Wilson's, else "
    )
    return (
        f"Intervals: {shares}1,000 bootstrap resamples of the measured {facts.nouns}{groups}; they "
        "know nothing of other seeds or splits."
    )
