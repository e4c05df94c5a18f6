"""What a TPU would be given: the training step, compiled by XLA, and no strings in it.

There is no TPU here. XLA for a CPU refuses the same kinds of operation: it is the witness.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from contracts.contract_cases import REPRESENTATIVES
from tiny_encoder import write_tiny_bert

from keras_tl import freezing, frozen_prefix
from keras_tl.backbones.host import behind_host
from keras_tl.builders.image import build_image_model
from keras_tl.builders.text import build_text_classifier
from keras_tl.training.model import training_model
from keras_tl.training.phases import Phase


def compiled_step(model, batch, phase=None, micro_batches=1):
    """The training step and the pass before it as XLA reads them: text of its HLO."""
    phase = phase or Phase(freezing.Nothing(), 1, 1e-3)
    fitted = training_model(model, model)
    fitted.micro_batches = micro_batches
    fitted.compile(phase.build_optimizer(4), "categorical_crossentropy", metrics=["accuracy"])
    fitted.optimizer.build(fitted.trainable_variables)
    fitted.train_step(batch)  # makes the metrics' variables
    step = tf.function(fitted.train_step, jit_compile=True, autograph=False)
    return step.experimental_get_compiler_ir(batch)(stage="hlo")


def batch_of(model, outputs=3, size=4):
    """Zeros in the shapes and dtypes of a model's inputs, and targets."""
    inputs = [tf.zeros((size, *(side or 8 for side in t.shape[1:])), t.dtype) for t in model.inputs]
    targets = tf.one_hot(np.arange(size) % outputs, outputs)
    return (inputs[0] if len(inputs) == 1 else tuple(inputs)), targets


@pytest.mark.parametrize("micro_batches", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_whole_model_compiles(micro_batches):
    model = build_image_model("TinyNet", outputs=3, weights=None)
    freezing.Nothing(batch_norm="trained").apply(model)
    phase = Phase(freezing.Nothing(), 1, 1e-3, clip_norm=1.0, layer_decay=0.5)
    assert "convolution" in compiled_step(model, batch_of(model), phase, micro_batches)


def test_what_xla_cannot_compile_is_seen():
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.RandomRotation(0.1)(inputs)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(x))
    with pytest.raises(ValueError, match="tf2xla conversion failed"):
        compiled_step(model, batch_of(model))


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_texts_are_tokens_on_the_device(precision, tmp_path):
    keras.config.set_dtype_policy(precision)
    try:
        folder = write_tiny_bert(tmp_path / "bert")
        whole = build_text_classifier(folder, outputs=3, max_tokens=16, bag_of_words=40)
    finally:
        keras.config.set_dtype_policy("float32")
    assert whole.inputs[0].dtype == "string"
    for policy in (freezing.Nothing(), freezing.LoRA(2)):
        policy.apply(whole)
        model = behind_host(whole)
        assert [tensor.dtype for tensor in model.inputs] == ["int32"]
        assert "dot" in compiled_step(model, batch_of(model))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(REPRESENTATIVES))
def test_prefix_and_suffix_of_each_family_compile(name):
    model = build_image_model(name, outputs=3, weights=None, image_size=96)
    freezing.AllButLast(1).apply(model)
    parts = frozen_prefix.split(model)
    pixels = tf.zeros((2, *parts.prefix.input_shape[1:]))
    run = tf.function(lambda x: parts.prefix(x, training=False), jit_compile=True, autograph=False)
    assert run.experimental_get_compiler_ir(pixels)(stage="hlo")
    assert compiled_step(parts.suffix, batch_of(parts.suffix))
