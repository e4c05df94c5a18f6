import math
from contextlib import nullcontext

import keras
import numpy as np
import pytest

from keras_tl import freezing
from keras_tl.data import augment
from keras_tl.data.arrays import from_arrays
from keras_tl.data.image_input import ImageInput
from keras_tl.data.pipeline import Samples
from keras_tl.errors import InputError
from keras_tl.training import lr_finder
from keras_tl.training.lr_finder import (
    LearningRates,
    _epochs_of,
    find_learning_rate,
    longest_fall,
    smooth,
)
from keras_tl.training.phases import Phase


def test_smoothing_is_a_mean_that_forgets():
    found = smooth(np.array([4.0, 2.0, 1.0]), share=0.5)
    # Weights 1; 1/3, 2/3; 1/7, 2/7, 4/7.
    assert found == pytest.approx([4.0, 8 / 3, 12 / 7])


def test_the_longest_fall_may_pass_over_what_rises():
    assert longest_fall(np.array([5.0, 6.0, 4.0, 4.5, 3.0, 7.0, 2.0, 8.0])) == (0, 6)
    assert longest_fall(np.array([1.0, 2.0, 3.0])) == (0, 0)
    assert longest_fall(np.array([3.0, np.nan, 2.0, np.nan])) == (0, 2)


def curve(losses):
    """A sweep whose smoothed losses are these."""
    rates = 10.0 ** np.arange(-6, len(losses) - 6)
    raw = [losses[0]]
    for step in range(1, len(losses)):
        share = lr_finder.SMOOTHING
        before = losses[step - 1] * (1 - share**step)
        raw.append((losses[step] * (1 - share ** (step + 1)) - share * before) / (1 - share))
    return LearningRates(rates, np.array(raw))


def test_suggestions_on_a_curve_with_known_places():
    found = curve([5.0, 4.9, 4.5, 2.0, 1.0, 3.0, 9.0])
    assert found.smoothed == pytest.approx([5.0, 4.9, 4.5, 2.0, 1.0, 3.0, 9.0])
    assert found.valley == pytest.approx(1e-4)  # half way from 0 to 4
    # Central differences up to the lowest: (1.0 - 4.5) / 2 is the steepest.
    assert found.steepest == pytest.approx(1e-3)
    assert found.tenth_of_least == pytest.approx(1e-3)
    assert found.suggestion == found.tenth_of_least
    assert "1.00e-06" in str(found) and "try this first" in str(found)


def test_a_loss_that_ends_infinite_is_left_out():
    rates = np.geomspace(1e-3, 1.0, 4)
    found = LearningRates(rates, np.array([5.0, 1.0, 4.0, np.nan]))
    assert found.tenth_of_least == pytest.approx(1e-3)  # a tenth of the second rate


@pytest.mark.parametrize(("least", "suggests"), [(4.51, False), (4.49, True)])
def test_where_the_loss_hardly_falls_nothing_is_suggested(least, suggests):
    found = curve([5.0, least, 6.0, 9.0])
    assert (found.suggestion is not None) == suggests
    assert ("says nothing" in str(found)) != suggests


def recorded(losses, steps=4, still=(1.0, 1.0, 1.0, 1.0)):
    """What a recorder keeps of a run with such losses."""
    recorder = lr_finder._Recorder(steps, None if still is None else np.array(still))
    recorder.set_model(keras.Sequential([keras.layers.Dense(1)]))
    recorder.model.stop_training = False
    for step, loss in enumerate(losses):
        recorder.on_train_batch_end(step, {"loss": loss})
        if recorder.model.stop_training:
            break
    return recorder.losses


def test_a_sweep_ends_when_its_steps_are_done_or_the_loss_ran_away():
    assert len(recorded([1.0] * 9)) == 4
    # Smoothed: 1, then (0.09 + 0.1 * x) / 0.19 = 2 for x = 2.9.
    assert len(recorded([1.0, 2.8, 0.0, 0.0])) == 4
    assert len(recorded([1.0, 3.0, 0.0, 0.0])) == 2
    assert len(recorded([1.0, math.nan, 1.0])) == 2
    assert len(recorded([1.0, math.inf, 1.0])) == 2
    assert len(recorded([1.0, 99.0, 1.0, 1.0], still=None)) == 4


