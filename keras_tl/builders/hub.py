"""Models on TF-Hub modules: pixels or strings in, predictions out."""

from pathlib import Path

import keras

from keras_tl.backbones.hub import POOLED, load_hub_backbone, load_hub_encoder
from keras_tl.heads import add_head
from keras_tl.strategies import in_scope


@in_scope
def build_hub_model(
    handle: str | Path,
    *,
    outputs: int,
    task: str = "single-label",
    image_size: int | None = None,
    value_range: tuple[float, float] = (0.0, 1.0),
    preprocessor: str | Path | None = None,
    max_tokens: int = 128,
    texts: int = 1,
    output: str = "",
    pooling: str = "avg",
    hidden: tuple[int, ...] = (),
    dropout: float = 0.2,
    target_mean: float | tuple[float, ...] = 0.0,
    target_scale: float | tuple[float, ...] = 1.0,
) -> keras.Model:
    """Builds a TF-Hub module with a new head as one flat functional model.

    The module is frozen: apply a policy of `keras_tl.freezing` (it is one block), or run phases,
    which do.

    Args:
        handle: A folder with a SavedModel, a `.tar.gz` of one, or a URL on tfhub.dev or kaggle.com;
            `TFHUB_CACHE_DIR` is looked into first. A module of images, of strings, or an encoder.
        outputs: How many classes, or how many targets of a regression.
        task: "single-label", "multi-label" or "regression".
        image_size: Images: height and width in pixels; None is what the module says, or 224.
        value_range: Images: what the module takes for black and white; TF-Hub's convention is 0
            and 1.
        preprocessor: The handle of an encoder's preprocessor; the handle is an encoder's then.
        max_tokens: Encoders: tokens of a text.
        texts: Encoders: 1, or 2 for pairs.
        output: Which of several named outputs the head stands on; an encoder's is "pooled_output"
            where there is one.
        pooling: See `keras_tl.heads.add_head`.
        hidden: See `keras_tl.heads.add_head`.
        dropout: See `keras_tl.heads.add_head`.
        target_mean: See `keras_tl.heads.add_head`.
        target_scale: See `keras_tl.heads.add_head`.

    Returns:
        A `keras.Model` from RGB pixels `[batch, size, size, 3]`, float32 or uint8 in 0..255, or
        from strings `[batch]` (pairs: `[batch, 2]`), to float32 `[batch, outputs]`.

    Raises:
        InputError: See `keras_tl.backbones.hub.load_hub_backbone` and `load_hub_encoder`.
    """
    if preprocessor is None:
        body = load_hub_backbone(
            handle, image_size=image_size, value_range=value_range, output=output
        )
    else:
        output = output or POOLED
        body = load_hub_encoder(
            handle, preprocessor, max_tokens=max_tokens, texts=texts, output=output
        )
    return add_head(
        body,
        outputs,
        task=task,
        pooling=pooling,
        hidden=hidden,
        dropout=dropout,
        target_mean=target_mean,
        target_scale=target_scale,
    )
