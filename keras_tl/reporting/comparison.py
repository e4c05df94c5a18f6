"""The page of several runs side by side: figures, curves, settings, paired differences."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from keras_tl.errors import InputError, in_one_line
from keras_tl.evaluation.bootstrap import mcnemar, paired_difference
from keras_tl.files import atomic_write_text, check_file_path
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
    row,
    seconds,
)
from keras_tl.reporting.facts import Facts, Outcome, read_facts
from keras_tl.reporting.headlines import headlines
from keras_tl.reporting.learning import curve_names, range_of
from keras_tl.reporting.page import render
from keras_tl.reporting.plot import Axes, Line, line_chart
from keras_tl.reporting.result import bounds, range_text
from keras_tl.runs import Run

# Curves have so many colours.
MAX_RUNS = 8


def write_comparison(runs: Sequence[Run], path: str | Path) -> Path:
    """Writes a page that compares runs; self-contained, like the report of one.

    Args:
        runs: Two to eight runs of one task. Differences are counted from the first.
        path: The HTML file.

    Returns:
        The page's path.

    Raises:
        InputError: Too few or too many runs, runs of different tasks, or without figures; or the
            page cannot be there.
    """
    check_file_path(path)
    if Run(Path(path).parent).is_whole:
        raise InputError("a file outside of runs' folders", str(path), "Choose another --out.")
    facts = [read_facts(run) for run in runs]
    _check(facts)
    names = _names(facts)
    sections = [
        _figures(facts, names),
        _differences(facts, names),
        _curves(facts, names),
        _settings(facts, names),
    ]
    title = f"{len(facts)} runs compared"
    atomic_write_text(path, render(title, ", ".join(names), sections))
    return Path(path)


def _check(facts: list[Facts]) -> None:
    if not 2 <= len(facts) <= MAX_RUNS:
        raise InputError(f"2 to {MAX_RUNS} runs to compare", str(len(facts)), "Give their folders.")
    for each in facts:
        if not each.metrics or each.info is None:
            raise InputError(
                "finished runs", str(each.run.folder), "It lacks metrics.json or model.json."
            )
    tasks = sorted({each.task for each in facts})
    if len(tasks) > 1:
        raise InputError("runs of one task", " and ".join(tasks), "Compare like with like.")


def _names(facts: list[Facts]) -> list[str]:
    """Folder names; as much more of the paths as tells them apart."""
    parts = [each.run.folder.resolve().parts for each in facts]
    longest = max(map(len, parts))
    for length in range(1, longest + 1):
        names = ["/".join(part[-length:]) for part in parts]
        if max(Counter(names).values()) == 1:
            return names
    return [f"{name} ({place})" for place, name in enumerate(names, start=1)]


def _figures(facts: list[Facts], names: list[str]) -> Section:
    """A row for each run: the figures with intervals."""
    compared = headlines(facts[0])
    rows = []
    for name, each in zip(names, facts, strict=True):
        cells = [
            Cell(
                show(each.metrics.get(key)),
                range_text(bounds(each, key), show),
            )
            for key, _, show in compared
        ]
        measured = Cell(
            f"{each.metrics.get('samples', 0):,}", each.metrics.get("measured_on", "test")
        )
        time = sum(each.metrics.get("seconds", {}).values())
        rows.append([Cell(name), measured, *cells, Cell(seconds(time) if time else "–")])
    head = ["run", facts[0].nouns, *(label for _, label, _ in compared), "time"]
    about = "Intervals are those of each run alone. Whether one run is better, the next table says."
    return Section("Result", (Table(head, rows), Text(about, "quiet")))


def _differences(facts: list[Facts], names: list[str]) -> Section:
    """Each run against the first, on the samples that both measured."""
    title, first = "Paired differences", facts[0]
    rows, left_out = [], []
    for name, other in zip(names[1:], facts[1:], strict=True):
        pair = _shared(first, other)
        if pair is None:
            left_out.append(name)
        else:
            rows.append([Cell(name), *_difference(first, *pair)])
    blocks: list[Block] = []
    if rows:
        score = _SHARES.get(first.task, first.error_name)
        head = ["run", f"{first.nouns} in both", f"{score} minus that of {names[0]}", "p"]
        # The test takes each sample for one of its own.
        tested = first.task != "regression" and first.groups is None
        head = head if tested else head[:-1]
        rows = rows if tested else [line[:-1] for line in rows]
        blocks.append(Table(head, rows))
        blocks.append(Text(_about_differences(tested, first.nouns), "quiet"))
    if left_out:
        told = ", ".join(left_out)
        why = f"Measured on no {first.noun} with the same content and truth as {names[0]}, or on "
        why += f"one group alone: {told}."
        blocks.append(Text(why, "note"))
    return Section(title, tuple(blocks))


def _about_differences(tested: bool, nouns: str) -> str:
    about = (
        f"Both runs are judged on the same {nouns}, which are resampled together (1,000 times): an "
        f"interval that holds 0 is no difference that these {nouns} can show."
    )
    if tested:
        about += f" p: exact McNemar test of the {nouns} that only one of the two has right; where "
        about += "it is above 0.05, few of them decide, and the interval is too narrow."
    return about


# What classifications are compared by, sample by sample.
_SHARES = {"single-label": "share right", "multi-label": "share with all classes right"}


def _shared(first: Facts, other: Facts) -> tuple[Outcome, Outcome, np.ndarray | None] | None:
    """Both outcomes of the samples that both measured with the same truth, and their groups."""
    if first.outcome is None or other.outcome is None or first.info is None or other.info is None:
        return None
    if set(first.class_names) != set(other.class_names):
        return None
    place_of = {name: i for i, name in enumerate(other.class_names)}
    order = [place_of[name] for name in first.class_names]
    row_of = {name: i for i, name in enumerate(other.outcome.ids)}
    mine, its = _contents(first), _contents(other)

    def is_there(name: str) -> bool:
        # A name alone, such as a line's number, may be that of other data.
        known = mine.get(name), its.get(name)
        return name in row_of and (not all(known) or known[0] == known[1])

    here = [i for i, name in enumerate(first.outcome.ids) if is_there(name)]
    there = [row_of[first.outcome.ids[i]] for i in here]
    if first.outcome.is_sparse:
        same = first.outcome.true_class[here] == np.argsort(order)[other.outcome.true_class[there]]
    else:
        pairs = zip(here, there, strict=True)
        same = np.array(
            [np.allclose(first.outcome.truth[i], other.outcome.truth[j][order]) for i, j in pairs],
            bool,
        )
    if not same.any():
        return None
    kept, matched = np.array(here)[same], np.array(there)[same]
    groups = None if first.groups is None else pd.factorize(first.groups[kept])[0]
    if first.of_one_group or (groups is not None and not groups.any()):
        return None
    return _rows(first.outcome, kept), _rows(other.outcome, matched, order), groups


def _contents(facts: Facts) -> dict[str, str]:
    """The SHA-256 of each sample's content, as far as it is known."""
    if facts.splits is None:
        return {}
    return dict(zip(facts.splits["id"], facts.splits["sha256"], strict=True))


