"""Image models: pixels in, predictions out."""

from pathlib import Path

import keras

from keras_tl.backbones.load import load_backbone
from keras_tl.heads import add_head
from keras_tl.strategies import in_scope

DEFAULT_BACKBONE = "EfficientNetLite0"


@in_scope
def build_image_model(
    backbone: str = DEFAULT_BACKBONE,
    *,
    outputs: int,
    task: str = "single-label",
    weights: str | Path | None = "imagenet",
    image_size: int | None = None,
    features: str | None = None,
    pooling: str = "avg",
    hidden: tuple[int, ...] = (),
    dropout: float = 0.2,
    target_mean: float | tuple[float, ...] = 0.0,
    target_scale: float | tuple[float, ...] = 1.0,
) -> keras.Model:
    """Builds a pretrained backbone with a new head as one flat functional model.

    Nothing is frozen yet: apply a policy of `keras_tl.freezing`, or run phases, which do.

    Args:
        backbone: A name in the registry (`keras_tl.backbones.registry.names()`).
        outputs: How many classes, or how many targets of a regression.
        task: "single-label", "multi-label" or "regression".
        weights: "imagenet", a weights file, or None for random weights.
        image_size: Height and width in pixels; by default those of the ImageNet weights.
        features: The layer whose output is the feature; by default the backbone's last.
        pooling: See `keras_tl.heads.add_head`.
        hidden: See `keras_tl.heads.add_head`.
        dropout: See `keras_tl.heads.add_head`.
        target_mean: See `keras_tl.heads.add_head`.
        target_scale: See `keras_tl.heads.add_head`.

    Returns:
        A `keras.Model` from RGB pixels `[batch, image_size, image_size, 3]`, float32 or uint8 in
        0..255, to float32 `[batch, outputs]`: probabilities, or values in the targets' unit.

    Raises:
        InputError: An unknown name, a size the backbone cannot take, unusable weights.
    """
    body = load_backbone(backbone, weights=weights, image_size=image_size, features=features)
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
