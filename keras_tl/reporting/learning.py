"""Sections on the training: curves over the phases, what was frozen, where the time went."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from keras_tl.reporting.blocks import (
    Block,
    Cell,
    Chart,
    Charts,
    Code,
    Details,
    Key,
    Section,
    Table,
    Text,
    percent,
    seconds,
)
from keras_tl.reporting.facts import Facts
from keras_tl.reporting.plot import Axes, Band, Line, extent, line_chart

# Columns of history.csv that are no metric of the model.
_NOT_METRICS = ("phase", "epoch", "seconds", "learning_rate", "loss")
# The validation loss that chooses the weights where classes are exclusive.
REFINED = "val_refined_loss"


def learning_curves(facts: Facts) -> Section:
    """Loss and metric over all epochs, the phases marked."""
    history, title = facts.history, "Learning curves"
    if history is None or history.empty:
        why = "This needs history.csv, which the run does not have."
        return Section(title, (Text(why, "quiet"),))
    has_val = "val_loss" in history
    charts = [curve(history, name) for name in curve_names(history)]
    about = "Training figures are means over the epoch, with dropout and augmentation at work."
    if has_val:
        about += (
            " Dots: the epoch of its phase with the lowest val loss"
            + (", after the best temperature" if REFINED in history else "")
            + "; its weights were kept, unless those that the phase began with had a lower one."
        )
    return Section(title, (Charts(tuple(charts)), Text(about, "quiet")))


def curve_names(history: pd.DataFrame) -> list[str]:
    """The loss, and the first metric that was watched."""
    names = [
        name
        for name in history.columns
        if name not in _NOT_METRICS and not name.startswith("val_") and history[name].notna().any()
    ]
    return ["loss", *names[:1]]


def range_of(name: str, lines: Sequence[Line]) -> tuple[float, float]:
    """The values a figure's curves go through; no accuracy is above 1."""
    low, high = extent(*(line.y for line in lines))
    return low, min(high, 1.0) if "accuracy" in name else high


def curve(history: pd.DataFrame, name: str) -> Chart:
    """One figure over all epochs: training dashed, validation whole.

    Args:
        history: A row for each epoch, with a column `phase`.
        name: The figure's column; `val_` before it is the validation's.
    """
    epochs = np.arange(1, len(history) + 1)
    own, val = history[name].to_numpy(float), history.get(f"val_{name}")
    lines = [Line(epochs, own, color=0, dashed=True, name=f"train {name}")]
    keys = [Key(0, "train", dashed=True)]
    dots = []
    if val is not None:
        lines.append(Line(epochs, val.to_numpy(float), color=1, name=f"val {name}"))
        keys.append(Key(1, "val"))
        dots = [(float(epochs[i]), float(val.iloc[i]), 1) for i in _kept(history)]
    y = range_of(name, lines)
    shown = name.replace("_", " ")
    axes = Axes((0.5, len(history) + 0.5), y, "epoch", shown, whole_x=True)
    svg = line_chart(axes, lines, bands=_bands(history), dots=dots)
    return Chart(shown.capitalize() if shown != "mae" else "Mean absolute error", svg, tuple(keys))


def _stretches(history: pd.DataFrame) -> list[tuple[str, int, int]]:
    """Name, first row and row behind the last of each phase."""
    phases = history["phase"].astype(str).to_numpy()
    starts = [0, *(i for i in range(1, len(phases)) if phases[i] != phases[i - 1])]
    return [
        (phases[start], start, end)
        for start, end in zip(starts, [*starts[1:], len(phases)], strict=True)
    ]


def _bands(history: pd.DataFrame) -> list[Band]:
    return [Band(start + 0.5, end + 0.5, name) for name, start, end in _stretches(history)]


def _kept(history: pd.DataFrame) -> list[int]:
    """Rows with the lowest validation loss of their phase, by which weights are chosen."""
    rows: list[int] = []
    judged = REFINED if REFINED in history else "val_loss"
    if judged not in history:
        return rows
    for _, start, end in _stretches(history):
        losses = history[judged].iloc[start:end].to_numpy(float)
        if np.isfinite(losses).any():
            rows.append(start + int(np.nanargmin(losses)))
    return rows


