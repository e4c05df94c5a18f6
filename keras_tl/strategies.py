"""Where training runs, as a `tf.distribute.Strategy` by name.

The rule for several devices: a batch is the batch over all of them, and rates are kept. So the
same settings train the same model on one device and on many, which only divide the batch. If you
enlarge the batch to use more devices, raise the rate with it: by the same factor for "sgd" (Goyal
et al., "Accurate, Large Minibatch SGD", arXiv:1706.02677, 2017), by its square root for Adam's kind
(Malladi et al., "On the SDEs and Scaling Rules for Adaptive Gradient Algorithms", NeurIPS 2022).
"""

import functools
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import keras
import tensorflow as tf

from keras_tl.errors import InputError, did_you_mean
from keras_tl.meeting import check_address, own_sigterm, wait_for_all

P = ParamSpec("P")
R = TypeVar("R")
NAMES = ("auto", "cpu", "mirrored", "multiworker", "tpu")
# Tasks of a cluster that Keras 3 trains with.
KINDS = ("chief", "worker")

# What TF_CONFIG looks like.
TF_CONFIG = '{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}'


@dataclass(frozen=True)
class Place:
    """Where to train.

    Attributes:
        strategy: "cpu": one CPU, whatever else there is. "mirrored": all GPUs of this machine
            (without any, all logical CPUs). "multiworker": one process on each of several
            machines. "tpu": a TPU. "auto": several machines where the environment variable
            TF_CONFIG names them, else all GPUs, else what there is.
        workers: "multiworker": host:port of each process, the same in all of them; the first is
            the chief, which writes the results. If empty, TF_CONFIG names them.
        worker_index: Which of them this process is.
        tpu: "tpu": the TPU's name; None or "local" takes that of a TPU VM.
        tpu_zone: Its zone, where TensorFlow cannot find it out.

    Raises:
        InputError: A mistyped name, or settings that do not go together.
    """

    strategy: str = "auto"
    workers: tuple[str, ...] = ()
    worker_index: int | None = None
    tpu: str | None = None
    tpu_zone: str | None = None

    def __post_init__(self) -> None:
        if self.strategy not in NAMES:
            hint = did_you_mean(self.strategy, NAMES, f"Choose one of {', '.join(NAMES)}.")
            raise InputError("a strategy", repr(self.strategy), hint)
        if self.strategy != "tpu" and (self.tpu or self.tpu_zone):
            given = f"{self.tpu or self.tpu_zone} with {self.strategy!r}"
            raise InputError("the strategy tpu for a TPU's name or zone", given, "Name it.")
        object.__setattr__(self, "workers", tuple(self.workers))
        if not self.workers and self.worker_index is not None:
            received = f"worker {self.worker_index} of none"
            fix = "Name all of them, or leave the index to TF_CONFIG."
            raise InputError("workers for a worker index", received, fix)
        if not self.workers:
            return
        given = f"worker {self.worker_index} of {len(self.workers)} with {self.strategy!r}"
        if self.strategy != "multiworker":
            raise InputError("the strategy multiworker for workers", given, "Name it.")
        if self.worker_index is None or not 0 <= self.worker_index < len(self.workers):
            fix = "Count from 0, a number for each process."
            raise InputError(f"a worker index in 0 to {len(self.workers) - 1}", given, fix)
        for worker in self.workers:
            check_address(worker)


DISTRIBUTING = (
    tf.distribute.MirroredStrategy,
    tf.distribute.MultiWorkerMirroredStrategy,
    tf.distribute.TPUStrategy,
)
# Strategies chosen in this process, in order; none may follow one that distributes.
_chosen: dict[Place, tf.distribute.Strategy] = {}