def _rows(outcome: Outcome, rows: np.ndarray, order: Sequence[int] | None = None) -> Outcome:
    """Some rows of an outcome, its classes in another order."""
    columns = np.arange(outcome.truth.shape[1]) if order is None else np.array(order)
    parts = (outcome.outputs, outcome.truth, outcome.chosen)
    return Outcome(outcome.ids[rows], *(part[rows][:, columns] for part in parts))


def _difference(
    facts: Facts, one: Outcome, two: Outcome, groups: np.ndarray | None
) -> tuple[Cell, ...]:
    """Cells: samples, the difference with its interval, the test."""
    count = Cell(f"{len(one):,}")
    if facts.task == "regression":
        found = paired_difference(one.errors(), two.errors(), groups=groups)
        text = f"{found.value:+.4g}"
        return count, Cell(text, f"{found.low:+.3g} to {found.high:+.3g}"), Cell("")
    found = paired_difference(one.right, two.right, groups=groups)
    text = f"{100 * found.value:+.1f} points"
    under = f"{100 * found.low:+.1f} to {100 * found.high:+.1f}"
    sides = (one.right & ~two.right).sum(), (~one.right & two.right).sum()
    p = Cell(f"{mcnemar(one.right, two.right):.3g}", f"{sides[0]} against {sides[1]} {facts.nouns}")
    return count, Cell(text, under), p


