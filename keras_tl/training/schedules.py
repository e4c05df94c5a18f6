"""Learning-rate schedules as values."""

from dataclasses import dataclass
from typing import Protocol

import keras

from keras_tl.errors import InputError


class Schedule(Protocol):
    """How the learning rate goes over the steps of one phase."""

    def build(
        self, learning_rate: float, steps: int, steps_per_epoch: int
    ) -> "float | keras.optimizers.schedules.LearningRateSchedule":
        """Builds what a Keras optimizer takes as its learning rate.

        Args:
            learning_rate: The phase's rate, the highest that is reached.
            steps: Steps in the phase.
            steps_per_epoch: Steps in an epoch.

        Returns:
            A number, or a Keras schedule over the optimizer's iterations.
        """


@dataclass(frozen=True)
class Constant:
    """The same rate throughout."""

    def build(self, learning_rate: float, steps: int, steps_per_epoch: int) -> float:
        """See `Schedule.build`."""
        return learning_rate


@dataclass(frozen=True)
class Step:
    """The rate is multiplied by a factor every few epochs.

    Attributes:
        epochs: Epochs between two changes, at least 1.
        factor: What the rate is multiplied by, in (0, 1].
    """

    epochs: int = 7
    factor: float = 0.1

    def __post_init__(self) -> None:
        if self.epochs < 1 or not 0 < self.factor <= 1:
            raise InputError(
                "at least 1 epoch and a factor in (0, 1]",
                f"epochs={self.epochs}, factor={self.factor}",
                "The common choice is epochs=7, factor=0.1.",
            )

    def build(
        self, learning_rate: float, steps: int, steps_per_epoch: int
    ) -> keras.optimizers.schedules.LearningRateSchedule:
        """See `Schedule.build`."""
        return keras.optimizers.schedules.ExponentialDecay(
            learning_rate, self.epochs * steps_per_epoch, self.factor, staircase=True
        )


@dataclass(frozen=True)
class Cosine:
    """Linear warm-up, then half a cosine down to zero.

    Reference: Loshchilov and Hutter, "SGDR", ICLR 2017, equation 5, without restarts.

    Attributes:
        warmup: Share of the steps over which the rate rises from zero, in [0, 1).
    """

    warmup: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.warmup < 1:
            raise InputError("a warm-up share in [0, 1)", str(self.warmup), "0.1 is common.")

    def build(
        self, learning_rate: float, steps: int, steps_per_epoch: int
    ) -> keras.optimizers.schedules.LearningRateSchedule:
        """See `Schedule.build`."""
        warmup = round(self.warmup * steps)
        rising = {"warmup_target": learning_rate, "warmup_steps": warmup} if warmup else {}
        return keras.optimizers.schedules.CosineDecay(
            0.0 if warmup else learning_rate, max(steps - warmup, 1), **rising
        )


SCHEDULES: dict[str, type] = {"constant": Constant, "step": Step, "cosine": Cosine}
