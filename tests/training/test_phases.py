import keras
import numpy as np
import pytest

from keras_tl import freezing
from keras_tl.errors import InputError
from keras_tl.training.phases import Phase
from keras_tl.training.schedules import Constant


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("adamw", keras.optimizers.AdamW),
        ("adam", keras.optimizers.Adam),
        ("sgd", keras.optimizers.SGD),
        ("rmsprop", keras.optimizers.RMSprop),
    ],
)
def test_an_optimizer_has_what_the_phase_says(name, kind):
    phase = Phase(freezing.All(), 2, 0.25, Constant(), name, momentum=0.5, clip_norm=2.0)
    optimizer = phase.build_optimizer(steps_per_epoch=3)
    assert type(optimizer) is kind
    assert float(optimizer.learning_rate) == 0.25
    assert optimizer.clipnorm == 2.0
    assert getattr(optimizer, "momentum", 0.5) == 0.5


def test_weight_decay_shrinks_kernels_and_leaves_biases_and_scales_of_norms():
    phase = Phase(freezing.All(), 1, 1.0, Constant(), "sgd", momentum=0.0, weight_decay=0.1)
    inputs = keras.Input((2,))
    outputs = keras.layers.Dense(2)(keras.layers.RMSNormalization()(inputs))
    outputs = keras.layers.LayerNormalization()(keras.layers.BatchNormalization()(outputs))
    model = keras.Model(inputs, outputs)
    model.set_weights([np.ones_like(value) for value in model.get_weights()])
    optimizer = phase.build_optimizer(1)
    optimizer.build(model.trainable_variables)
    optimizer.apply([keras.ops.zeros_like(v) for v in model.trainable_variables])
    for variable in model.trainable_variables:
        expected = 0.9 if variable.name == "kernel" else 1.0
        np.testing.assert_allclose(variable, expected, rtol=1e-6, err_msg=variable.path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"optimizer": "adamm"},
        {"momentum": 1.0},
        {"label_smoothing": 1.0},
        {"weight_decay": -0.1},
        {"mixup": float("nan")},
        {"clip_norm": 0.0},
    ],
)
def test_wrong_values_are_refused(wrong):
    values = {"freezing": freezing.All(), "epochs": 1, "learning_rate": 0.1, **wrong}
    with pytest.raises(InputError):
        Phase(**values)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"freezing": freezing.All}, r"the class All. Give one such as freezing.All\(\)"),
        ({"freezing": "all"}, "a freezing policy"),
        ({"epochs": True}, "a whole number of epochs"),
        ({"epochs": 2.5}, "a whole number of epochs"),
        ({"epochs": "2"}, "a whole number of epochs"),
        ({"learning_rate": "0.1"}, "a number as learning rate"),
        ({"learning_rate": keras.optimizers.schedules.CosineDecay(0.1, 9)}, "schedule="),
        ({"schedule": Constant}, r"the class Constant. Give one such as schedules.Cosine\(\)"),
        ({"schedule": keras.optimizers.schedules.CosineDecay(0.1, 9)}, "a schedule"),
        ({"schedule": None}, "a schedule"),
        ({"optimizer": keras.optimizers.SGD(0.1)}, "adamw, adam, sgd, rmsprop; learning_rate, "),
        ({"optimizer": keras.optimizers.SGD}, "the class SGD"),
    ],
)
def test_values_of_another_kind_are_refused(wrong, said):
    values = {"freezing": freezing.All(), "epochs": 1, "learning_rate": 0.1, **wrong}
    with pytest.raises(InputError, match=said) as error:
        Phase(**values)
    assert "object at 0x" not in str(error.value)


def test_numbers_of_numpy_are_numbers():
    assert Phase(freezing.All(), np.int64(2), np.float32(0.5)).epochs == 2