def _curves(facts: list[Facts], names: list[str]) -> Section:
    """The runs' curves over each other."""
    title = "Learning curves"
    drawn = [
        (place, name, each.history)
        for place, (name, each) in enumerate(zip(names, facts, strict=True))
        if each.history is not None and not each.history.empty
    ]
    if not drawn:
        return Section(title, (Text("No run has a history.csv.", "quiet"),))
    charts = []
    for figure in curve_names(drawn[0][2]):
        for column in (f"val_{figure}", figure):
            having = [(p, name, history) for p, name, history in drawn if column in history]
            if having:
                charts.append(_overlay(column, having))
                break
    missing = [name for name in names if name not in {name for _, name, _ in drawn}]
    blocks: list[Block] = [Charts(tuple(charts))]
    if missing:
        blocks.append(Text(f"Without a history.csv: {', '.join(missing)}.", "quiet"))
    return Section(title, tuple(blocks))


def _overlay(column: str, having: list[tuple[int, str, pd.DataFrame]]) -> Chart:
    lines = [
        Line(
            np.arange(1, len(history) + 1), history[column].to_numpy(float), color=place, name=name
        )
        for place, name, history in having
    ]
    longest = max(len(history) for _, _, history in having)
    shown = column.replace("_", " ")
    axes = Axes((0.5, longest + 0.5), range_of(column, lines), "epoch", shown, True)
    keys = tuple(Key(place, name) for place, name, _ in having)
    return Chart(shown.capitalize(), line_chart(axes, lines), keys)


def _settings(facts: list[Facts], names: list[str]) -> Section:
    """Settings that are not the same everywhere."""
    title = "Settings that differ"
    tables: list[dict[str, Any]] = [{**_flat(each), **_thresholds(each)} for each in facts]
    keys = list(dict.fromkeys(key for table in tables for key in table))
    rows = [
        row(key, *(str(table.get(key, "–")) for table in tables))
        for key in keys
        if len({str(table.get(key, "–")) for table in tables}) > 1
    ]
    blocks: list[Block] = []
    blocks.append(Table(["setting", *names], rows, names=1 + len(names)) if rows else Text("None."))
    blocks += [
        Details(f"config.yaml of {name}", (Code(each.config.rstrip()),))
        for name, each in zip(names, facts, strict=True)
        if each.config is not None
    ]
    return Section(title, tuple(blocks))


def _thresholds(facts: Facts) -> dict[str, Any]:
    """The thresholds of a run, which may have been set after its training."""
    found = facts.info.thresholds if facts.info else ()
    return {"thresholds": ", ".join(f"{value:g}" for value in found)} if found else {}


def _flat(facts_of_run: Facts) -> dict[str, Any]:
    """A configuration as one level of keys; the run's own folder always differs."""
    facts = facts_of_run.run.read(Run.CONFIG, _read_yaml) if facts_of_run.config else {}
    versions = facts.pop("versions", {})
    facts.pop("out", None)
    return {**facts, **{f"version of {name}": value for name, value in versions.items()}}


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        return dict(yaml.safe_load(path.read_text(encoding="utf-8")))
    except yaml.YAMLError as error:
        raise ValueError(in_one_line(error)) from error
