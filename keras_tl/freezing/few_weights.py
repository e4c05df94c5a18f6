"""Policies that train a few weights of each layer: low-rank adapters, or the biases.

All kernels stay as they were. Both policies set flags of single weights, not of layers; when a
policy that is applied later sets a layer's flag, it sets those of the layer's weights too.
"""

import fnmatch
import math
from abc import abstractmethod
from collections.abc import Collection
from dataclasses import dataclass

import keras

from keras_tl.backbones.adapters import adapter_size, adapter_weights, attach, can_adapt
from keras_tl.errors import InputError
from keras_tl.freezing.parts import head_of, layers_from
from keras_tl.freezing.policies import Policy
from keras_tl.freezing.summary import FreezingSummary
from keras_tl.topology import descendants, layers_within

# Hu et al. adapt the queries and values of attention, section 4.2.
ATTENTION = ("*query", "*value")
BIASES = ("bias", "beta")


@dataclass(frozen=True)
class FewWeights(Policy):
    """What `LoRA` and `BitFit` have in common.

    Behind the first layer with a weight that trains, dropout is in training mode, and so is
    BatchNormalization with `batch_norm="trained"`, just as if that whole layer trained.
    """

    @abstractmethod
    def touched_layers(self, model: keras.Model) -> Collection[str]:
        """Names of the pretrained layers of which some weights train."""

    @abstractmethod
    def trains(self, layer: keras.layers.Layer, weight: keras.Variable) -> bool:
        """Whether this weight of such a layer trains."""

    def frozen_layers(self, model: keras.Model) -> Collection[str]:
        """See `Policy.frozen_layers`."""
        touched, head = set(self.touched_layers(model)), set(head_of(model))
        behind = descendants(model, touched)
        batch_norm = keras.layers.BatchNormalization
        return [
            layer.name
            for layer in model.layers
            if layer.name not in touched | head
            and (layer.name not in behind or (layer.weights and not isinstance(layer, batch_norm)))
        ]

    def choose_weights(self, model: keras.Model) -> None:
        """See `Policy.choose_weights`."""
        super().choose_weights(model)
        touched = set(self.touched_layers(model))
        for layer in model.layers:
            if layer.name in touched:
                held = _held(layer) if self.batch_norm == "frozen" else set()
                for weight in layer.weights:
                    weight.trainable = id(weight) not in held and self.trains(layer, weight)


@dataclass(frozen=True)
class LoRA(FewWeights):
    """Trains low-rank adapters beside frozen kernels, and the head.

    The adapters are those of Keras' `enable_lora`: a layer computes with W + alpha / rank * A B.
    They are made when the policy is first applied and change nothing until they are trained; a
    phase that comes before theirs is not disturbed by them. Under any other policy they rest, and
    `keras_tl.backbones.graph.merge_adapters` gives the model without them.

    Reference: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022.

    Attributes:
        rank: Columns of A and rows of B, at least 1; at most the largest rank that an adapted
            kernel can have.
        alpha: A B is multiplied by `alpha / rank`; above 0. None is `rank`, a factor of 1.
        layers: A shell-style pattern of layer names; case-sensitive. Layers within a layer (those
            of `keras.layers.MultiHeadAttention`) have no adapters. None takes the queries and
            values of attention ("block_0_query"), and where there are none all dense and
            pointwise kernels that are larger than their adapter.
        blocks: How many of the backbone's last blocks; None takes all of the backbone.
    """

    rank: int = 8
    alpha: float | None = None
    layers: str | None = None
    blocks: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rank < 1:
            raise InputError("a rank of at least 1", str(self.rank), "8 is common.")
        if self.alpha is not None and self.alpha <= 0:
            raise InputError("an alpha above 0", str(self.alpha), "Leave it out for the rank.")

    def apply(self, model: keras.Model) -> FreezingSummary:
        """See `Policy.apply`; call it in the strategy's scope."""
        touched = set(self.touched_layers(model))
        alpha = self.rank if self.alpha is None else self.alpha
        added = [attach(layer, self.rank, alpha) for layer in model.layers if layer.name in touched]
        if any(added):
            # Functions that Keras has traced do not use the adapters.
            model.train_function = model.test_function = model.predict_function = None
        return super().apply(model)

    def touched_layers(self, model: keras.Model) -> Collection[str]:
        """See `FewWeights.touched_layers`."""
        body = set(layers_from(model, self.blocks))
        layers = [layer for layer in model.layers if layer.name in body and can_adapt(layer)]
        names = [layer.name for layer in layers]
        if self.layers is not None:
            found = fnmatch.filter(names, self.layers)
        else:
            found = [name for name in names if any(fnmatch.fnmatch(name, p) for p in ATTENTION)]
            found = found or [x.name for x in layers if _is_dense(x) and _is_worth_it(x, self.rank)]
        if not found:
            what = "that Keras has adapters for (Dense, EinsumDense, Embedding, Conv)"
            example = f'Name some, such as layers="{names[-1]}".' if names else "Take all blocks."
            asked = f"layers={self.layers!r}" if self.layers else "none by default"
            raise InputError(f"layers of the backbone {what}", asked, example)
        largest = max(_full_rank(layer) for layer in layers if layer.name in set(found))
        if self.rank > largest:
            expected = f"a rank of at most {largest}, which no kernel to be adapted exceeds"
            raise InputError(expected, str(self.rank), "8 is common.")
        return found

    def trains(self, layer: keras.layers.Layer, weight: keras.Variable) -> bool:
        """See `FewWeights.trains`."""
        return any(weight is factor for factor in adapter_weights(layer))

    def __str__(self) -> str:
        return f"LoRA of rank {self.rank}" + _where(self.blocks)


