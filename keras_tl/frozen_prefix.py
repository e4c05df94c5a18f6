"""The part of a model that can be computed once: finding where it ends, and cutting there.

Before the cut nothing trains, nothing is random and nothing moves. This part gives the same output
for the same image at every step, so it needs to run only once for each image.
"""

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import keras
import numpy as np

from keras_tl.backbones.adapters import CONFIG_KEYS, merged_weights
from keras_tl.backbones.encoder_layers import SelfAttention
from keras_tl.backbones.host import behind_host
from keras_tl.backbones.layers import FreezableDropout, FreezableStochasticDepth
from keras_tl.code_digest import code_digest
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


# What a policy sets, and names, do not change what a frozen layer computes.
LEFT_OUT = ("name", "trainable", "statistics_frozen", "seed", *CONFIG_KEYS)
# Where the configuration of a model names layers.
REFERENCES = ("keras_history", "input_layers", "output_layers")


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


def fingerprint(prefix: keras.Model, without_weights_of: Collection[str] = ()) -> str:
    """SHA-256 of a model's graph and weights; names and `trainable` flags do not count.

    Low-rank adapters count only by what they add to the kernels.

    Args:
        prefix: The model.
        without_weights_of: Names of layers whose weights do not count either.
    """
    digest = hashlib.sha256()
    # An engine's copy is for one shape: the same layers at another size are another prefix.
    digest.update(str([(tensor.shape, tensor.dtype) for tensor in prefix.inputs]).encode())
    made = {id(tensor): index for index, tensor in enumerate(prefix.inputs)}
    for node in calls(prefix):
        arguments = keras.tree.flatten((node.arguments.args, node.arguments.kwargs))
        facts = {
            "class": type(node.operation).__name__,
            "config": _without_names(node.operation.get_config()),
            "inputs": [made[id(tensor)] for tensor in node.input_tensors],
            "constants": [_constant(a) for a in arguments if not isinstance(a, keras.KerasTensor)],
        }
        facts |= _beside_config(node.operation)
        digest.update(json.dumps(facts, sort_keys=True, default=str).encode())
        for tensor in node.outputs:
            made[id(tensor)] = len(made)
        if node.operation.name not in without_weights_of:
            for weight in merged_weights(node.operation):
                digest.update(np.ascontiguousarray(weight).tobytes())
    digest.update(str([made[id(tensor)] for tensor in prefix.outputs]).encode())
    return digest.hexdigest()


def _beside_config(operation: Any) -> dict[str, Any]:
    """What decides an operation's results and is neither in its configuration nor its weights."""
    layers = layers_within(operation) if isinstance(operation, keras.Layer) else [operation]
    # A function, such as an activation or that of a `Lambda`, is in it only by name.
    held = [v for each in layers for v in vars(each).values() if isinstance(v, FunctionType)]
    code = code_digest(*map(type, layers), *held)
    # A vocabulary that was given as a file is not in the configuration.
    words = [layer.get_vocabulary() for layer in layers if hasattr(layer, "get_vocabulary")]
    facts = {"code": code, "vocabulary": words}
    return {name: fact for name, fact in facts.items() if fact}


def _constant(argument: Any) -> str:
    """A constant argument of a call as text; arrays by all numbers, most of which `str` omits."""
    if getattr(argument, "ndim", 0) == 0:
        return str(argument)
    array = np.asarray(argument)
    digest = hashlib.sha256(str(array.tolist()).encode()).hexdigest()
    return f"{array.dtype} {array.shape} {digest}"


def _without_names(config: dict[str, Any]) -> dict[str, Any]:
    """A layer's configuration without names; layers within it refer to each other by numbers."""
    return _plain({k: v for k, v in config.items() if k not in LEFT_OUT}, {})


def _plain(value: Any, numbers: dict[str, int]) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(item, numbers) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get("class_name") == "__lambda__":
        # As Keras writes code, it has line numbers; see `_beside_config`.
        return None
    found = {}
    for key, part in value.items():
        if key in REFERENCES or (key == "name" and "inbound_nodes" in value):
            found[key] = _numbered(part, numbers)
        elif key == "config" and _is_of_layer(value):
            found[key] = _plain({k: v for k, v in part.items() if k not in LEFT_OUT}, numbers)
        else:
            found[key] = _plain(part, numbers)
    return found


def _is_of_layer(entry: dict[str, Any]) -> bool:
    """Whether an object in a configuration is a layer, or an operation of a model."""
    if not isinstance(config := entry["config"], dict):
        return False
    is_input = entry.get("class_name") == "InputLayer"
    return is_input or "inbound_nodes" in entry or "trainable" in config


def _numbered(value: Any, numbers: dict[str, int]) -> Any:
    """References with numbers, in the order in which names occur."""
    if isinstance(value, list | tuple):
        return [_numbered(item, numbers) for item in value]
    return numbers.setdefault(value, len(numbers)) if isinstance(value, str) else value
