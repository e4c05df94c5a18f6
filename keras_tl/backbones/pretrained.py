"""What is read of a pretrained encoder, wherever it comes from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import keras
import numpy as np

from keras_tl.backbones.encoder import EncoderConfig
from keras_tl.backbones.tokenizers import Tokenizer
from keras_tl.errors import InputError


@dataclass(frozen=True)
class PretrainedEncoder:
    """An encoder as it was published.

    Attributes:
        config: Its shape.
        tokenizer: Makes its tokenizer from `max_tokens` and `windows`, and `truncate`, `markup`
            and `bag_of_words` by name.
        pooling: "mean" or "cls".
        weights: Arrays of each layer by its name in `keras_tl.backbones.encoder`, in Keras' order
            and layout; None where they were not read.
    """

    config: EncoderConfig
    tokenizer: Callable[..., Tokenizer]
    pooling: str = "mean"
    weights: Mapping[str, list[np.ndarray]] | None = None


def set_weights(model: keras.Model, weights: Mapping[str, list[np.ndarray]]) -> None:
    """Gives every layer that has weights its own.

    Args:
        model: A model that `keras_tl.backbones.encoder` built.
        weights: See `PretrainedEncoder`.

    Raises:
        InputError: A layer's weights are missing, have other shapes or are no numbers.
    """
    for layer in model.layers:
        if not layer.weights:
            continue
        values = weights.get(layer.name, [])
        expected = [tuple(weight.shape) for weight in layer.weights]
        received = [value.shape for value in values]
        if expected != received:
            raise InputError(
                f"weights of shape {expected} for {layer.name}",
                str(received),
                "The weights are of an encoder with another configuration.",
            )
        if not all(np.isfinite(value).all() for value in values):
            fix = "Copy them again."
            raise InputError(f"finite weights of {layer.name}", "some that are not", fix)
        layer.set_weights(values)
