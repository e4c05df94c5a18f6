"""L2-SP: a penalty on leaving the pretrained weights."""

from dataclasses import dataclass

import keras
import numpy as np

from keras_tl.errors import InputError
from keras_tl.training.rates import parts_of


@dataclass(frozen=True)
class L2SP:
    """Draws pretrained weights to their starting point, and the head's to zero.

    To the loss is added alpha/2 * ||w - w0||^2 over the pretrained weights that train, w0 being
    what they were before the first phase, and beta/2 * ||v||^2 over the head's weights. Its
    gradient, alpha * (w - w0) and beta * v, joins the data's in each update, after clipping; the
    losses that are reported, for training and validation, are those of the data alone. It replaces
    weight decay: set that to 0.

    Reference: Li, Grandvalet and Davoine, "Explicit Inductive Bias for Transfer Learning with
    Convolutional Networks", ICML 2018, equation 4.

    Attributes:
        alpha: Strength for pretrained weights, at least 0.
        beta: Strength for the head's, at least 0.
    """

    alpha: float = 0.1
    beta: float = 0.01

    def __post_init__(self) -> None:
        if self.alpha < 0 or self.beta < 0:
            raise InputError(
                "alpha and beta of at least 0",
                f"alpha={self.alpha}, beta={self.beta}",
                "The paper has alpha=0.1, beta=0.01.",
            )


def start_values(model: keras.Model) -> dict[int, np.ndarray]:
    """Copies of the pretrained weights as they are now, by the variable's `id`.

    Args:
        model: A functional model on a registered backbone.

    Raises:
        InputError: No registered backbone is in the model.
    """
    layers = {layer.name: layer for layer in model.layers}
    return {
        id(weight): np.array(weight.numpy())
        for part in parts_of(model, "l2_sp")
        if part.name != "head"
        for name in part.layers
        for weight in layers[name].weights
    }
