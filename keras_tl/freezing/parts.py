"""The parts of a model on a registered backbone: stem, blocks, top and head."""

import itertools
from collections.abc import Collection
from dataclasses import dataclass

import keras

from keras_tl.backbones import registry
from keras_tl.backbones.spec import Body
from keras_tl.errors import InputError
from keras_tl.topology import ancestors, graph_layers, is_nested

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

    "top" is what the backbone has behind its last block, including the pretrained dense layers if
    features are taken from one of them; "head" is everything behind the pretrained layers. If
    features are taken within the body, only its complete blocks are blocks; the part of the next
    one is the top if `add_head` made the head, and counts as head otherwise.

    Args:
        model: A functional model. A layer that is made of layers is one; a nested model too.

    Returns:
        The sections in the graph's order; empty ones are left out.

    Raises:
        InputError: No registered backbone is in the model.
    """
    order = [layer.name for layer in model.layers]
    spec = registry.recognise(order, model.name)
    if spec is None:
        fix = "Use freezing.UpTo, Matching or Fraction, or register the backbone."
        if registry.recognise([layer.name for layer in graph_layers(model)], model.name):
            fix = "One is nested: make a flat model, keras_tl.backbones.graph.rebuild(model)."
        received = f"{model.name!r}, whose layers belong to none"
        raise InputError("a model built on a registered backbone", received, fix)
    ends = [("stem", spec.stem), *((b.name, b.last) for b in spec.blocks)]
    ends.append(("top", _last_pretrained(spec, order) or ends[-1][1]))
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
        blocks: How many of the last blocks, with what is behind them; None is all of the backbone,
            the stem included.

    Raises:
        InputError: The backbone has fewer blocks, or see `sections`.
    """
    parts = sections(model)
    first = 0 if blocks is None else first_of_last(parts, blocks)
    return tuple(name for s in parts[first:] if s.name != "head" for name in s.layers)


def first_of_last(parts: tuple[Section, ...], blocks: int) -> int:
    """The place among the sections where the last `blocks` blocks begin."""
    body = [s for s in parts if s.name not in BESIDE_THE_BODY]
    if not 1 <= blocks <= len(body):
        raise InputError(
            f"1 to {len(body)} blocks to train",
            str(blocks),
            f"The blocks are {', '.join(s.name for s in body) or 'behind its features'}.",
        )
    return parts.index(body[-blocks])


def block_count(model: keras.Model) -> int:
    """How many blocks the body of a model's backbone has; see `sections`."""
    return sum(section.name not in BESIDE_THE_BODY for section in sections(model))


def head_of(model: keras.Model) -> Collection[str]:
    """Names of the head's layers; if no backbone is recognised, of layers named as by `add_head`.

    For a nested model these are its own name and its layers' names.
    """
    if registry.recognise([layer.name for layer in model.layers], model.name) is None:
        return _added_head([layer.name for layer in graph_layers(model)])
    last = sections(model)[-1]
    if last.name != "head":
        return ()
    nested = [x for x in model.layers if x.name in last.layers and is_nested(x)]
    return {*last.layers, *(layer.name for each in nested for layer in graph_layers(each))}


def _last_pretrained(spec: Body, order: list[str]) -> str | None:
    """The layer that features are taken at; None where the names do not tell."""
    for name in (*reversed(spec.top), spec.output):
        if name in order:
            return name
    head = _added_head(order)
    return order[-len(head) - 1] if head else None


def _added_head(order: list[str]) -> list[str]:
    """The layers at a model's end that are named as `add_head` names its own."""
    return list(itertools.takewhile(lambda name: name.startswith("head_"), reversed(order)))