def test_a_hard_batch_is_no_hill():
    still = (1.0, 4.0, 1.0, 2.0)
    assert recorded([1.0, 3.5, 0.0, 2.0], still=still) == [2.0, 1.5, 1.0, 2.0]


@pytest.fixture
def data(three_colors):
    return Samples(from_arrays(*three_colors), ImageInput(size=16))


@pytest.mark.parametrize(
    "policy", [freezing.All(), pytest.param(freezing.AllButLast(1), marks=pytest.mark.slow)]
)
def test_nothing_is_left_of_a_sweep_that_runs_away(tiny_model, data, policy):
    phase = Phase(policy, 3, 1e-3, optimizer="sgd")
    before = [value.numpy() for value in tiny_model.variables]
    flags = [layer.trainable for layer in tiny_model.layers]
    options = {"low": 1e-4, "high": 1e6, "steps": 40, "batch_size": 10}
    found = find_learning_rate(tiny_model, phase, data, **options)
    assert 10 < len(found.losses) < 40
    np.testing.assert_allclose(found.rates, 1e-4 * 1e10 ** (np.arange(len(found.rates)) / 39))
    for value, old in zip(tiny_model.variables, before, strict=True):
        np.testing.assert_array_equal(value.numpy(), old)
    assert [layer.trainable for layer in tiny_model.layers] == flags
    again = find_learning_rate(tiny_model, phase, data, **options)
    np.testing.assert_array_equal(found.losses, again.losses)


STILL = {"low": 1e-12, "high": 1e-11, "steps": 20, "batch_size": 10}


def test_where_nothing_is_learnt_the_curve_is_flat(tiny_model, three_colors):
    """With dropout and augmentation: each step is compared with the same draw of both."""
    data = Samples(from_arrays(*three_colors), ImageInput(size=16), augment.get("light"))
    phase = Phase(freezing.AllButLast(1), 1, 1.0, optimizer="sgd")
    found = find_learning_rate(tiny_model, phase, data, **STILL)
    np.testing.assert_allclose(found.losses, found.losses[0], rtol=1e-5)


@pytest.mark.slow
def test_other_draws_would_be_seen(tiny_model, three_colors, monkeypatch):
    """The twin of the test above: random states that are not put back."""
    data = Samples(from_arrays(*three_colors), ImageInput(size=16), augment.get("light"))
    phase = Phase(freezing.AllButLast(1), 1, 1.0, optimizer="sgd")
    monkeypatch.setattr(lr_finder, "_restored", lambda *_: nullcontext())
    found = find_learning_rate(tiny_model, phase, data, **STILL)
    assert np.ptp(found.losses) > 1e-2


def test_the_level_of_the_curve_is_the_mean_of_the_batches(tiny_model, data):
    for layer in tiny_model.layers:
        if hasattr(layer, "rate"):
            layer.rate = 0.0
    phase = Phase(freezing.All(), 1, 1.0, optimizer="sgd")
    found = find_learning_rate(tiny_model, phase, data, seed=3, feature_store=False, **STILL)
    tiny_model.compile(loss="categorical_crossentropy")
    orders = np.concatenate([data.order(3, epoch) for epoch in range(4)])[:200]
    images, labels = data.source.items, data.source.labels
    pixels = np.stack([images[i] for i in orders]).astype("float32")
    want = tiny_model.evaluate(pixels, np.eye(3)[labels[orders]], verbose=0)
    assert found.losses[0] == pytest.approx(want, rel=1e-4)


@pytest.mark.parametrize("wrong", [{"low": 0.0}, {"low": 1.0, "high": 0.5}, {"steps": 19}])
def test_ranges_that_are_none_are_refused(tiny_model, data, wrong):
    with pytest.raises(InputError, match="0 < low < high"):
        find_learning_rate(tiny_model, Phase(freezing.All(), 1, 1.0), data, **wrong)


@pytest.mark.parametrize(
    ("batch_size", "parts", "epochs"),
    [
        (8, 1, 4),  # of 40 images batches of 8
        (4, 8, 4),  # 8 devices need 8
        (30, 8, 20),  # 24 divide into 8
        (100, 1, 20),  # all 40
    ],
)
def test_epochs_have_the_steps_of_whole_batches(batch_size, parts, epochs):
    assert _epochs_of(20, 40, batch_size, parts) == epochs
