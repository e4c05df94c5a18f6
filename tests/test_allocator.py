"""What TensorFlow does to glibc is undone: seen by the pages that are asked for again."""

import platform
import subprocess
import sys

import pytest

# Pages that a megabyte costs which was freed before: 256 where all of it went back to the system.
PAGES = """
import resource
import numpy as np
import tensorflow as tf
from keras_tl.allocator import keep_freed_memory

def generated():
    signature = tf.TensorSpec([], tf.int64)
    list(tf.data.Dataset.from_generator(lambda: [0], output_signature=signature))

def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(100):
        [np.full(1 << 20, 1, np.uint8) for _ in range(32)]
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 3200

{steps}
print(pages())
"""


def pages_of_a_megabyte(*steps: str) -> float:
    code = PAGES.format(steps="\n".join(steps))
    return float(subprocess.check_output([sys.executable, "-c", code], text=True))


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="TensorFlow changes glibc alone")
def test_what_is_freed_is_used_again_behind_a_generator():
    assert pages_of_a_megabyte("generated()") > 200
    assert pages_of_a_megabyte("keep_freed_memory()", "generated()") < 10
