"""Rows for the 40 image models of `keras.applications`."""

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from keras_tl.backbones.spec import BackboneSpec, Block

if TYPE_CHECKING:
    import keras

# What `load_backbone` calls the last layer of the preprocessing that it puts in front.
PREPROCESSING = "preprocessing"

# The second scaling of EfficientNets B0 to B7 with ImageNet weights, after their normalization.
SECOND_SCALING = tuple(1.0 / math.sqrt(deviation) for deviation in (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class Application:
    """Builds one model of `keras.applications`.

    Attributes:
        builder: The function's name in `keras.applications`.
    """

    builder: str

    def __call__(
        self, *, image_size: int, weights: str | None = None, include_top: bool = False
    ) -> "keras.Model":
        """Builds the model as Keras does.

        Args:
            image_size: Height and width in pixels.
            weights: "imagenet" (Keras downloads them) or None (random).
            include_top: Whether to build the 1000-way ImageNet classifier too.

        Returns:
            A model of float32 `[batch, image_size, image_size, 3]`, preprocessed as its family
            expects.
        """
        import keras

        build = getattr(keras.applications, self.builder)
        shape = (image_size, image_size, 3)
        with warnings.catch_warnings():
            # Silenced: the weights come from 224 px, but do not depend on the image size.
            warnings.filterwarnings("ignore", message="`input_shape` is undefined")
            return build(weights=weights, include_top=include_top, input_shape=shape)


@dataclass(frozen=True)
class EfficientNetApplication(Application):
    """Builds an EfficientNet B0 to B7 that computes the same whatever its weights come from.

    Keras scales by the deviations a second time, as the published weights need it, but only
    where `weights` is "imagenet" (tensorflow#49930, #62193). Here the scaling is always there; for
    random weights and a file without it, `keras_tl.backbones.second_scaling` makes it 1.
    """

    def __call__(
        self, *, image_size: int, weights: str | None = None, include_top: bool = False
    ) -> "keras.Model":
        """Builds the model; arguments and result as for `Application`."""
        import keras

        model = super().__call__(image_size=image_size, weights=weights, include_top=include_top)
        if weights == "imagenet":
            return model
        normalization = next(
            layer for layer in model.layers if isinstance(layer, keras.layers.Normalization)
        )
        rescaled = keras.layers.Rescaling(list(SECOND_SCALING))(normalization.output)
        rest = keras.Model(normalization.output, model.output)
        return keras.Model(model.input, rest(rescaled), name=model.name)


@dataclass(frozen=True)
class NASNetApplication(Application):
    """Builds a NASNet for any image size.

    Keras refuses ImageNet weights for another size than theirs, though they fit any.

    Attributes:
        weights_size: The image size that Keras accepts for the ImageNet weights.
    """

    weights_size: int

    def __call__(
        self, *, image_size: int, weights: str | None = None, include_top: bool = False
    ) -> "keras.Model":
        """Builds the model; arguments and result as for `Application`."""
        if weights is None or image_size == self.weights_size:
            return super().__call__(image_size=image_size, weights=weights, include_top=include_top)
        model = super().__call__(image_size=image_size, include_top=include_top)
        trained = super().__call__(
            image_size=self.weights_size, weights=weights, include_top=include_top
        )
        model.set_weights(trained.get_weights())
        return model


def _listed(*names: str, last: str = "{}") -> tuple[Block, ...]:
    """Blocks of these names; `last` turns a block's name into that of its last layer."""
    return tuple(Block(name, last.format(name)) for name in names)


def _staged(name: str, last: str, repeats: Mapping[int, int], first: int = 1) -> tuple[Block, ...]:
    """Stages of equal blocks; patterns take the stage, and the block counted from `first`."""
    return tuple(
        Block(name.format(stage, block), last.format(stage, block))
        for stage, count in repeats.items()
        for block in range(first, first + count)
    )


def _residual(
    name: str, plain: str, added: str, count: int, unadded: set[int]
) -> tuple[Block, ...]:
    """Inverted residuals 1..count, of which those in `unadded` have no shortcut to add."""
    names = [(name.format(k), plain if k in unadded else added) for k in range(1, count + 1)]
    return tuple(Block(block, f"{block}_{last}") for block, last in names)


def _lettered(repeats: tuple[int, ...], first_stage: tuple[str, str]) -> tuple[Block, ...]:
    """EfficientNet's "block3b"; `first_stage` has the ends of its first and its other blocks."""
    blocks = []
    for stage, count in enumerate(repeats, start=1):
        head, rest = first_stage if stage == 1 else ("project_bn", "add")
        for index in range(count):
            name = f"block{stage}{chr(ord('a') + index)}"
            blocks.append(Block(name, f"{name}_{rest if index else head}"))
    return tuple(blocks)


def _vgg(name: str) -> BackboneSpec:
    return BackboneSpec(
        name=name,
        family="VGG",
        factory=Application(name),
        image_size=224,
        min_image_size=32,
        preprocessing="caffe",
        # The first block takes the pixels as they were preprocessed.
        stem=PREPROCESSING,
        blocks=_listed("block1", "block2", "block3", "block4", "block5", last="{}_pool"),
        output="block5_pool",
        top=("fc1", "fc2"),
        license="CC-BY-4.0",
    )


def _resnet(name: str, repeats: tuple[int, int, int, int]) -> BackboneSpec:
    second = name.endswith("V2")
    stages = dict(zip((2, 3, 4, 5), repeats, strict=True))
    blocks = _staged("conv{}_block{}", "conv{}_block{}_out", stages)
    return BackboneSpec(
        name=name,
        family="ResNetV2" if second else "ResNet",
        factory=Application(name),
        image_size=224,
        min_image_size=32,
        preprocessing="tf" if second else "caffe",
        stem="pool1_pool",
        blocks=blocks,
        output="post_relu" if second else blocks[-1].last,
        license="Apache-2.0" if second else "MIT",
    )


def _densenet(name: str, repeats: tuple[int, int, int, int]) -> BackboneSpec:
    stages = dict(zip((2, 3, 4, 5), repeats, strict=True))
    return BackboneSpec(
        name=name,
        family="DenseNet",
        factory=Application(name),
        image_size=224,
        min_image_size=32,
        preprocessing="torch",
        stem="pool1",
        blocks=_staged("conv{}_block{}", "conv{}_block{}_concat", stages),
        output="relu",
        license="BSD-3-Clause",
    )


def _efficientnet(name: str, image_size: int, repeats: tuple[int, ...]) -> BackboneSpec:
    return BackboneSpec(
        name=name,
        family="EfficientNet",
        factory=EfficientNetApplication(name),
        image_size=image_size,
        min_image_size=32,
        preprocessing="none",
        stem="stem_activation",
        blocks=_lettered(repeats, first_stage=("project_bn", "add")),
        output="top_activation",
    )


def _efficientnet_v2(name: str, image_size: int, repeats: tuple[int, ...]) -> BackboneSpec:
    lite = "B" in name.removeprefix("EfficientNetV2")
    return BackboneSpec(
        name=name,
        family="EfficientNetV2",
        factory=Application(name),
        image_size=image_size,
        min_image_size=32,
        preprocessing="none",
        stem="stem_activation",
        # B0 to B3 narrow the stem's channels in their first block; S, M and L add to them.
        blocks=_lettered(repeats, ("project_activation", "add") if lite else ("add", "add")),
        output="top_activation",
    )


def _convnext(size: str, repeats: tuple[int, int, int, int]) -> BackboneSpec:
    names = [
        f"stage_{stage}_block_{block}" for stage in range(4) for block in range(repeats[stage])
    ]
    return BackboneSpec(
        name=f"ConvNeXt{size}",
        family="ConvNeXt",
        factory=Application(f"ConvNeXt{size}"),
        image_size=224,
        min_image_size=32,
        preprocessing="none",
        stem=f"convnext_{size.lower()}_stem_layernorm",
        blocks=tuple(Block(name, f"add_{k}") for k, name in enumerate(names, start=1)),
        output="layer_normalization_1",
        license="MIT",
    )


def _mobilenet_v3(name: str, blocks: tuple[Block, ...], activations: int) -> BackboneSpec:
    return BackboneSpec(
        name=name,
        family="MobileNetV3",
        factory=Application(name),
        image_size=224,
        min_image_size=32,
        preprocessing="none",
        stem="activation_1",
        blocks=blocks,
        output=f"activation_{activations}",
    )


def _nasnet(name: str, image_size: int, cells: int, activations: int) -> BackboneSpec:
    def stage(first: int) -> tuple[Block, ...]:
        return tuple(Block(f"cell_{k}", f"normal_concat_{k}") for k in range(first, first + cells))

    def reduction(cell: int) -> tuple[Block, ...]:
        return _listed(f"reduce_{cell}", last="reduction_concat_{}")

    return BackboneSpec(
        name=name,
        family="NASNet",
        factory=NASNetApplication(name, weights_size=image_size),
        image_size=image_size,
        min_image_size=32,
        preprocessing="tf",
        stem="reduction_concat_stem_2",
        blocks=stage(0)
        + reduction(cells)
        + stage(cells + 1)
        + reduction(2 * cells)
        + stage(2 * cells + 1),
        output=f"activation_{activations}",
    )


def _row(name: str, image_size: int, min_image_size: int, **others: Any) -> BackboneSpec:
    """A model that is a family of its own and takes pixels in -1..1."""
    return BackboneSpec(
        name=name,
        family=name,
        factory=Application(name),
        image_size=image_size,
        min_image_size=min_image_size,
        preprocessing="tf",
        **others,
    )


_MOBILENET = _row(
    "MobileNet",
    image_size=224,
    min_image_size=32,
    stem="conv1_relu",
    blocks=_listed(*(f"conv_pw_{k}" for k in range(1, 14)), last="{}_relu"),
    output="conv_pw_13_relu",
)

_MOBILENET_V2 = _row(
    "MobileNetV2",
    image_size=224,
    min_image_size=32,
    stem="Conv1_relu",
    blocks=_listed("expanded_conv", last="{}_project_BN")
    + _residual("block_{}", "project_BN", "add", count=16, unadded={1, 3, 6, 10, 13, 16}),
    output="out_relu",
)

_INCEPTION_V3 = _row(
    "InceptionV3",
    image_size=299,
    min_image_size=75,
    stem="max_pooling2d_2",
    blocks=_listed(*(f"mixed{k}" for k in range(11))),
    output="mixed10",
)

_INCEPTION_RESNET_V2 = _row(
    "InceptionResNetV2",
    image_size=299,
    min_image_size=75,
    stem="max_pooling2d_2",
    blocks=_listed("mixed_5b")
    + _listed(*(f"block35_{k}" for k in range(1, 11)), last="{}_ac")
    + _listed("mixed_6a")
    + _listed(*(f"block17_{k}" for k in range(1, 21)), last="{}_ac")
    + _listed("mixed_7a")
    + _listed(*(f"block8_{k}" for k in range(1, 10)), last="{}_ac")
    # The last block has no activation: it ends in the 40th scaled sum.
    + (Block("block8_10", "custom_scale_layer_40"),),
    output="conv_7b_ac",
)

_XCEPTION = _row(
    "Xception",
    image_size=299,
    min_image_size=71,
    stem="block1_conv2_act",
    blocks=tuple(Block(f"block{k}", f"add_{k - 1}") for k in range(2, 14))
    + _listed("block14", last="{}_sepconv2_act"),
    output="block14_sepconv2_act",
    license="MIT",
)

_V3_FIRST = _listed("expanded_conv", last="{}_project_bn")
_V3_FIRST_ADDED = _listed("expanded_conv", last="{}_add")

ROWS: tuple[BackboneSpec, ...] = (
    _convnext("Tiny", (3, 3, 9, 3)),
    _convnext("Small", (3, 3, 27, 3)),
    _convnext("Base", (3, 3, 27, 3)),
    _convnext("Large", (3, 3, 27, 3)),
    _convnext("XLarge", (3, 3, 27, 3)),
    _densenet("DenseNet121", (6, 12, 24, 16)),
    _densenet("DenseNet169", (6, 12, 32, 32)),
    _densenet("DenseNet201", (6, 12, 48, 32)),
    _efficientnet("EfficientNetB0", 224, (1, 2, 2, 3, 3, 4, 1)),
    _efficientnet("EfficientNetB1", 240, (2, 3, 3, 4, 4, 5, 2)),
    _efficientnet("EfficientNetB2", 260, (2, 3, 3, 4, 4, 5, 2)),
    _efficientnet("EfficientNetB3", 300, (2, 3, 3, 5, 5, 6, 2)),
    _efficientnet("EfficientNetB4", 380, (2, 4, 4, 6, 6, 8, 2)),
    _efficientnet("EfficientNetB5", 456, (3, 5, 5, 7, 7, 9, 3)),
    _efficientnet("EfficientNetB6", 528, (3, 6, 6, 8, 8, 11, 3)),
    _efficientnet("EfficientNetB7", 600, (4, 7, 7, 10, 10, 13, 4)),
    _efficientnet_v2("EfficientNetV2B0", 224, (1, 2, 2, 3, 5, 8)),
    _efficientnet_v2("EfficientNetV2B1", 240, (2, 3, 3, 4, 6, 9)),
    _efficientnet_v2("EfficientNetV2B2", 260, (2, 3, 3, 4, 6, 10)),
    _efficientnet_v2("EfficientNetV2B3", 300, (2, 3, 3, 5, 7, 12)),
    _efficientnet_v2("EfficientNetV2S", 384, (2, 4, 4, 6, 9, 15)),
    _efficientnet_v2("EfficientNetV2M", 480, (3, 5, 5, 7, 14, 18, 5)),
    _efficientnet_v2("EfficientNetV2L", 480, (4, 7, 7, 10, 19, 25, 7)),
    _INCEPTION_RESNET_V2,
    _INCEPTION_V3,
    _MOBILENET,
    _MOBILENET_V2,
    _mobilenet_v3(
        "MobileNetV3Small",
        _V3_FIRST
        + _residual("expanded_conv_{}", "project_bn", "add", count=10, unadded={1, 3, 6, 8}),
        activations=18,
    ),
    _mobilenet_v3(
        "MobileNetV3Large",
        _V3_FIRST_ADDED
        + _residual("expanded_conv_{}", "project_bn", "add", count=14, unadded={1, 3, 6, 10, 12}),
        activations=20,
    ),
    _nasnet("NASNetMobile", 224, cells=4, activations=188),
    _nasnet("NASNetLarge", 331, cells=6, activations=260),
    _resnet("ResNet50", (3, 4, 6, 3)),
    _resnet("ResNet101", (3, 4, 23, 3)),
    _resnet("ResNet152", (3, 8, 36, 3)),
    _resnet("ResNet50V2", (3, 4, 6, 3)),
    _resnet("ResNet101V2", (3, 4, 23, 3)),
    _resnet("ResNet152V2", (3, 8, 36, 3)),
    _vgg("VGG16"),
    _vgg("VGG19"),
    _XCEPTION,
)
