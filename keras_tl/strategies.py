"""Where training runs, as a `tf.distribute.Strategy`."""

import tensorflow as tf


def choose() -> tf.distribute.Strategy:
    """Chooses for this machine: all GPUs where there are several, else the one device there is.

    Build the model inside the strategy's scope. Keras allows one strategy object in a process.

    Returns:
        A `MirroredStrategy` over two or more GPUs, or TensorFlow's default strategy.
    """
    if len(tf.config.list_physical_devices("GPU")) > 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()
