"""What a BERT-like encoder needs beside Keras' own layers: all without weights, for any length."""

from typing import Any

import keras
import numpy as np
from keras import ops

# Added to the scores of padding: its share after the softmax is 0 in float32.
_MASKED = -1e9


@keras.saving.register_keras_serializable(package="keras_tl")
def gelu_approximate(x: keras.KerasTensor) -> keras.KerasTensor:
    """GELU by way of tanh, as Google's BERT computes it (floats of any shape)."""
    return keras.activations.gelu(x, approximate=True)


@keras.saving.register_keras_serializable(package="keras_tl")
class TokenRow(keras.layers.Layer):
    """One row of the tokens: int32 `[batch, 2, length]` to int32 `[batch, length]`.

    Args:
        row: 0 for the token ids, 1 for the segment ids.
        **kwargs: Of `keras.layers.Layer`.
    """

    def __init__(self, row: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.row = row

    def call(self, tokens: keras.KerasTensor) -> keras.KerasTensor:
        """Takes the row."""
        return tokens[:, self.row]

    def get_config(self) -> dict[str, Any]:
        """The layer's settings."""
        return {**super().get_config(), "row": self.row}


@keras.saving.register_keras_serializable(package="keras_tl")
class PaddingMask(keras.layers.Layer):
    """Says where there is a token: ids int32 `[batch, length]` to 1.0 there, 0.0 at padding.

    Args:
        pad_id: The id of padding.
        **kwargs: Of `keras.layers.Layer`.
    """

    def __init__(self, pad_id: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.pad_id = pad_id

    def call(self, ids: keras.KerasTensor) -> keras.KerasTensor:
        """Compares with the padding's id."""
        return ops.cast(ops.not_equal(ids, self.pad_id), self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """The layer's settings."""
        return {**super().get_config(), "pad_id": self.pad_id}


@keras.saving.register_keras_serializable(package="keras_tl")
class PositionIds(keras.layers.Layer):
    """Numbers the places of each window anew: ids int32 `[batch, length]` to the same shape.

    Args:
        windows: How many windows there are, each of the same length.
        offset: The number of the first place.
        **kwargs: Of `keras.layers.Layer`.
    """

    def __init__(self, windows: int = 1, offset: int = 0, **kwargs: Any):
        super().__init__(**kwargs)
        self.windows = windows
        self.offset = offset

    def call(self, ids: keras.KerasTensor) -> keras.KerasTensor:
        """Gives every text of the batch the same numbers."""
        places = np.arange(ids.shape[1] // self.windows, dtype="int32") + self.offset
        return ops.zeros_like(ids) + np.tile(places, self.windows)

    def get_config(self) -> dict[str, Any]:
        """The layer's settings."""
        return {**super().get_config(), "windows": self.windows, "offset": self.offset}


@keras.saving.register_keras_serializable(package="keras_tl")
class SelfAttention(keras.layers.Layer):
    """Attention among the tokens of a window, the projections being layers of their own.

    Scores and softmax are float32 whatever the dtype policy. Attention probabilities are dropped
    in training, if the layer is trainable: frozen means inference, as for `FreezableDropout`.

    Reference: Vaswani et al., "Attention Is All You Need", NeurIPS 2017.

    Args:
        heads: How many heads; they divide the width.
        windows: How many windows of equal length a text has; attention stays within one.
        dropout: Share of the probabilities that is dropped, in [0, 1).
        **kwargs: Of `keras.layers.Layer`.
    """

    def __init__(self, heads: int, windows: int = 1, dropout: float = 0.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.heads = heads
        self.windows = windows
        self.dropout = dropout
        if dropout:
            self.seed_generator = keras.random.SeedGenerator()

    def call(
        self,
        query: keras.KerasTensor,
        key: keras.KerasTensor,
        value: keras.KerasTensor,
        present: keras.KerasTensor,
        training: bool | None = None,
    ) -> keras.KerasTensor:
        """Mixes values by how well queries and keys agree.

        Args:
            query: Floats `[batch, length, width]`.
            key: Floats `[batch, length, width]`.
            value: Floats `[batch, length, width]`.
            present: `[batch, length]`, 1 where there is a token, 0 at padding. In training a value
                in between if mixup has blended a token and padding: the token's share.
            training: Whether to drop probabilities.

        Returns:
            Floats `[batch, length, width]`.
        """
        length, width = query.shape[1:]
        scale = (width // self.heads) ** -0.5
        scores = ops.matmul(
            self._heads(query * scale, (0, 2, 1, 3)), self._heads(key, (0, 2, 3, 1))
        )
        present = ops.reshape(ops.cast(present, "float32"), (-1, 1, 1, length // self.windows))
        # Both are equal for 0 and 1; the fast engines support the second.
        mask = ops.maximum(ops.log(present), _MASKED) if training else (1.0 - present) * _MASKED
        scores = ops.cast(scores, "float32") + mask
        shares = ops.cast(ops.softmax(scores), self.compute_dtype)
        if training and self.trainable and self.dropout:
            shares = keras.random.dropout(shares, self.dropout, seed=self.seed_generator)
        mixed = ops.matmul(shares, self._heads(value, (0, 2, 1, 3)))
        return ops.reshape(ops.transpose(mixed, (0, 2, 1, 3)), (-1, length, width))

    def _heads(self, x: keras.KerasTensor, order: tuple[int, ...]) -> keras.KerasTensor:
        """`[batch * windows, tokens, heads, width / heads]`, its axes in the given order."""
        length, width = x.shape[1:]
        shape = (-1, length // self.windows, self.heads, width // self.heads)
        return ops.transpose(ops.reshape(x, shape), order)

    def get_config(self) -> dict[str, Any]:
        """The layer's settings."""
        settings = {"heads": self.heads, "windows": self.windows, "dropout": self.dropout}
        return {**super().get_config(), **settings}


@keras.saving.register_keras_serializable(package="keras_tl")
class TokenPooling(keras.layers.Layer):
    """One vector for a text, from those of its tokens.

    Args:
        mode: "mean" of all tokens that are no padding, or "cls": the first token of a window
            (with several windows, the mean over those that hold any text).
        windows: How many windows of equal length a text has.
        **kwargs: Of `keras.layers.Layer`.
    """

    def __init__(self, mode: str = "mean", windows: int = 1, **kwargs: Any):
        super().__init__(**kwargs)
        self.mode = mode
        self.windows = windows

    def call(self, hidden: keras.KerasTensor, present: keras.KerasTensor) -> keras.KerasTensor:
        """Averages.

        Args:
            hidden: Floats `[batch, length, width]`.
            present: `[batch, length]`, 1 where there is a token, 0 at padding.

        Returns:
            Floats `[batch, width]`.
        """
        if self.mode == "cls":
            step = hidden.shape[1] // self.windows
            hidden, present = hidden[:, ::step], present[:, ::step]
        weights = ops.expand_dims(present, -1)
        return ops.sum(hidden * weights, axis=1) / ops.maximum(ops.sum(weights, axis=1), 1.0)

    def get_config(self) -> dict[str, Any]:
        """The layer's settings."""
        return {**super().get_config(), "mode": self.mode, "windows": self.windows}
