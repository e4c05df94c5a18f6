"""Learning-rate schedules as values."""

import math
from dataclasses import dataclass
from typing import Any, Protocol

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
        # At least one step has the whole rate.
        warmup = min(round(self.warmup * steps), steps - 1)
        rising = {"warmup_target": learning_rate, "warmup_steps": warmup} if warmup else {}
        return keras.optimizers.schedules.CosineDecay(
            0.0 if warmup else learning_rate, max(steps - warmup, 1), **rising
        )


@dataclass(frozen=True)
class OneCycle:
    """The rate rises to its highest and falls far below its start, momentum goes the other way.

    Both go in half cosines, as in PyTorch and fastai. "sgd" takes the momentum of this schedule in
    place of the phase's, "adam" and "adamw" take it as beta_1; with "rmsprop" only the rate moves.

    Reference: Smith and Topin, "Super-Convergence: Very Fast Training of Neural Networks Using
    Large Learning Rates", 2018 (arXiv 1708.07120); for the momentum Smith, "A disciplined approach
    to neural network hyper-parameters", 2018 (arXiv 1803.09820).

    Attributes:
        warmup: Share of the steps over which the rate rises, in (0, 1).
        start: The first rate is the highest divided by this, at least 1.
        end: The last rate is the first divided by this, at least 1.
        momentum: The lowest and highest momentum, each in [0, 1); None leaves it alone.
    """

    warmup: float = 0.3
    start: float = 25.0
    end: float = 1e4
    momentum: tuple[float, float] | None = (0.85, 0.95)

    def __post_init__(self) -> None:
        if not 0 < self.warmup < 1 or self.start < 1 or self.end < 1:
            raise InputError(
                "a warm-up share in (0, 1), start and end of at least 1",
                f"warmup={self.warmup}, start={self.start}, end={self.end}",
                "The common choice is warmup=0.3, start=25, end=1e4.",
            )
        low, high = self.momentum or (0.0, 0.0)
        if not 0 <= low <= high < 1:
            raise InputError(
                "a lowest and a highest momentum in [0, 1)", str(self.momentum), "Try (0.85, 0.95)."
            )

    def build(
        self, learning_rate: float, steps: int, steps_per_epoch: int
    ) -> keras.optimizers.schedules.LearningRateSchedule:
        """See `Schedule.build`."""
        first = learning_rate / self.start
        return _RiseAndFall(first, learning_rate, first / self.end, self.warmup, steps)

    def build_momentum(self, steps: int) -> keras.optimizers.schedules.LearningRateSchedule | None:
        """Builds the momentum over the steps of a phase; None where it is left alone."""
        if self.momentum is None:
            return None
        low, high = self.momentum
        return _RiseAndFall(high, low, high, self.warmup, steps)


class _RiseAndFall(keras.optimizers.schedules.LearningRateSchedule):
    """Half a cosine from a first value to a middle one, and half a cosine on to the last."""

    def __init__(self, first: float, middle: float, last: float, turn: float, steps: int):
        self.first, self.middle, self.last = first, middle, last
        self.turn, self.steps = turn, steps

    def __call__(self, step: Any) -> Any:
        ops = keras.ops
        # With too few steps to rise in, the first one has the middle value.
        first = self.first if self.steps > 2 else self.middle
        share = ops.cast(step, "float32") / max(self.steps - 1, 1)
        up = ops.clip(share / self.turn, 0.0, 1.0)
        down = ops.clip((share - self.turn) / (1 - self.turn), 0.0, 1.0)
        rising = _half_cosine(first, self.middle, up)
        return ops.where(share < self.turn, rising, _half_cosine(self.middle, self.last, down))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return dict(vars(self))


def _half_cosine(start: float, end: float, share: Any) -> Any:
    return end + (start - end) * (1 + keras.ops.cos(math.pi * share)) / 2


@dataclass(frozen=True)
class Sweep:
    """From a low rate to a high one in equal ratios, whatever the phase's rate is.

    See `keras_tl.training.lr_finder`.

    Attributes:
        low: The first rate, above 0.
        high: The last rate.
        steps: Steps from the one to the other, at least 2.
    """

    low: float
    high: float
    steps: int

    def build(
        self, learning_rate: float, steps: int, steps_per_epoch: int
    ) -> keras.optimizers.schedules.LearningRateSchedule:
        """See `Schedule.build`."""
        return keras.optimizers.schedules.ExponentialDecay(
            self.low, self.steps - 1, self.high / self.low
        )


SCHEDULES: dict[str, type] = {
    "constant": Constant,
    "step": Step,
    "cosine": Cosine,
    "one-cycle": OneCycle,
}
