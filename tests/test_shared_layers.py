"""Layers that several others hold: frozen with any of them, and counted once."""

import keras
import numpy as np

from keras_tl import freezing

L = keras.layers


def sharing_model():
    shared = L.Dense(8, activation="relu", name="shared")
    inputs = keras.Input((6, 5))
    early = L.ReLU(name="feat")(shared(L.Conv1D(3, 3, padding="same", name="conv")(inputs)))
    late = L.TimeDistributed(shared, name="wrapped")(L.Conv1D(3, 1, name="late")(early))
    pooled = L.GlobalAveragePooling1D()(L.Concatenate()([early, late]))
    return keras.Model(inputs, L.Dense(3, activation="softmax", name="head_predictions")(pooled))


def test_what_is_frozen_in_one_place_is_frozen_in_all():
    model = sharing_model()
    summary = freezing.UpTo("feat").apply(model)
    assert not model.get_layer("shared").trainable
    before = model.get_layer("shared").get_weights()
    model.compile("sgd", "sparse_categorical_crossentropy")
    pixels = np.random.default_rng(0).normal(size=(16, 6, 5))
    model.fit(pixels, np.arange(16) % 3, verbose=0)
    for value, expected in zip(model.get_layer("shared").get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, expected)
    trained = sum(int(np.prod(w.shape)) for w in model.trainable_weights)
    assert summary.trainable == trained
    assert summary.trainable + summary.frozen == model.count_params()


def test_all_of_it_trains_again():
    model = sharing_model()
    freezing.UpTo("feat").apply(model)
    freezing.Nothing(batch_norm="trained").apply(model)
    assert len(model.trainable_weights) == len(model.weights)
