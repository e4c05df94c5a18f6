"""Against Keras' own optimizers, one for each variable, and against NumPy."""

import keras
import numpy as np
import pytest

from keras_tl import freezing
from keras_tl.training.optimizers import KINDS, OPTIMIZERS, Course, Treatment
from keras_tl.training.phases import Phase
from keras_tl.training.schedules import Constant, OneCycle

NAMES = sorted(KINDS)


def variables(*names):
    random = np.random.default_rng(0)
    return [keras.Variable(random.normal(size=(3, 2)), name=name) for name in names]


def options(name, rate=0.1):
    momentum = {"momentum": 0.9} if name in ("sgd", "rmsprop") else {}
    return {"learning_rate": rate, "weight_decay": 0.05, "clipnorm": 1.5, **momentum}


def run(optimizer, trained, which=(0, 1), steps=5, scale=1.0):
    """The values after some steps; gradients are those of two variables, the same in each call."""
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    optimizer.build(trained)
    random = np.random.default_rng(1)
    for _ in range(steps):
        gradients = random.normal(size=(2, 3, 2)).astype("float32")
        optimizer.apply([scale * keras.ops.convert_to_tensor(gradients[i]) for i in which], trained)
    return [variable.numpy() for variable in trained]


def alone(name, which, rate):
    """What Keras' own optimizer makes of one of the two variables."""
    variable = variables("kernel", "bias")[which]
    return run(OPTIMIZERS[name](**options(name, rate)), [variable], [which])[0]


@pytest.mark.parametrize("name", NAMES)
def test_where_nothing_departs_it_is_keras(name):
    trained = variables("kernel", "bias")
    found = run(KINDS[name](Course({}), **options(name)), trained)
    expected = run(OPTIMIZERS[name](**options(name)), variables("kernel", "bias"))
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_each_variable_has_its_rate_and_its_decay(name):
    trained = variables("kernel", "bias")
    course = Course({id(trained[0]): Treatment(rate=0.25)})
    found = run(KINDS[name](course, **options(name)), trained)
    np.testing.assert_allclose(found[0], alone(name, 0, 0.025), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found[1], alone(name, 1, 0.1), rtol=1e-5, atol=1e-6)


def test_to_scale_gradients_would_not_do():
    """The planted fault: Adam divides by the gradient's size, so its scale is lost."""
    scaled = run(keras.optimizers.Adam(0.1), variables("kernel"), [0], scale=0.25)[0]
    slow = run(keras.optimizers.Adam(0.025), variables("kernel"), [0])[0]
    fast = run(keras.optimizers.Adam(0.1), variables("kernel"), [0])[0]
    np.testing.assert_allclose(scaled, fast, atol=1e-5)
    assert np.abs(scaled - slow).max() > 0.1


@pytest.mark.parametrize("name", NAMES)
def test_the_pull_is_the_gradient_of_the_penalty(name):
    """Against Keras' optimizer on gradients to which the penalty's were added by hand."""
    start = np.full((3, 2), 0.5, "float32")
    kernel, head = variables("kernel", "head")
    course = Course(
        {id(kernel): Treatment(1.0, 0.3, start), id(head): Treatment(1.0, 0.02)},
    )
    rates = {"learning_rate": 0.1, "weight_decay": 0.0}
    pulled, plain = KINDS[name](course, **rates), OPTIMIZERS[name](**rates)
    by_hand = variables("kernel", "head")
    pulled.build([kernel, head])
    plain.build(by_hand)
    random = np.random.default_rng(1)
    for _ in range(5):
        gradients = random.normal(size=(2, 3, 2)).astype("float32")
        pulled.apply(list(map(keras.ops.convert_to_tensor, gradients)), [kernel, head])
        penalties = [0.3 * (by_hand[0].numpy() - start), 0.02 * by_hand[1].numpy()]
        sums = [
            keras.ops.convert_to_tensor(g + p) for g, p in zip(gradients, penalties, strict=True)
        ]
        plain.apply(sums, by_hand)
    for found, expected in zip((kernel, head), by_hand, strict=True):
        np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-5, atol=1e-6)


