"""Weight averaging: the mean of the weights during training is often better than the last ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_tl.backbones.hub_layer import HubLayer
from keras_tl.errors import InputError
from keras_tl.topology import layers_within

if TYPE_CHECKING:
    from keras_tl.training.phases import Phase


@dataclass(frozen=True)
class EMA:
    """An exponential moving average of the weights, over all steps.

    Reference: Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging", SIAM
    Journal on Control and Optimization 30, 1992; in its exponential form Tarvainen and Valpola,
    "Mean teachers are better role models", NeurIPS 2017.

    Attributes:
        momentum: The average's share in the next average, in [0, 1): 0.99 averages over about the
            last 100 steps.
    """

    momentum: float = 0.99

    def __post_init__(self) -> None:
        if not 0 <= self.momentum < 1:
            raise InputError("a momentum in [0, 1)", str(self.momentum), "0.99 is common.")


@dataclass(frozen=True)
class SWA:
    """The plain mean of the weights at the ends of the last epochs.

    It helps most at a rate that stays high: combine it with the schedule `Constant`.

    Reference: Izmailov et al., "Averaging Weights Leads to Wider Optima and Better
    Generalization", UAI 2018.

    Attributes:
        start: The share of the epochs after which averaging begins, in [0, 1).
    """

    start: float = 0.75

    def __post_init__(self) -> None:
        if not 0 <= self.start < 1:
            raise InputError("a start in [0, 1)", str(self.start), "0.75 is common.")


Averaging = EMA | SWA
AVERAGING: dict[str, type[EMA] | type[SWA]] = {"ema": EMA, "swa": SWA}


class AveragedWeights(keras.callbacks.Callback):
    """Puts averaged weights into the model whenever an epoch ends, but trains on with its own.

    From the validation of an epoch to the beginning of the next one the model holds the average:
    it is validated, judged and kept by `BestWeights`, saved by callbacks after this one, and what
    training ends with. Before SWA begins, the model holds its own weights.

    Args:
        averaging: What is averaged; an `EMA` needs an optimizer with `use_ema`.
        epochs: Epochs of the phase.
    """

    def __init__(self, averaging: Averaging, epochs: int):
        super().__init__()
        self.averaging = averaging
        # The first epoch that is averaged; at least the last one is.
        self.first = 0 if isinstance(averaging, EMA) else int(averaging.start * epochs)
        self.averaged = 0
        self._own: list[np.ndarray] | None = None
        self._mean: list[np.ndarray] | None = None

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Goes on from where the last epoch ended."""
        self._epoch = epoch
        if self._own is not None:
            self._assign(self._own)
        self._own = None

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Shows the average to validation."""
        self._show_average()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Shows the average if nothing was validated."""
        self._show_average()

    def state(self) -> dict[str, Any]:
        """The mean, how many it averages, and the model's own weights while it holds the mean."""
        return {"averaged": self.averaged, "own": self._own, "mean": self._mean}

    def restore(self, state: dict[str, Any]) -> None:
        """Takes them back."""
        self.averaged, self._own, self._mean = state["averaged"], state["own"], state["mean"]

    def _show_average(self) -> None:
        if self._own is not None or self._epoch < self.first:
            return
        self._own = [np.array(v.numpy()) for v in self.model.trainable_variables]
        if isinstance(self.averaging, EMA):
            # What Keras does when training ends.
            self.model.optimizer.finalize_variable_values(self.model.trainable_variables)
        else:
            self._assign(self._next_mean(self._own))

    def _next_mean(self, values: list[np.ndarray]) -> list[np.ndarray]:
        self.averaged += 1
        pairs = zip(self._mean or values, values, strict=True)
        self._mean = [mean + (value - mean) / self.averaged for mean, value in pairs]
        return self._mean

    def _assign(self, values: list[np.ndarray]) -> None:
        for variable, value in zip(self.model.trainable_variables, values, strict=True):
            variable.assign(value)


def _moves(layer: keras.layers.Layer) -> bool:
    """Whether a layer that trains has statistics that move; of a module, whether it may have."""
    if isinstance(layer, HubLayer):
        held = layer.statistics_frozen or not layer.module.takes_training
        return not (held or all(v.trainable for v in layer.module.variables))
    return isinstance(layer, keras.layers.BatchNormalization)


def check_averaging(model: keras.Model, phases: "Sequence[Phase]") -> None:
    """Refuses to average weights while statistics move, which would not fit the average.

    Args:
        model: The whole model; its flags are those of a phase afterwards.
        phases: The phases.

    Raises:
        InputError: A phase averages weights and trains BatchNormalization.
    """
    for phase in phases:
        if phase.averaging is None:
            continue
        phase.freezing.apply(model)
        moving = [layer.name for layer in layers_within(model) if layer.trainable and _moves(layer)]
        if moving:
            raise InputError(
                f"frozen BatchNormalization where weights are averaged (phase {phase.name!r})",
                f"{len(moving)} whose statistics move, {moving[0]} first",
                'Leave batch_norm="trained" out, or the averaging.',
            )
