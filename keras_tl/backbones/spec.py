"""What keras_tl knows about a backbone, as data."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Block:
    """One block of a backbone's body.

    Attributes:
        name: The block's name, as users know it from papers and summaries ("conv4_block6").
        last: The name of the layer whose output is the block's output. A block is made of the
            layers that this layer depends on and no earlier block does.
    """

    name: str
    last: str


class Body(Protocol):
    """What freezing policies know of a pretrained model, by the names of its layers."""

    @property
    def name(self) -> str:
        """What the model is called."""

    @property
    def stem(self) -> str:
        """The last layer before the first block."""

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The body, in order."""

    @property
    def output(self) -> str:
        """The last layer of the feature extractor."""

    @property
    def top(self) -> tuple[str, ...]:
        """Pretrained layers behind it that features may be taken at."""


@dataclass(frozen=True)
class BackboneSpec:
    """One row of the backbone registry.

    Attributes:
        name: The name users type ("MobileNetV2").
        family: Models that share a builder and a preprocessing ("ResNet").
        factory: Builds the plain `keras.Model` in the domain it was trained in:
            `factory(image_size=..., weights="imagenet" or None, include_top=...)`.
        image_size: Height and width, in pixels, that the ImageNet weights were trained for.
        min_image_size: The smallest height and width the graph can be built for.
        preprocessing: What the family does to RGB pixels in 0..255 before its first layer:
            "caffe" (BGR minus the ImageNet mean), "tf" (to -1..1), "torch" (to 0..1, then
            normalised by mean and deviation), "none" (its own first layers do it).
        stem: The last layer before the first block.
        blocks: The body, in order.
        output: The last layer of the feature extractor, before pooling.
        top: Names of the pretrained layers between `output` and the 1000-way prediction that
            features may be taken at (VGG16: ("fc1", "fc2")). Only built with `include_top`.
        fixed_size: The graph can only be built for `image_size`.
        license: The licence of the ImageNet weights.
        published: There are ImageNet weights, which the factory gets. Without, "imagenet" is
            refused: the factory is called with None alone.
    """

    name: str
    family: str
    factory: Callable[..., "keras.Model"]
    image_size: int
    min_image_size: int
    preprocessing: str
    stem: str
    blocks: tuple[Block, ...]
    output: str
    top: tuple[str, ...] = ()
    fixed_size: bool = False
    license: str = "Apache-2.0"
    published: bool = True

    def __post_init__(self) -> None:
        known: tuple[Any, ...] = ("caffe", "tf", "torch", "none")
        if self.preprocessing not in known:
            raise ValueError(f"preprocessing must be one of {known}, not {self.preprocessing!r}")
