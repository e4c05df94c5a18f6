"""What in an image decided: Grad-CAM.

Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
Localization", ICCV 2017.
"""

import keras
import numpy as np
import tensorflow as tf

from keras_tl.backbones.hub_layer import HubLayer
from keras_tl.topology import calls

BATCH = 8


def last_feature_map(model: keras.Model) -> keras.KerasTensor | None:
    """The last tensor `[batch, height, width, channels]` with more than one place.

    Args:
        model: A flat functional model.

    Returns:
        The tensor, or None where there is none, as in front of a TF-Hub module, whose own maps
        cannot be seen: what is before it are the pixels.
    """
    for node in reversed(calls(model)):
        if isinstance(node.operation, HubLayer):
            return None
        for tensor in node.outputs:
            if len(tensor.shape) == 4 and (tensor.shape[1] or 0) * (tensor.shape[2] or 0) > 1:
                return tensor
    return None


def grad_cam(model: keras.Model, pixels: np.ndarray, outputs: np.ndarray) -> np.ndarray | None:
    """Maps of how much each place speaks for one output.

    With A the last feature map and s the output's score (of a class what comes before the
    softmax or sigmoid), the map is ReLU(sum over channels of mean(ds/dA) * A), divided by its
    largest value.

    Args:
        model: A flat functional model, pixels in, `[batch, outputs]` out.
        pixels: uint8 or float `[images, height, width, 3]`, 0..255.
        outputs: int `[images]`, which output's score is explained.

    Returns:
        Float32 `[images, map height, map width]` in [0, 1]; all 0 where nothing speaks for the
        output. None where the model has no feature map.
    """
    features = last_feature_map(model)
    if features is None:
        return None
    before_last, last = _before_activation(model)
    inner = keras.Model(model.input, [features, before_last])
    maps = [
        _maps(inner, last, pixels[first : first + BATCH], outputs[first : first + BATCH])
        for first in range(0, len(pixels), BATCH)
    ]
    return np.concatenate(maps)


def _before_activation(model: keras.Model) -> tuple[keras.KerasTensor, keras.layers.Dense | None]:
    """The input of a last dense layer and that layer; else the output, and None."""
    node = calls(model)[-1]
    if isinstance(node.operation, keras.layers.Dense):
        return node.input_tensors[0], node.operation
    return model.outputs[0], None


def _maps(
    inner: keras.Model, last: keras.layers.Dense | None, pixels: np.ndarray, outputs: np.ndarray
) -> np.ndarray:
    inputs = tf.cast(pixels, inner.inputs[0].dtype)
    with tf.GradientTape() as tape:
        # Where everything is frozen nothing else is recorded.
        tape.watch(inputs)
        features, scores = inner(inputs, training=False)
        scores = tf.cast(scores, tf.float32)
        if last is not None:
            scores = scores @ tf.convert_to_tensor(last.kernel) + last.bias
        score = tf.reduce_sum(tf.gather(scores, outputs, axis=1, batch_dims=1))
    slopes = tf.cast(tape.gradient(score, features), tf.float32)
    importance = tf.reduce_mean(slopes, axis=(1, 2), keepdims=True)
    maps = tf.nn.relu(tf.reduce_sum(importance * tf.cast(features, tf.float32), axis=-1))
    return tf.math.divide_no_nan(maps, tf.reduce_max(maps, axis=(1, 2), keepdims=True)).numpy()
