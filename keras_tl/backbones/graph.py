"""Copies functional models as one flat graph of leaf layers with stable names."""

import re
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from types import FunctionType
from typing import Any

import keras
import numpy as np

from keras_tl.backbones import layers
from keras_tl.backbones.adapters import CONFIG_KEYS, merged_weights
from keras_tl.topology import is_nested, layers_within

# What Keras' layers have whose vocabulary, if `adapt` learned it, is not in the configuration.
LEARNS_WORDS = ("get_vocabulary", "save_assets", "load_assets")

Replace = Callable[[keras.Layer], keras.Layer]


def rebuild(
    model: keras.Model,
    *,
    inputs: Any = None,
    replace: Replace | None = None,
    stable_names: bool = False,
) -> keras.Model:
    """Copies a functional model as one flat graph: nested models are inlined.

    Every layer is made again from its configuration, with its `trainable` flag and a copy of
    its weights; low-rank adapters are merged into the kernels. Layers that are called twice stay
    shared. The call arguments of a nested model (`training=False`) are dropped: flags alone say
    what is frozen.

    Args:
        model: A functional or Sequential model, built.
        inputs: `keras.Input`s in the structure of `model.input`; None makes equal ones.
        replace: Maps a layer to the one whose class and configuration are used in its place;
            None keeps all. Name and weights stay those of the original.
        stable_names: Rename as `name_operations` describes, rather than keep the names.

    Returns:
        A `keras.Model` over the same inputs and outputs that shares nothing with `model`.
    """
    if inputs is None:
        inputs = keras.tree.map_structure(
            lambda t: keras.Input(batch_shape=t.shape, dtype=t.dtype, name=t.name), model.input
        )
    outputs = replay(model, inputs, replace=replace, stable_names=stable_names)
    return keras.Model(inputs, outputs, name=model.name)


def replay(
    model: keras.Model,
    inputs: Any,
    *,
    replace: Replace | None = None,
    stable_names: bool = False,
) -> Any:
    """Applies a flat copy of `model` to `inputs`, so that it continues their graph.

    Args:
        model: A functional or Sequential model, built.
        inputs: Keras tensors in the structure and shapes of `model.input`.
        replace: As for `rebuild`.
        stable_names: As for `rebuild`.

    Returns:
        Keras tensors in the structure of `model.output`.
    """
    operations = list(leaf_operations(model))
    if stable_names:
        names = name_operations(operations)
    else:
        names = {id(operation): operation.name for operation in operations}
    copies = _Copies(replace or (lambda layer: layer), names)
    outputs = copies.run(model, inputs)
    copies.copy_weights()
    copies.copy_inner()
    return outputs


def to_stock(model: keras.Model) -> keras.Model:
    """Copies `model` with Keras' own layers only, so that it loads without keras_tl.

    Names, `trainable` flags and weights stay; frozen dropout is active in `fit` again.

    Args:
        model: A functional model.

    Returns:
        A `keras.Model` with the same outputs in inference.
    """
    return rebuild(model, replace=layers.stock)


def to_freezable(model: keras.Model) -> keras.Model:
    """Copies `model` with dropout that is in inference where it is frozen; undoes `to_stock`.

    Args:
        model: A functional model, such as a run's `model.keras`.

    Returns:
        A `keras.Model` with the same names, flags, weights and outputs.
    """
    return rebuild(model, replace=layers.freezable)


def merge_adapters(model: keras.Model) -> keras.Model:
    """Copies `model` without its low-rank adapters, which are merged into the kernels.

    `keras_tl.freezing.LoRA` makes adapters; the copy can have new ones. Saved runs and exports are
    merged: so is every copy that this module makes.

    Args:
        model: A functional model.

    Returns:
        A `keras.Model` with the same names, layers' flags and outputs.
    """
    return rebuild(model)


def in_float32(model: keras.Model) -> keras.Model:
    """Copies a model that computes in 16 bits, in nested models too, so that it does in 32.

    Args:
        model: A functional model.

    Returns:
        A `keras.Model` with equal weights; the same one where it computes in float32.
    """
    layers_of = (op for op in leaf_operations(model) if isinstance(op, keras.Layer))
    if all(layer.compute_dtype == "float32" for layer in layers_of):
        return model
    return rebuild(model, replace=layer_in_float32)


def layer_in_float32(layer: keras.Layer) -> keras.Layer:
    """A layer without weights like another one, that computes in float32."""
    return made_of(layer, {**layer.get_config(), "dtype": "float32"})


def made_of(source: keras.Operation, config: dict[str, Any]) -> keras.Operation:
    """A new operation of another one's class.

    Args:
        source: The other one.
        config: What its `get_config` gives, or a change of it.

    Returns:
        The operation, without weights.
    """
    if type(source) is not keras.layers.Lambda:
        return type(source).from_config({**config, **_at_hand(source, config)})
    # Its code alone would not know what it refers to; the function is at hand.
    own = {key: config[key] for key in ("name", "trainable", "dtype")}
    shape, mask = source._output_shape, source.mask
    return keras.layers.Lambda(source.function, shape, mask, source.arguments, **own)


def _at_hand(source: keras.Operation, config: dict[str, Any]) -> dict[str, Any]:
    """Unchanged settings that a configuration only names, and that only the source has.

    An activation that is a function of the user's, for example, or an unregistered regularizer.
    """
    kinds = (FunctionType, keras.Regularizer, keras.Initializer, keras.constraints.Constraint)
    given = source.get_config()
    kept = [name for name, value in config.items() if name in given and value == given[name]]
    found = {name: getattr(source, name, None) for name in kept}
    return {
        name: value
        for name, value in found.items()
        if isinstance(value, kinds) and not _module_of(value).startswith("keras.")
    }


