"""A functional `keras.Model` as a graph: which call depends on which.

Keras keeps the calls of a functional model in `_nodes_by_depth`. No public name offers them, so
this module is the one place that reads it.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import keras


def calls(model: keras.Model) -> list[Any]:
    """Returns the calls (Keras nodes) of a model, each after those it depends on.

    The model is a functional or a Sequential one. A node has `operation` (a layer or op),
    `input_tensors` and `outputs`; the model's inputs are not among them.
    """
    graph = model._functional if isinstance(model, keras.Sequential) else model
    by_depth = graph._nodes_by_depth
    in_order = (node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth])
    return [node for node in in_order if not node.is_input]


def call_again(model: keras.Model, given: Mapping[int, Any]) -> Any:
    """Repeats a functional model's calls, with other tensors in place of some of its own.

    `keras.Function` does the same, but starts inside a model only since Keras 3.14.

    Args:
        model: A functional model; its layers are shared.
        given: Replacements by the `id` of the model's tensor. The outputs must depend on the inputs
            only through these.

    Returns:
        The new outputs, in the structure of `model.output`.
    """
    wanted = {id(tensor) for tensor in model.outputs} - given.keys()
    needed = []
    for node in reversed(calls(model)):
        if any(id(tensor) in wanted for tensor in node.outputs):
            needed.append(node)
            wanted |= {id(tensor) for tensor in node.input_tensors} - given.keys()
    made = dict(given)
    for node in reversed(needed):
        args, kwargs = node.arguments.fill_in(made)
        outputs = keras.tree.flatten(node.operation(*args, **kwargs))
        made.update(zip(map(id, node.outputs), outputs, strict=True))
    return keras.tree.map_structure(lambda tensor: made[id(tensor)], model.output)


def ancestors(model: keras.Model, layer_name: str) -> set[str]:
    """Names of the operations that a layer's output depends on, the layer's own included."""
    wanted: set[int] = set()
    found: set[str] = set()
    for node in reversed(calls(model)):
        is_wanted = any(id(tensor) in wanted for tensor in node.outputs)
        if is_wanted or node.operation.name == layer_name:
            found.add(node.operation.name)
            wanted.update(id(tensor) for tensor in node.input_tensors)
    found |= {producer(tensor) for tensor in model.inputs if id(tensor) in wanted}
    return found


def descendants(model: keras.Model, layer_names: Collection[str]) -> set[str]:
    """Names of the operations that depend on one of these layers' output, the layers included."""
    moving: set[int] = set()
    found: set[str] = set()
    for node in calls(model):
        depends = any(id(tensor) in moving for tensor in node.input_tensors)
        if depends or node.operation.name in layer_names:
            found.add(node.operation.name)
            moving.update(id(tensor) for tensor in node.outputs)
    return found


def producer(tensor: Any) -> str:
    """Name of the layer or operation that a symbolic tensor comes from."""
    return tensor._keras_history.operation.name


def is_nested(operation: Any) -> bool:
    """Whether an operation of a graph is a graph itself: a functional or Sequential model."""
    return isinstance(operation, (keras.Sequential, keras.Function))


def graph_layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """Yields the layers of a model's graph in order, with nested models' layers in their place.

    A layer made of layers (`keras.layers.MultiHeadAttention`) counts as one: the names within it
    identify nothing, since each such layer has the same.
    """
    for layer in model.layers:
        if is_nested(layer):
            yield from graph_layers(layer)
        else:
            yield layer


def layers_within(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """A layer or model and all layers that it is made of, each before those within it."""
    return layer._flatten_layers(include_self=True, recursive=True)


def sublayers(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """The layers that a layer is directly made of."""
    return layer._flatten_layers(include_self=False, recursive=False)
