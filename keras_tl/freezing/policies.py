"""Policies that freeze whole layers, and what every policy has in common."""

import fnmatch
from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar

import keras

from keras_tl.backbones import registry
from keras_tl.backbones.adapters import adapter_weights
from keras_tl.errors import InputError, did_you_mean
from keras_tl.freezing.parts import first_of_last, head_of, sections
from keras_tl.freezing.summary import FreezingSummary, summarize
from keras_tl.topology import ancestors, graph_layers, is_nested, layers_within

BATCH_NORM_MODES = ("frozen", "trained")


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
        """Names of the layers that this policy freezes in `model`; a nested model's freezes all."""

    def apply(self, model: keras.Model) -> FreezingSummary:
        """Sets every layer's `trainable` flag; compile the model after it.

        Layers within a layer are frozen with it. Models stay trainable: their layers' flags count.

        Args:
            model: A functional model from a builder of keras_tl, or any functional model where
                the policy names layers.

        Returns:
            What trains now and what does not.

        Raises:
            InputError: The policy names something that the model does not have.
        """
        _set_flags(model, set(self.frozen_layers(model)))
        if self.batch_norm == "frozen":
            _hold_statistics(model)
        for layer in layers_within(model):
            # A module of TF-Hub, which may have batch normalization within.
            if hasattr(layer, "statistics_frozen"):
                layer.statistics_frozen = self.batch_norm == "frozen"
        self.choose_weights(model)
        return summarize(model, self)

    def choose_weights(self, model: keras.Model) -> None:
        """Sets flags of single weights, after those of layers: adapters train only in `LoRA`.

        When a layer's flag is set, Keras sets those of all its weights.
        """
        for layer in graph_layers(model):
            for weight in adapter_weights(layer):
                weight.trainable = False

    def __str__(self) -> str:
        return self.title


def _set_flags(model: keras.Model, frozen: set[str]) -> None:
    """Freezes the layers of these names, with all that is within them; the others train.

    A layer that a frozen and another layer share is frozen.
    """
    _let_train(model)
    _freeze(model, frozen)


def _let_train(model: keras.Model) -> None:
    # In a non-trainable model no weight trains, whatever the flags of its layers.
    model.trainable = True
    for layer in model.layers:
        if is_nested(layer):
            _let_train(layer)
            continue
        for inner in layers_within(layer):
            # Keras ignores a flag that does not change, even if those within differ.
            inner.trainable = False
            inner.trainable = True


def _freeze(model: keras.Model, frozen: set[str]) -> None:
    for layer in model.layers:
        if is_nested(layer):
            inside = {inner.name for inner in layers_within(layer)}
            _freeze(layer, frozen | inside if layer.name in frozen else frozen)
        elif layer.name in frozen:
            for inner in layers_within(layer):
                inner.trainable = False


def _hold_statistics(model: keras.Model) -> None:
    """Freezes all BatchNormalization but the head's."""
    head = head_of(model)
    for layer in graph_layers(model):
        for inner in layers_within(layer):
            if isinstance(inner, keras.layers.BatchNormalization) and layer.name not in head:
                inner.trainable = False


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
        before = parts[: first_of_last(parts, self.blocks)]
        return [name for section in before for name in section.layers]

    def __str__(self) -> str:
        count = "last block" if self.blocks == 1 else f"last {self.blocks} blocks"
        return f"All but the {count} is frozen"


@dataclass(frozen=True)
class UpTo(Policy):
    """Freezes everything that a named block's or layer's output depends on, itself included.

    Attributes:
        name: A block of the backbone ("conv4_block6") or a layer ("block5_pool") of the model's
            graph. A nested model is one layer there, and frozen as a whole.
    """

    name: str

    def frozen_layers(self, model: keras.Model) -> Collection[str]:
        """See `Policy.frozen_layers`."""
        names = [layer.name for layer in model.layers]
        spec = registry.recognise(names, model.name)
        blocks = {block.name: block.last for block in spec.blocks} if spec else {}
        last = blocks.get(self.name, self.name)
        if last not in names:
            raise InputError("a block or layer of the model", *self._missing(model, blocks))
        return ancestors(model, last)

    def _missing(self, model: keras.Model, blocks: Collection[str]) -> tuple[str, str]:
        """What was received, and the mend, where the graph has no layer of the name."""
        for layer in model.layers:
            if self.name in [inner.name for inner in layers_within(layer)]:
                mend = f"Name {layer.name!r}"
                if is_nested(layer):
                    mend += ", or first make a flat model: keras_tl.backbones.graph.rebuild(model)"
                return f"{self.name!r}, which is within {layer.name!r}", f"{mend}."
        names = [layer.name for layer in model.layers]
        some = f"Blocks: {', '.join(blocks)}." if blocks else f"Layers: {', '.join(names[:4])}, ..."
        return repr(self.name), did_you_mean(self.name, [*blocks, *names], some)

    def __str__(self) -> str:
        return f"Everything up to {self.name} is frozen"


@dataclass(frozen=True)
class Matching(Policy):
    """Freezes the layers whose names match a shell-style pattern.

    Attributes:
        pattern: Such as "block[123]*"; case-sensitive. Layers of nested models have their own
            names; layers within any other layer go with it.
    """

    pattern: str

    def frozen_layers(self, model: keras.Model) -> Collection[str]:
        """See `Policy.frozen_layers`."""
        names = [layer.name for layer in graph_layers(model)]
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
        fraction: The share to freeze, in [0, 1]; the head is never frozen. Without a registered
            backbone, the head is what `add_head` made.
    """

    fraction: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.fraction <= 1:
            raise InputError("a fraction from 0 to 1", str(self.fraction), "Give a share.")

    def frozen_layers(self, model: keras.Model) -> Collection[str]:
        """See `Policy.frozen_layers`."""
        head = head_of(model)
        body = [layer for layer in graph_layers(model) if layer.name not in head]
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