def _module_of(value: Any) -> str:
    return str(value.__module__ if isinstance(value, FunctionType) else type(value).__module__)


def set_weights(layer: keras.Layer, values: list[np.ndarray]) -> None:
    """Sets a layer's weights (arrays in the order and shapes of `layer.weights`)."""
    layer.set_weights(values)
    if isinstance(layer, keras.layers.Normalization):
        # It computes with tensors derived from its weights.
        layer.finalize_state()


def leaf_operations(model: keras.Model) -> Iterator[keras.Operation]:
    """Yields a model's layers and other operations in its graph's order, nested ones inlined."""
    operations = model.layers if isinstance(model, keras.Sequential) else model.operations
    for operation in operations:
        if is_nested(operation):
            yield from leaf_operations(operation)
        elif not isinstance(operation, keras.layers.InputLayer):
            yield operation


def name_operations(operations: list[keras.Operation]) -> dict[int, str]:
    """Gives operations names that do not depend on what was built before in this process.

    A name that Keras numbered ("conv2d_17") becomes the class's name and a count from 1, in
    the order in which the operations were made; any other is kept, cleaned by `clean_name`.

    Args:
        operations: Operations of one model.

    Returns:
        The new name of each, by the operation's `id`.
    """
    names, numbered = {}, defaultdict(list)
    for operation in operations:
        kind = snake_case(type(operation).__name__)
        number = auto_number(operation.name, kind)
        if number is None:
            names[id(operation)] = clean_name(operation.name)
        else:
            numbered[kind].append((number, operation))
    for kind, found in numbered.items():
        found.sort(key=lambda pair: pair[0])
        names.update({id(op): f"{kind}_{k}" for k, (_, op) in enumerate(found, start=1)})
    return names


def clean_name(name: str) -> str:
    """Replaces "/" and "." by "_" and drops leading underscores (LiteRT refuses such names)."""
    return name.replace("/", "_").replace(".", "_").lstrip("_")


def snake_case(class_name: str) -> str:
    """Spells a class's name as Keras does in names that it numbers ("ReLU": "re_lu")."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=.)(?=[A-Z][a-z])", "_", class_name).lower()


def auto_number(name: str, kind: str) -> int | None:
    """Returns the number in a name made by Keras (0 for "conv2d"), None for any other name."""
    match = re.fullmatch(rf"{re.escape(kind)}(?:_(\d+))?", name)
    return int(match[1] or 0) if match else None


class _Copies:
    """The copies of one model's operations, each made when it is first called."""

    def __init__(self, replace: Replace, names: dict[int, str]):
        self._replace = replace
        self._names = names
        self._made: dict[int, tuple[keras.Operation, keras.Operation]] = {}

    def run(self, model: keras.Model, inputs: Any) -> Any:
        """Calls the copies in the model's order."""
        if isinstance(model, keras.Sequential):
            for layer in model.layers:
                inputs = self.caller(layer)(inputs)
            return inputs
        # `keras.models.clone_model` calls this too, but cannot inline nested models.
        return model._run_through_graph(inputs, operation_fn=self.caller)

    def caller(self, operation: keras.Operation) -> Callable[..., Any]:
        """Returns what is to be called in the place of `operation`."""
        if is_nested(operation):
            return lambda inputs, **_: self.run(operation, inputs)
        if type(operation).__name__ == "Add" and not isinstance(operation, keras.Layer):
            return partial(self._add, operation)
        return self._copy(operation)

    def copy_weights(self) -> None:
        """Copies the weights of every layer, by value."""
        for original, copy in self._made.values():
            if isinstance(original, keras.Layer) and original.weights:
                set_weights(copy, merged_weights(original))

    def copy_inner(self) -> None:
        """Gives copies' inner layers the flags and the kind of dropout of the originals.

        A copy makes inner layers from its configuration: with Keras' dropout, and all trainable.
        """
        for original, copy in self._made.values():
            if isinstance(original, keras.Layer):
                pairs = zip(layers_within(original), layers_within(copy), strict=True)
                for old, new in list(pairs)[1:]:
                    new.trainable = old.trainable
                    if layers.is_dropout(old):
                        new.__class__ = type(self._replace(old))

    def _add(self, operation: keras.Operation, left: Any, right: Any) -> Any:
        """Makes a sum of two tensors a layer: the end of a ConvNeXt block is one."""
        if isinstance(left, keras.KerasTensor) and isinstance(right, keras.KerasTensor):
            return keras.layers.Add(name=self._names[id(operation)])([left, right])
        return self._copy(operation)(left, right)

    def _copy(self, operation: keras.Operation) -> keras.Operation:
        if id(operation) not in self._made:
            source = operation
            if isinstance(operation, keras.Layer):
                source = self._replace(operation)
            config = {k: v for k, v in source.get_config().items() if k not in CONFIG_KEYS}
            if "name" in config:
                config["name"] = self._names[id(operation)]
            made = made_of(source, config)
            if all(hasattr(operation, name) for name in LEARNS_WORDS):
                with tempfile.TemporaryDirectory() as folder:
                    operation.save_assets(folder)
                    made.load_assets(folder)
            self._made[id(operation)] = (operation, made)
        return self._made[id(operation)][1]
