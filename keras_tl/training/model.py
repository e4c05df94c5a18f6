"""What is fitted: a part of a model that saves as the whole."""

from typing import Any

import keras


class TrainingModel(keras.Model):
    """What is fitted: a suffix of a model, or all of it.

    Callbacks that save (`ModelCheckpoint`) save the whole model. Made by `training_model`.
    """

    def save(self, filepath: Any, **options: Any) -> None:
        """Saves the whole model, not only what is fitted."""
        self.whole().save(filepath, **options)

    def save_weights(self, filepath: Any, **options: Any) -> None:
        """Saves the whole model's weights, not only those of what is fitted."""
        self.whole().save_weights(filepath, **options)


def training_model(part: keras.Model, whole: keras.Model) -> TrainingModel:
    """Wraps a part of a model for fitting.

    Args:
        part: A functional model that shares its layers with `whole`.
        whole: The model it is a part of.

    Returns:
        A model over the same inputs and outputs.
    """
    model = TrainingModel(part.input, part.outputs[0], name=part.name)
    # Behind a function, or Keras would track the whole model as a layer of its part.
    model.whole = lambda: whole
    return model