def choose(place: Place | None = None) -> tf.distribute.Strategy:
    """The strategy of this process: Keras allows one.

    Call it before TensorFlow computes anything, and build the model inside the strategy's scope.

    Args:
        place: Where to train; None takes what was chosen last, or `Place()`.

    Raises:
        InputError: There are no such devices, TF_CONFIG cannot be used, or this process trains
            elsewhere already.
    """
    if place is None:
        place = next(reversed(_chosen), Place())
    for other, strategy in _chosen.items():
        if other != place and isinstance(strategy, DISTRIBUTING):
            received = f"{place.strategy!r} behind {other.strategy!r}"
            fix = "Take a process for each."
            raise InputError("one strategy in a process, as Keras wants it", received, fix)
    if place not in _chosen:
        grow_memory_as_needed()
        strategy = _make(place)
    else:
        strategy = _chosen.pop(place)
    _chosen[place] = strategy
    return strategy


def current() -> tf.distribute.Strategy:
    """The strategy of the present scope; outside of any, the one that `choose` made last."""
    grow_memory_as_needed()
    if tf.distribute.has_strategy():
        return tf.distribute.get_strategy()
    return next(reversed(_chosen.values()), tf.distribute.get_strategy())


def in_scope(build: Callable[P, R]) -> Callable[P, R]:
    """Makes a function that builds models build them for the current strategy."""

    @functools.wraps(build)
    def built(*args: P.args, **kwargs: P.kwargs) -> R:
        with current().scope():
            return build(*args, **kwargs)

    return built


def _make(place: Place) -> tf.distribute.Strategy:
    if place.strategy == "tpu":
        return _tpu(place)
    if place.strategy == "multiworker" or (place.strategy == "auto" and _cluster()):
        return _multi_worker(place)
    if place.strategy == "cpu":
        _hide_gpus()
        return tf.distribute.get_strategy()
    if place.strategy == "mirrored" or len(tf.config.list_physical_devices("GPU")) > 1:
        kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
        devices = [device.name for device in tf.config.list_logical_devices(kind)]
        return tf.distribute.MirroredStrategy(devices)
    return tf.distribute.get_strategy()


def check_supported(strategy: tf.distribute.Strategy) -> None:
    """Refuses what Keras 3 does not train with.

    Raises:
        InputError: A strategy of parameter servers, or `keras.distribution`, which does nothing
            with TensorFlow and says nothing of it.
    """
    fix = f"Take one of keras_tl.strategies: {', '.join(NAMES)}."
    if isinstance(strategy, tf.distribute.experimental.ParameterServerStrategy):
        raise InputError("a strategy that Keras 3 trains with", type(strategy).__name__, fix)
    if keras.distribution.distribution() is not None:
        received = "keras.distribution, which does nothing with TensorFlow"
        raise InputError("a tf.distribute strategy", received, fix)


def _hide_gpus() -> None:
    try:
        tf.config.set_visible_devices([], "GPU")
    except RuntimeError as error:
        fix = "Call keras_tl.strategies.choose at the program's start."
        raise InputError("GPUs that TensorFlow does not use yet", "ones in use", fix) from error


@functools.cache
def grow_memory_as_needed() -> None:
    """Lets TensorFlow take a GPU's memory as needed; by default it takes all of it at once.

    To be called before it computes anything; afterwards it has no effect.
    """
    for device in tf.config.list_physical_devices("GPU"):
        # A GPU divided into logical devices has its memory set already.
        if tf.config.get_logical_device_configuration(device) is None:
            try:
                tf.config.experimental.set_memory_growth(device, True)
            except RuntimeError as error:
                if "initialized" not in str(error):
                    raise


def _multi_worker(place: Place) -> tf.distribute.Strategy:
    cluster = {"worker": list(place.workers)} if place.workers else _cluster()
    if cluster is None:
        fix = "Give --workers host:port,... and --worker-index, or set TF_CONFIG."
        raise InputError("the workers of the strategy multiworker", "none", fix)
    if place.workers:
        resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
            tf.train.ClusterSpec(cluster),
            task_type="worker",
            task_id=place.worker_index,
            rpc_layer="grpc",
        )
    else:
        resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    try:
        _refuse_late_start()
        with own_sigterm():
            wait_for_all(*members(resolver))
            return tf.distribute.MultiWorkerMirroredStrategy(resolver)
    except RuntimeError as error:
        raise InputError(
            "several workers before TensorFlow computes anything",
            "a process in which it has",
            "Call keras_tl.strategies.choose at the program's start.",
        ) from error
    except tf.errors.OpError as error:
        received = str(error.message).splitlines()[0]
        raise InputError("workers that can be reached", received, "Start all of them.") from error


