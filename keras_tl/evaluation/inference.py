"""A model in inference, as one graph that is traced once."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_tl.replicas import replicating


def traced(model: keras.Model, inputs: Any) -> Callable[..., tf.Tensor]:
    """Traces a model for batches of any length: this has less overhead than Keras' `predict`.

    Tracing by hand also avoids TensorFlow's warnings of too much retracing.

    Args:
        model: Takes a batch, gives one tensor.
        inputs: The `tf.TensorSpec` of a batch, or one for each of the model's inputs; dtypes may
            differ from the model's.

    Returns:
        From the batch's tensors, in the order of the model's inputs, to its float32 output. It
        follows the model's weights when they change.
    """
    specs = [tf.TensorSpec([None, *spec.shape[1:]], spec.dtype) for spec in tf.nest.flatten(inputs)]

    def compute(*batch: tf.Tensor) -> tf.Tensor:
        cast = [tf.cast(v, t.dtype) for v, t in zip(batch, model.inputs, strict=True)]
        outputs = model(cast[0] if len(cast) == 1 else cast, training=False)
        return tf.cast(outputs, tf.float32)

    strategy = replicating(model)
    if strategy is None:
        return tf.function(compute, autograph=False).get_concrete_function(*specs)

    @tf.function(autograph=False, input_signature=specs)
    def on_devices(*batch: tf.Tensor) -> tf.Tensor:
        # A model built for several devices runs on each of them; their outputs are the same.
        return strategy.experimental_local_results(strategy.run(compute, batch))[0]

    return on_devices
