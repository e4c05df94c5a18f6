"""Encoders as Hugging Face keeps them: a folder with config.json and model.safetensors.

Read without `transformers` and without torch. The model types are "bert", "distilbert" and
"roberta"; `keras_tl.backbones.encoder` and the tokenizers here cannot do what other types need.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from keras_tl.backbones.encoder import EncoderConfig
from keras_tl.backbones.hf_tokenizers import byte_pair, optional_json, read_json, word_piece
from keras_tl.backbones.pretrained import PretrainedEncoder
from keras_tl.backbones.tokenizers import INSTALL
from keras_tl.errors import InputError

WEIGHTS = "model.safetensors"
# Activations by their names in config.json ("hidden_act").
ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_approximate",
    "gelu_pytorch_tanh": "gelu_approximate",
    "relu": "relu",
}
_TOKEN_EMBEDDING = "embeddings.word_embeddings"


def read_folder(folder: Path, with_weights: bool = True) -> PretrainedEncoder:
    """Reads an encoder.

    Args:
        folder: Has config.json, model.safetensors and vocab.txt or tokenizer.json (a RoBERTa:
            vocab.json and merges.txt, or tokenizer.json). The pooling is read from
            1_Pooling/config.json, as sentence-transformers writes it; by default it is the mean.
        with_weights: Whether to read the weights, too; without them the file is not needed.

    Returns:
        The encoder.

    Raises:
        InputError: A file is missing or cannot be read, the model is of another type, or does
            something that this project's encoders do not.
    """
    settings = _Settings(read_json(folder / "config.json"))
    config, layer_names = _described(settings, folder)
    weights = None
    if with_weights:
        weights = _read_weights(folder, layer_names(config), config, settings)
    tokenizer = byte_pair(folder) if settings["model_type"] == "roberta" else word_piece(folder)
    return PretrainedEncoder(config, tokenizer, _pooling(folder), weights)


def read_config(folder: Path) -> EncoderConfig:
    """Reads what config.json says of an encoder; see `read_folder`."""
    return _described(_Settings(read_json(folder / "config.json")), folder)[0]


def _described(
    settings: "_Settings", folder: Path
) -> tuple[EncoderConfig, Callable[..., dict[str, str]]]:
    """An encoder's shape, and the function that names the layers in its file."""
    kind = settings.get("model_type")
    if not isinstance(kind, str) or kind not in _TYPES:
        raise InputError(
            f"a model_type of {' or '.join(_TYPES)} in {folder / 'config.json'}",
            repr(kind),
            _elsewhere(settings),
        )
    config_of, layer_names = _TYPES[kind]
    return config_of(settings), layer_names


def _elsewhere(settings: "_Settings") -> str:
    """What to do with a folder that is of no known kind."""
    if settings.get("class_name"):
        return "A preset of KerasHub is named keras_hub:FOLDER."
    return "hub:HANDLE reaches other encoders."


# No known encoder is larger: a file that claims more is refused before it gets the memory.
_MOST = {
    "vocab_size": 10**7,
    **dict.fromkeys(("hidden_size", "dim"), 2**16),
    **dict.fromkeys(("num_attention_heads", "n_heads"), 1024),
    **dict.fromkeys(("num_hidden_layers", "n_layers"), 1000),
    **dict.fromkeys(("intermediate_size", "hidden_dim"), 2**17),
    "max_position_embeddings": 2**20,
}
_RANGES = {
    "type_vocab_size": (1, 1000),
    "pad_token_id": (0, 10**7),
    "layer_norm_eps": (0, 1),
    **dict.fromkeys(("hidden_dropout_prob", "dropout"), (0, 0.99)),
    **dict.fromkeys(("attention_probs_dropout_prob", "attention_dropout"), (0, 0.99)),
}


# Defaults of `transformers` for what config.json leaves out.
_EPSILON = 1e-12
_PADDING = {"roberta": 1}

_WHOLE = ("type_vocab_size", "pad_token_id")


class _Settings(dict[str, Any]):
    """The content of config.json; a value that is missing or impossible raises `InputError`."""

    def __missing__(self, key: str) -> Any:
        raise InputError(f"{key!r} in config.json", "none", "Copy the encoder's own file.")

    def __getitem__(self, key: str) -> Any:
        value = super().__getitem__(key)
        is_number = isinstance(value, int if key in _WHOLE else int | float)
        is_number &= not isinstance(value, bool)
        low, high = _RANGES.get(key, (value, _MOST.get(key, value)))
        if (is_number and not low <= value <= high) or (key in _RANGES and not is_number):
            least = f"from {low:g} to" if key in _RANGES else "of at most"
            least = f"as a whole number {least}" if key in _WHOLE else least
            expected = f"{key!r} {least} {high:g} in config.json"
            raise InputError(expected, repr(value)[:80], "Copy the encoder's own file.")
        return value

    def get(self, key: str, default: Any = None) -> Any:
        # Not `dict.get`, which would bypass the checks of `__getitem__`.
        return self[key] if key in self else default  # noqa: SIM401


