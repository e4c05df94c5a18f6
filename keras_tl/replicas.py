"""Models whose variables lie on several devices or machines."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from keras_tl.backbones.graph import Replace, layer_in_float32, leaf_operations, rebuild

ACCELERATORS = ("GPU", "TPU")


def replicating(model: keras.Model) -> tf.distribute.Strategy | None:
    """The strategy that a model's variables were made under, if it copies them to devices."""
    for variable in model.variables:
        if isinstance(variable.value, tf.distribute.DistributedValues):
            return variable.value.distribute_strategy
    return None


def has_accelerator() -> bool:
    """Whether TensorFlow computes on a GPU or a TPU."""
    return any(tf.config.list_logical_devices(kind) for kind in ACCELERATORS)


def on_one_device(models: Sequence[keras.Model]) -> list[keras.Model]:
    """Copies models over one graph, if they are replicated, with variables of this process alone.

    Call it outside of a strategy's scope.

    Args:
        models: Functional models with the same input.

    Returns:
        Models over one new graph, with equal weights; those given, where nothing is replicated.
    """
    return list(models) if replicating(models[0]) is None else _copies(models)


def for_a_cpu(models: Sequence[keras.Model]) -> list[keras.Model]:
    """Copies models over one graph, if they are replicated or in mixed precision.

    A CPU, and the engines for it, are fastest in float32, which is also the more exact.

    Args:
        models: Functional models with the same input.

    Returns:
        Models over one new graph, with equal weights, which compute in float32; those given,
        where they do so on one device.
    """
    if any(map(_is_mixed, leaf_operations(models[0]))):
        return _copies(models, lambda layer: layer_in_float32(layer) if _is_mixed(layer) else layer)
    return on_one_device(models)


def _copies(models: Sequence[keras.Model], replace: Replace | None = None) -> list[keras.Model]:
    """Models over one new graph."""
    tensors = [tensor for model in models for tensor in model.outputs]
    joint = rebuild(keras.Model(models[0].input, tensors), replace=replace)
    outputs = iter(joint.outputs)
    return [
        keras.Model(joint.input, [next(outputs) for _ in model.outputs], name=model.name)
        for model in models
    ]


def _is_mixed(layer: keras.Operation) -> bool:
    """Whether a layer computes in 16 bits with weights of 32."""
    return isinstance(layer, keras.Layer) and layer.compute_dtype != layer.variable_dtype
