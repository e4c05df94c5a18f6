"""Keras' optimizers, and variants whose update differs from variable to variable.

Keras has one rate, one momentum and one decay for all variables. Scaling gradients is no way around
that: Adam divides by their size again. So each variable is updated here with its own rate, found by
the variable's identity.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

OPTIMIZERS = {
    "adamw": keras.optimizers.AdamW,
    "adam": keras.optimizers.Adam,
    "sgd": keras.optimizers.SGD,
    "rmsprop": keras.optimizers.RMSprop,
}


@dataclass(frozen=True)
class Treatment:
    """How the update of one variable differs from the others'.

    Attributes:
        rate: What the learning rate is multiplied by; weight decay goes with the rate.
        pull: How strongly it is drawn to `start`: pull * (variable - start) joins its gradient.
        start: The value it is drawn to, of the variable's shape; None is zero.
    """

    rate: float = 1.0
    pull: float = 0.0
    start: np.ndarray | None = None


@dataclass(frozen=True)
class Course:
    """What an optimizer from `KINDS` does differently from Keras' own.

    Attributes:
        treatments: By the `id` of the Keras variable; other variables are updated as usual.
        momentum: The momentum (Adam's beta_1) over the optimizer's steps; None keeps it.
    """

    treatments: Mapping[int, Treatment]
    momentum: keras.optimizers.schedules.LearningRateSchedule | None = None


class _PerVariable(keras.optimizers.Optimizer):
    """Applies a `Course` to an update before the next base class carries it out."""

    def __init__(self, course: Course, **options: Any):
        super().__init__(**options)
        self.course = course

    def build(self, variables: list[Any]) -> None:
        """Keeps the treatments in the order of the variables, and where they are drawn to."""
        if self.built:
            return
        super().build(variables)
        plain = Treatment()
        self.rows = tuple(self.course.treatments.get(id(v), plain) for v in variables)
        self.starts = [
            self._start(variable, row) for variable, row in zip(variables, self.rows, strict=True)
        ]

    def _start(self, variable: Any, row: Treatment) -> Any:
        if not row.pull or row.start is None:
            return None
        return self.add_variable_from_reference(
            variable,
            name="start",
            initializer=lambda shape, dtype: keras.ops.convert_to_tensor(row.start, dtype),
        )

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Updates one variable: its pull, its decay, its rate."""
        index = self._get_variable_index(variable)
        row, start = self.rows[index], self.starts[index]
        rate = keras.ops.cast(learning_rate, variable.dtype) * row.rate
        if row.pull:
            away = variable if start is None else keras.ops.subtract(variable, start)
            gradient = keras.ops.add(gradient, keras.ops.multiply(row.pull, away))
        if self.weight_decay and self._use_weight_decay(variable):
            decay = keras.ops.multiply(rate, self.weight_decay)
            self.assign_sub(variable, keras.ops.multiply(variable, decay))
        super().update_step(gradient, variable, rate)

    def _apply_weight_decay(self, variables: list[Any]) -> None:
        """Nothing: Keras would decay all variables at one rate."""

    def _momentum_now(self) -> Any:
        """The momentum of this step; None where the course has none."""
        schedule = self.course.momentum
        return None if schedule is None else schedule(self.iterations)


class _MovingBeta(_PerVariable, keras.optimizers.Adam):
    """Adam whose beta_1 follows the course; bias is corrected as for a fixed one, as in PyTorch."""

    @property
    def beta_1(self) -> Any:
        """The share of the old mean of gradients in the new one."""
        moving = self._momentum_now()
        return self._fixed_beta if moving is None else moving

    @beta_1.setter
    def beta_1(self, value: float) -> None:
        self._fixed_beta = value


class EachAdamW(_MovingBeta, keras.optimizers.AdamW):
    """AdamW, each variable with its own rate."""


class EachAdam(_MovingBeta):
    """Adam, each variable with its own rate."""


class _MovingMomentum(keras.optimizers.SGD):
    """SGD whose momentum follows the course; Keras' own takes only a Python number."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Keras' update, with the momentum of this step."""
        momentum = self._momentum_now()
        if momentum is None or not self.momentums:
            super().update_step(gradient, variable, learning_rate)
            return
        velocity = self.momentums[self._get_variable_index(variable)]
        kept = keras.ops.multiply(velocity, keras.ops.cast(momentum, variable.dtype))
        step = keras.ops.multiply(keras.ops.cast(gradient, variable.dtype), learning_rate)
        self.assign(velocity, keras.ops.subtract(kept, step))
        self.assign_add(variable, velocity)


class EachSGD(_PerVariable, _MovingMomentum):
    """SGD, each variable with its own rate."""


class EachRMSprop(_PerVariable, keras.optimizers.RMSprop):
    """RMSprop, each variable with its own rate."""


# By Keras' names; these also take a `course`.
KINDS = {"adamw": EachAdamW, "adam": EachAdam, "sgd": EachSGD, "rmsprop": EachRMSprop}
