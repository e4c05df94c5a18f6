import re

import numpy as np
import pytest

from keras_tl.reporting.plot import (
    BOTTOM,
    HEIGHT,
    LEFT,
    MAX_POINTS,
    RIGHT,
    TOP,
    WIDTH,
    Axes,
    Band,
    Line,
    bar_chart,
    extent,
    line_chart,
    scatter_chart,
    ticks,
)

AXES = Axes((0.0, 10.0), (0.0, 2.0), "epoch", "loss")


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (-0.3, 0.3, [-0.2, 0, 0.2]),
        (3, 47, [10, 20, 30, 40]),
        (0.5, 8.5, [2, 4, 6, 8]),
    ],
)
def test_ticks_are_round(low, high, expected):
    assert ticks(low, high) == pytest.approx(expected)


def test_ticks_of_epochs_are_whole():
    assert ticks(0.5, 2.5, whole=True) == [1, 2]


def test_a_range_always_has_a_length():
    assert extent([3.0, 3.0]) == pytest.approx((2.85, 3.15))
    assert extent([np.nan]) == pytest.approx((-0.05, 1.05))
    assert extent([0.0], [np.inf, 1.0]) == pytest.approx((-0.05, 1.05))


def test_a_line_goes_where_it_should():
    svg = line_chart(AXES, [Line([0, 10], [0, 2])])
    corners = f"M{LEFT:.1f} {HEIGHT - BOTTOM:.1f} L{WIDTH - RIGHT:.1f} {TOP:.1f}"
    assert f'd="{corners}"' in svg


def test_a_gap_is_left_where_there_is_no_number():
    svg = line_chart(AXES, [Line([0, 2, 4, 6, 8], [1, 1, np.nan, 1, 1])])
    drawn = re.search(r'class="line c0" d="([^"]*)"', svg).group(1)
    assert drawn.count("M") == 2 and drawn.count("L") == 2


def test_a_long_line_keeps_its_ends_and_few_points():
    x = np.linspace(0, 10, 5000)
    drawn = re.search(r'class="line c0" d="([^"]*)"', line_chart(AXES, [Line(x, x / 5)])).group(1)
    assert drawn.count("L") < MAX_POINTS
    assert drawn.endswith(f"L{WIDTH - RIGHT:.1f} {TOP:.1f}")


def test_one_point_is_a_dot():
    assert "<circle" in line_chart(AXES, [Line([1], [1])])


def test_bars_start_at_zero():
    svg = bar_chart(AXES, np.array([0.0, 5.0, 10.0]), np.array([1.0, np.nan]))
    assert svg.count("<rect") == 1
    height = float(re.search(r'height="([\d.]+)"', svg).group(1))
    assert height == pytest.approx((HEIGHT - TOP - BOTTOM) / 2, abs=0.1)


def test_points_are_drawn():
    assert scatter_chart(AXES, np.arange(5.0), np.ones(5)).count("<circle") == 5


def test_names_are_escaped():
    axes = Axes((0.0, 1.0), (0.0, 1.0), "<x>", 'a "quoted" y')
    svg = line_chart(
        axes, [Line([0, 1], [0, 1], name="</title><script>")], bands=[Band(0, 1, "<b>")]
    )
    assert "<x>" not in svg and "<script>" not in svg and "<b>" not in svg
    assert "&lt;script&gt;" in svg and "&#34;quoted&#34;" in svg
