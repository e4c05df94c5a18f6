"""What is predicted, as rows: the activation, loss and metrics that belong together."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from keras_tl.errors import InputError, did_you_mean

if TYPE_CHECKING:
    import keras
    import numpy as np


@dataclass(frozen=True)
class Task:
    """One kind of prediction.

    Labels are float32 `[samples, outputs]` for every task: one-hot for "single-label",
    zeros and ones for "multi-label", values for "regression".

    Attributes:
        name: The name users type.
        activation: The activation of the last layer.
        loss: The Keras name of the loss.
        metrics: The Keras names of the metrics shown during training.
        classifies: Whether the outputs are classes.
        focal_loss: The Keras name of the loss's focal version; None where it has none.
    """

    name: str
    activation: str
    loss: str
    metrics: tuple[str, ...]
    classifies: bool
    focal_loss: str | None = None

    def build_loss(
        self,
        label_smoothing: float = 0.0,
        target_scale: "np.ndarray | None" = None,
        focal_gamma: float = 0.0,
    ) -> "keras.losses.Loss":
        """Builds the Keras loss.

        Args:
            label_smoothing: Share of each target spread over all classes, in [0, 1)
                (Szegedy et al., "Rethinking the Inception Architecture", CVPR 2016, p. 2822).
                Classification only.
            target_scale: Regression only: float `[outputs]`, the error that counts as 1 in the
                loss, so that every target counts the same and rates do not depend on units.
            focal_gamma: At least 0: cross-entropy is weighted by (1 - p)^gamma, with p the
                probability given to the true label, so that easy samples count less (Lin et al.,
                "Focal Loss for Dense Object Detection", ICCV 2017, without their alpha). 0 is
                cross-entropy. Classification only.

        Returns:
            A fresh `keras.losses.Loss`.

        Raises:
            InputError: Label smoothing or the focal loss was asked of a regression.
        """
        import keras

        asked = {"label_smoothing": label_smoothing, "focal_gamma": focal_gamma}
        config = {name: value for name, value in asked.items() if value}
        if config and not self.classifies:
            name = next(iter(config))
            fix = "Leave it out: it is for classes."
            raise InputError(f"{name} of 0 for a regression", f"{name}={config[name]}", fix)
        if target_scale is not None:
            return _scaled_loss(self.loss, target_scale)
        gamma = config.pop("focal_gamma", None)
        if gamma is None:
            return keras.losses.get({"class_name": self.loss, "config": config})
        # Keras' default of 0.25 for all classes would only scale the loss.
        alpha = {"alpha": 1.0} if self.name == "single-label" else {}
        config = {"gamma": gamma, **alpha, **config}
        return keras.losses.get({"class_name": self.focal_loss, "config": config})


def _scaled_loss(name: str, scale: "np.ndarray") -> "keras.losses.Loss":
    import keras

    class Scaled(keras.losses.Loss):
        """A loss of targets and predictions in another unit."""

        def __init__(self) -> None:
            super().__init__(name=name)
            self._of = keras.losses.get({"class_name": name, "config": {"reduction": None}})

        def call(self, y_true: "keras.KerasTensor", y_pred: "keras.KerasTensor") -> object:
            return self._of(y_true / scale, y_pred / scale)

    return Scaled()


TASKS = {
    task.name: task
    for task in (
        Task(
            "single-label",
            "softmax",
            "CategoricalCrossentropy",
            ("accuracy",),
            True,
            "CategoricalFocalCrossentropy",
        ),
        Task(
            "multi-label",
            "sigmoid",
            "BinaryCrossentropy",
            ("binary_accuracy",),
            True,
            "BinaryFocalCrossentropy",
        ),
        Task("regression", "linear", "MeanSquaredError", ("mae",), False),
    )
}


def get(name: str) -> Task:
    """Looks a task up by its name.

    Raises:
        InputError: There is no task of that name.
    """
    if name not in TASKS:
        hint = did_you_mean(name, TASKS, f"Choose one of {', '.join(TASKS)}.")
        raise InputError("a task's name", repr(name), hint)
    return TASKS[name]
