"""Freezing policies: which part of a model trains, as a value.

A policy is a small frozen dataclass. `apply` sets the `trainable` flag of every leaf layer and
returns a summary of what it did. Frozen means inference as a whole: BatchNormalization uses its
moving statistics and leaves them alone, dropout and stochastic depth pass their input through.
The head, which is everything behind the pretrained layers, trains, unless a policy that names
layers names layers of it.

    freezing.All().apply(model)                       # feature extraction
    print(freezing.AllButLast(2).apply(model))        # fine-tune the last two blocks
"""

import fnmatch
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from html import escape
from typing import ClassVar

import keras

from keras_tl.backbones import registry
from keras_tl.errors import InputError, did_you_mean
from keras_tl.topology import ancestors, leaf_layers

BATCH_NORM_MODES = ("frozen", "trained")


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


@dataclass(frozen=True)
class FrozenRow:
    """One line of a summary: neighbouring sections in the same state.

    Attributes:
        sections: The sections' names.
        layers: How many layers they have.
        trainable: Parameters that train.
        frozen: Parameters that do not, moving statistics included.
        frozen_batch_norms: BatchNormalization layers held in inference mode.
    """

    sections: tuple[str, ...]
    layers: int
    trainable: int
    frozen: int
    frozen_batch_norms: int

    def __str__(self) -> str:
        first, last = self.sections[0], self.sections[-1]
        span = first if first == last else f"{first} to {last}"
        state = "trains" if self.trainable else "frozen"
        text = f"{state}  {span}: {self.layers} layers, {self.trainable + self.frozen:,} parameters"
        if self.trainable and self.frozen:
            text += f", {self.frozen:,} of them frozen"
        if self.trainable and self.frozen_batch_norms:
            plural = "layer stays" if self.frozen_batch_norms == 1 else "layers stay"
            text += f" ({self.frozen_batch_norms} BatchNormalization {plural} frozen)"
        return text


@dataclass(frozen=True)
class FreezingSummary:
    """What a policy did to a model.

    Attributes:
        policy: The policy.
        rows: The model from its input to its output.
    """

    policy: "Policy"
    rows: tuple[FrozenRow, ...]

    @property
    def trainable(self) -> int:
        """Parameters that train."""
        return sum(row.trainable for row in self.rows)

    @property
    def frozen(self) -> int:
        """Parameters that do not train, moving statistics included."""
        return sum(row.frozen for row in self.rows)

    def __str__(self) -> str:
        total = self.trainable + self.frozen
        share = 100 * self.trainable / max(total, 1)
        first = f"{self.policy}: {self.trainable:,} of {total:,} parameters train ({share:.1f} %)"
        return "\n".join([first, *(f"  {row}" for row in self.rows)])

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        title, *_ = str(self).splitlines()
        head = "<tr><th>from<th>to<th>layers<th>parameters that train<th>frozen</tr>"
        rows = (
            f"<tr{'' if row.trainable else ' style=opacity:.6'}><td>{escape(row.sections[0])}"
            f"<td>{escape(row.sections[-1])}<td>{row.layers}<td>{row.trainable:,}"
            f"<td>{row.frozen:,}</tr>"
            for row in self.rows
        )
        return f"<div><b>{escape(title)}</b><table>{head}{''.join(rows)}</table></div>"


@dataclass(frozen=True, kw_only=True)
class Policy(ABC):
    """A rule for what is frozen.

    Attributes:
        batch_norm: What BatchNormalization does in the part that trains. "frozen" (default)
            keeps the pretrained statistics, which small batches would ruin; "trained" lets
            scale, shift and moving statistics go.
    """

    batch_norm: str = "frozen"
    title: ClassVar[str] = ""

    def __post_init__(self) -> None:
        if self.batch_norm not in BATCH_NORM_MODES:
            raise InputError(
                f"batch_norm of {' or '.join(BATCH_NORM_MODES)}",
                repr(self.batch_norm),
                did_you_mean(self.batch_norm, BATCH_NORM_MODES, "Leave it out for the default."),
            )

    @abstractmethod
    def frozen_layers(self, model: keras.Model) -> Collection[str]:
        """Names of the layers that this policy freezes in `model`."""

    def apply(self, model: keras.Model) -> FreezingSummary:
        """Sets every leaf layer's `trainable` flag; compile the model after it.

        Args:
            model: A functional model from a builder of keras_tl, or any functional model where
                the policy names layers.

        Returns:
            What trains now and what does not.

        Raises:
            InputError: The policy names something that the model does not have.
        """
        frozen = set(self.frozen_layers(model))
        if self.batch_norm == "frozen":
            frozen |= _batch_norms(model) - set(_head(model))
        for layer in leaf_layers(model):
            layer.trainable = layer.name not in frozen
        return summarize(model, self)

    def __str__(self) -> str:
        return self.title


def _head(model: keras.Model) -> Collection[str]:
    """Names of the head's layers; none where no backbone is recognised."""
    order = [layer.name for layer in leaf_layers(model)]
    if registry.recognise(order) is None:
        return ()
    last = sections(model)[-1]
    return last.layers if last.name == "head" else ()


def _batch_norms(model: keras.Model) -> set[str]:
    kind = keras.layers.BatchNormalization
    return {layer.name for layer in leaf_layers(model) if isinstance(layer, kind)}


@dataclass(frozen=True)
class All(Policy):
    """Freezes the whole backbone; only the head trains (feature extraction)."""

    title: ClassVar[str] = "Everything but the head is frozen"

    def frozen_layers(self, model: keras.Model) -> Collection[str]:
        """See `Policy.frozen_layers`."""
        return [name for s in sections(model) if s.name != "head" for name in s.layers]


