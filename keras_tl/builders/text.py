"""Text models: strings in, predictions out."""

from pathlib import Path

import keras

from keras_tl.backbones.encoders import MINILM, load_encoder
from keras_tl.heads import add_head
from keras_tl.strategies import in_scope

DEFAULT_ENCODER = MINILM


@in_scope
def build_text_classifier(
    encoder: str | Path = DEFAULT_ENCODER,
    *,
    outputs: int,
    task: str = "single-label",
    weights: str | None = "pretrained",
    max_tokens: int = 128,
    windows: int = 1,
    texts: int = 1,
    truncate: str = "head",
    markup: str = "keep",
    bag_of_words: int = 0,
    pooling: str | None = None,
    hidden: tuple[int, ...] = (),
    dropout: float = 0.2,
    target_mean: float | tuple[float, ...] = 0.0,
    target_scale: float | tuple[float, ...] = 1.0,
) -> keras.Model:
    """Builds a pretrained text encoder with a new head as one flat functional model.

    The tokenizer is the first layer, so that an exported model takes strings. Nothing is frozen
    yet: apply a policy of `keras_tl.freezing`, or run phases, which do.

    Args:
        encoder: See `keras_tl.backbones.encoders.load_encoder`: "MiniLM", a Hugging Face folder,
            "keras_hub:PRESET".
        outputs: How many classes, or how many targets of a regression.
        task: "single-label", "multi-label" or "regression".
        weights: "pretrained", or None for random weights.
        max_tokens: Tokens in a window, special ones included.
        windows: How many windows a long text is cut into, at most; their tokens are averaged.
        texts: 1, or 2 for pairs, such as title and body.
        truncate: What is kept of a text that is too long: "head", its beginning, or "head-tail",
            as much of its beginning as of its end.
        markup: "keep", or "drop" to read no HTML tags; see `keras_tl.backbones.markup`.
        bag_of_words: Number of buckets that count the words of whole texts, beside the encoder's
            features; 0 has none. See `keras_tl.backbones.bag_of_words`.
        pooling: "mean", "cls", "layers", or None for what the encoder was published with; see
            `keras_tl.backbones.encoders.load_encoder`.
        hidden: See `keras_tl.heads.add_head`.
        dropout: See `keras_tl.heads.add_head`.
        target_mean: See `keras_tl.heads.add_head`.
        target_scale: See `keras_tl.heads.add_head`.

    Returns:
        A `keras.Model` of the input "text", strings in UTF-8 `[batch]` or `[batch, 2]`, to float32
        `[batch, outputs]`: probabilities, or values in the targets' unit.

    Raises:
        InputError: An unknown encoder or task, windows the encoder cannot take, unusable weights,
            or a package that is not installed.
    """
    body = load_encoder(
        encoder,
        weights=weights,
        max_tokens=max_tokens,
        windows=windows,
        texts=texts,
        truncate=truncate,
        markup=markup,
        bag_of_words=bag_of_words,
        pooling=pooling,
    )
    return add_head(
        body,
        outputs,
        task=task,
        hidden=hidden,
        dropout=dropout,
        target_mean=target_mean,
        target_scale=target_scale,
    )
