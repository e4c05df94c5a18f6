"""Dropout that honours `trainable`: frozen means inference, as it does for BatchNormalization."""

import keras

# The layer has no public name; Keras' own files refer to it by this path.
from keras.src.applications.convnext import StochasticDepth


@keras.saving.register_keras_serializable(package="keras_tl")
class FreezableDropout(keras.layers.Dropout):
    """`keras.layers.Dropout` that drops nothing while `trainable` is False.

    Keras' own layer ignores `trainable`, so that a "frozen" EfficientNet still draws random
    masks in `fit`. Trainable and in training the output is that of the stock layer.
    """

    def call(self, inputs: keras.KerasTensor, training: bool | None = False) -> keras.KerasTensor:
        """Drops elements of `inputs` (any shape, floats) in training, if trainable."""
        return super().call(inputs, training=bool(training) and self.trainable)


@keras.saving.register_keras_serializable(package="keras_tl")
class FreezableStochasticDepth(StochasticDepth):
    """ConvNeXt's stochastic depth that keeps every path while `trainable` is False.

    Reference: Huang et al., "Deep Networks with Stochastic Depth", ECCV 2016.
    """

    def call(self, x: keras.KerasTensor, training: bool | None = None) -> keras.KerasTensor:
        """Drops whole samples of `x` (`[batch, ...]`, floats) in training, if trainable."""
        return super().call(x, training=bool(training) and self.trainable)


_Twins = dict[type[keras.Layer], type[keras.Layer]]

_FREEZABLE: _Twins = {
    keras.layers.Dropout: FreezableDropout,
    StochasticDepth: FreezableStochasticDepth,
}
_STOCK: _Twins = {freezable: stock for stock, freezable in _FREEZABLE.items()}


def is_dropout(layer: keras.Layer) -> bool:
    """Whether a layer is one of those with twins, or such a twin."""
    return type(layer) in _FREEZABLE or type(layer) in _STOCK


def freezable(layer: keras.Layer) -> keras.Layer:
    """Returns `layer`, or an unbuilt freezable twin of a stock dropout layer."""
    return _as(layer, _FREEZABLE)


def stock(layer: keras.Layer) -> keras.Layer:
    """Returns `layer`, or the unbuilt stock twin of a freezable dropout layer."""
    return _as(layer, _STOCK)


def _as(layer: keras.Layer, twins: _Twins) -> keras.Layer:
    twin = twins.get(type(layer))
    return layer if twin is None else twin.from_config(layer.get_config())
