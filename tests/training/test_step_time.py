"""A step of fine-tuning is timed once on a machine, whatever head is on the backbone."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from keras_tl import freezing
from keras_tl.builders.image import build_image_model
from keras_tl.data.arrays import from_arrays
from keras_tl.data.prepare import prepare
from keras_tl.freezing.few_weights import LoRA
from keras_tl.training import step_time
from keras_tl.training.phases import Phase
from keras_tl.training.step_time import seconds_to_fine_tune

PHASE = Phase(freezing.AllButLast(1), 1, 1e-3)


@pytest.fixture(scope="module")
def train():
    pixels = np.random.default_rng(0).integers(0, 256, (180, 16, 16, 3), dtype=np.uint8)
    return prepare(from_arrays(pixels, np.arange(180) % 3), image_size=16).train


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_TL_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on by `tick` each time somebody looks."""
    found = SimpleNamespace(now=0.0, tick=0.5, looks=0)

    def look():
        found.now, found.looks = found.now + found.tick, found.looks + 1
        return found.now

    monkeypatch.setattr(step_time, "time", SimpleNamespace(perf_counter=look))
    return found


def tiny(**settings):
    return build_image_model("TinyNet", outputs=3, weights=None, **settings)


def seconds(model, train, phase=PHASE, batch_size=30):
    return seconds_to_fine_tune(model, phase, train, task="single-label", batch_size=batch_size)


def test_the_price_goes_with_images_and_epochs(train):
    model = tiny()
    before = model.get_weights()
    one = seconds(model, train)
    assert one > 0
    assert seconds(model, train, replace(PHASE, epochs=1000)) == pytest.approx(1000 * one)
    half = replace(train, source=train.source.take(np.arange(len(train) // 2)))
    steps = len(train) // 30, len(half) // 30
    assert seconds(model, half) == pytest.approx(one * steps[1] / steps[0])
    for value, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, expected)


@pytest.mark.parametrize("tick, timed", [(0.5, 2), (3.0, 1)])
def test_a_step_that_takes_seconds_is_timed_once(train, clock, tick, timed):
    clock.tick = tick
    assert seconds(tiny(), train) == tick * (len(train) // 30)
    assert clock.looks == timed * 2


def test_another_head_is_not_timed_again(train, clock):
    found = seconds(tiny(), train)
    looks, clock.tick = clock.looks, 7.0
    other = tiny(dropout=0.5, hidden=(8,))
    assert seconds(other, train) == found and clock.looks == looks
    # The flags are the phase's, as after timing.
    trains = [layer.name for layer in other.layers if layer.trainable and layer.weights]
    timed = tiny()
    PHASE.freezing.apply(timed)
    assert {layer.name for layer in timed.layers if layer.trainable and layer.weights} <= set(
        trains
    )


def test_what_takes_another_time_is_timed(train, clock, monkeypatch):
    ways = [{}, {"batch_size": 15}]
    ways += [{"phase": replace(PHASE, freezing=p)} for p in (freezing.AllButLast(2), LoRA(2))]
    for number, way in enumerate(ways, 1):
        seconds(tiny(), train, **way)
        assert clock.looks == 4 * number
    monkeypatch.setattr(step_time.platform, "node", lambda: "elsewhere")
    seconds(tiny(), train)
    assert clock.looks == 4 * 5
