import math

import pytest

from keras_tl.errors import InputError
from keras_tl.training.schedules import Constant, Cosine, Step


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
