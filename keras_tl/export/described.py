"""The named outputs of an exported signature."""

import tensorflow as tf

from keras_tl.model_info import ModelInfo


def described(outputs: tf.Tensor, info: ModelInfo) -> dict[str, tf.Tensor]:
    """Names what a model gives, and what follows from it.

    Args:
        outputs: The model's outputs, float32 `[N, outputs]`.
        info: Task, class names and thresholds.

    Returns:
        See `keras_tl.export.saved_model`.
    """
    if info.task == "regression":
        return {"values": outputs}
    names = tf.constant(info.class_names)
    if info.task == "multi-label":
        predicted = outputs >= tf.constant(info.thresholds, tf.float32)
        chosen = tf.ragged.boolean_mask(tf.broadcast_to(names, tf.shape(predicted)), predicted)
        labels = tf.strings.reduce_join(chosen, axis=1, separator="|")
        return {"probabilities": outputs, "predicted": predicted, "labels": labels}
    class_index = tf.argmax(outputs, axis=1)
    if info.thresholds:
        second = outputs[:, 1] >= tf.constant(info.thresholds[0], tf.float32)
        class_index = tf.cast(second, tf.int64)
    return {
        "probabilities": outputs,
        "class_index": class_index,
        "class_name": tf.gather(names, class_index),
    }
