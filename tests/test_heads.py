import keras
import numpy as np
import pytest

from keras_tl.builders.image import build_image_model
from keras_tl.errors import InputError
from keras_tl.heads import add_head


def backbone():
    inputs = keras.Input((2, 2, 3), name="pixels")
    return keras.Model(inputs, keras.layers.Rescaling(1.0)(inputs))


PIXELS = np.arange(24, dtype="float32").reshape(2, 2, 2, 3)


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ("avg", PIXELS.mean(axis=(1, 2))),
        ("max", PIXELS.max(axis=(1, 2))),
        ("flatten", PIXELS.reshape(2, 12)),
    ],
)
def test_pooling_is_what_it_says(pooling, expected):
    model = add_head(backbone(), 2, pooling=pooling)
    pooled = keras.Model(model.input, model.get_layer("head_pool").output)
    np.testing.assert_allclose(pooled(PIXELS), expected)


@pytest.mark.parametrize(
    ("task", "activation"),
    [
        ("single-label", lambda z: np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)),
        ("multi-label", lambda z: 1 / (1 + np.exp(-z))),
        ("regression", lambda z: z * 2 + 5),
    ],
)
def test_outputs_follow_from_the_task(task, activation):
    model = add_head(backbone(), 3, task=task, target_mean=5.0, target_scale=2.0)
    dense = model.get_layer("head_predictions")
    kernel = np.random.default_rng(0).normal(size=(3, 3)).astype("float32") * 0.1
    dense.kernel.assign(kernel)
    np.testing.assert_allclose(
        model(PIXELS), activation(PIXELS.mean(axis=(1, 2)) @ kernel), rtol=1e-5
    )


def test_probabilities_are_float32_in_mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = build_image_model("TinyNet", outputs=2, weights=None)
    finally:
        keras.config.set_dtype_policy("float32")
    assert model.get_layer("one_conv").compute_dtype == "bfloat16"
    assert model(np.zeros((1, 16, 16, 3))).dtype == "float32"


def test_hidden_layers_and_no_dropout():
    model = add_head(backbone(), 2, hidden=(8, 4), dropout=0.0)
    names = [layer.name for layer in model.layers if layer.name.startswith("head")]
    assert names == ["head_pool", "head_dense_1", "head_dense_2", "head_predictions"]
    assert model.get_layer("head_dense_2").units == 4


def test_a_built_model_is_flat_and_takes_pixels():
    model = build_image_model("TinyNet", outputs=2, weights=None, image_size=24)
    assert model.input_shape == (None, 24, 24, 3)
    assert not any(isinstance(layer, keras.Model) for layer in model.layers)
    probabilities = np.asarray(model(np.full((1, 24, 24, 3), 255, "uint8")))
    assert probabilities.sum() == pytest.approx(1.0)


@pytest.mark.parametrize("wrong", [{"outputs": 0}, {"pooling": "mean"}, {"task": "tag"}])
def test_wrong_values_are_refused(wrong):
    with pytest.raises(InputError):
        add_head(backbone(), **{"outputs": 2, **wrong})


def test_one_output_is_no_choice_between_classes():
    with pytest.raises(InputError, match=r"at least 2 classes.*For two classes give outputs=2"):
        add_head(backbone(), 1)
    for task in ("multi-label", "regression"):
        assert add_head(backbone(), 1, task=task).output_shape == (None, 1)
