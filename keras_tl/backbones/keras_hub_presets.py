"""Encoders out of KerasHub's presets: BERT, DistilBERT and RoBERTa.

KerasHub builds the model; its weights are copied into the flat graph of
`keras_tl.backbones.encoder`, which can be cut, frozen by blocks and converted.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_tl.backbones import hf_folder
from keras_tl.backbones.byte_pair import BytePairTokenizer
from keras_tl.backbones.encoder import EncoderConfig
from keras_tl.backbones.hf_tokenizers import read_json
from keras_tl.backbones.keras_archives import BROKEN
from keras_tl.backbones.pretrained import PretrainedEncoder
from keras_tl.backbones.tokenizers import INSTALL, Tokenizer, WordPieceTokenizer
from keras_tl.errors import InputError

BACKBONES = ("BertBackbone", "DistilBertBackbone", "RobertaBackbone")


def read_preset(preset: str, with_weights: bool = True) -> PretrainedEncoder:
    """Reads an encoder; KerasHub downloads it where it is not on disk.

    Args:
        preset: What `keras_hub.models.Backbone.from_preset` takes: a name
            ("bert_tiny_en_uncased"), or a local folder.
        with_weights: Whether to read the weights, too.

    Returns:
        The encoder. Its pooling is the mean.

    Raises:
        InputError: KerasHub is not installed, does not find the preset or cannot download it, or
            the preset is of another kind, damaged, or impossibly large.
    """
    if Path(preset).is_dir():
        _check_claims(Path(preset))
    try:
        import keras_hub
    except ModuleNotFoundError as error:
        raise InputError("the package keras-hub", "an environment without it", INSTALL) from error
    try:
        backbone = keras_hub.models.Backbone.from_preset(preset, load_weights=with_weights)
        _check(type(backbone).__name__)
        tokenizer = keras_hub.tokenizers.Tokenizer.from_preset(preset)
        config = _config(backbone, tokenizer.pad_token_id)
        weights = _weights(backbone) if with_weights else None
        return PretrainedEncoder(config, _tokenizer(tokenizer), weights=weights)
    except InputError:
        raise
    except (*BROKEN, tf.errors.OpError) as error:
        fix = "Give a preset's name or folder; a download needs the network."
        raise InputError("a preset of KerasHub", _line(preset, error), fix) from error


def _check(kind: Any) -> None:
    if kind not in BACKBONES:
        fix = "Use the preset of a BERT, DistilBERT or RoBERTa."
        raise InputError(" or ".join(BACKBONES), str(kind)[:80], fix)


def _check_claims(folder: Path) -> None:
    """Refuses impossible sizes of a local preset, before KerasHub gives it memory."""
    saved = read_json(folder / "config.json")
    if "model_type" in saved:
        # KerasHub reads folders of Hugging Face, too.
        hf_folder.read_config(folder)
        return
    _check(saved.get("class_name"))
    sizes = saved.get("config")
    if not isinstance(sizes, dict):
        raise InputError("a backbone in config.json", "none", "Copy the preset again.")
    EncoderConfig(
        vocabulary_size=sizes.get("vocabulary_size", 0),
        width=sizes.get("hidden_dim", 0),
        heads=sizes.get("num_heads", 0),
        layers=sizes.get("num_layers", 0),
        intermediate=sizes.get("intermediate_dim", 0),
        max_positions=sizes.get("max_sequence_length", 512),
        segments=sizes.get("num_segments", 0),
    )


def _line(preset: str, error: Exception) -> str:
    """The preset and why it was not read, in one line."""
    lines = str(error).strip().splitlines()
    return f"{preset!r} ({lines[0] if lines else type(error).__name__})"


def _config(backbone: Any, pad_id: int) -> EncoderConfig:
    dense = backbone.transformer_layers[0]._feedforward_intermediate_dense
    exact = dense.activation is keras.activations.gelu
    return EncoderConfig(
        vocabulary_size=backbone.vocabulary_size,
        width=backbone.hidden_dim,
        heads=backbone.num_heads,
        layers=backbone.num_layers,
        intermediate=backbone.intermediate_dim,
        max_positions=backbone.max_sequence_length,
        segments=getattr(backbone, "num_segments", 0),
        activation="gelu" if exact else "gelu_approximate",
        layer_norm_epsilon=backbone.embeddings_layer_norm.epsilon,
        dropout=backbone.dropout,
        attention_dropout=backbone.dropout,
        pad_id=pad_id,
    )


def _weights(backbone: Any) -> dict[str, list[np.ndarray]]:
    """Each layer's weights in Keras' order and layout."""
    positions = (
        backbone.position_embedding
        if hasattr(backbone, "position_embedding")
        else backbone.embeddings.position_embedding
    )
    layers = {
        "token_embedding": backbone.token_embedding,
        "position_embedding": positions,
        "embeddings_norm": backbone.embeddings_layer_norm,
    }
    if hasattr(backbone, "segment_embedding"):
        layers["segment_embedding"] = backbone.segment_embedding
    for index, block in enumerate(backbone.transformer_layers):
        attention = block._self_attention_layer
        parts = {
            "query": attention.query_dense,
            "key": attention.key_dense,
            "value": attention.value_dense,
            "attention_output": attention.output_dense,
            "attention_norm": block._self_attention_layer_norm,
            "intermediate": block._feedforward_intermediate_dense,
            "output": block._feedforward_output_dense,
            "output_norm": block._feedforward_layer_norm,
        }
        layers |= {f"block_{index}_{name}": layer for name, layer in parts.items()}
    width = backbone.hidden_dim
    return {name: _flat(name, layer.get_weights(), width) for name, layer in layers.items()}


def _flat(name: str, values: list[np.ndarray], width: int) -> list[np.ndarray]:
    """Projections of attention without an axis for the heads."""
    if name.endswith(("_query", "_key", "_value", "_attention_output")):
        kernel, bias = values
        return [kernel.reshape(width, width), bias.reshape(width)]
    return values


def _tokenizer(tokenizer: Any) -> Callable[..., Tokenizer]:
    """A maker of a preset's tokenizers, from `max_tokens`, `windows` and how texts are read."""
    specials = (tokenizer.start_token, tokenizer.end_token, tokenizer.pad_token)
    if hasattr(tokenizer, "merges"):
        ids = tokenizer.vocabulary
        vocabulary = "\n".join(sorted(ids, key=ids.__getitem__))
        merges = "\n".join(tokenizer.merges)

        def make_byte_pair(max_tokens: int, windows: int, **reading: Any) -> Tokenizer:
            return BytePairTokenizer(
                vocabulary,
                max_tokens,
                windows,
                merges=merges,
                specials=specials,
                name="tokenizer",
                **reading,
            )

        return make_byte_pair

    def make_word_piece(max_tokens: int, windows: int, **reading: Any) -> Tokenizer:
        return WordPieceTokenizer(
            "\n".join(tokenizer.get_vocabulary()),
            max_tokens,
            windows,
            lowercase=tokenizer.lowercase,
            strip_accents=tokenizer.strip_accents,
            unknown=tokenizer.oov_token,
            specials=specials,
            name="tokenizer",
            **reading,
        )

    return make_word_piece
