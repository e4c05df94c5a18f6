"""What a model computes, as a digest: equal ones give equal outputs.

What is stored of a frozen prefix is found by it, and a checkpoint knows its model by it.
"""

import hashlib
import json
from collections.abc import Collection
from types import FunctionType
from typing import Any

import keras
import numpy as np

from keras_tl.backbones.adapters import CONFIG_KEYS, merged_weights
from keras_tl.code_digest import code_digest
from keras_tl.topology import calls, layers_within

# What a policy sets, and names, do not change what a frozen layer computes.
LEFT_OUT = ("name", "trainable", "statistics_frozen", "seed", *CONFIG_KEYS)
# Where the configuration of a model names layers.
REFERENCES = ("keras_history", "input_layers", "output_layers")


def fingerprint(model: keras.Model, without_weights_of: Collection[str] = ()) -> str:
    """SHA-256 of a model's graph and weights; names and `trainable` flags do not count.

    Low-rank adapters count only by what they add to the kernels.

    Args:
        model: A functional model.
        without_weights_of: Names of layers whose weights do not count either.
    """
    digest = hashlib.sha256()
    # An engine's copy is for one shape: the same layers at another size are another prefix.
    digest.update(str([(tensor.shape, tensor.dtype) for tensor in model.inputs]).encode())
    made = {id(tensor): index for index, tensor in enumerate(model.inputs)}
    for node in calls(model):
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
    digest.update(str([made[id(tensor)] for tensor in model.outputs]).encode())
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
