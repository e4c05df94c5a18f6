"""BERT-like encoders as one flat graph of leaf layers.

Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding",
NAACL 2019; Sanh et al., "DistilBERT", 2019 (no segments); Liu et al., "RoBERTa", 2019 (positions
that start behind the padding's).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras

from keras_tl.backbones.bag_of_words import BagOfWords
from keras_tl.backbones.encoder_layers import (
    PaddingMask,
    PositionIds,
    SelfAttention,
    TokenPooling,
    TokenRow,
    gelu_approximate,
)
from keras_tl.backbones.layers import FreezableDropout
from keras_tl.errors import InputError, did_you_mean

POOLING = ("mean", "cls", "layers")
SIZES = ("vocabulary_size", "width", "heads", "layers", "intermediate", "max_positions")
# In float32 these take 8 GiB: a description that claims more is refused.
MOST_PARAMETERS = 2**31
ACTIVATIONS: dict[str, str | Callable[..., Any]] = {
    "gelu": "gelu",
    "gelu_approximate": gelu_approximate,
    "relu": "relu",
}


@dataclass(frozen=True)
class EncoderConfig:
    """The shape of an encoder.

    Attributes:
        vocabulary_size: How many token ids there are.
        width: Of the vector of each token; a multiple of `heads`.
        heads: Attention heads of a block.
        layers: How many blocks.
        intermediate: Units of the first dense layer of a block's feed-forward part.
        max_positions: Rows of the table of positions.
        segments: Rows of the table of segments; 0 has no such table.
        activation: Of the feed-forward part: "gelu" (exact), "gelu_approximate" or "relu".
        layer_norm_epsilon: Added to the variance.
        dropout: Share of features dropped in training, in [0, 1).
        attention_dropout: Share of attention probabilities dropped in training, in [0, 1).
        pad_id: The token id of padding.
        position_offset: The row of the first position.
    """

    vocabulary_size: int
    width: int
    heads: int
    layers: int
    intermediate: int
    max_positions: int = 512
    segments: int = 2
    activation: str = "gelu"
    layer_norm_epsilon: float = 1e-12
    dropout: float = 0.1
    attention_dropout: float = 0.1
    pad_id: int = 0
    position_offset: int = 0

    def __post_init__(self) -> None:
        for name in (*SIZES, "segments"):
            value, least = getattr(self, name), int(name in SIZES)
            if not isinstance(value, int) or value < least:
                raise InputError(f"{name} of at least {least}", repr(value), "Check config.json.")
        if self.parameters > MOST_PARAMETERS:
            expected = f"an encoder of at most {MOST_PARAMETERS:,} parameters"
            raise InputError(expected, f"{self.parameters:,}", "Check config.json.")
        if self.activation not in ACTIVATIONS:
            hint = did_you_mean(self.activation, ACTIVATIONS, f"Known: {', '.join(ACTIVATIONS)}.")
            raise InputError("an activation of an encoder", repr(self.activation), hint)
        if self.width % self.heads:
            raise InputError(
                f"a width that {self.heads} heads divide", str(self.width), "Change one of them."
            )

    @property
    def longest(self) -> int:
        """How many tokens a window can have."""
        return self.max_positions - self.position_offset

    @property
    def parameters(self) -> int:
        """How many numbers its kernels and tables have; biases and norms are not counted."""
        rows = self.vocabulary_size + self.max_positions + self.segments
        return self.width * (rows + self.layers * (4 * self.width + 2 * self.intermediate))


def build_encoder(
    config: EncoderConfig, max_tokens: int = 128, windows: int = 1, pooling: str = "mean"
) -> keras.Model:
    """Builds an encoder with random weights, from tokens to one vector a text.

    Args:
        config: Its shape.
        max_tokens: Tokens in a window, special ones included.
        windows: Windows in a text.
        pooling: "mean" of all tokens that are no padding, "cls", the first of a window, or
            "layers", the means of what each block gives, side by side.

    Returns:
        A flat `keras.Model` of the input "tokens", int32 `[batch, 2, windows * max_tokens]` (token
        ids, segment ids), to float32 `[batch, width]`, with "layers" `[batch, layers * width]`.

    Raises:
        InputError: More tokens than the encoder has positions, or an unknown pooling.
    """
    tokens = keras.Input((2, windows * max_tokens), dtype="int32", name="tokens")
    vectors = encode(tokens, config, windows, pooling)
    return keras.Model(tokens, vectors, name="encoder")


def encode(
    tokens: keras.KerasTensor,
    config: EncoderConfig,
    windows: int = 1,
    pooling: str = "mean",
    bag_of_words: int = 0,
) -> keras.KerasTensor:
    """Continues a graph with an encoder that has random weights.

    Args:
        tokens: int32 `[batch, 2, length]`, the length a multiple of `windows`; more rows where
            words are counted.
        config: The encoder's shape.
        windows: Windows in a text.
        pooling: See `build_encoder`.
        bag_of_words: Number of buckets that count words (`keras_tl.backbones.bag_of_words`).

    Returns:
        See `build_encoder`; with words, followed by their weights: `[batch, ... + bag_of_words]`.

    Raises:
        InputError: See `build_encoder`.
    """
    _check(tokens.shape[-1], config, windows, pooling)
    ids = TokenRow(0, name="token_ids")(tokens)
    # Float32 in mixed precision too: both are small, and a sum over tokens is long.
    present = PaddingMask(config.pad_id, dtype="float32", name="mask")(ids)
    x = _embed(tokens, ids, config, windows)
    hidden = []
    for index in range(config.layers):
        x = _block(x, present, config, windows, f"block_{index}")
        hidden.append(x)
    if pooling == "layers":
        vectors = _side_by_side(hidden, present, windows)
    else:
        vectors = TokenPooling(pooling, windows, dtype="float32", name="pool")(x, present)
    return _with_words(vectors, tokens, bag_of_words) if bag_of_words else vectors


def _with_words(
    vectors: keras.KerasTensor, tokens: keras.KerasTensor, buckets: int
) -> keras.KerasTensor:
    """Puts a bag of words beside what the encoder gives."""
    bag = BagOfWords(buckets, vectors.shape[1], dtype="float32", name="bag_of_words")(tokens)
    return keras.layers.Concatenate(dtype="float32", name="pool_and_words")([vectors, bag])


def _side_by_side(
    hidden: list[keras.KerasTensor], present: keras.KerasTensor, windows: int
) -> keras.KerasTensor:
    """Joins the means of all blocks, as Devlin et al., section 5.3, join the last four."""
    means = [
        TokenPooling("mean", windows, dtype="float32", name=f"pool_{index}")(x, present)
        for index, x in enumerate(hidden)
    ]
    return keras.layers.Concatenate(dtype="float32", name="pool")(means)


def check_window(max_tokens: int, config: EncoderConfig) -> None:
    """Refuses windows that are longer than an encoder has positions.

    Raises:
        InputError: They are.
    """
    if max_tokens > config.longest:
        raise InputError(
            f"at most {config.longest} tokens in a window, the positions that the encoder has",
            str(max_tokens),
            f"Give max_tokens={config.longest}, and for longer texts several windows.",
        )


def _check(length: int, config: EncoderConfig, windows: int, pooling: str) -> None:
    if windows < 1:
        raise InputError("at least 1 window", str(windows), "Leave it out for one.")
    check_window(length // windows, config)
    if pooling not in POOLING:
        hint = did_you_mean(pooling, POOLING, f"Choose one of {', '.join(POOLING)}.")
        raise InputError("a pooling of tokens", repr(pooling), hint)


def _embed(
    tokens: keras.KerasTensor, ids: keras.KerasTensor, config: EncoderConfig, windows: int
) -> keras.KerasTensor:
    """The stem: the sum of what a token is, where it stands and to which text it belongs."""
    places = PositionIds(windows, config.position_offset, name="position_ids")(ids)
    parts = [
        _embedding(config.vocabulary_size, config, "token_embedding")(ids),
        _embedding(config.max_positions, config, "position_embedding")(places),
    ]
    if config.segments:
        segment_ids = TokenRow(1, name="segment_ids")(tokens)
        parts.append(_embedding(config.segments, config, "segment_embedding")(segment_ids))
    x = keras.layers.Add(name="embeddings_add")(parts)
    x = _norm(config, "embeddings_norm")(x)
    return FreezableDropout(config.dropout, name="embeddings_dropout")(x)


def _block(
    x: keras.KerasTensor,
    present: keras.KerasTensor,
    config: EncoderConfig,
    windows: int,
    name: str,
) -> keras.KerasTensor:
    """Attention, then two dense layers; each is added to its input and normalised."""
    query, key, value = (
        _dense(config.width, f"{name}_{part}")(x) for part in ("query", "key", "value")
    )
    attention = SelfAttention(
        config.heads, windows, config.attention_dropout, name=f"{name}_attention"
    )
    y = attention(query, key, value, present)
    y = _dense(config.width, f"{name}_attention_output")(y)
    x = _join(x, y, config, f"{name}_attention")
    activation = ACTIVATIONS[config.activation]
    y = _dense(config.intermediate, f"{name}_intermediate", activation)(x)
    y = _dense(config.width, f"{name}_output")(y)
    return _join(x, y, config, f"{name}_output")


def _join(
    x: keras.KerasTensor, y: keras.KerasTensor, config: EncoderConfig, name: str
) -> keras.KerasTensor:
    y = FreezableDropout(config.dropout, name=f"{name}_dropout")(y)
    x = keras.layers.Add(name=f"{name}_add")([x, y])
    return _norm(config, f"{name}_norm")(x)


def _dense(units: int, name: str, activation: Any = None) -> keras.layers.Layer:
    return keras.layers.Dense(units, activation, kernel_initializer=_initializer(), name=name)


def _embedding(rows: int, config: EncoderConfig, name: str) -> keras.layers.Layer:
    return keras.layers.Embedding(rows, config.width, _initializer(), name=name)


def _norm(config: EncoderConfig, name: str) -> keras.layers.Layer:
    return keras.layers.LayerNormalization(epsilon=config.layer_norm_epsilon, name=name)


def _initializer() -> keras.initializers.Initializer:
    return keras.initializers.TruncatedNormal(stddev=0.02)
