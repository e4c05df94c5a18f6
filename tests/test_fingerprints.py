"""What tells models apart whose outputs differ, and what does not."""

import keras
import numpy as np
import pytest

from keras_tl.fingerprints import fingerprint


def test_all_numbers_of_a_constant_tell_prefixes_apart():
    """A mean image that is subtracted, for example; printed, the middle of it is left out."""
    inputs = keras.Input((2000,))
    mean = np.zeros(2000, "float32")
    other = mean.copy()
    other[1000] = 1.0

    def key(constant):
        return fingerprint(keras.Model(inputs, inputs - constant))

    assert key(mean) == key(mean.copy())
    assert key(mean) != key(other)
    assert key(keras.ops.array(mean)) != key(keras.ops.array(other))


def half(x):
    return x / 2


def double(x):
    return x * 2


def with_code(code, how):
    x = keras.Input((2,))
    layer = keras.layers.Lambda(code) if how == "lambda" else keras.layers.Activation(code)
    return keras.Model(x, layer(x))


@pytest.mark.parametrize("how", ["lambda", "activation"])
def test_code_that_was_edited_tells_prefixes_apart(how, monkeypatch):
    before = fingerprint(with_code(half, how))
    assert fingerprint(with_code(half, how)) == before
    monkeypatch.setattr(half, "__code__", double.__code__)
    assert fingerprint(with_code(half, how)) != before


def test_a_layer_whose_call_was_edited_tells_prefixes_apart(monkeypatch):
    class Own(keras.layers.Layer):
        def call(self, x):
            return x / 2

    x = keras.Input((2,))
    model = keras.Model(x, Own()(x))
    before = fingerprint(model)
    monkeypatch.setattr(Own, "call", lambda self, x: x * 2)
    assert fingerprint(model) != before


def test_words_of_a_file_tell_prefixes_apart(tmp_path):
    def model(*words):
        path = tmp_path / f"{words[0]}.txt"
        path.write_text("\n".join(words))
        x = keras.Input((), dtype="string")
        look_up = keras.layers.TextVectorization(vocabulary=str(path))
        return keras.Model(x, look_up(x))

    before = fingerprint(model("a", "b"))
    assert fingerprint(model("a", "b")) == before
    assert fingerprint(model("b", "a")) != before


def test_weights_of_some_layers_may_not_count():
    x = keras.Input((2,))
    model = keras.Model(x, keras.layers.Dense(2, name="b")(keras.layers.Dense(2, name="a")(x)))
    before = fingerprint(model, ["b"])
    model.get_layer("b").kernel.assign(np.ones((2, 2)))
    assert fingerprint(model, ["b"]) == before != fingerprint(model)
    model.get_layer("a").kernel.assign(np.ones((2, 2)))
    assert fingerprint(model, ["b"]) != before


def test_names_within_layers_do_not_count():
    """Keras numbers them, on and on."""

    def model(units=3):
        inner_input = keras.Input((4, 2))
        y = keras.layers.Bidirectional(keras.layers.LSTM(units, kernel_initializer="ones"))(
            inner_input
        )
        inner = keras.Model(inner_input, keras.layers.Dense(2, kernel_initializer="ones")(y))
        x = keras.Input((4, 2))
        out = inner(keras.layers.Lambda(lambda v: v * 2)(x))
        return keras.Model(x, out)

    first, second = model(), model()
    second.set_weights(first.get_weights())
    assert first.layers[-1].name != second.layers[-1].name
    assert fingerprint(first) == fingerprint(second)
    assert fingerprint(model(4)) != fingerprint(first)


def within(layer, how):
    """A layer in a nested model or wrapper."""
    x = keras.Input((4, 4))
    if how == "time":
        return keras.Model(x, keras.layers.TimeDistributed(layer)(x))
    nested = keras.Sequential([keras.Input((4, 4)), layer])
    if how == "functional":
        inside = keras.Input((4, 4))
        nested = keras.Model(inside, layer(inside))
    return keras.Model(x, nested(x))


@pytest.mark.parametrize("how", ["time", "sequential", "functional"])
def test_a_layer_within_counts_by_what_it_does(how):
    def model(activation):
        return within(keras.layers.Activation(activation, name="relu"), how)

    before = fingerprint(model("relu"))
    assert fingerprint(model("relu")) == before
    assert fingerprint(model("tanh")) != before


def test_lambdas_of_a_file_are_told_apart(tmp_path):
    def loaded(code):
        x = keras.Input((2,))
        path = tmp_path / "model.keras"
        keras.Model(x, keras.layers.Lambda(code)(x)).save(path)
        return fingerprint(keras.models.load_model(path, safe_mode=False))

    assert loaded(lambda v: v / 255) == loaded(lambda v: v / 255) != loaded(lambda v: v / 127 - 1)
