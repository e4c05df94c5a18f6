"""The learning-rate range test: what a phase's loss does while the rate rises."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_tl import strategies
from keras_tl.errors import InputError
from keras_tl.feature_cache import FeatureStore
from keras_tl.freezing import Policy
from keras_tl.topology import layers_within
from keras_tl.training import arguments, checks
from keras_tl.training.fit import run_phases
from keras_tl.training.images import Images
from keras_tl.training.phases import Phase
from keras_tl.training.schedules import Sweep

# The old mean's share in the next one: it looks back over about ten steps.
SMOOTHING = 0.9
# The sweep ends when the smoothed loss is this many times the first one.
RAN_AWAY = 2.0
# A curve that does not fall by this share of its start says nothing.
LEAST_FALL = 0.1
LEAST_STEPS = 20
# A rate that moves no weight.
STILL = 1e-30
# Lines of the table.
LINES = 15


@dataclass(frozen=True)
class LearningRates:
    """The loss at each rate of a sweep, and what rates it suggests.

    Attributes:
        rates: Float64 `[steps]`, rising in equal ratios.
        losses: Float64 `[steps]`: the loss of the step's batch before the step, minus its loss had
            nothing been learnt at all, plus the mean of the latter. So hard batches make no hills
            in the curve. The last may be infinite or NaN.
        phase: The phase's name.
    """

    rates: np.ndarray
    losses: np.ndarray
    phase: str = ""

    @property
    def smoothed(self) -> np.ndarray:
        """The losses as an exponential moving average: float64 `[steps]`."""
        return smooth(self.losses)

    @property
    def falls(self) -> bool:
        """Whether the smoothed loss falls by a tenth at least; else the curve says nothing."""
        smoothed = self._finite()
        return bool(smoothed.min() <= (1 - LEAST_FALL) * smoothed[0])

    @property
    def turns(self) -> bool:
        """Whether the smoothed loss is lowest before the last rate."""
        return self._least() < len(self.rates) - 1

    @property
    def why_silent(self) -> str:
        """Why no rate is suggested, as a sentence; "" where one is."""
        if not self.falls:
            return HARDLY
        return "" if self.turns else STILL_FALLING

    @property
    def suggestion(self) -> float | None:
        """The rate to try first, `tenth_of_least`; None where the curve does not say one."""
        return None if self.why_silent else self.tenth_of_least

    @property
    def tenth_of_least(self) -> float:
        """A tenth of the rate with the lowest smoothed loss: a step back from where it turns."""
        return float(self.rates[self._least()]) / 10

    @property
    def steepest(self) -> float:
        """The rate where the smoothed loss, before its minimum, falls fastest over log(rate)."""
        end = max(self._least() + 1, 2)
        slopes = np.gradient(self.smoothed[:end], np.log(self.rates[:end]))
        return float(self.rates[int(np.argmin(slopes))])

    @property
    def valley(self) -> float:
        """The rate in the middle of the smoothed loss's longest fall, as fastai's `valley`."""
        return float(self.rates[sum(longest_fall(self.smoothed)) // 2])

    def _finite(self) -> np.ndarray:
        # Once the mean is not finite, it stays so.
        return self.smoothed[np.isfinite(self.smoothed)]

    def _least(self) -> int:
        return int(np.argmin(self._finite()))

    def __str__(self) -> str:
        kept = np.unique(np.linspace(0, len(self.rates) - 1, LINES).astype(int))
        lines = [f"{'learning rate':>13}  {'loss, smoothed':>14}"]
        lines += [f"{self.rates[k]:13.2e}  {self.smoothed[k]:14.4f}" for k in kept]
        if self.why_silent:
            return "\n".join([*lines, self.why_silent])
        return "\n".join(
            [
                *lines,
                f"a tenth of the lowest's   {self.tenth_of_least:.2g}   try this first",
                f"steepest fall             {self.steepest:.2g}",
                f"valley, middle of a fall  {self.valley:.2g}",
            ]
        )


HARDLY = (
    "The loss falls by less than a tenth at all of these rates: the curve says nothing. Keep the "
    "rate you have."
)
STILL_FALLING = (
    "The loss is lowest at the last rate, so the curve does not say where it turns. Take more "
    "steps, or a higher last rate."
)


def find_learning_rate(
    model: keras.Model,
    phase: Phase,
    train: Images,
    *,
    low: float = 1e-6,
    high: float = 10.0,
    steps: int = 100,
    task: str = "single-label",
    batch_size: int = 32,
    micro_batches: int = 1,
    seed: int = 0,
    class_weights: Sequence[float] | Mapping[int, float] | None = None,
    feature_store: FeatureStore | bool = True,
    engine: str = "auto",
    strategy: tf.distribute.Strategy | None = None,
    verbose: int = 0,
) -> LearningRates:
    """Trains a phase for some steps at rates from low to high, and then undoes it.

    The phase's own schedule, epochs and rate do not matter; its policy, optimizer, decay and loss
    do. The same steps are run at a rate close to zero first: each loss is compared with that of the
    same batch with the same augmentation and dropout. The sweep ends where the smoothed loss is
    twice the first one. Afterwards all weights, statistics, random states and `trainable` flags are
    what they were. With a feature store the frozen part runs once, and what is stored serves the
    training after it.

    Reference: Smith, "Cyclical Learning Rates for Training Neural Networks", WACV 2017, section
    3.3; the suggestions are those of fastai (`minimum`, `steep`, `valley`).

    Args:
        model: A model from a builder. For a fine-tuning phase its head should be trained.
        phase: The phase to find a rate for.
        train: The images to learn from.
        low: The first rate, above 0.
        high: The last rate, above `low`.
        steps: Steps, at least 20.
        task: See `run_phases`.
        batch_size: See `run_phases`; the rate that is right depends on it.
        micro_batches: See `run_phases`.
        seed: See `run_phases`.
        class_weights: See `run_phases`.
        feature_store: See `run_phases`.
        engine: See `run_phases`.
        strategy: See `run_phases`.
        verbose: 1 shows how far passes and steps are, 0 does not.

    Returns:
        Losses by rate, and suggestions. None of them is applied to anything.

    Raises:
        InputError: Rates or steps out of range, or what `run_phases` refuses.
    """
    check_sweep(steps, low, high)
    model, [phase], class_weights = arguments.read(model, [phase], train, None, class_weights, None)
    checks.check_training(model, [phase], train, None, task, class_weights)
    parts = (strategy or strategies.current()).num_replicas_in_sync * micro_batches
    checks.check_batch(batch_size, parts)
    epochs = _epochs_of(steps, len(train), batch_size, parts)

    def losses(first: float, last: float, still: np.ndarray | None = None) -> np.ndarray:
        recorder = _Recorder(steps, still)
        swept: dict[str, Any] = {"schedule": Sweep(first, last, steps), "epochs": epochs}
        # With a fitted head, the loss would have nowhere left to fall.
        swept |= {"patience": None, "averaging": None, "head_start": "given"}
        with _restored(model, phase.freezing, strategy):
            run_phases(
                model,
                [replace(phase, **swept)],
                train,
                task=task,
                batch_size=batch_size,
                micro_batches=micro_batches,
                seed=seed,
                class_weights=class_weights,
                feature_store=feature_store,
                engine=engine,
                each_step=True,
                strategy=strategy,
                callbacks=lambda _: [recorder],
                verbose=verbose,
            )
        return np.array(recorder.losses)

    found = losses(low, high, still=losses(STILL, 2 * STILL))
    rates = low * (high / low) ** (np.arange(len(found)) / (steps - 1))
    return LearningRates(rates, found, phase.name)


def _epochs_of(steps: int, images: int, batch_size: int, parts: int) -> int:
    """Epochs that have `steps` steps; `run_phases` makes batches that divide into `parts`."""
    whole = max(min(batch_size, images) // parts, 1) * parts
    return math.ceil(steps / max(images // whole, 1))


def check_sweep(steps: int, low: float = 1e-6, high: float = 10.0) -> None:
    """Refuses a sweep that cannot be drawn.

    Args:
        steps: See `find_learning_rate`.
        low: See `find_learning_rate`.
        high: See `find_learning_rate`.

    Raises:
        InputError: Rates or steps are out of range.
    """
    if not 0 < low < high or steps < LEAST_STEPS:
        raise InputError(
            f"rates 0 < low < high and at least {LEAST_STEPS} steps",
            f"low={low}, high={high}, steps={steps}",
            "The defaults are 1e-6, 10 and 100.",
        )


@contextmanager
def _restored(
    model: keras.Model, policy: Policy, strategy: tf.distribute.Strategy | None
) -> Iterator[None]:
    """Restores variables, also the states of random generators, and `trainable` flags.

    Adapters that the policy makes stay, frozen: in their initial state they change nothing.
    """
    flags = [(layer, layer.trainable) for layer in layers_within(model)]
    # A layer's flag is not enough: with adapters or BitFit, only some of its weights train.
    trained = {id(w) for layer, _ in flags for w in layer.weights if w.trainable}
    with (strategy or strategies.current()).scope():
        # Before the variables are saved, so that adapters it makes are among them.
        policy.apply(model)
    saved = [(variable, variable.numpy()) for variable in model.variables]
    try:
        yield
    finally:
        for variable, value in saved:
            variable.assign(value)
        for layer, trainable in flags:
            layer.trainable = trainable
            for weight in layer.weights:
                weight.trainable = id(weight) in trained


def smooth(losses: np.ndarray, share: float = SMOOTHING) -> np.ndarray:
    """A bias-corrected exponential moving average.

    Args:
        losses: Float `[steps]`.
        share: The old mean's share in the next one, in [0, 1).

    Returns:
        Float64 `[steps]`.
    """
    mean, means = 0.0, []
    for step, loss in enumerate(losses, start=1):
        mean = share * mean + (1 - share) * float(loss)
        means.append(mean / (1 - share**step))
    return np.array(means)


def longest_fall(values: np.ndarray) -> tuple[int, int]:
    """First and last index of the longest falling subsequence, the earliest of equally long ones.

    Args:
        values: Float `[steps]`, at least one; what is NaN belongs to none.
    """
    length, first = np.ones(len(values), int), np.arange(len(values))
    for place, value in enumerate(values):
        above = np.flatnonzero(values[:place] > value)
        if len(above):
            best = above[np.argmax(length[above])]
            length[place], first[place] = length[best] + 1, first[best]
    end = int(np.argmax(length))
    return int(first[end]), end


class _Recorder(keras.callbacks.Callback):
    """Keeps the loss of each step and ends the sweep.

    Args:
        steps: How many steps to take at most.
        still: The loss of each step's batch where nothing is learnt; None takes all steps.
    """

    def __init__(self, steps: int, still: np.ndarray | None = None):
        super().__init__()
        self.steps = steps
        self.still = still
        self.losses: list[float] = []

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Forgets earlier steps; otherwise the loss would be a mean over them."""
        self.model.reset_metrics()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Keeps the loss; ends where the steps are done or the loss has run away."""
        loss, ran_away = float((logs or {})["loss"]), False
        if self.still is None:
            self.losses.append(loss)
        else:
            start = float(self.still.mean())
            self.losses.append(loss - float(self.still[len(self.losses)]) + start)
            # Also where it is NaN.
            ran_away = not smooth(np.array(self.losses))[-1] <= RAN_AWAY * start
        if ran_away or len(self.losses) == self.steps:
            self.model.stop_training = True
            # Divergence is expected in a sweep; without this, the end of the epoch would raise.
            self.model.reset_metrics()
