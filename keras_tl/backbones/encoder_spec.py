"""Text encoders as freezing policies see them: stem, blocks, pooling."""

from collections.abc import Collection
from dataclasses import dataclass

from keras_tl.backbones.spec import Block


@dataclass(frozen=True)
class EncoderSpec:
    """The parts of a text encoder, by the names of its layers.

    Attributes:
        blocks: The transformer's blocks, in order.
        name: What the encoder is called.
        stem: The last layer of the embeddings.
        output: The layer that makes one vector of a text.
        top: There is none.
    """

    blocks: tuple[Block, ...]
    name: str = "text encoder"
    stem: str = "embeddings_dropout"
    output: str = "pool"
    top: tuple[str, ...] = ()


def recognise(layer_names: Collection[str]) -> EncoderSpec | None:
    """Finds the text encoder that a model stands on.

    Args:
        layer_names: The names of the model's layers, its input "tokens" or "text" not needed.

    Returns:
        Its parts; None where it has no stem, no first block or no pooling of `encoder.encode`.
    """
    present = set(layer_names)
    blocks: list[Block] = []
    while (last := f"block_{len(blocks)}_output_norm") in present:
        blocks.append(Block(f"block_{len(blocks)}", last))
    spec = EncoderSpec(tuple(blocks))
    return spec if blocks and {spec.stem, spec.output} <= present else None
