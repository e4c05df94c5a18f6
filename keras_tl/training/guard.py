"""Proof, during training, that what is frozen stays frozen and what trains can learn."""

import hashlib
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_tl.backbones.adapters import adapter_of
from keras_tl.backbones.hub_layer import HubLayer
from keras_tl.errors import CheckError
from keras_tl.topology import graph_layers, layers_within

DRAWS = 8
# Keeps small gradients from vanishing in 16 bits, but is too small to make large ones overflow.
GRADIENT_SCALE = 2.0**8


class FreezingGuard(keras.callbacks.Callback):
    """Checks a phase around its first update and stops it loudly where a check fails.

    Before the first step every trainable variable must get a finite, non-zero gradient from a
    batch, but for the first factor of a low-rank adapter whose second one is still zero. After the
    first update with a non-zero rate every other variable of the whole model, the moving statistics
    of frozen layers included, must be bit-identical to what it was.

    Args:
        whole: The whole model, also where only its suffix is fitted.
        batch: Inputs, targets and perhaps weights, as the fitted model gets them.
        allow_zero_gradient: Paths of variables whose gradient may be zero.
    """

    def __init__(
        self, whole: keras.Model, batch: tuple[Any, ...], allow_zero_gradient: tuple[str, ...] = ()
    ):
        super().__init__()
        self.whole = whole
        self.batch = batch
        self.allowed = allow_zero_gradient
        self.gradients_checked = 0
        self.frozen_checked = 0

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Checks the gradients and notes the frozen variables."""
        self._check_gradients()
        self._before = self._digests()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """After the first update that moved anything, compares the frozen variables."""
        if self.frozen_checked or not self._updated():
            return
        self._compare()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Compares once more, over the whole phase."""
        self._compare()

    def _compare(self) -> None:
        after = self._digests()
        moved = [path for path, digest in after.items() if digest != self._before[path]]
        self.frozen_checked = len(after)
        if moved:
            raise CheckError(
                "frozen variables that training leaves alone",
                f"{len(moved)} that moved, {_few(moved)}",
                "Apply the policy before compiling, to the model that is fitted.",
            )

    def _updated(self) -> bool:
        """Whether an update with a non-zero rate was applied (a warm-up starts at zero)."""
        optimizer = self.model.optimizer
        done = int(keras.ops.convert_to_numpy(optimizer.iterations))
        if done == 0:
            return False
        schedule = getattr(optimizer, "_learning_rate", None)
        if isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule):
            return float(schedule(done - 1)) > 0
        return float(keras.ops.convert_to_numpy(optimizer.learning_rate)) > 0

    def _digests(self) -> dict[str, bytes]:
        return {
            weight.path: hashlib.blake2b(np.ascontiguousarray(weight.numpy()).tobytes()).digest()
            for layer in graph_layers(self.whole)
            for weight in _frozen_weights(layer)
        }

    def _check_gradients(self) -> None:
        variables = self.model.trainable_variables
        if not variables:
            raise CheckError("something to train", "a model that is all frozen", "Unfreeze a part.")
        saved = [(v, v.numpy()) for v in self.model.non_trainable_variables]
        resting = _resting(self.whole)
        bad = [v.path for v in variables if v.path not in self.allowed and id(v) not in resting]
        # In one draw, stochastic depth may drop a block for all images of a small batch.
        for _ in range(DRAWS):
            gradients = _gradients(self.model, self.batch)
            learn = {v.path for v, g in zip(variables, gradients, strict=True) if _learns(g)}
            bad = [path for path in bad if path not in learn]
            if not bad:
                break
        for variable, value in saved:
            variable.assign(value)
        self.gradients_checked = len(variables)
        if bad:
            raise CheckError(
                "a finite, non-zero gradient for every trainable variable",
                f"none for {len(bad)} of {len(variables)}, {_few(bad)}",
                "Look for a part that is not connected to the loss, or inputs that are constant.",
            )


def _frozen_weights(layer: keras.layers.Layer) -> list[keras.Variable]:
    """What must not move; the states of random generators are not among a layer's weights."""
    moving: set[int] = set()
    for inner in layers_within(layer):
        if inner.trainable:
            # A layer that trains may move what it made not to be trained: moving statistics.
            is_hub = isinstance(inner, HubLayer)
            own = inner.non_trainable_weights if is_hub else inner._non_trainable_variables
            moving |= {id(weight) for weight in own}
    return [weight for weight in layer.non_trainable_weights if id(weight) not in moving]


def _resting(model: keras.Model) -> set[int]:
    """Ids of the factors A of adapters whose B is zero still: B learns first, and then A."""
    adapters = map(adapter_of, graph_layers(model))
    return {id(found.a) for found in adapters if found is not None and found.is_idle}


def _gradients(model: keras.Model, batch: tuple[Any, ...]) -> list[Any]:
    x, y, *weights = batch
    with tf.GradientTape() as tape:
        predictions = model(x, training=True)
        loss = model.compute_loss(x, y, predictions, *weights, training=True)
        loss = GRADIENT_SCALE * loss
    return tape.gradient(loss, [v.value for v in model.trainable_variables])


def _learns(gradient: Any) -> bool:
    if gradient is None:
        return False
    values = tf.convert_to_tensor(gradient)
    return bool(tf.reduce_all(tf.math.is_finite(values))) and bool(tf.reduce_any(values != 0))


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")
