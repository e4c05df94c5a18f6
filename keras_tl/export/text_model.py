"""Writes a model of texts as a SavedModel that needs TensorFlow and tensorflow-text alone.

It has one signature, `serving_default`, for any number N of texts: `text`, string `[N]`, and for
pairs beside it `text_pair`, string `[N]`. It returns what a SavedModel of images returns, see
`keras_tl.export.saved_model`. Import `tensorflow_text` before loading it: its operations make
tokens of the strings in the graph.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_tl.backbones.host import behind_host, tokenize_of
from keras_tl.errors import InputError
from keras_tl.export.described import described
from keras_tl.export.verify import (
    check_labels,
    check_outputs,
    default_tolerance,
    keras_outputs,
    scales_of,
)
from keras_tl.model_info import ModelInfo

TEXT, TEXT_PAIR = "text", "text_pair"
# Texts that show a wrong tokenizer, a wrong cut or a lost pair.
PROBES = (
    "",
    "Hello, world!",
    "Crème brûlée costs 3.50 € - très bon, naïve façade",
    "tabs\tand\nlines \u200b and emoji \U0001f600, 中文字 и русский",
    "[CLS] [SEP] [PAD] [MASK] ##ing",
    "<p>fish &amp; <b>ch</b>ips<br>",
    "one two three four five six seven eight nine ten " * 200,
)

log = logging.getLogger("keras_tl")


def check_text_fit(model: keras.Model, info: ModelInfo) -> None:
    """Refuses a model that does not take or give what `info` says.

    Raises:
        InputError: It does not.
    """
    texts = info.text_input.texts if info.text_input else 0
    outputs = len(info.class_names)
    wanted = (None, texts) if texts > 1 else (None,)
    received = (model.input.dtype, tuple(model.input.shape), model.output_shape[-1])
    if received != ("string", wanted, outputs):
        raise InputError(
            f"a model from strings {wanted} to {outputs} outputs",
            f"one from {received[0]} {received[1]} to {received[2]}",
            "Export it with the ModelInfo that it was built for.",
        )


def add_text_endpoints(
    archive: keras.export.ExportArchive, model: keras.Model, info: ModelInfo
) -> None:
    """Adds the signature of a model of texts to what is being exported."""
    texts = info.text_input.texts if info.text_input else 1
    names = (TEXT, TEXT_PAIR)[:texts]
    spec = [tf.TensorSpec([None], tf.string, name=name) for name in names]

    def from_texts(*strings: tf.Tensor) -> dict[str, tf.Tensor]:
        joined = strings[0] if texts == 1 else tf.stack(strings, axis=1)
        return described(tf.cast(model(joined, training=False), tf.float32), info)

    archive.add_endpoint("serving_default", from_texts, input_signature=spec)


def verify_text_model(
    folder: str | Path,
    model: keras.Model,
    info: ModelInfo,
    *,
    sample_texts: Sequence[tuple[str, ...]] = (),
    tolerance: float | None = None,
) -> float:
    """Loads a written SavedModel, runs it beside the Keras model on the same texts, and compares.

    The SavedModel makes tokens itself; the Keras model gets those of the layer that makes them in
    training. The texts are `PROBES` and the samples.

    Args:
        folder: The SavedModel.
        model: The Keras model it was written from.
        info: What the model takes and gives.
        sample_texts: A few texts, or pairs of them.
        tolerance: See `keras_tl.export.verify.verify_saved_model`.

    Returns:
        The largest difference found, in the unit of the tolerance.

    Raises:
        CheckError: Something differs.
    """
    allowed = default_tolerance(model) if tolerance is None else tolerance
    texts = info.text_input.texts if info.text_input else 1
    rows = [(probe, *PROBES[1:texts]) for probe in PROBES] + [tuple(t) for t in sample_texts]
    named = {repr(row[0][:40]) + f" ({i})": b"" for i, row in enumerate(rows)}
    columns = [
        tf.constant([t.encode("utf-8", "replace") for t in c]) for c in zip(*rows, strict=True)
    ]
    signature = tf.saved_model.load(str(folder)).signatures["serving_default"]
    result = signature(**dict(zip((TEXT, TEXT_PAIR), columns, strict=False)))
    expected = _expected(model, columns)
    outputs = result["values" if info.task == "regression" else "probabilities"].numpy()
    scales = scales_of(model, expected, info)
    largest = check_outputs("signature serving_default", outputs, expected, named, scales, allowed)
    check_labels("serving_default", result, outputs, info)
    log.info(
        "The SavedModel agrees with the Keras model on %d texts: difference %.1e, allowed %.1e",
        len(rows),
        largest,
        allowed,
    )
    return largest


def _expected(model: keras.Model, columns: Sequence[tf.Tensor]) -> np.ndarray:
    strings = columns[0] if len(columns) == 1 else tf.stack(columns, axis=1)
    tokenize = tokenize_of(model)
    inputs = strings if tokenize is None else tokenize(strings)
    return keras_outputs(behind_host(model), inputs)