@dataclass(frozen=True)
class Nothing(Policy):
    """Freezes nothing. From random weights, use `batch_norm="trained"` with it."""

    title: ClassVar[str] = "Nothing is frozen"

    def frozen_layers(self, model: keras.Model) -> Collection[str]:
        """See `Policy.frozen_layers`."""
        return ()


@dataclass(frozen=True)
class AllButLast(Policy):
    """Freezes all but the last blocks of the backbone's body, what is behind them, and the head.

    Attributes:
        blocks: How many blocks train, from 1 to the number of blocks the backbone has.
    """

    blocks: int

    def frozen_layers(self, model: keras.Model) -> Collection[str]:
        """See `Policy.frozen_layers`."""
        parts = sections(model)
        body = [s for s in parts if s.name not in ("stem", "top", "head")]
        if not 1 <= self.blocks <= len(body):
            raise InputError(
                f"1 to {len(body)} blocks to train",
                str(self.blocks),
                f"The blocks are {', '.join(s.name for s in body)}.",
            )
        first = parts.index(body[-self.blocks])
        return [name for section in parts[:first] for name in section.layers]

    def __str__(self) -> str:
        count = "last block" if self.blocks == 1 else f"last {self.blocks} blocks"
        return f"All but the {count} is frozen"


@dataclass(frozen=True)
class UpTo(Policy):
    """Freezes everything that a named block's or layer's output depends on, itself included.

    Attributes:
        name: A block of the backbone ("conv4_block6") or a layer ("block5_pool").
    """

    name: str

    def frozen_layers(self, model: keras.Model) -> Collection[str]:
        """See `Policy.frozen_layers`."""
        names = [layer.name for layer in leaf_layers(model)]
        spec = registry.recognise(names)
        blocks = {block.name: block.last for block in spec.blocks} if spec else {}
        last = blocks.get(self.name, self.name)
        if last not in names:
            hint = did_you_mean(self.name, [*blocks, *names], f"Blocks: {', '.join(blocks)}.")
            raise InputError("a block or layer of the model", repr(self.name), hint)
        return ancestors(model, last)

    def __str__(self) -> str:
        return f"Everything up to {self.name} is frozen"


@dataclass(frozen=True)
class Matching(Policy):
    """Freezes the layers whose names match a shell-style pattern.

    Attributes:
        pattern: Such as "block[123]*"; case-sensitive.
    """

    pattern: str

    def frozen_layers(self, model: keras.Model) -> Collection[str]:
        """See `Policy.frozen_layers`."""
        names = [layer.name for layer in leaf_layers(model)]
        matched = fnmatch.filter(names, self.pattern)
        if not matched:
            raise InputError(
                "a pattern that matches at least one layer",
                repr(self.pattern),
                f"Layers are named like {', '.join(names[1:4])}.",
            )
        return matched

    def __str__(self) -> str:
        return f"Layers named {self.pattern} are frozen"


@dataclass(frozen=True)
class Fraction(Policy):
    """Freezes the first part of the layers that have weights, counted along the graph.

    Attributes:
        fraction: The share to freeze, in [0, 1]; the head is never frozen.
    """

    fraction: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.fraction <= 1:
            raise InputError("a fraction from 0 to 1", str(self.fraction), "Give a share.")

    def frozen_layers(self, model: keras.Model) -> Collection[str]:
        """See `Policy.frozen_layers`."""
        head = _head(model)
        body = [layer for layer in leaf_layers(model) if layer.name not in head]
        weighted = [layer.name for layer in body if layer.weights]
        count = round(self.fraction * len(weighted))
        if count == 0:
            return ()
        if count == len(weighted):
            return [layer.name for layer in body]
        names = [layer.name for layer in body]
        return names[: names.index(weighted[count])]

    def __str__(self) -> str:
        return f"The first {100 * self.fraction:g} % of the backbone is frozen"


def summarize(model: keras.Model, policy: Policy) -> FreezingSummary:
    """Describes a model's flags as they are, section by section.

    Args:
        model: A functional model.
        policy: The policy to name in the first line.

    Returns:
        A readable summary; neighbouring sections in the same state share a line.
    """
    layers = {layer.name: layer for layer in leaf_layers(model)}
    known = registry.recognise(layers) is not None
    parts = sections(model) if known else (Section("model", tuple(layers)),)
    rows: list[FrozenRow] = []
    for part in parts:
        row = _row(part, [layers[name] for name in part.layers])
        if rows and bool(rows[-1].trainable) == bool(row.trainable):
            row = _join(rows.pop(), row)
        rows.append(row)
    return FreezingSummary(policy, tuple(rows))


def _row(part: Section, layers: list[keras.layers.Layer]) -> FrozenRow:
    norms = [x for x in layers if isinstance(x, keras.layers.BatchNormalization)]
    return FrozenRow(
        sections=(part.name,),
        layers=len(layers),
        trainable=_count(w for layer in layers for w in layer.trainable_weights),
        frozen=_count(w for layer in layers for w in layer.non_trainable_weights),
        frozen_batch_norms=sum(not norm.trainable for norm in norms),
    )


def _count(weights: Iterable[keras.Variable]) -> int:
    return sum(int(keras.ops.size(weight)) for weight in weights)


def _join(a: FrozenRow, b: FrozenRow) -> FrozenRow:
    return FrozenRow(
        a.sections + b.sections,
        a.layers + b.layers,
        a.trainable + b.trainable,
        a.frozen + b.frozen,
        a.frozen_batch_norms + b.frozen_batch_norms,
    )
