"""Every backbone can be cut: the two parts are the whole, and training them is training it.

Run operation by operation, both ways are the same arithmetic and must agree to the last bit.
Compiled, TensorFlow fuses what it finds side by side, and the cut moves some neighbours apart.
"""

import keras
import numpy as np
import pytest
from contract_cases import REPRESENTATIVES, SPECS, put_back, rows, values

from keras_tl import freezing, frozen_prefix
from keras_tl.heads import add_head

POLICIES = (
    freezing.All(),
    pytest.param(freezing.AllButLast(1), marks=pytest.mark.slow),
    pytest.param(freezing.AllButLast(3), marks=pytest.mark.slow),
    freezing.Fraction(0.5),
)
TRAINED = (
    freezing.AllButLast(1),
    pytest.param(freezing.AllButLast(2, batch_norm="trained"), marks=pytest.mark.slow),
)
# Compiling takes ten times as long as the step.
COMPILED = {"MobileNetV2"}
# Of a step's own length, and of a weight's (a bias before BatchNormalization has no gradient but
# rounding errors). Planted faults move a step by more than its length.
STEP_TOLERANCE = 1e-4
WEIGHT_TOLERANCE = 1e-6
FAULT = 0.1
TINY = 1e-30


class Built:
    """A row's classifier, and what it computes.

    Attributes:
        start: The values of its variables.
        output: Its output for `pixels`.
    """

    def __init__(self, case):
        keras.utils.set_random_seed(0)
        self.model, self.pixels = add_head(case.model, 2), case.pixels
        # A head such that no probability is so near 0 or 1 that its gradient is 0.
        kernel = self.model.get_layer("head_predictions").kernel
        length = np.linalg.norm(case.features.mean((1, 2)), axis=-1).mean()
        kernel.assign(np.random.default_rng(1).normal(size=kernel.shape) / length)
        self.start = values(self.model)
        self.output = np.array(self.model(self.pixels))

    def step(self, part, inputs, eagerly=True):
        """Fits `part` for one step; returns the values after it and puts the old ones back."""
        part.compile(
            keras.optimizers.SGD(0.05, momentum=0.9),
            "sparse_categorical_crossentropy",
            run_eagerly=eagerly,
        )
        labels = np.arange(len(self.pixels)) % 2
        part.fit(inputs, labels, batch_size=len(labels), shuffle=False, verbose=0)
        after = values(self.model)
        put_back(self.model, self.start)
        return after

    def check_what_moved(self, after):
        """What trains has moved; what does not, statistics included, is the same bits.

        Of the kernels a few may get a gradient that is less than rounding shows, of biases and
        scales before BatchNormalization many.
        """
        live = {id(v) for x in self.model.layers if frozen_prefix.is_live(x) for v in x.variables}
        trained = {id(v) for v in self.model.trainable_variables if len(v.shape) > 1}
        kernels_moved = []
        for variable, value, start in zip(self.model.variables, after, self.start, strict=True):
            moved = not np.array_equal(value, start)
            assert id(variable) in live or not moved, variable.path
            if id(variable) in trained:
                kernels_moved.append(moved)
        assert np.mean(kernels_moved) > 0.7

    def error(self, after, expected):
        """How far a step is from the expected one, at most; 1 is what rounding may do."""
        worst = 0.0
        for value, want, start in zip(after, expected, self.start, strict=True):
            value, want, start = (np.asarray(x, np.float64) for x in (value, want, start))
            step, size = np.linalg.norm(want - start), np.linalg.norm(start)
            tolerated = STEP_TOLERANCE * step + WEIGHT_TOLERANCE * size
            worst = max(worst, np.linalg.norm(value - want) / (tolerated or TINY))
        return worst


@pytest.fixture(scope="module")
def built(case):
    return Built(case)


def swapped(features):
    """A planted fault: the channels of what lies at the cut in the wrong order."""
    return keras.tree.map_structure(lambda x: np.array(x)[..., ::-1], features)


def test_one_row_stands_for_each_family():
    families = [spec.family for spec in SPECS if spec.name in REPRESENTATIVES]
    assert sorted(families) == sorted({spec.family for spec in SPECS})


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_the_two_parts_are_the_whole(built, policy):
    policy.apply(built.model)
    parts = frozen_prefix.split(built.model)
    features = parts.prefix(built.pixels)
    np.testing.assert_array_equal(parts.suffix(features), built.output)
    assert not any(frozen_prefix.is_live(layer) for layer in parts.prefix.layers)
    trained = {weight.path for weight in built.model.trainable_weights}
    assert {weight.path for weight in parts.suffix.trainable_weights} == trained
    difference = parts.suffix(swapped(features)) - built.output
    assert np.linalg.norm(difference) > 1e-3 * np.linalg.norm(built.output)


def test_a_prefix_of_a_model_with_all_frozen_ends_at_the_pooled_features(built):
    freezing.All().apply(built.model)
    assert frozen_prefix.split(built.model).last_layers == ("head_pool",)


@pytest.mark.parametrize("policy", TRAINED, ids=str)
def test_a_step_on_the_suffix_is_the_step_on_the_whole(built, policy):
    policy.apply(built.model)
    expected = built.step(built.model, built.pixels)
    built.check_what_moved(expected)
    parts = frozen_prefix.split(built.model)
    after = built.step(parts.suffix, parts.prefix(built.pixels))
    for variable, value, want in zip(built.model.variables, after, expected, strict=True):
        np.testing.assert_array_equal(value, want, variable.path)


@pytest.mark.slow
@pytest.mark.parametrize("case", rows(fast=COMPILED), indirect=True)
def test_a_compiled_step_is_the_same_but_for_rounding(built):
    freezing.AllButLast(1).apply(built.model)
    expected = built.step(built.model, built.pixels, eagerly=False)
    built.check_what_moved(expected)
    parts = frozen_prefix.split(built.model)
    features = parts.prefix.predict(built.pixels, verbose=0)
    after = built.step(parts.suffix, features, eagerly=False)
    assert built.error(after, expected) < 1
    wrong = built.step(parts.suffix, swapped(features), eagerly=False)
    assert built.error(wrong, expected) > FAULT / STEP_TOLERANCE


@pytest.mark.parametrize("case", ["MobileNetV2"], indirect=True)
def test_a_batch_norm_left_training_behind_the_cut_is_noticed(built):
    freezing.AllButLast(1).apply(built.model)
    expected = built.step(built.model, built.pixels)
    built.check_what_moved(expected)
    built.model.get_layer("block_15_project_BN").trainable = True
    drifted = built.step(built.model, built.pixels)
    assert built.error(drifted, expected) > FAULT / STEP_TOLERANCE
    freezing.AllButLast(1).apply(built.model)
    with pytest.raises(AssertionError, match="block_15_project_BN"):
        built.check_what_moved(drifted)
