"""Low-rank adapters beside the kernels of layers, as Keras' own `enable_lora` makes them.

Reference: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022. A layer
computes with W + alpha / rank * A B in the place of its kernel W. A is random and B zero at first,
so that an adapter changes nothing until it is trained.
"""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_tl.errors import InputError

# Keys in a layer's configuration that only a layer with an adapter has.
CONFIG_KEYS = ("lora_rank", "lora_alpha")


@dataclass(frozen=True)
class Adapter:
    """The adapter of one layer.

    Attributes:
        base: The kernel W, or the table of an embedding.
        a: A, of the kernel's shape with `rank` for its last axis.
        b: B, `[rank, last axis of the kernel]`.
        scale: alpha / rank.
    """

    base: keras.Variable
    a: keras.Variable
    b: keras.Variable
    scale: float

    @property
    def is_idle(self) -> bool:
        """Whether it adds nothing: B is zero, and so is the gradient of A."""
        return not self.b.numpy().any()

    def merged(self) -> np.ndarray:
        """W + alpha / rank * A B; W to the bit where the adapter is idle."""
        base = self.base.numpy()
        if self.is_idle:
            return base
        return base + np.asarray(self.scale * (self.a.numpy() @ self.b.numpy()), base.dtype)


def adapter_of(layer: Any) -> Adapter | None:
    """Returns the adapter of a layer (or of an operation, which has none); None without one."""
    if not getattr(layer, "lora_enabled", False):
        return None
    part = "embeddings" if isinstance(layer, keras.layers.Embedding) else "kernel"
    a, b = (getattr(layer, f"lora_{part}_{factor}") for factor in "ab")
    return Adapter(getattr(layer, f"_{part}"), a, b, layer.lora_alpha / layer.lora_rank)


def adapter_weights(layer: Any) -> list[keras.Variable]:
    """The two factors of a layer's adapter; none without one."""
    adapter = adapter_of(layer)
    return [] if adapter is None else [adapter.a, adapter.b]


def can_adapt(layer: Any) -> bool:
    """Whether Keras offers an adapter for a layer; it does not for depthwise kernels."""
    constraints = ("kernel_constraint", "embeddings_constraint")
    constrained = any(getattr(layer, name, None) is not None for name in constraints)
    return hasattr(layer, "enable_lora") and layer.built and not constrained


def adapter_size(layer: keras.layers.Layer, rank: int) -> int:
    """How many parameters an adapter of this rank has, on a layer that `can_adapt`."""
    *rows, last = layer.weights[0].shape
    return rank * (int(np.prod(rows)) + last)


def attach(layer: keras.layers.Layer, rank: int, alpha: float) -> bool:
    """Gives a layer an adapter that changes nothing yet; one that it has is kept.

    Call it in the scope of the strategy that the layer was built in.

    Args:
        layer: A built layer that `can_adapt`.
        rank: Columns of A.
        alpha: See `Adapter.scale`.

    Returns:
        Whether it is new: functions compiled before do not use it.

    Raises:
        InputError: The layer has an adapter of another rank or alpha.
    """
    adapter = adapter_of(layer)
    if adapter is None:
        layer.enable_lora(rank, lora_alpha=alpha)
        return True
    if (layer.lora_rank, layer.lora_alpha) != (rank, alpha):
        raise InputError(
            "one rank and alpha for all LoRA phases of a model",
            f"rank {rank} and alpha {alpha:g} for {layer.name!r}, which has an adapter of rank "
            f"{layer.lora_rank} and alpha {layer.lora_alpha:g}",
            "Merge it first: keras_tl.backbones.graph.merge_adapters(model).",
        )
    if not adapter.a.numpy().any():
        # Keras merges on saving, and then loads both factors as zeros, which never learn.
        adapter.a.assign(keras.initializers.HeUniform()(adapter.a.shape))
    return False


def merged_weights(layer: Any) -> list[np.ndarray]:
    """A layer's weights with its adapter merged into the kernel.

    Args:
        layer: A layer; an operation without weights has none.

    Returns:
        Arrays in the order and shapes of the weights of the same layer without an adapter.
    """
    adapter = adapter_of(layer)
    weights = getattr(layer, "weights", ())
    if adapter is None:
        return [weight.numpy() for weight in weights]
    plain = [weight for weight in weights if weight is not adapter.a and weight is not adapter.b]
    return [adapter.merged() if weight is adapter.base else weight.numpy() for weight in plain]
