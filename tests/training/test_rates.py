import keras
import numpy as np
import pytest

from keras_tl import freezing
from keras_tl.data.arrays import from_arrays
from keras_tl.data.image_input import ImageInput
from keras_tl.data.pipeline import Samples
from keras_tl.errors import InputError
from keras_tl.feature_cache import FeatureStore
from keras_tl.training.fit import run_phases
from keras_tl.training.phases import Phase
from keras_tl.training.rates import section_rates, variable_rates
from keras_tl.training.schedules import Constant, Step


def test_the_head_has_the_rate_and_each_section_before_it_less(tiny_model):
    assert section_rates(tiny_model, 0.5) == {
        "stem": 0.0625,
        "one": 0.125,
        "two": 0.25,
        "top": 0.5,
        "head": 1.0,
    }


def test_weights_have_the_factor_of_their_section(tiny_model):
    rates = variable_rates(tiny_model, 0.5)
    assert rates[id(tiny_model.get_layer("two_conv").kernel)] == 0.25
    assert rates[id(tiny_model.get_layer("two_bn").gamma)] == 0.25
    assert rates[id(tiny_model.get_layer("head_predictions").bias)] == 1.0
    assert set(rates) == {id(weight) for weight in tiny_model.weights}


def test_a_model_on_no_registered_backbone_is_refused():
    x = keras.Input((4,))
    with pytest.raises(InputError, match="layer_decay"):
        section_rates(keras.Model(x, keras.layers.Dense(2)(x)), 0.5)


@pytest.mark.parametrize("stored", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_behind_a_frozen_prefix_a_step_is_shorter_by_the_factor(
    tiny_model, three_colors, tmp_path, stored
):
    """SGD's first step is rate * gradient: with and without decay they differ by the factor."""
    data = Samples(from_arrays(*three_colors), ImageInput(size=16))
    for layer in tiny_model.layers:
        if hasattr(layer, "rate"):
            layer.rate = 0.0
    start, steps = tiny_model.get_weights(), []
    for decay in (1.0, 0.5):
        tiny_model.set_weights(start)
        phase = Phase(
            freezing.AllButLast(1),
            1,
            0.1,
            Constant(),
            "sgd",
            momentum=0.0,
            weight_decay=0.0,
            layer_decay=decay,
        )
        store = FeatureStore(tmp_path, dtype="float32") if stored else False
        run_phases(tiny_model, [phase], data, batch_size=60, feature_store=store, verbose=0)
        pairs = zip(tiny_model.get_weights(), start, strict=True)
        steps.append([after - before for after, before in pairs])
    factors = variable_rates(tiny_model, 0.5)
    for weight, plain, decayed in zip(tiny_model.weights, *steps, strict=True):
        np.testing.assert_allclose(decayed, plain * factors[id(weight)], rtol=1e-3, atol=1e-6)
    moved = [np.abs(step).max() > 1e-4 for step in steps[0]]
    assert 0 < sum(moved) < len(moved)


def test_the_history_has_the_rate_that_an_epoch_was_trained_at(tiny_model, three_colors, tmp_path):
    data = Samples(from_arrays(*three_colors), ImageInput(size=16))
    phase = Phase(freezing.All(), 4, 1e-2, Step(epochs=2, factor=0.1), "sgd")
    store, size = FeatureStore(tmp_path), -(-len(data) // 2)
    history = run_phases(
        tiny_model, [phase], data, batch_size=size, feature_store=store, verbose=0
    ).history
    found = [row["learning_rate"] for row in history]
    assert found == pytest.approx([1e-2, 1e-2, 1e-3, 1e-3])
