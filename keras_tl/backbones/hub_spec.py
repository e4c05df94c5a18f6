"""A model on a TF-Hub module as freezing policies see it: what comes before it, and one block."""

from collections.abc import Collection
from dataclasses import dataclass

from keras_tl.backbones.spec import Block

MODULE = "hub_module"
# What comes before the module: of images their scaling, of tokens their unpacking, else the input.
PREPROCESSING = "preprocessing"
ENCODER_INPUTS = "encoder_inputs"
TEXT = "text"


@dataclass(frozen=True)
class HubSpec:
    """The parts of a model on a TF-Hub module, by the names of its layers.

    Attributes:
        stem: The last layer before the module.
        name: What the backbone is called.
        blocks: The module: what is in it is trained or frozen as a whole.
        output: The module.
        top: There is none.
    """

    stem: str
    name: str = "TF-Hub module"
    blocks: tuple[Block, ...] = (Block(MODULE, MODULE),)
    output: str = MODULE
    top: tuple[str, ...] = ()


def recognise(layer_names: Collection[str]) -> HubSpec | None:
    """Finds the TF-Hub module that a model stands on.

    Args:
        layer_names: The names of the model's layers.

    Returns:
        Its parts; None where it has no module.
    """
    if MODULE not in layer_names:
        return None
    stems = (PREPROCESSING, ENCODER_INPUTS)
    return HubSpec(next((name for name in stems if name in layer_names), TEXT))
