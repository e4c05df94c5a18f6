"""Charts as inline SVG; colours and type sizes are classes of the page's style sheet."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

WIDTH, HEIGHT = 360, 232
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 16, 38
# Letters of an axis's label at most.
LABEL = 30
# More points on a line than this are not seen.
MAX_POINTS = 240


@dataclass(frozen=True)
class Line:
    """Points joined by a line.

    Attributes:
        x: Float `[points]`.
        y: Float `[points]`; a NaN leaves a gap.
        color: Number of the colour, from 0.
        dashed: Whether the line is dashed.
        name: What is shown when it is pointed at.
    """

    x: Sequence[float] | np.ndarray
    y: Sequence[float] | np.ndarray
    color: int = 0
    dashed: bool = False
    name: str = ""


@dataclass(frozen=True)
class Band:
    """A named stretch of the x axis."""

    start: float
    end: float
    name: str


@dataclass(frozen=True)
class Axes:
    """A frame with scales.

    Attributes:
        x: Least and largest x.
        y: Least and largest y.
        x_label: What x is.
        y_label: What y is.
        whole_x: Whether x is labelled at whole numbers only.
    """

    x: tuple[float, float]
    y: tuple[float, float]
    x_label: str
    y_label: str
    whole_x: bool = False

    def at(self, x: float, y: float) -> tuple[float, float]:
        """The place of a point in the drawing."""
        return self.at_x(x), self.at_y(y)

    def at_x(self, x: float) -> float:
        """The place of an x in the drawing."""
        low, high = self.x
        return LEFT + (x - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def at_y(self, y: float) -> float:
        """The place of a y in the drawing."""
        low, high = self.y
        return HEIGHT - BOTTOM - (y - low) / (high - low) * (HEIGHT - TOP - BOTTOM)


def extent(*values: Sequence[float] | np.ndarray, margin: float = 0.05) -> tuple[float, float]:
    """Least and largest of all finite values with a margin; never of length 0."""
    finite = np.concatenate([np.asarray(part, np.float64).ravel() for part in values])
    finite = finite[np.isfinite(finite)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    pad = (high - low) * margin or max(abs(high), 1.0) * 0.05
    return low - pad, high + pad


def ticks(low: float, high: float, most: int = 5, whole: bool = False) -> list[float]:
    """Round numbers between two: steps of 1, 2 or 5 times a power of ten.

    Args:
        low: The least.
        high: The largest, above `low`.
        most: About how many steps there are at most.
        whole: Whether steps are at least 1.
    """
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    step = max(step, 1.0) if whole else step
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def line_chart(
    axes: Axes,
    lines: Sequence[Line],
    *,
    bands: Sequence[Band] = (),
    dots: Sequence[tuple[float, float, int]] = (),
    diagonal: bool = False,
) -> Markup:
    """Draws lines.

    Args:
        axes: The frame.
        lines: The lines, the later over the earlier.
        bands: Stretches of the x axis, every other one shaded, each with its name.
        dots: x, y and colour of single points.
        diagonal: Whether the line y = x is drawn.

    Returns:
        An SVG element.
    """
    parts = [*_bands(axes, bands), _frame(axes)]
    if diagonal:
        parts.append(_diagonal(axes))
    parts += [_path(axes, line) for line in lines]
    for x, y, color in dots:
        parts.append(_circle(axes, x, y, f"dot f{color}", 3.5))
    return _svg(axes, parts)


def scatter_chart(axes: Axes, x: np.ndarray, y: np.ndarray, *, diagonal: bool = False) -> Markup:
    """Draws points.

    Args:
        axes: The frame.
        x: Float `[points]`.
        y: Float `[points]`.
        diagonal: Whether the line y = x is drawn.

    Returns:
        An SVG element.
    """
    parts = [_frame(axes)]
    if diagonal:
        parts.append(_diagonal(axes))
    parts += [_circle(axes, a, b, "point", 2.2) for a, b in zip(x, y, strict=True)]
    return _svg(axes, parts)


def bar_chart(
    axes: Axes,
    edges: np.ndarray,
    heights: np.ndarray,
    *,
    weights: np.ndarray | None = None,
    diagonal: bool = False,
) -> Markup:
    """Draws touching bars, as of a histogram.

    Args:
        axes: The frame.
        edges: Float `[bars + 1]`, where the bars end.
        heights: Float `[bars]`; a NaN leaves the bar out.
        weights: Float `[bars]` in [0, 1], how dark each bar is; None makes all the same.
        diagonal: Whether the line y = x is drawn.

    Returns:
        An SVG element.
    """
    parts = [_frame(axes)]
    floor = axes.at_y(max(axes.y[0], 0.0))
    darkness = np.full(len(heights), 0.7) if weights is None else 0.2 + 0.7 * weights
    shape = '<rect class="bar" fill-opacity="{:.2f}" x="{:.1f}" y="{:.1f}" width="{:.1f}" '
    shape += 'height="{:.1f}"/>'
    for k in np.flatnonzero(np.isfinite(heights)):
        x, top = axes.at(edges[k], heights[k])
        width = axes.at_x(edges[k + 1]) - x - 1
        depth = max(floor - top, 0.0)
        parts.append(Markup(shape).format(darkness[k], x + 0.5, top, width, depth))
    if diagonal:
        parts.append(_diagonal(axes))
    return _svg(axes, parts)


def _svg(axes: Axes, parts: Sequence[Markup]) -> Markup:
    """An SVG element that grows with its column."""
    label = f"{axes.y_label} against {axes.x_label}"
    head = '<svg viewBox="0 0 {} {}" role="img" aria-label="{}">'
    return Markup(head).format(WIDTH, HEIGHT, label) + Markup("").join(parts) + Markup("</svg>")


def _frame(axes: Axes) -> Markup:
    parts = []
    for value in ticks(*axes.y):
        y = axes.at_y(value)
        shape = '<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>'
        parts.append(Markup(shape).format(LEFT, WIDTH - RIGHT, y, y))
        parts.append(_label(LEFT - 6, y + 4, _short(value), "end"))
    for value in ticks(*axes.x, most=6, whole=axes.whole_x):
        parts.append(_label(axes.at_x(value), HEIGHT - BOTTOM + 15, _short(value), "middle"))
    base = '<line class="axis" x1="{}" x2="{}" y1="{}" y2="{}"/>'
    parts.append(Markup(base).format(LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM, HEIGHT - BOTTOM))
    parts.append(_label((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, _brief(axes.x_label), "middle"))
    turned = '<text class="tick" text-anchor="middle" transform="{}">{}</text>'
    place = f"translate(11 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)"
    parts.append(Markup(turned).format(place, _brief(axes.y_label)))
    return Markup("").join(parts)


def _bands(axes: Axes, bands: Sequence[Band]) -> list[Markup]:
    parts = []
    for index, band in enumerate(bands):
        left, right = axes.at_x(band.start), axes.at_x(band.end)
        shape = '<rect class="band b{}" x="{:.1f}" y="{}" width="{:.1f}" height="{}"/>'
        height = HEIGHT - TOP - BOTTOM
        parts.append(Markup(shape).format(index % 2, left, TOP, right - left, height))
        # About six units a letter: what does not fit is left out, the caption has it.
        if len(band.name) * 6 < right - left + 40:
            parts.append(_label((left + right) / 2, TOP - 5, band.name, "middle"))
    return parts


def _path(axes: Axes, line: Line) -> Markup:
    x, y = np.asarray(line.x, np.float64), np.asarray(line.y, np.float64)
    if len(x) > MAX_POINTS:
        kept = np.unique(np.linspace(0, len(x) - 1, MAX_POINTS).astype(np.int64))
        x, y = x[kept], y[kept]
    steps, pen = [], "M"
    for a, b in zip(x, y, strict=True):
        if np.isfinite(b):
            steps.append(f"{pen}{axes.at_x(a):.1f} {axes.at_y(b):.1f}")
        pen = "L" if np.isfinite(b) else "M"
    if len(steps) == 1:
        return _circle(axes, x[np.isfinite(y)][0], y[np.isfinite(y)][0], f"f{line.color}", 3)
    kind = f"line c{line.color}{' dashed' if line.dashed else ''}"
    shape = '<path class="{}" d="{}"><title>{}</title></path>'
    return Markup(shape).format(kind, " ".join(steps), line.name)


def _diagonal(axes: Axes) -> Markup:
    low, high = max(axes.x[0], axes.y[0]), min(axes.x[1], axes.y[1])
    return _path(axes, Line((low, high), (low, high), color=9, dashed=True))


def _circle(axes: Axes, x: float, y: float, kind: str, radius: float) -> Markup:
    shape = '<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="{}"/>'
    return Markup(shape).format(kind, axes.at_x(x), axes.at_y(y), radius)


def _label(x: float, y: float, text: str, anchor: str) -> Markup:
    shape = '<text class="tick" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>'
    return Markup(shape).format(x, y, anchor, text)


def _brief(text: str) -> str:
    """A label that fits beside an axis."""
    return text if len(text) <= LABEL else f"{text[: LABEL - 1]}…"


def _short(value: float) -> str:
    """A tick's number; 0.30000000000000004 is 0.3."""
    return f"{0.0 if abs(value) < 1e-12 else value:.4g}"