@dataclass(frozen=True)
class BitFit(FewWeights):
    """Trains the biases of the backbone, and the head.

    The shift (beta) of LayerNormalization is a bias, and that of BatchNormalization where
    `batch_norm` is "trained". Many backbones for images have no others: see the summary.

    Reference: Ben-Zaken, Ravfogel and Goldberg, "BitFit: Simple Parameter-efficient Fine-tuning
    for Transformer-based Masked Language-models", ACL 2022.

    Attributes:
        blocks: How many of the backbone's last blocks, with what is behind them; None takes all of
            the backbone.
    """

    blocks: int | None = None

    def touched_layers(self, model: keras.Model) -> Collection[str]:
        """See `FewWeights.touched_layers`."""
        body = set(layers_from(model, self.blocks))
        found = []
        for layer in model.layers:
            held = _held(layer) if self.batch_norm == "frozen" else set()
            free = [weight for weight in layer.weights if id(weight) not in held]
            if layer.name in body and any(self.trains(layer, weight) for weight in free):
                found.append(layer.name)
        if not found:
            fix = 'With batch_norm="trained" the shifts of BatchNormalization train, or take LoRA.'
            raise InputError("a backbone with biases outside BatchNormalization", "none", fix)
        return found

    def trains(self, layer: keras.layers.Layer, weight: keras.Variable) -> bool:
        """See `FewWeights.trains`."""
        return weight.name in BIASES

    def __str__(self) -> str:
        return "Only biases train" + _where(self.blocks)


def _held(layer: keras.layers.Layer) -> set[int]:
    """Ids of a layer's BatchNormalization weights, its own or those of layers within it."""
    batch_norm = keras.layers.BatchNormalization
    norms = [inner for inner in layers_within(layer) if isinstance(inner, batch_norm)]
    return {id(weight) for norm in norms for weight in norm.weights}


def _is_dense(layer: keras.layers.Layer) -> bool:
    """Whether a kernel only mixes channels: that of a dense layer or a 1 x 1 convolution."""
    dense = isinstance(layer, (keras.layers.Dense, keras.layers.EinsumDense))
    return dense or set(getattr(layer, "kernel_size", ())) == {1}


def _full_rank(layer: keras.layers.Layer) -> int:
    """The largest rank of a layer's kernel, as a matrix whose columns are its last axis."""
    *rows, last = layer.weights[0].shape
    return min(math.prod(rows), last)


def _is_worth_it(layer: keras.layers.Layer, rank: int) -> bool:
    """Whether an adapter has fewer parameters than the kernel."""
    return adapter_size(layer, rank) < int(keras.ops.size(layer.weights[0]))


def _where(blocks: int | None) -> str:
    if blocks is None:
        return ""
    return " in the last block" if blocks == 1 else f" in the last {blocks} blocks"
