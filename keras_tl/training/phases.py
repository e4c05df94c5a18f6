"""Phases: what trains, for how long and how fast, as values."""

from dataclasses import dataclass, field

import keras

from keras_tl import freezing
from keras_tl.errors import InputError, did_you_mean
from keras_tl.training.schedules import Cosine, Schedule

OPTIMIZERS = {
    "adamw": keras.optimizers.AdamW,
    "adam": keras.optimizers.Adam,
    "sgd": keras.optimizers.SGD,
    "rmsprop": keras.optimizers.RMSprop,
}


@dataclass(frozen=True)
class Phase:
    """One stretch of training under one freezing policy.

    Attributes:
        freezing: What is frozen.
        epochs: Passes over the training data, at least 1.
        learning_rate: The highest learning rate, above 0.
        schedule: How the rate goes over the phase.
        optimizer: "adamw", "adam", "sgd" or "rmsprop".
        momentum: Momentum of "sgd" and "rmsprop", in [0, 1).
        weight_decay: Decoupled weight decay (Loshchilov and Hutter, "Decoupled Weight Decay
            Regularization", ICLR 2019); biases and normalisation weights are left out.
        label_smoothing: See `keras_tl.tasks.Task.build_loss`.
        patience: Stop after this many epochs in which the validation loss did not fall; None
            runs all epochs. In both cases the weights of the best epoch are restored where
            there is validation data.
        clip_norm: Each gradient is clipped to this norm; None does not clip.
        name: What the phase is called in logs.
        allow_zero_gradient: Paths of variables ("head_predictions/bias") that may get no
            gradient; every other trainable one must get one before the first step.
    """

    freezing: freezing.Policy
    epochs: int
    learning_rate: float
    schedule: Schedule = field(default_factory=Cosine)
    optimizer: str = "adamw"
    momentum: float = 0.9
    weight_decay: float = 1e-4
    label_smoothing: float = 0.0
    patience: int | None = None
    clip_norm: float | None = None
    name: str = "training"
    allow_zero_gradient: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise InputError("at least 1 epoch", str(self.epochs), "Leave the phase out instead.")
        if self.learning_rate <= 0:
            raise InputError(
                "a learning rate above 0", str(self.learning_rate), "1e-3 suits a new head."
            )
        if self.optimizer not in OPTIMIZERS:
            hint = did_you_mean(self.optimizer, OPTIMIZERS, f"Choose from {', '.join(OPTIMIZERS)}.")
            raise InputError("an optimizer's name", repr(self.optimizer), hint)

    def build_optimizer(self, steps_per_epoch: int) -> keras.optimizers.Optimizer:
        """Builds the Keras optimizer of this phase.

        Args:
            steps_per_epoch: Steps in an epoch, for the schedule.

        Returns:
            A fresh optimizer.
        """
        steps = self.epochs * steps_per_epoch
        rate = self.schedule.build(self.learning_rate, steps, steps_per_epoch)
        extra = {"momentum": self.momentum} if self.optimizer in ("sgd", "rmsprop") else {}
        optimizer = OPTIMIZERS[self.optimizer](
            learning_rate=rate,
            weight_decay=self.weight_decay,
            clipnorm=self.clip_norm,
            **extra,
        )
        if self.weight_decay:
            optimizer.exclude_from_weight_decay(var_names=["bias", "beta", "gamma"])
        return optimizer