def _bert_config(settings: _Settings) -> EncoderConfig:
    if settings.get("position_embedding_type", "absolute") != "absolute":
        kind = settings["position_embedding_type"]
        raise InputError("absolute positions", repr(kind), "Use another encoder.")
    if settings.get("is_decoder"):
        fix = "It reads a text from left to right only: use another one."
        raise InputError("an encoder", "a decoder (is_decoder)", fix)
    segments = settings["type_vocab_size"]
    return EncoderConfig(
        vocabulary_size=settings["vocab_size"],
        width=settings["hidden_size"],
        heads=settings["num_attention_heads"],
        layers=settings["num_hidden_layers"],
        intermediate=settings["intermediate_size"],
        max_positions=settings["max_position_embeddings"],
        # The vector of a single segment is added to those of the positions.
        segments=segments if segments > 1 else 0,
        activation=_activation(settings["hidden_act"]),
        layer_norm_epsilon=settings.get("layer_norm_eps", _EPSILON),
        dropout=settings["hidden_dropout_prob"],
        attention_dropout=settings["attention_probs_dropout_prob"],
        pad_id=_padding(settings),
    )


def _roberta_config(settings: _Settings) -> EncoderConfig:
    config = _bert_config(settings)
    # Positions begin behind the row of padding.
    return replace(config, position_offset=config.pad_id + 1)


def _distilbert_config(settings: _Settings) -> EncoderConfig:
    return EncoderConfig(
        vocabulary_size=settings["vocab_size"],
        width=settings["dim"],
        heads=settings["n_heads"],
        layers=settings["n_layers"],
        intermediate=settings["hidden_dim"],
        max_positions=settings["max_position_embeddings"],
        segments=0,
        activation=_activation(settings["activation"]),
        dropout=settings["dropout"],
        attention_dropout=settings["attention_dropout"],
        pad_id=_padding(settings),
    )


def _padding(settings: _Settings) -> int:
    """The id of padding; null counts as missing."""
    if dict.get(settings, "pad_token_id") is None:
        return _PADDING.get(settings["model_type"], 0)
    return settings["pad_token_id"]


def _activation(name: str) -> str:
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise InputError(
            f"an activation of {', '.join(ACTIVATIONS)}", repr(name), "Use another encoder."
        )
    return ACTIVATIONS[name]


def _bert_names(config: EncoderConfig) -> dict[str, str]:
    """The file's name of every layer with weights, by ours."""
    names = {
        "token_embedding": _TOKEN_EMBEDDING,
        "position_embedding": "embeddings.position_embeddings",
        "embeddings_norm": "embeddings.LayerNorm",
    }
    if config.segments:
        names["segment_embedding"] = "embeddings.token_type_embeddings"
    parts = {
        "query": "attention.self.query",
        "key": "attention.self.key",
        "value": "attention.self.value",
        "attention_output": "attention.output.dense",
        "attention_norm": "attention.output.LayerNorm",
        "intermediate": "intermediate.dense",
        "output": "output.dense",
        "output_norm": "output.LayerNorm",
    }
    return names | _block_names(config, "encoder.layer", parts)


def _distilbert_names(config: EncoderConfig) -> dict[str, str]:
    names = {
        "token_embedding": _TOKEN_EMBEDDING,
        "position_embedding": "embeddings.position_embeddings",
        "embeddings_norm": "embeddings.LayerNorm",
    }
    parts = {
        "query": "attention.q_lin",
        "key": "attention.k_lin",
        "value": "attention.v_lin",
        "attention_output": "attention.out_lin",
        "attention_norm": "sa_layer_norm",
        "intermediate": "ffn.lin1",
        "output": "ffn.lin2",
        "output_norm": "output_layer_norm",
    }
    return names | _block_names(config, "transformer.layer", parts)


def _block_names(config: EncoderConfig, prefix: str, parts: dict[str, str]) -> dict[str, str]:
    return {
        f"block_{index}_{ours}": f"{prefix}.{index}.{theirs}"
        for index in range(config.layers)
        for ours, theirs in parts.items()
    }