def cycle_phase(name, **values):
    return Phase(freezing.All(), 2, 0.1, OneCycle(), name, **{"weight_decay": 0.0, **values})


def moments(step, steps=10):
    """Rate and momentum of `OneCycle()` by hand."""
    share = step / (steps - 1)
    if share < 0.3:
        way = (1 - np.cos(np.pi * share / 0.3)) / 2
        return 0.004 + (0.1 - 0.004) * way, 0.95 - 0.1 * way
    way = (1 - np.cos(np.pi * (share - 0.3) / 0.7)) / 2
    return 0.1 + (4e-7 - 0.1) * way, 0.85 + 0.1 * way


@pytest.mark.parametrize("momentum_of_phase", [0.9, 0.0, 0])
def test_one_cycle_moves_the_momentum_of_sgd(momentum_of_phase):
    (kernel,) = variables("kernel")
    optimizer = cycle_phase("sgd", momentum=momentum_of_phase).build_optimizer(5)
    optimizer.build([kernel])
    value, velocity = kernel.numpy().astype(float), 0.0
    random = np.random.default_rng(1)
    for step in range(10):
        gradient = random.normal(size=(3, 2))
        rate, momentum = moments(step)
        velocity = momentum * velocity - rate * gradient
        value = value + velocity
        optimizer.apply([keras.ops.convert_to_tensor(gradient, "float32")], [kernel])
    np.testing.assert_allclose(kernel.numpy(), value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_one_cycle_moves_the_beta_of_adam(name):
    (kernel,) = variables("kernel")
    optimizer = cycle_phase(name).build_optimizer(5)
    optimizer.build([kernel])
    value, m, v = kernel.numpy().astype(float), 0.0, 0.0
    random = np.random.default_rng(1)
    for step in range(10):
        gradient = random.normal(size=(3, 2))
        rate, beta = moments(step)
        m = beta * m + (1 - beta) * gradient
        v = 0.999 * v + 0.001 * gradient**2
        corrected = m / (1 - beta ** (step + 1))
        value = value - rate * corrected / (np.sqrt(v / (1 - 0.999 ** (step + 1))) + 1e-7)
        optimizer.apply([keras.ops.convert_to_tensor(gradient, "float32")], [kernel])
    np.testing.assert_allclose(kernel.numpy(), value, rtol=1e-3, atol=1e-4)


def test_where_momentum_is_none_or_rmsprop_only_the_rate_moves():
    assert type(cycle_phase("rmsprop").build_optimizer(5)) is keras.optimizers.RMSprop
    still = Phase(freezing.All(), 2, 0.1, OneCycle(momentum=None), "sgd")
    assert type(still.build_optimizer(5)) is keras.optimizers.SGD
    assert type(Phase(freezing.All(), 2, 0.1, Constant(), "sgd").build_optimizer(5)) is type(
        still.build_optimizer(5)
    )
    assert float(still.build_optimizer(5).learning_rate) == pytest.approx(0.004)


def test_mixed_float16_keeps_the_course():
    """Keras wraps the optimizer to scale the loss; the wrapped one still knows its variables."""
    kernel, bias = variables("kernel", "bias")
    course = Course({id(kernel): Treatment(rate=0.25)})
    inner = KINDS["sgd"](course, learning_rate=0.1)
    scaled = keras.optimizers.LossScaleOptimizer(inner, initial_scale=2.0)
    before = kernel.numpy(), bias.numpy()
    ones = keras.ops.ones((3, 2))
    scaled.apply([2 * ones, 2 * ones], [kernel, bias])
    np.testing.assert_allclose(before[0] - kernel.numpy(), 0.025, rtol=1e-4)
    np.testing.assert_allclose(before[1] - bias.numpy(), 0.1, rtol=1e-4)
