"""The choice among engines: those that agree with Keras race, and the winner is remembered."""

import json
import logging
import math
import time
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_tl.cores import usable_cores
from keras_tl.engines.base import Engine, TensorFlowEngine, input_dtype
from keras_tl.engines.litert import LiteRTEngine
from keras_tl.engines.open_vino import OpenVINOEngine
from keras_tl.files import atomic_write_text
from keras_tl.replicas import has_accelerator

# Largest difference from Keras that is allowed, relative to the largest value of the tensor. The
# store's float16 rounds by half of that.
TOLERANCE = 1e-3
# Images that are compared: each gives thousands of values, and takes VGG16 a fifth of a second.
CHECKED_IMAGES = 8
CHOICE = "engine.choice"
CONVERTING = {kind.name: kind for kind in (LiteRTEngine, OpenVINOEngine)}
PACKAGES = ("ai-edge-litert", "openvino")
# Least duration and least rounds of a race, and images for each core in a round: many short rounds,
# so that each engine has one in which nothing else disturbs it.
RACE_SECONDS = 2.0
RACE_ROUNDS = 2
RACE_IMAGES_A_CORE = 4
# If TensorFlow takes less, a conversion is not worth it: it takes 5 to 15 seconds itself and at
# best makes the rest three times as fast.
WORTH_CONVERTING_SECONDS = 20.0

log = logging.getLogger("keras_tl")


@dataclass(frozen=True)
class Choice:
    """What was chosen, and on what machine the choice holds.

    Attributes:
        engine: The engine's name.
        why: Why it is TensorFlow; "" for another engine.
        machine: Versions of the packages and the number of cores at the time.
    """

    engine: str
    why: str
    machine: dict[str, str | None]


def choose(
    prefix: keras.Model,
    sample: np.ndarray,
    folder: Path,
    images: float = math.inf,
    reference: Engine | None = None,
) -> Engine:
    """Chooses the engine for a prefix.

    Args:
        prefix: The frozen part of a model; a whole model will do too.
        sample: A few images, uint8 `[images, height, width, 3]`, or whatever the prefix takes;
            engines are compared on the first of them.
        folder: Where converted prefixes are kept, and which engine was chosen: a later run with
            the same packages and cores takes the same one, if it still agrees.
        images: How many there are to run: for few, nothing is converted.
        reference: TensorFlow with this prefix, where it is already there: tracing takes a while.

    Returns:
        On a CPU the fastest of the engines that agree with Keras within `TOLERANCE`; with a GPU
        or a TPU, for few images, for strings, or where no other agrees, TensorFlow.
    """
    reference = reference or TensorFlowEngine(prefix)
    sample = sample[:CHECKED_IMAGES]
    if has_accelerator():
        return reference
    if input_dtype(prefix) == tf.string:
        return reference
    before = _remembered(folder)
    if before and before.engine == reference.name:
        return _tensorflow(reference, before.why)
    expected = reference(sample)
    if before:
        engine, _ = _checked(before.engine, prefix, sample, expected, folder)
        if engine:
            return engine
    elif images < math.inf:
        started = time.perf_counter()
        reference(sample)
        if (time.perf_counter() - started) * images / len(sample) < WORTH_CONVERTING_SECONDS:
            return reference
    engines: list[Engine] = [reference]
    reasons = []
    for name in CONVERTING:
        engine, reason = _checked(name, prefix, sample, expected, folder)
        engines += [engine] if engine else []
        reasons += [reason] if reason else []
    winner, slower = _race(engines, sample)
    why = "; ".join(reasons + slower) if winner is reference else ""
    _remember(folder, Choice(winner.name, why, _machine()))
    return _tensorflow(reference, why) if winner is reference else winner


def _tensorflow(engine: Engine, why: str) -> Engine:
    log.info("The frozen part runs in TensorFlow; %s", why)
    return engine


def _checked(
    name: str, prefix: keras.Model, sample: np.ndarray, expected: list[np.ndarray], folder: Path
) -> tuple[Engine | None, str]:
    """The engine if it agrees with Keras, else why there is none ("": it is not installed)."""
    try:
        engine = CONVERTING[name](prefix, folder)
        difference = _difference(engine(sample), expected)
    except ModuleNotFoundError as error:
        # OpenVINO is an extra that nobody has to have.
        return None, "" if name == OpenVINOEngine.name else f"{name}: {error}"
    except (ImportError, RuntimeError, ValueError, OSError, tf.errors.OpError) as error:
        return None, f"{name}: {_first_line(error)}"
    # Written so that NaN fails.
    if not difference <= TOLERANCE:
        return None, f"{name} differs by {difference:.1e}"
    return engine, ""


def _race(engines: list[Engine], sample: np.ndarray) -> tuple[Engine, list[str]]:
    """The engine with the fastest single round on a sample, and how slow the others are."""
    if len(engines) == 1:
        return engines[0], []
    images = sample[: RACE_IMAGES_A_CORE * usable_cores()]
    seconds = [math.inf] * len(engines)
    begun = time.perf_counter()
    rounds = 0
    while rounds < RACE_ROUNDS or time.perf_counter() - begun < RACE_SECONDS:
        for index, engine in enumerate(engines):
            started = time.perf_counter()
            engine(images)
            seconds[index] = min(seconds[index], time.perf_counter() - started)
        rounds += 1
    best = min(seconds)
    winner = engines[seconds.index(best)]
    losers = [(e, s / best) for e, s in zip(engines, seconds, strict=True) if e is not winner]
    return winner, [f"{engine.name} takes {times:.1f} times as long" for engine, times in losers]


def _machine() -> dict[str, str | None]:
    """What a choice depends on beside the prefix."""
    facts = {"cores": str(usable_cores()), "tensorflow": tf.__version__, "keras": keras.__version__}
    return {**facts, **{name: _version(name) for name in PACKAGES}}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _remembered(folder: Path) -> Choice | None:
    """The choice made before, if it was made for the same packages and cores."""
    try:
        choice = Choice(**json.loads((folder / CHOICE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None  # none yet, or a damaged one: chosen again
    known = choice.engine in (*CONVERTING, TensorFlowEngine.name)
    return choice if known and choice.machine == _machine() else None


def _remember(folder: Path, choice: Choice) -> None:
    try:
        atomic_write_text(folder / CHOICE, json.dumps(asdict(choice)))
    except OSError as error:
        log.warning("The choice of engine is not remembered: %s", error.strerror)


def _difference(received: list[np.ndarray], expected: list[np.ndarray]) -> float:
    """The largest difference relative to the largest value of its tensor; NaN if any is."""
    differences = [
        np.abs(a - b).max() / max(float(np.abs(b).max()), 1e-12)
        for a, b in zip(received, expected, strict=True)
    ]
    # Python's own `max` may ignore a NaN that does not come first.
    return float(np.max(differences))


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
