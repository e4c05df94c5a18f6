"""The parts of a model on a registered backbone: stem, blocks, top and head."""

from collections.abc import Collection
from dataclasses import dataclass

import keras

from keras_tl.backbones import registry
from keras_tl.errors import InputError
from keras_tl.topology import ancestors, leaf_layers

# Names of the sections that are no blocks.
BESIDE_THE_BODY = ("stem", "top", "head")


@dataclass(frozen=True)
class Section:
    """A named run of a model's layers: "stem", one block, "top" or "head".

    Attributes:
        name: The section's name.
        layers: Names of its layers, in the graph's order.
    """

    name: str
    layers: tuple[str, ...]


def sections(model: keras.Model) -> tuple[Section, ...]:
    """Divides a model built on a registered backbone into stem, blocks, top and head.

    "top" is what the backbone has behind its last block, and the pretrained dense layers where
    features are taken from one of them; "head" is everything behind the pretrained layers.

    Args:
        model: A functional model whose layers are leaves.

    Returns:
        The sections in the graph's order; empty ones are left out.

    Raises:
        InputError: No registered backbone is in the model.
    """
    order = [layer.name for layer in leaf_layers(model)]
    spec = registry.recognise(order)
    if spec is None:
        raise InputError(
            "a model built on a registered backbone",
            f"{model.name!r}, whose layers belong to none",
            "Use freezing.UpTo, Matching or Fraction, or register the backbone.",
        )
    top = next((name for name in reversed(spec.top) if name in order), spec.output)
    ends = [("stem", spec.stem), *((b.name, b.last) for b in spec.blocks), ("top", top)]
    found: list[Section] = []
    taken: set[str] = set()
    for name, last in ends:
        members = ancestors(model, last)
        found.append(Section(name, tuple(n for n in order if n in members - taken)))
        taken |= members
    found.append(Section("head", tuple(n for n in order if n not in taken)))
    return tuple(section for section in found if section.layers)


def layers_from(model: keras.Model, blocks: int | None) -> tuple[str, ...]:
    """Names of the backbone's layers from one of its last blocks on, the head's left out.

    Args:
        model: See `sections`.
        blocks: How many of the last blocks, what is behind them included; None is all of the
            backbone, the stem included.

    Raises:
        InputError: The backbone has not so many blocks, or see `sections`.
    """
    parts = sections(model)
    first = 0 if blocks is None else first_of_last(parts, blocks)
    return tuple(name for s in parts[first:] if s.name != "head" for name in s.layers)


def first_of_last(parts: tuple[Section, ...], blocks: int) -> int:
    """Where among the sections the last so many blocks begin."""
    body = [s for s in parts if s.name not in BESIDE_THE_BODY]
    if not 1 <= blocks <= len(body):
        raise InputError(
            f"1 to {len(body)} blocks to train",
            str(blocks),
            f"The blocks are {', '.join(s.name for s in body)}.",
        )
    return parts.index(body[-blocks])


def block_count(model: keras.Model) -> int:
    """How many blocks the body of a model's backbone has; see `sections`."""
    return sum(section.name not in BESIDE_THE_BODY for section in sections(model))


def head_of(model: keras.Model) -> Collection[str]:
    """Names of the head's layers; none where no backbone is recognised."""
    order = [layer.name for layer in leaf_layers(model)]
    if registry.recognise(order) is None:
        return ()
    last = sections(model)[-1]
    return last.layers if last.name == "head" else ()
