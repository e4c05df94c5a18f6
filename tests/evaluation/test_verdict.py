import json

import numpy as np
import pytest

from keras_tl.evaluation.probes import Probe
from keras_tl.evaluation.verdict import HALF_PER_CLASS, LEAST_SHARE, MOST_SHARE, duration, judge


def probe(score):
    interval = (score - 0.02, score + 0.02)
    return Probe("accuracy", score, interval, np.zeros((100, 2)), (0.1,), np.full(500, score))


def verdict(last, early, images_per_class=3 * HALF_PER_CLASS, seconds=60.0):
    return judge(probe(last), probe(early), images_per_class=images_per_class, seconds=seconds)


def test_where_earlier_features_do_as_well_fine_tuning_pays():
    found = verdict(0.8, 0.82)
    assert found.fine_tune
    assert found.expected_gain == pytest.approx(0.2 * MOST_SHARE * 3 / 4)


def test_where_the_last_features_are_far_better_it_pays_less():
    # Errors of 6 % and 60 %: a tenth of the way from the least share to the most.
    found = verdict(0.94, 0.4)
    share = LEAST_SHARE + 0.1 * (MOST_SHARE - LEAST_SHARE)
    assert found.expected_gain == pytest.approx(0.06 * share * 3 / 4)
    assert not found.fine_tune


def test_without_errors_there_is_nothing_to_gain():
    assert not verdict(1.0, 1.0).fine_tune


def test_a_quarter_of_few_errors_is_worth_as_much_as_a_point():
    found = verdict(0.98, 0.98)
    assert found.expected_gain == pytest.approx(0.02 * MOST_SHARE * 3 / 4)
    assert found.needed_gain == pytest.approx(0.005, rel=0.05)
    assert found.fine_tune
    # Only where images of a class are many enough to bring it.
    assert not verdict(0.98, 0.98, HALF_PER_CLASS).fine_tune
    assert verdict(0.98, 0.98, seconds=200).fine_tune
    assert not verdict(0.98, 0.98, seconds=600).fine_tune


def test_few_images_of_a_class_are_too_few():
    assert verdict(0.5, 0.5, images_per_class=10).fine_tune
    few = verdict(0.5, 0.5, images_per_class=9)
    assert not few.fine_tune
    assert "9 items of a class" in few.why


def test_more_images_of_a_class_bring_more():
    few, many = verdict(0.8, 0.8, HALF_PER_CLASS), verdict(0.8, 0.8, 1e9)
    assert few.expected_gain == pytest.approx(many.expected_gain / 2)


def test_hours_must_bring_more():
    assert verdict(0.8, 0.8, seconds=7200).needed_gain == pytest.approx(0.03)
    assert verdict(0.8, 0.8, seconds=4 * 3600).fine_tune
    assert not verdict(0.8, 0.8, seconds=7 * 3600).fine_tune


def test_a_verdict_says_its_figures_in_one_line_and_in_json():
    found = verdict(0.8, 0.82, seconds=300)
    line = str(found)
    assert line.startswith("Fine-tuning is worth its price")
    for figure in ("80.0", "82.0", "6.0", "5 min"):
        assert figure in line
    assert "\n" not in line
    facts = json.loads(json.dumps(found.facts()))
    assert facts["fine_tune"] is True
    assert facts["accuracy"] == 0.8


def test_a_regression_worse_than_the_mean_can_gain_all():
    found = judge(probe(-0.5), probe(-0.5), images_per_class=3 * HALF_PER_CLASS, seconds=1)
    assert found.expected_gain == pytest.approx(1.5 * MOST_SHARE * 3 / 4)


def test_durations():
    assert [duration(s) for s in (40, 720, 12600)] == ["40 s", "12 min", "3.5 h"]


def test_where_nothing_is_before_the_blocks_it_counts_as_worth_nothing():
    found = judge(probe(0.8), None, images_per_class=3 * HALF_PER_CLASS, seconds=60.0)
    same = verdict(0.8, 0.0)
    assert found.expected_gain == same.expected_gain and found.fine_tune == same.fine_tune
    assert found.earlier is None and found.facts()["earlier_features"] is None
    assert "before the last blocks" in str(same) and "before the last blocks" not in str(found)
