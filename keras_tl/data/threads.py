"""The threads that images are decoded on."""

from collections.abc import Callable

import tensorflow as tf

from keras_tl.cores import usable_cores

THREADS_OF_A_CORE = 2


def parallel_map(dataset: tf.data.Dataset, function: Callable[..., tf.Tensor]) -> tf.data.Dataset:
    """Maps on threads of its own, twice as many as there are cores.

    On TensorFlow's common pool a thread that waits for a file leaves its core idle, and its tuner
    starts with one call at a time: on two cores this was a fifth faster.
    """
    threads = THREADS_OF_A_CORE * usable_cores()
    options = tf.data.Options()
    options.threading.private_threadpool_size = threads
    # Nothing in these functions is Python that TensorFlow should read: it would take seconds.
    function = tf.autograph.experimental.do_not_convert(function)
    mapped = dataset.map(function, num_parallel_calls=threads, deterministic=True)
    return mapped.with_options(options)


def shared_options() -> tf.data.Options:
    """Options of a data set whose samples workers share."""
    options = tf.data.Options()
    # Several workers each take their share of the samples of one common order. (There are no
    # files to share out, as the default policy tries to first.)
    options.threading.private_threadpool_size = THREADS_OF_A_CORE * usable_cores()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return options