def frozen(facts: Facts) -> Section:
    """What trained in each phase and what did not."""
    title = "What was frozen"
    phases = facts.metrics.get("phases")
    if not phases:
        why = "metrics.json says nothing of phases: none ran, or the run is of an older version."
        return Section(title, (Text(why, "quiet"),))
    rows = []
    for phase in phases:
        trained, still = phase["trainable_parameters"], phase["frozen_parameters"]
        share = trained / max(trained + still, 1)
        ends = ", ".join(phase["frozen_prefix_ends_at"]) or "–"
        parameters = Cell(f"{trained:,}", f"of {trained + still:,}")
        part = Cell(percent(share), bar=share)
        rows.append([Cell(phase["name"]), parameters, part, Cell(ends)])
    head = ["phase", "parameters that train", "share", "computed once up to"]
    details = tuple(
        Details(f"Layers in phase “{phase['name']}”", (Code(phase["freezing"]),))
        for phase in phases
    )
    return Section(title, (Table(head, rows), *details))


def time_spent(facts: Facts) -> Section:
    """Seconds and memory of each step, and what the frozen prefix saved."""
    title, taken = "Time and passes over the data", facts.metrics.get("seconds")
    blocks: list[Block] = []
    if taken:
        blocks.append(_steps(taken, facts.metrics.get("peak_memory_mb", {})))
    blocks += _passes(facts)
    if not blocks:
        blocks.append(Text("metrics.json says nothing of time.", "quiet"))
    return Section(title, tuple(blocks))


def _steps(taken: dict[str, float], memory: dict[str, int]) -> Table:
    total = sum(taken.values())
    rows = [
        [
            Cell(name),
            Cell(seconds(value)),
            Cell(percent(value / total, 0), bar=value / total),
            *([Cell(f"{memory[name]:,} MB" if name in memory else "–")] if memory else []),
        ]
        for name, value in _as_they_ended(taken, memory)
    ]
    head, caption = ["step", "time", "share"], f"{seconds(total)} in all."
    if memory:
        head.append("memory")
        caption += " Memory: the most that the process had used until the end of the step."
    return Table(head, rows, caption)


def _as_they_ended(taken: dict[str, float], memory: dict[str, int]) -> list[tuple[str, float]]:
    """The steps by the memory at their ends, which never falls: the audit's labels come late."""
    place = {name: i for i, name in enumerate(memory)}
    return sorted(taken.items(), key=lambda step: place.get(step[0], -1))


def _passes(facts: Facts) -> list[Block]:
    """What each phase ran through its frozen part, and what plain training would have run."""
    phases, images = facts.metrics.get("phases"), facts.metrics.get("images")
    if not phases or not images or facts.history is None:
        return []
    each_epoch = images.get("train", 0) + images.get("val", 0)
    rows, whole, done = [], 0, 0
    for phase in phases:
        epochs = int((facts.history["phase"].astype(str) == phase["name"]).sum())
        plain, ran = epochs * each_epoch, _ran(phase, epochs * each_epoch)
        whole, done = whole + plain, done + ran
        rows.append([Cell(phase["name"]), *_counts(epochs, plain, ran), Cell(_split(phase))])
    head = ["phase", "epochs", f"{facts.nouns} × epochs", "computed", "time"]
    caption = f"{facts.nouns.capitalize()} that ran through the frozen part of the network."
    return [Table(head, rows, caption), Text(_saved(whole, done, facts))]


def _ran(phase: dict[str, Any], plain: int) -> int:
    """Images computed; all of them where the frozen part was not run apart, or there is none."""
    # Of an older run it is not known how many the store was asked for.
    asked = phase.get("images_asked_of_frozen_prefix", 1)
    apart = phase["frozen_prefix_ends_at"] and asked
    return phase["images_through_frozen_prefix"] if apart else plain


def _counts(epochs: int, plain: int, ran: int) -> list[Cell]:
    return [
        Cell(str(epochs)),
        Cell(f"{plain:,}"),
        Cell(f"{ran:,}", bar=min(ran / max(plain, 1), 1)),
    ]


def _split(phase: dict[str, Any]) -> str:
    return ", ".join(f"{name} {seconds(value)}" for name, value in phase["seconds"].items())


def _saved(whole: int, done: int, facts: Facts) -> str:
    if done == 0:
        return "Nothing had to be computed: what is frozen was in the store from before."
    if done >= whole:
        return f"Nothing was saved: no {facts.noun} ran through the frozen part less than usual."
    return (
        f"Plain training would have run {whole:,} {facts.nouns} through it, this run {done:,}: "
        f"{whole / done:.1f} times fewer."
    )
