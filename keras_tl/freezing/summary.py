"""What a policy did to a model, as a value that prints."""

from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import keras

from keras_tl.backbones import registry
from keras_tl.backbones.adapters import adapter_weights
from keras_tl.freezing.parts import sections
from keras_tl.topology import graph_layers, layers_within

if TYPE_CHECKING:
    from keras_tl.freezing.policies import Policy


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
        adapters: Parameters of each low-rank adapter that trains.
    """

    policy: "Policy"
    rows: tuple[FrozenRow, ...]
    adapters: tuple[int, ...] = ()

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
        sized = f"{len(self.adapters)} adapters of {sum(self.adapters):,} parameters in all"
        first = (
            f"{self.policy}{f' ({sized})' if self.adapters else ''}: "
            f"{self.trainable:,} of {total:,} parameters train ({share:.1f} %)"
        )
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


def summarize(model: keras.Model, policy: "Policy") -> FreezingSummary:
    """Describes a model's flags as they are, section by section.

    Args:
        model: A functional model.
        policy: The policy to name in the first line.

    Returns:
        A readable summary; neighbouring sections in the same state share a line, and those
        without weights that of a neighbour.
    """
    named = {layer.name: layer for layer in model.layers}
    parts = {"model": list(graph_layers(model))}
    if registry.recognise(named, model.name) is not None:
        parts = {part.name: [named[name] for name in part.layers] for part in sections(model)}
    rows: list[FrozenRow] = []
    counted: set[int] = set()
    for name, layers in parts.items():
        row = _row(name, layers, counted)
        if rows and _share_a_line(rows[-1], row):
            row = _join(rows.pop(), row)
        rows.append(row)
    factors = [[w for w in adapter_weights(x) if w.trainable] for x in layers_within(model)]
    return FreezingSummary(policy, tuple(rows), tuple(_count(pair) for pair in factors if pair))


def _row(name: str, layers: list[keras.layers.Layer], counted: set[int]) -> FrozenRow:
    """One section; `counted` are the weights of sections before, which share some."""
    weights = {id(w): w for layer in layers for w in layer.weights if id(w) not in counted}
    counted.update(weights)
    within = [inner for layer in layers for inner in layers_within(layer)]
    norms = [x for x in within if isinstance(x, keras.layers.BatchNormalization)]
    return FrozenRow(
        sections=(name,),
        layers=len(layers),
        trainable=_count(w for w in weights.values() if w.trainable),
        frozen=_count(w for w in weights.values() if not w.trainable),
        frozen_batch_norms=sum(not norm.trainable for norm in norms),
    )


def _share_a_line(a: FrozenRow, b: FrozenRow) -> bool:
    """Whether both train or neither does; a row without weights goes with any other."""
    without_weights = not (a.trainable + a.frozen and b.trainable + b.frozen)
    return without_weights or bool(a.trainable) == bool(b.trainable)


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
