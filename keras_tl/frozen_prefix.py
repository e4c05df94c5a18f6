"""The part of a model that can be computed once: finding where it ends, and cutting there.

Before the cut nothing trains, nothing is random and nothing moves. This part gives the same output
for the same image at every step, so it needs to run only once for each image.
"""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_tl.backbones.encoder_layers import SelfAttention
from keras_tl.backbones.host import behind_host
from keras_tl.backbones.layers import FreezableDropout, FreezableStochasticDepth
from keras_tl.topology import call_again, calls, layers_within, producer, sublayers


@dataclass(frozen=True)
class Split:
    """A model in two parts that share its layers: suffix(prefix(x)) == model(x).

    For a model of texts x are its tokens.

    Attributes:
        prefix: From the model's inputs to the cut's tensors; None where the model already
            starts to train at its inputs.
        suffix: From the cut's tensors to the model's outputs.
        last_layers: Names of the layers that give the cut's tensors.
    """

    prefix: keras.Model | None
    suffix: keras.Model
    last_layers: tuple[str, ...]


def split(model: keras.Model) -> Split:
    """Cuts a functional model at the last point before which everything is fixed.

    The prefix has every frozen layer with a kernel that no training layer precedes, and then those
    that take the inputs. Other frozen layers (activations, normalisation, pooling) go to the side
    that makes the tensors at the cut smallest in bytes.

    Args:
        model: A functional model with its `trainable` flags set. Of a model of texts, only the
            part after the layer that makes tokens is cut.

    Returns:
        The two parts; fitting the suffix updates the model.
    """
    model = behind_host(model)
    tensors = _cut_tensors(model)
    names = tuple(producer(tensor) for tensor in tensors)
    if {id(t) for t in tensors} <= {id(t) for t in model.inputs}:
        return Split(None, model, names)
    if _loses_masks(model, tensors):
        inputs = tuple(map(producer, model.inputs))
        return Split(None, model, inputs)
    return Split(
        keras.Model(model.input, tensors, name="frozen_prefix"),
        _suffix(model, tensors),
        names,
    )


def is_live(layer: Any) -> bool:
    """Whether a layer's output may differ from one training step to the next.

    Args:
        layer: A layer, or an operation without state.

    Returns:
        True where it has weights that train, moving statistics that move, or draws at random.
    """
    if not isinstance(layer, keras.layers.Layer):
        return False
    if isinstance(layer, (FreezableDropout, FreezableStochasticDepth, SelfAttention)):
        return layer.trainable
    if isinstance(layer, keras.layers.BatchNormalization):
        return layer.trainable
    inner = sublayers(layer)
    draws = _draws(layer) > sum(map(_draws, inner))
    return bool(layer.trainable_weights) or draws or any(map(is_live, inner))


def _draws(layer: keras.layers.Layer) -> int:
    """How many random generators a layer has: their states are variables, but no weights."""
    return len(layer.variables) - len(layer.weights)


def _loses_masks(model: keras.Model, tensors: list[Any]) -> bool:
    """Whether a later layer reads several tensors' masks, which new inputs do not carry.

    A single `mask` is an argument of the call; those of `MultiHeadAttention` are looked for on the
    tensors when it runs.
    """
    if all(getattr(tensor, "_keras_mask", None) is None for tensor in tensors):
        return False
    layers = [node.operation for node in calls(model) if isinstance(node.operation, keras.Layer)]
    inner = [each for layer in layers for each in layers_within(layer)]
    return any(isinstance(layer, keras.layers.MultiHeadAttention) for layer in inner)


def _suffix(model: keras.Model, tensors: list[Any]) -> keras.Model:
    """Repeats the calls after the cut on new inputs.

    `keras.Model(tensors, model.output)` does the same, but mixes up a layer that is called on both
    sides of the cut, and loses an output that lies at the cut.
    """
    inputs = [keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype) for tensor in tensors]
    outputs = call_again(model, dict(zip(map(id, tensors), inputs, strict=True)))
    outputs = keras.tree.map_structure(lambda out: _not_of(inputs, out), outputs)
    return keras.Model(_one_or_all(inputs), outputs, name=f"{model.name}_suffix")


def _not_of(inputs: list[Any], output: Any) -> Any:
    """The output, copied if it is an input: Keras before 3.14 refuses a model that returns one."""
    is_input = any(output is tensor for tensor in inputs)
    return keras.layers.Identity()(output) if is_input else output


def _cut_tensors(model: keras.Model) -> list[Any]:
    """Tensors at the cut, in the order in which they are computed."""
    fixed = _fixed_calls(model)
    needed = _needed_for_kernels(fixed)
    if not needed:
        # Preprocessing alone costs less than storing its output.
        return list(model.inputs)
    # Token ids can neither be blended by mixup nor stored in 16 bits: what is made of them can.
    inputs = {id(tensor) for tensor in model.inputs}
    needed |= {id(n) for n in fixed if any(id(t) in inputs for t in n.input_tensors)}
    ordered = [n for n in fixed if id(n) in needed] + [n for n in fixed if id(n) not in needed]
    candidates = [
        _live_tensors(model, ordered[:length]) for length in range(len(needed), len(fixed) + 1)
    ]
    # The last of the smallest: the later the cut, the less is left to compute.
    return min(reversed(candidates), key=lambda tensors: sum(map(_bytes, tensors)))


def _fixed_calls(model: keras.Model) -> list[Any]:
    """The calls that neither are live nor come after a live one."""
    moving: set[int] = set()
    fixed = []
    for node in calls(model):
        if is_live(node.operation) or any(id(t) in moving for t in node.input_tensors):
            moving.update(id(t) for t in node.outputs)
        else:
            fixed.append(node)
    return fixed


def _needed_for_kernels(fixed: list[Any]) -> set[int]:
    """Ids of the fixed calls that have a kernel, or that one with a kernel depends on."""
    wanted: set[int] = set()
    needed: set[int] = set()
    for node in reversed(fixed):
        if _has_kernel(node.operation) or any(id(t) in wanted for t in node.outputs):
            needed.add(id(node))
            wanted.update(id(t) for t in node.input_tensors)
    return needed


def _has_kernel(operation: Any) -> bool:
    weights = operation.weights if isinstance(operation, keras.layers.Layer) else ()
    return any(len(weight.shape) > 1 for weight in weights)


def _live_tensors(model: keras.Model, before: list[Any]) -> list[Any]:
    """Tensors made by `before` (or given to the model) that the rest of the model uses."""
    inside = {id(node) for node in before}
    used = {
        id(tensor)
        for node in calls(model)
        if id(node) not in inside
        for tensor in node.input_tensors
    }
    used |= {id(tensor) for tensor in model.outputs}
    made = [*model.inputs, *(tensor for node in before for tensor in node.outputs)]
    return [tensor for tensor in made if id(tensor) in used]


def _bytes(tensor: Any) -> int:
    return int(np.prod([side or 1 for side in tensor.shape[1:]])) * 4


def _one_or_all(tensors: list[Any]) -> Any:
    """A model with one input takes it bare, not in a list."""
    return tensors[0] if len(tensors) == 1 else tensors
