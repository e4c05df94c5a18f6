"""The threads that images are decoded on."""

import functools
from collections.abc import Callable

import tensorflow as tf

from keras_tl.cores import usable_cores

THREADS_OF_A_CORE = 2
# Cores for each call under way that takes much memory, and the most such calls at once.
CORES_OF_A_TURN, MOST_TURNS = 2, 8


def parallel_map(dataset: tf.data.Dataset, function: Callable[..., tf.Tensor]) -> tf.data.Dataset:
    """Maps on threads of its own, twice as many as there are cores.

    On TensorFlow's common pool a thread that waits for a file leaves its core idle, and its tuner
    starts with one call at a time: on two cores this was a fifth faster.
    """
    threads = THREADS_OF_A_CORE * usable_cores()
    options = tf.data.Options()
    options.threading.private_threadpool_size = threads
    # These functions have no Python for AutoGraph to convert, and looking at them takes seconds.
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


def a_few_at_a_time(function: Callable[[], tf.Tensor], number: tf.Tensor) -> tf.Tensor:
    """Runs a function in a `tf.data` graph, only a few of those given here at a time.

    A thread that waits does other work meanwhile.

    Args:
        function: What to run; no function given here may be within it.
        number: int32, at least 0: which turn to wait for, modulo the number of turns.
    """
    turns = [functools.partial(section.execute, function) for section in _sections()]
    return tf.switch_case(number % len(turns), turns)


@functools.cache
def _sections() -> list[tf.CriticalSection]:
    """One for each turn; two with one shared name would be the same."""
    count = max(min(usable_cores() // CORES_OF_A_TURN, MOST_TURNS), 1)
    with tf.init_scope(), tf.device("CPU:0"):
        return [tf.CriticalSection(shared_name=f"keras_tl_turn_{n}") for n in range(count)]
