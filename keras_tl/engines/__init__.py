"""What runs a frozen prefix: the fastest thing this machine has, checked against Keras.

On a CPU that is LiteRT with XNNPACK, or OpenVINO where that is installed: two to five times as
fast as TensorFlow for mobile-class backbones. On a GPU or a TPU it is TensorFlow. Nobody has to
choose: an engine that cannot be had, whose outputs differ or that is slower than TensorFlow gives
way to it, and a line says why.
"""

from keras_tl.cores import usable_cores
from keras_tl.engines.base import Engine, ReplicatedEngine, TensorFlowEngine, reference
from keras_tl.engines.litert import LiteRTEngine
from keras_tl.engines.open_vino import OpenVINOEngine
from keras_tl.engines.selection import TOLERANCE, choose

__all__ = [
    "TOLERANCE",
    "Engine",
    "LiteRTEngine",
    "OpenVINOEngine",
    "ReplicatedEngine",
    "TensorFlowEngine",
    "choose",
    "reference",
    "usable_cores",
]
