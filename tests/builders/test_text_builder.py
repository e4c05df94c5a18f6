"""Text models as a user builds them."""

import numpy as np
import pytest
import tensorflow as tf

import keras_tl as ktl
from keras_tl import frozen_prefix
from keras_tl.backbones.host import behind_host


@pytest.fixture(scope="module")
def model():
    return ktl.build_text_classifier(outputs=3, max_tokens=16)


def test_strings_become_probabilities(model):
    found = model.predict(tf.constant(["Hello world", "", "x" * 500]), verbose=0)
    assert found.shape == (3, 3)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)


def test_pairs_windows_and_targets():
    model = ktl.build_text_classifier(
        outputs=1, task="regression", texts=2, windows=2, max_tokens=16, target_mean=50.0
    )
    assert model.input_shape == (None, 2)
    assert model.get_layer("tokenizer").output.shape == (None, 2, 32)
    assert model(tf.constant([["a title", "a body " * 30]])).numpy()[0, 0] > 40


def test_all_frozen_leaves_the_vector_to_store(model):
    print(ktl.freezing.All().apply(model))
    assert [w.path.split("/")[0] for w in model.trainable_weights] == ["head_predictions"] * 2
    split = frozen_prefix.split(model)
    assert split.last_layers == ("pool",)
    assert split.prefix.input.dtype == "int32"


def test_the_last_block_trains(model):
    ktl.freezing.AllButLast(1).apply(model)
    tokens = model.get_layer("tokenizer")(tf.constant(["good", "bad", "fine", "poor"]))
    trained = behind_host(model)
    before = {w.path: w.numpy().copy() for w in model.weights}
    # One step: to trace it would take longer.
    trained.compile("adam", "sparse_categorical_crossentropy", run_eagerly=True)
    trained.fit(tokens, np.array([0, 1, 0, 1]), epochs=1, verbose=0)
    moved = {w.path.split("/")[0] for w in model.weights if (w.numpy() != before[w.path]).any()}
    assert moved - {"head_predictions"} == {
        f"block_5_{part}"
        for part in (
            "query",
            "key",
            "value",
            "attention_output",
            "attention_norm",
            "intermediate",
            "output",
            "output_norm",
        )
    }


def test_the_saved_model_takes_strings(model, tmp_path):
    model.export(tmp_path / "model", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "model")
    text = tf.constant(["Hello world", "naïve"])
    np.testing.assert_allclose(loaded.serve(text), model(text), atol=1e-5)
