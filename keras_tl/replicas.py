"""Models whose variables lie on several devices or machines."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from keras_tl.backbones.graph import rebuild

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
    if replicating(models[0]) is None:
        return list(models)
    tensors = [tensor for model in models for tensor in model.outputs]
    joint = rebuild(keras.Model(models[0].input, tensors))
    outputs = iter(joint.outputs)
    return [
        keras.Model(joint.input, [next(outputs) for _ in model.outputs], name=model.name)
        for model in models
    ]
