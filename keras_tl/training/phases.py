"""Phases: what trains, for how long and how fast, as values."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any, NoReturn

import keras
import numpy as np

from keras_tl import freezing, tasks
from keras_tl.data.targets import target_unit
from keras_tl.errors import InputError, did_you_mean
from keras_tl.training.anchors import L2SP
from keras_tl.training.averaging import EMA, Averaging
from keras_tl.training.head_start import check_head_start
from keras_tl.training.optimizers import KINDS, OPTIMIZERS, Course, Treatment
from keras_tl.training.rates import variable_rates
from keras_tl.training.sampling import check_sampling
from keras_tl.training.schedules import Cosine, OneCycle, Schedule

# Attributes of a phase that must be at least 0, and below the value given here.
ENDS = {
    "momentum": 1.0,
    "label_smoothing": 1.0,
    "weight_decay": math.inf,
    "focal_gamma": math.inf,
    "mixup": math.inf,
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
        weight_decay: Decoupled weight decay, at least 0 (Loshchilov and Hutter, "Decoupled Weight
            Decay Regularization", ICLR 2019); biases and normalisation weights are left out.
        label_smoothing: See `keras_tl.tasks.Task.build_loss`.
        focal_gamma: See `keras_tl.tasks.Task.build_loss`; 0 is plain cross-entropy. `val_loss`
            is then the focal one too, but with exclusive classes it does not choose the epoch.
        mixup: Alpha of the Beta distribution that samples of a batch are blended by, where the
            frozen part of the model ends (see `keras_tl.training.mixup`); 0 blends none.
            Figures during training are then measured against blended targets.
        sampling: "shuffled" or "balanced", see `keras_tl.training.sampling`.
        head_start: "given" begins with the head as it is. "fitted" begins with a logistic
            (for numbers, a ridge) regression where one layer is all that trains, on stored
            features of few items; see `keras_tl.training.head_start.start_fitted`.
        patience: Stop after this many epochs in which the validation loss did not fall (of
            exclusive classes the refined one, see `keras_tl.training.refinement`); None runs all
            epochs. In both cases the weights of the best epoch are restored where there is
            validation data, or those of the start if no epoch was better.
        clip_norm: Each gradient is clipped to this norm, above 0; None does not clip.
        layer_decay: What the learning rate is multiplied by from the head to the section before
            it, and so on to the stem, in (0, 1]; see `keras_tl.training.rates.section_rates`.
        l2_sp: A penalty on leaving the pretrained weights; None has none.
        averaging: Which mean of the weights during the phase it ends with; None ends with the
            weights of the last or best epoch.
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
    focal_gamma: float = 0.0
    mixup: float = 0.0
    sampling: str = "shuffled"
    head_start: str = "given"
    patience: int | None = None
    clip_norm: float | None = None
    layer_decay: float = 1.0
    l2_sp: L2SP | None = None
    averaging: Averaging | None = None
    name: str = "training"
    allow_zero_gradient: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self._check_kinds()
        if self.epochs < 1:
            raise InputError("at least 1 epoch", str(self.epochs), "Leave the phase out instead.")
        if not self.learning_rate > 0:
            raise InputError(
                "a learning rate above 0", str(self.learning_rate), "1e-3 suits a new head."
            )
        if self.optimizer not in OPTIMIZERS:
            hint = did_you_mean(self.optimizer, OPTIMIZERS, f"Choose from {', '.join(OPTIMIZERS)}.")
            raise InputError("an optimizer's name", repr(self.optimizer), hint)
        if not 0 < self.layer_decay <= 1:
            raise InputError("a layer_decay in (0, 1]", str(self.layer_decay), "Try 0.8.")
        for name, end in ENDS.items():
            if not 0 <= getattr(self, name) < end:
                below = f" and below {end:g}" if end < math.inf else ""
                received = str(getattr(self, name))
                raise InputError(f"{name} of at least 0{below}", received, "Mend the value.")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise InputError("a clip_norm above 0", str(self.clip_norm), "None does not clip.")
        check_sampling(self.sampling)
        check_head_start(self.head_start)

    def _check_kinds(self) -> None:
        """Refuses what is of another kind than the attribute, such as objects of Keras."""

        def refuse(expected: str, value: Any, fix: str) -> NoReturn:
            if isinstance(value, type):
                raise InputError(expected, f"the class {value.__name__}", fix)
            plain = value is None or isinstance(value, str | Real)
            raise InputError(expected, repr(value) if plain else type(value).__name__, fix)

        if not isinstance(self.freezing, freezing.Policy):
            refuse("a freezing policy", self.freezing, "Give one such as freezing.All().")
        if isinstance(self.epochs, bool) or not isinstance(self.epochs, Integral):
            refuse("a whole number of epochs", self.epochs, "Give one such as 5.")
        if isinstance(self.learning_rate, bool) or not isinstance(self.learning_rate, Real):
            fix = "How it goes over the phase is said by schedule=."
            refuse("a number as learning rate", self.learning_rate, fix)
        if isinstance(self.schedule, type) or not hasattr(self.schedule, "build"):
            refuse("a schedule", self.schedule, "Give one such as schedules.Cosine().")
        if not isinstance(self.optimizer, str):
            fix = (
                f"Choose from {', '.join(OPTIMIZERS)}; learning_rate, schedule, momentum, "
                "weight_decay, clip_norm and averaging are the phase's."
            )
            refuse("an optimizer's name", self.optimizer, fix)

    def treatments(
        self, model: keras.Model, starts: Mapping[int, np.ndarray]
    ) -> dict[int, Treatment]:
        """Says how the update of each weight differs from the others'.

        Args:
            model: The whole model.
            starts: What pretrained weights are drawn to, by `id`; see
                `keras_tl.training.anchors.start_values`. Without `l2_sp` it is not read.

        Returns:
            Treatments by the variable's `id`; none where all weights are treated alike.
        """
        if self.layer_decay == 1 and self.l2_sp is None:
            return {}
        rates = variable_rates(model, self.layer_decay)
        if self.l2_sp is None:
            return {key: Treatment(rate) for key, rate in rates.items()}
        pulls = (self.l2_sp.beta, self.l2_sp.alpha)
        return {
            key: Treatment(rate, pulls[key in starts], starts.get(key))
            for key, rate in rates.items()
        }

    def build_loss(self, task: str, targets: Any) -> keras.losses.Loss:
        """Builds the loss of this phase; a regression's is in deviations of its targets.

        Args:
            task: A name in `keras_tl.tasks`.
            targets: Float32 `[items, outputs]`, of the training items.

        Returns:
            A fresh loss.

        Raises:
            InputError: See `keras_tl.tasks.Task.build_loss`.
        """
        row = tasks.get(task)
        if row.classifies:
            return row.build_loss(self.label_smoothing, focal_gamma=self.focal_gamma)
        _, scale = target_unit(targets)
        return row.build_loss(self.label_smoothing, scale, self.focal_gamma)

    def build_optimizer(
        self, steps_per_epoch: int, treatments: Mapping[int, Treatment] | None = None
    ) -> keras.optimizers.Optimizer:
        """Builds the Keras optimizer of this phase.

        Args:
            steps_per_epoch: Steps in an epoch, for the schedule.
            treatments: See `treatments`.

        Returns:
            A fresh optimizer.
        """
        steps = self.epochs * steps_per_epoch
        options: dict[str, Any] = {
            "learning_rate": self.schedule.build(self.learning_rate, steps, steps_per_epoch),
            "weight_decay": self.weight_decay,
            "clipnorm": self.clip_norm,
        }
        if self.optimizer in ("sgd", "rmsprop"):
            options["momentum"] = float(self.momentum)
        if isinstance(self.averaging, EMA):
            options |= {"use_ema": True, "ema_momentum": self.averaging.momentum}
        momentum = None
        if isinstance(self.schedule, OneCycle) and self.optimizer != "rmsprop":
            momentum = self.schedule.build_momentum(steps)
            if self.schedule.momentum and self.optimizer == "sgd":
                # With 0, Keras would make no velocities, which the schedule's momentum needs.
                options["momentum"] = self.schedule.momentum[1]
        if treatments or momentum:
            optimizer = KINDS[self.optimizer](Course(treatments or {}, momentum), **options)
        else:
            optimizer = OPTIMIZERS[self.optimizer](**options)
        if self.weight_decay:
            # What normalisations have: "scale" is that of `RMSNormalization`.
            optimizer.exclude_from_weight_decay(var_names=["bias", "beta", "gamma", "scale"])
        return optimizer