_TYPES: dict[str, tuple[Callable[..., EncoderConfig], Callable[..., dict[str, str]]]] = {
    "bert": (_bert_config, _bert_names),
    "distilbert": (_distilbert_config, _distilbert_names),
    "roberta": (_roberta_config, _bert_names),
}


def _read_weights(
    folder: Path, names: dict[str, str], config: EncoderConfig, settings: dict[str, Any]
) -> dict[str, list[np.ndarray]]:
    """Each layer's weights in Keras' order and layout."""
    tensors = _Tensors(folder / WEIGHTS)
    weights = {ours: tensors.layer(ours, theirs) for ours, theirs in names.items()}
    # Checked before the memory that the configuration claims is asked for.
    wide, between = config.width, config.intermediate
    claims = {
        "token_embedding": (config.vocabulary_size, wide),
        "position_embedding": (config.max_positions, wide),
        "segment_embedding": (config.segments, wide),
        **dict.fromkeys(("query", "key", "value", "attention_output"), (wide, wide)),
        "intermediate": (wide, between),
        "output": (between, wide),
    }
    for name, (found, *_) in weights.items():
        claimed = claims.get(re.sub(r"^block_\d+_", "", name), found.shape)
        if found.shape != claimed:
            what = f"{claimed} {name.replace('_embedding', ' vectors')}, as config.json says"
            fix = "The two files are of different encoders: copy them again."
            raise InputError(what, str(found.shape), fix)
    if settings.get("type_vocab_size") == 1:
        (segment,) = tensors.layer("segment_embedding", "embeddings.token_type_embeddings")
        weights["position_embedding"][0] = weights["position_embedding"][0] + segment
    return weights


class _Tensors:
    """The tensors of a safetensors file.

    Args:
        path: The file.

    Raises:
        InputError: There is none, it cannot be read, or no encoder is in it.
    """

    def __init__(self, path: Path):
        try:
            from safetensors import SafetensorError, safe_open
        except ModuleNotFoundError as error:
            missing = "an environment without it"
            raise InputError("the package safetensors", missing, INSTALL) from error
        if not path.is_file():
            fix = "Save the model in that form (`safe_serialization=True`), in one file."
            raise InputError(f"the weights in {path}", "no such file", fix)
        try:
            self._file = safe_open(path, framework="numpy")
        except SafetensorError as error:
            fix = "Copy it again."
            raise InputError(f"a safetensors file at {path}", str(error), fix) from error
        self._known = set(self._file.keys())
        ending = f"{_TOKEN_EMBEDDING}.weight"
        # In a classifier's file, the encoder's names have a prefix ("bert.").
        prefixes = [name.removesuffix(ending) for name in self._known if name.endswith(ending)]
        if not prefixes:
            raise InputError(f"an encoder in {path}", f"no {ending}", "Check config.json.")
        if len(prefixes) > 1:
            fix = "Save the one that is meant alone."
            raise InputError(f"one encoder in {path}", ", ".join(sorted(prefixes))[:200], fix)
        self._prefix = prefixes[0]

    def layer(self, ours: str, theirs: str) -> list[np.ndarray]:
        """The weights of a layer: one array for an embedding, else two."""
        if ours.endswith("embedding"):
            return [self._tensor(theirs, "weight")]
        if ours.endswith("norm"):
            # Some files use the names of the first TensorFlow checkpoints.
            return [self._tensor(theirs, "weight", "gamma"), self._tensor(theirs, "bias", "beta")]
        # torch keeps (out, in).
        return [self._tensor(theirs, "weight").T, self._tensor(theirs, "bias")]

    def _tensor(self, layer: str, *parts: str) -> np.ndarray:
        names = [f"{self._prefix}{layer}.{part}" for part in parts]
        for name in names:
            if name in self._known:
                return np.asarray(self._file.get_tensor(name), np.float32)
        raise InputError(f"{names[0]} among the weights", "none", "Check config.json.")


def _pooling(folder: Path) -> str:
    settings = optional_json(folder / "1_Pooling" / "config.json")
    wanted = [key for key, value in settings.items() if key.startswith("pooling_mode") and value]
    known = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
    if not wanted:
        return "mean"
    if len(wanted) > 1 or wanted[0] not in known:
        raise InputError(
            f"a pooling of {' or '.join(known.values())} in {folder / '1_Pooling'}",
            ", ".join(wanted),
            "Use another encoder.",
        )
    return known[wanted[0]]
