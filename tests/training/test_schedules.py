import math

import pytest

from keras_tl.errors import InputError
from keras_tl.training.schedules import Constant, Cosine, OneCycle, Step, Sweep


def rates(schedule, at, learning_rate=0.5, steps=100, steps_per_epoch=10):
    built = schedule.build(learning_rate, steps, steps_per_epoch)
    return [float(built(step)) for step in at]


def test_constant_is_the_rate():
    assert Constant().build(0.5, 100, 10) == 0.5


def test_step_falls_tenfold_every_second_epoch():
    found = rates(Step(epochs=2, factor=0.1), [0, 19, 20, 39, 40])
    assert found == pytest.approx([0.5, 0.5, 0.05, 0.05, 0.005])


def test_cosine_rises_then_falls_to_zero():
    found = rates(Cosine(warmup=0.2), [0, 10, 20, 60, 100])
    halfway = 0.5 * 0.5 * (1 + math.cos(math.pi * 0.5))
    assert found == pytest.approx([0.0, 0.25, 0.5, halfway, 0.0], abs=1e-6)


def test_cosine_without_warm_up_starts_at_the_rate():
    assert rates(Cosine(warmup=0), [0, 50]) == pytest.approx([0.5, 0.25])


@pytest.mark.parametrize("make", [lambda: Step(0), lambda: Step(1, 2.0), lambda: Cosine(1.0)])
def test_values_out_of_range_are_refused(make):
    with pytest.raises(InputError):
        make()


def test_one_cycle_rises_to_the_rate_and_falls_far_below_its_start():
    found = rates(OneCycle(warmup=0.25, end=100.0), [0, 10, 20, 50, 80], steps=81)
    first, last = 0.5 / 25, 0.5 / 2500
    # A quarter of 80 steps up, three quarters down; half a cosine is half way in its middle.
    assert found == pytest.approx([first, (first + 0.5) / 2, 0.5, (0.5 + last) / 2, last])


def test_one_cycles_momentum_goes_the_other_way():
    built = OneCycle(warmup=0.25).build_momentum(81)
    found = [float(built(step)) for step in (0, 10, 20, 50, 80)]
    assert found == pytest.approx([0.95, 0.9, 0.85, 0.9, 0.95])
    assert OneCycle(momentum=None).build_momentum(81) is None


def test_one_cycle_of_a_step_or_two_has_the_whole_rate():
    assert rates(OneCycle(), [0], steps=1) == pytest.approx([0.5])
    assert rates(OneCycle(), [0, 1], steps=2) == pytest.approx([0.5, 0.5 / 25 / 1e4])
    momentum = OneCycle().build_momentum(1)
    assert float(momentum(0)) == pytest.approx(0.85)


@pytest.mark.parametrize(
    "wrong", [{"warmup": 0.0}, {"start": 0.5}, {"end": 0.1}, {"momentum": (0.95, 0.85)}]
)
def test_one_cycles_out_of_range_are_refused(wrong):
    with pytest.raises(InputError):
        OneCycle(**wrong)


def test_a_sweep_rises_in_equal_ratios():
    found = rates(Sweep(low=1e-4, high=1.0, steps=9), [0, 2, 4, 8])
    assert found == pytest.approx([1e-4, 1e-3, 1e-2, 1.0], rel=1e-4)


def test_a_warm_up_leaves_a_step_at_the_whole_rate():
    assert float(Cosine(0.9).build(1.0, 1, 1)(0)) == 1.0
    rates = [float(Cosine(0.75).build(1.0, 2, 2)(step)) for step in range(2)]
    assert rates == [0.0, 1.0]
