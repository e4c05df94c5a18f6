"""The processes of a training as one: what each knows, it can send to all.

Every method is called by all processes, in the same order. A lost process ends the others at once,
with `LostWorkerError`.
"""

import functools
import json
import logging
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import tensorflow as tf

from keras_tl.errors import InputError, LostWorkerError
from keras_tl.strategies import members

R = TypeVar("R")
# Collectives move numbers of 32 bits on every kind of network.
WORD = 4
# Bytes sent at once: the state of a large model has more than an int32 can count.
MOST_BYTES = 2**28
# TensorFlow's message if another process has other tensors.
OTHERS = "Shape mismatch in the collective"
# TensorFlow's errors if a process is gone.
GONE = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
)

log = logging.getLogger("keras_tl")


class Workers:
    """The processes of a strategy.

    Args:
        strategy: A strategy; all but `MultiWorkerMirroredStrategy` are of one process.

    Attributes:
        count: How many processes there are.
        index: Which of them this one is; 0 is the chief.
        hosts: The machine of each, as the others name it.
    """

    def __init__(self, strategy: tf.distribute.Strategy | None = None):
        self.count, self.index = 1, 0
        self.hosts: list[str] = []
        if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
            addresses, self.index = members(strategy.cluster_resolver)
            self.hosts = [address.rpartition(":")[0].strip("[]") for address in addresses]
            self.count = max(len(addresses), 1)
            self._strategy = strategy

    @property
    def is_chief(self) -> bool:
        """Whether this process is the one that writes results."""
        return self.index == 0

    @contextmanager
    def chief_speaks(self) -> Iterator[None]:
        """Suppresses what all but the chief print and log, except warnings."""
        if self.is_chief:
            yield
            return
        level = log.level
        log.setLevel(logging.WARNING)
        try:
            with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
                yield
        finally:
            log.setLevel(level)

    @contextmanager
    def results_in(self, folder: str | Path) -> Iterator[Path]:
        """The folder of results, temporary for all but the chief; includes `chief_speaks`."""
        with self.chief_speaks():
            if self.is_chief:
                yield Path(folder)
            else:
                with tempfile.TemporaryDirectory() as own:
                    yield Path(own)

    def gather(self, array: np.ndarray) -> list[np.ndarray]:
        """Gathers an array from every process in all processes.

        Args:
            array: `[n, ...]`, of the same dtype and inner shape in all processes; n may differ.

        Returns:
            Each process's array, in order.
        """
        if self.count == 1:
            return [array]
        raw = np.frombuffer(array.tobytes(), np.uint8)
        head = np.array([len(raw)], np.int32).view(np.uint8)
        words = np.concatenate([head, raw, np.zeros(-len(raw) % WORD, np.uint8)]).view(np.int32)
        found = []
        for told in self._gathered(words):
            part = told[1:].tobytes()[: int(told[0])]
            found.append(np.frombuffer(part, array.dtype).reshape(-1, *array.shape[1:]))
        return found

    def share(self, value: Any, teller: int = 0) -> Any:
        """Sends one process's JSON-ready value to all; a tuple becomes a list."""
        if self.count == 1:
            return value
        text = json.dumps(value).encode() if self.index == teller else b""
        return json.loads(self.share_bytes(text, teller))

    def share_bytes(self, value: bytes, teller: int = 0) -> bytes:
        """Sends the bytes of one process, by default the chief, to all."""
        mine = np.frombuffer(value if self.index == teller else b"", np.uint8)
        size = int(self.gather(np.array([len(mine)]))[teller][0])
        parts = (self.gather(mine[at : at + MOST_BYTES]) for at in range(0, size, MOST_BYTES))
        return b"".join(part[teller].tobytes() for part in parts)

    def share_files(self, folder: Path, *names: str) -> None:
        """Sends files of the chief's folder to all: those named, or all in it and below."""
        if self.count == 1:
            return
        mine = [folder / name for name in names] or [p for p in folder.rglob("*") if p.is_file()]
        for name in self.share([str(path.relative_to(folder)) for path in mine]):
            path = folder / name
            content = self.share_bytes(path.read_bytes() if self.is_chief else b"")
            if not self.is_chief:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)

    def made_by_chief(self, make: Callable[[Path], Any], folder: Path) -> Path:
        """A folder that the chief fills with `make`, and whose files all get."""
        if self.is_chief:
            make(folder)
        self.share_files(folder)
        return folder

    def barrier(self) -> None:
        """Waits for all processes."""
        self.gather(np.zeros(1, np.int32))

    @contextmanager
    def losses_told(self) -> Iterator[None]:
        """Turns the various errors of TensorFlow for a lost process into one line.

        Raises:
            LostWorkerError: Another process is gone.
            InputError: Another process has other tensors, such as those of a model for other
                classes.
        """
        try:
            yield
        except tf.errors.InvalidArgumentError as error:
            if self.count == 1 or OTHERS not in str(error.message):
                raise
            said = str(error.message).partition(OTHERS)[2].partition(". ")[2].partition(". ")[0]
            fix = "Give all processes the same data and settings."
            raise InputError("the same model in all processes", said, fix) from error
        except (*GONE, tf.errors.InternalError, tf.errors.UnknownError) as error:
            # Internal and unknown errors can have other causes; a lone process cannot lose a peer.
            lines = str(error.message).splitlines()
            of_others = [line for line in lines if "ollective" in line]
            if self.count == 1 or not (of_others or isinstance(error, GONE)):
                raise
            said = (of_others or lines)[0][:200]
            raise LostWorkerError(
                "all workers to be at work",
                f"one that does not answer ({said})",
                "Start all again with the same commands: training goes on where it was kept.",
            ) from error

    @functools.cached_property
    def _collect(self) -> Any:
        strategy = self._strategy

        @tf.function(input_signature=[tf.TensorSpec([None], tf.int32)], autograph=False)
        def collect(words: tf.Tensor) -> tf.Tensor:
            def told() -> tf.Tensor:
                # On the device, or TensorFlow does not know where to gather.
                return tf.distribute.get_replica_context().all_gather(tf.identity(words), axis=0)

            return strategy.experimental_local_results(strategy.run(told))[0]

        return collect

    def _gathered(self, words: np.ndarray) -> list[np.ndarray]:
        """Int32 `[n]` of each process."""
        lengths = self._told(np.array([len(words)], np.int32))
        parts = np.split(self._told(words), np.cumsum(lengths)[:-1])
        # All devices of a process send the same.
        return parts[:: self._strategy.num_replicas_in_sync // self.count]

    def _told(self, words: np.ndarray) -> np.ndarray:
        with self.losses_told():
            return _interruptibly(lambda: self._collect(tf.constant(words)).numpy())


def _interruptibly(wait: Callable[[], R]) -> R:
    """Waits in another thread, so that signals end it: inside TensorFlow, Python handles none."""
    if threading.current_thread() is not threading.main_thread():
        return wait()
    done: Future[R] = Future()

    def run() -> None:
        try:
            done.set_result(wait())
        except BaseException as error:
            done.set_exception(error)

    # A daemon, or the process would wait for it at exit.
    threading.Thread(target=run, daemon=True).start()
    return done.result()
