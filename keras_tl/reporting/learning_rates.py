"""The page of a learning-rate range test: what the loss does while the rate rises."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_tl.files import atomic_write_text
from keras_tl.reporting.blocks import Block, Chart, Charts, Key, Section, Table, Text, row
from keras_tl.reporting.page import render
from keras_tl.reporting.plot import Axes, Line, extent, line_chart
from keras_tl.training.lr_finder import LearningRates

# Rows of the table.
ROWS = 15
# So far above the first loss the drawing goes: what runs away would flatten the rest.
HEADROOM = 1.5


def write_learning_rates(found: Sequence[LearningRates], subtitle: str, path: str | Path) -> Path:
    """Writes a page with a section for each phase that was swept; it needs no network.

    Args:
        found: What `find_learning_rate` gave back, for each phase.
        subtitle: What was trained on what.
        path: The HTML file.

    Returns:
        The page's path.
    """
    page = render("Learning rates", subtitle, [_section(each) for each in found])
    atomic_write_text(Path(path), page)
    return Path(path)


def rate_chart(found: LearningRates) -> Chart:
    """The loss over the rate's power of ten, as it came and smoothed, suggestions as dots."""
    powers, smoothed = np.log10(found.rates), found.smoothed
    top = HEADROOM * float(smoothed[0])
    raw, mean = (np.where(values <= top, values, np.nan) for values in (found.losses, smoothed))
    lines = [
        Line(powers, raw, color=9, name="loss of each batch"),
        Line(powers, mean, color=1, name="smoothed"),
    ]
    named = {"a tenth of the lowest's": found.tenth_of_least, "steepest fall": found.steepest}
    dots = [
        (float(np.log10(rate)), float(np.interp(rate, found.rates, smoothed)), color)
        for color, rate in enumerate(named.values(), start=2)
        if not found.why_silent
    ]
    axes = Axes(extent(powers), extent(raw, mean), "learning rate, power of ten", "loss")
    keys = [Key(9, "each batch"), Key(1, "smoothed")]
    keys += [Key(color, name) for color, name in enumerate(named, start=2) if not found.why_silent]
    return Chart(f"Phase {found.phase}", line_chart(axes, lines, dots=dots), tuple(keys))


def _section(found: LearningRates) -> Section:
    kept = np.unique(np.linspace(0, len(found.rates) - 1, ROWS).astype(int))
    rows = [row(f"{found.rates[k]:.2e}", f"{found.smoothed[k]:.4f}") for k in kept]
    blocks: list[Block] = [
        Text(_sentence(found), "lead"),
        Charts((rate_chart(found),)),
        Table(["learning rate", "loss, smoothed"], rows),
    ]
    return Section(f"Phase {found.phase}", tuple(blocks))


def _sentence(found: LearningRates) -> str:
    if found.why_silent:
        return found.why_silent
    return (
        f"Try {found.suggestion:.2g} first, a tenth of the rate with the lowest loss. It falls "
        f"fastest at {found.steepest:.2g}, and the middle of its longest fall is at "
        f"{found.valley:.2g}."
    )
