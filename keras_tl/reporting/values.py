"""Sections on a regression: predicted against true, residuals, each target."""

import numpy as np

from keras_tl.reporting.blocks import Cell, Chart, Charts, Section, Table, Text, number, score
from keras_tl.reporting.facts import Facts
from keras_tl.reporting.plot import Axes, bar_chart, extent, scatter_chart
from keras_tl.reporting.result import bounds, range_text

# Points of a scatter, targets with charts and in a table, bars of a histogram at most.
MAX_POINTS, MAX_TARGETS, TABLE_ROWS, BARS = 800, 6, 30, 24


def predicted_and_true(facts: Facts) -> Section:
    """Scatter of predicted against true values, and the residuals, of each target."""
    outcome, title = facts.outcome, "Predicted and true"
    if outcome is None or not len(outcome):
        why = "This needs predictions.csv, which the run does not have."
        return Section(title, (Text(why, "quiet"),))
    shown = np.random.default_rng(0).permutation(len(outcome))[:MAX_POINTS]
    charts: list[Chart] = []
    for k, name in enumerate(facts.class_names[:MAX_TARGETS]):
        true, predicted = outcome.truth[:, k], outcome.outputs[:, k]
        charts.append(_scatter(name, true[shown], predicted[shown]))
        charts.append(_residuals(name, predicted - true, facts.nouns))
    about = "Points on the dashed line are right. Residuals are predicted minus true."
    if len(shown) < len(outcome):
        drawn = f"{len(shown):,} of {len(outcome):,} {facts.nouns}"
        about += f" The scatter shows {drawn}, drawn at random."
    if len(facts.class_names) > MAX_TARGETS:
        about += f" The first {MAX_TARGETS} of {len(facts.class_names)} targets are drawn."
    return Section(title, (Charts(tuple(charts)), Text(about, "quiet")))


def _scatter(name: str, true: np.ndarray, predicted: np.ndarray) -> Chart:
    both = extent(true, predicted)
    axes = Axes(both, both, f"true {name}", f"predicted {name}")
    return Chart(f"{name}: predicted and true", scatter_chart(axes, true, predicted, diagonal=True))


def _residuals(name: str, residuals: np.ndarray, nouns: str) -> Chart:
    low, high = extent(residuals, margin=0.02)
    counts, edges = np.histogram(residuals, BARS, range=(low, high))
    axes = Axes((low, high), (0.0, max(float(counts.max()) * 1.05, 1.0)), "residual", nouns)
    return Chart(f"{name}: residuals", bar_chart(axes, edges, counts.astype(np.float64)))


def per_target(facts: Facts) -> Section:
    """Errors and R2 of each target with intervals."""
    position = {name: index for index, name in enumerate(facts.class_names)}
    rows = []
    targets = facts.metrics["per_target"]
    for name, values in list(targets.items())[:TABLE_ROWS]:
        cells = [
            Cell(show(values[key]), range_text(bounds(facts, key, position[name]), show))
            for key, show in (("mae", number), ("rmse", number), ("r2", score))
        ]
        rows.append([Cell(name), *cells])
    head = ["target", "mean absolute error", "root mean squared error", "R²"]
    about = "With 95 % intervals."
    if len(rows) < len(targets):
        about += f" The first {len(rows)} of {len(targets):,}; all are in metrics.json."
    return Section("Each target", (Table(head, rows, about),))
