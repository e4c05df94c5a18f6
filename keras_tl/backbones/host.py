"""The part of a model of texts that works on strings: it runs in `tf.data`, never on a device.

A model of texts begins with a layer that makes tokens of strings. Training, the frozen prefix and
the fast engines work on what is behind it; an exported model has both.
"""

import hashlib
import json
import weakref
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_tl.data.remembered import Remembered
from keras_tl.topology import call_again

TOKENS = "tokens"
COUNTED_AT_ONCE = 256
# To be raised when the same layer would count otherwise.
COUNTS_VERSION = 1
# Settings of a layer that do not change the tokens it makes.
FREE = ("name", "trainable", "statistics_frozen")

# The part of each model behind its host layer, made once so that its prefixes share one graph.
_behind: weakref.WeakKeyDictionary[keras.Model, keras.Model] = weakref.WeakKeyDictionary()


def host_layer(model: keras.Model) -> keras.layers.Layer | None:
    """The layer that makes tokens of strings; None if the model has no such layer.

    It is known by its attribute `on_host`.
    """
    return next((layer for layer in model.layers if getattr(layer, "on_host", False)), None)


def behind_host(model: keras.Model) -> keras.Model:
    """Leaves out the layer that makes tokens.

    Args:
        model: A functional model.

    Returns:
        A model from its tokens to its outputs, which shares its layers; the model itself where it
        has no such layer.
    """
    layer = host_layer(model)
    if layer is None:
        return model
    if model not in _behind:
        _behind[model] = _without(layer, model)
    return _behind[model]


def _without(layer: keras.layers.Layer, model: keras.Model) -> keras.Model:
    tokens = keras.Input(batch_shape=layer.output.shape, dtype=layer.output.dtype, name=TOKENS)
    outputs = call_again(model, {id(layer.output): tokens})
    return keras.Model(tokens, outputs, name=model.name)


class Tokenize:
    """The layer of a model that makes tokens, as a function for `tf.data`.

    Args:
        layer: See `host_layer`.

    Attributes:
        key: SHA-256 of all that decides the tokens of a text.
        counts: Whether `count` can be called.
    """

    def __init__(self, layer: keras.layers.Layer):
        self._layer = layer
        self.counts = bool(getattr(layer, "counts", False))
        config = {k: v for k, v in layer.get_config().items() if k not in FREE}
        facts = [type(layer).__name__, config]
        self.key = hashlib.sha256(
            json.dumps(facts, sort_keys=True, default=str).encode()
        ).hexdigest()

    def __call__(self, strings: Any) -> tf.Tensor:
        """Makes tokens.

        Args:
            strings: Strings `[batch]`, or `[batch, 2]` of pairs; a list of them will do.

        Returns:
            int32 `[batch, 2, length]`.
        """
        return self._layer(tf.convert_to_tensor(strings))

    def count(self, texts: Sequence[tuple[str, ...]]) -> np.ndarray:
        """Counts the tokens of whole texts, the encoder's own left out.

        Returns:
            int64 `[texts, 4]`, see `keras_tl.backbones.tokenizers.Tokenizer.measure`; of a module
            of TF-Hub, whose preprocessor cuts texts itself, `[texts]`, how many each has. The
            cache folder remembers them.
        """
        facts = (json.dumps([COUNTS_VERSION, self.key, *row]) for row in texts)
        keys = [hashlib.sha256(fact.encode()).digest() for fact in facts]
        with closing(Remembered("token counts")) as remembered:
            known = remembered.recall(keys)
            missing = [i for i, key in enumerate(keys) if key not in known]
            for start in range(0, len(missing), COUNTED_AT_ONCE):
                some = missing[start : start + COUNTED_AT_ONCE]
                for i, counts in zip(some, self._counted([texts[i] for i in some]), strict=True):
                    known[keys[i]] = counts.astype(np.int64).tobytes()
                    remembered.add(keys[i], known[keys[i]])
        found = np.frombuffer(b"".join(known[key] for key in keys), np.int64)
        return found.reshape(-1, 4) if hasattr(self._layer, "measure") else found

    def _counted(self, texts: Sequence[tuple[str, ...]]) -> np.ndarray:
        """See `count`, of a few texts."""
        rows = [[text.encode("utf-8", "replace") for text in row] for row in texts]
        strings = tf.constant([*rows, [b""] * len(rows[0])], tf.string)
        strings = strings[:, 0] if strings.shape[1] == 1 else strings
        if hasattr(self._layer, "measure"):
            return self._layer.measure(strings[:-1]).numpy()
        *found, own = self._layer.count(strings).numpy()
        return np.array(found) - own


def tokenize_of(model: keras.Model) -> Tokenize | None:
    """The function that makes a model's tokens; None where it takes its inputs as they are."""
    layer = host_layer(model)
    return None if layer is None else Tokenize(layer)