def members(resolver: Any) -> tuple[list[str], int]:
    """The addresses of all processes, the chief's first, and which of them is this one's."""
    cluster = resolver.cluster_spec().as_dict()
    chiefs, workers = (list(cluster.get(kind, ())) for kind in KINDS)
    first = len(chiefs) if resolver.task_type == "worker" else 0
    return chiefs + workers, first + (resolver.task_id or 0)


def _refuse_late_start() -> None:
    """Raises the `RuntimeError` that TensorFlow would raise only after the wait."""
    threads = tf.config.threading.get_inter_op_parallelism_threads()
    # TensorFlow accepts the present value at any time, so a different one is set first.
    tf.config.threading.set_inter_op_parallelism_threads(threads + 1)
    tf.config.threading.set_inter_op_parallelism_threads(threads)


def _cluster() -> dict[str, list[str]] | None:
    """The tasks of TF_CONFIG; None where it is not set, or names one process.

    Raises:
        InputError: It cannot be read, has tasks that Keras 3 has no use for, or does not say
            which of them this process is.
    """
    text = os.environ.get("TF_CONFIG")
    if not text:
        return None
    try:
        given = json.loads(text)
        cluster = dict(given["cluster"])
        addresses = [address for tasks in cluster.values() for address in _listed(tasks)]
    except (ValueError, KeyError, TypeError) as error:
        expected = "TF_CONFIG with a cluster and a task"
        raise InputError(expected, repr(text), f"Set it to {TF_CONFIG}.") from error
    if others := set(cluster) - set(KINDS):
        received = f"one with {', '.join(sorted(others))}"
        raise InputError("TF_CONFIG with workers", received, f"Set it to {TF_CONFIG}.")
    if len(cluster.get("chief", ())) > 1:
        received = f"{len(cluster['chief'])} of them"
        raise InputError("TF_CONFIG with one chief", received, f"Set it to {TF_CONFIG}.")
    for address in addresses:
        check_address(address)
    if len(addresses) < 2:
        return None
    _check_task(given.get("task"), cluster)
    return cluster


def _listed(tasks: Any) -> list[Any]:
    if not isinstance(tasks, list):
        raise TypeError(f"a {type(tasks).__name__}")
    return tasks


def _check_task(task: Any, cluster: dict[str, list[str]]) -> None:
    """Refuses a task that does not say which process of a cluster this one is."""
    kind, index = (task.get(n) for n in ("type", "index")) if isinstance(task, dict) else ("", "")
    known, number = list(cluster), str(index)
    # TensorFlow accepts a number as text too.
    if kind in known and number.isdecimal() and int(number) < len(cluster[kind]):
        return
    counts = " and ".join(f"{len(cluster[name])} {name}" for name in known)
    fix = f"Set it to {TF_CONFIG}, with a number from 0 for each process."
    raise InputError(f"TF_CONFIG with a task out of {counts}", f"the task {task!r}", fix)


def _tpu(place: Place) -> tf.distribute.Strategy:
    name = place.tpu or "local"
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver.connect(
            name, zone=place.tpu_zone
        )
    except (ValueError, tf.errors.OpError) as error:
        received = str(error).splitlines()[0]
        fix = "Give --tpu NAME and --tpu-zone ZONE, or --tpu local on a TPU VM."
        raise InputError(f"a TPU {name!r}", received, fix) from error
    return tf.distribute.TPUStrategy(resolver)
