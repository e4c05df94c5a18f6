"""Training that resumes where it was stopped, however it was stopped.

There are two files, each written whole: the state at the beginning of the present phase, written
once, and the place in it, written again and again. A resumed run begins the phase with the first,
so that all decisions there are the same, and jumps to the place in the second.
"""

import hashlib
import json
import logging
import re
import shutil
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import keras
import numpy as np

from keras_tl.errors import InputError
from keras_tl.files import remove_leftovers
from keras_tl.training.images import Images
from keras_tl.training.phases import Phase
from keras_tl.training.state_files import (
    random_state,
    read_state,
    set_random_state,
    values,
    write_state,
)
from keras_tl.training.stock_callbacks import kept_between_phases
from keras_tl.workers import Workers

# By the convention of shells: 128 plus the signal.
TERMINATED = 128 + signal.SIGTERM
# Saving takes at most one part in this many of the time.
LEAST_SHARE = 20
# Targets hashed at once.
ROWS = 4096
# In the repr of what has none of its own, such as a schedule that is no dataclass.
_ADDRESS = re.compile(" at 0x[0-9a-f]+", re.IGNORECASE)

log = logging.getLogger("keras_tl")


class Checkpoint:
    """A folder that training is kept in, and from which it goes on.

    It keeps variables (also of the optimizer and random generators), the best and averaged weights,
    the history, the state of Python's and NumPy's generators and the place in the order of the
    samples: if nothing else is random, the final weights are those of an uninterrupted training.
    Keras' callbacks are kept, and your own if they are `keras_tl.training.saver.Kept`; for the
    steps of an epoch that are already done, yours see the figures so far. Across phases, only
    ModelCheckpoint keeps what it had gathered: the others begin anew with each.

    Args:
        folder: The folder; made when there is something to keep.
        seconds: About how much work may be lost. The end of an epoch is kept sooner.
        keeps: Whether this process writes; of several only the chief does.
    """

    PHASE, STEP, NOTES = "phase.npz", "step.npz", "notes.npz"

    def __init__(self, folder: str | Path, seconds: float = 30.0, *, keeps: bool = True):
        self.folder = Path(folder)
        self.keeps = keeps
        self.seconds = seconds
        self.place: dict[str, Any] | None = None
        self.at_work = self.asked = False
        self.workers = Workers()
        self._facts: dict[str, Any] = {}
        # For each finished phase, what its callbacks have gathered for the next ones.
        self._callbacks: list[list[dict[str, Any]]] = []
        self._saved, self._took = time.monotonic(), 0.0

    @property
    def exists(self) -> bool:
        """Whether a training was kept here."""
        return (self.folder / self.PHASE).is_file()

    def share(self, workers: Workers) -> None:
        """Gives all processes what the chief has kept."""
        workers.share_files(self.folder)

    def begin(
        self, model: keras.Model, history: list[dict[str, Any]], facts: dict[str, Any]
    ) -> list[dict[str, Any]]:
        """Restores a model to the beginning of the phase that was under way.

        Args:
            model: The whole model, as it is built; its adapters are made.
            history: Empty; takes the rows of the phases before.
            facts: See `facts_of`.

        Returns:
            What `end_phase` was given by the phases before.

        Raises:
            InputError: What is kept is of another training, or damaged.
        """
        self._facts = facts
        if not self.exists:
            # A checkpoint may be used again once it is removed.
            self._callbacks, self.place = [], None
            self._write_phase(model, history, [])
            return []
        remove_leftovers(self.folder)
        state = read_state(self.folder / self.PHASE)
        kept = state["facts"]
        # Older versions kept fewer.
        if other := [name for name in facts if kept.get(name, facts[name]) != facts[name]]:
            received = f"another one's, by its {' and '.join(other)}"
            raise self._not_this(received)
        self.assign(model.variables, state["model"])
        set_random_state(state["random"])
        history[:] = state["history"]
        self._callbacks = state.get("callbacks", [[] for _ in state["reports"]])
        self.place = self._kept_place(len(state["reports"]))
        self._say(state["reports"])
        return state["reports"]

    def end_phase(
        self,
        model: keras.Model,
        history: list[dict[str, Any]],
        reports: list[dict[str, Any]],
        callbacks: Iterable[keras.callbacks.Callback] = (),
    ) -> None:
        """Keeps what the next phase begins with, or what training ended with.

        Args:
            model: The whole model.
            history: The rows so far.
            reports: A JSON-ready report of each phase so far.
            callbacks: The user's in this phase: the same ones may serve the next.
        """
        self.place = None
        self._callbacks.append([kept.state() for kept in kept_between_phases(callbacks)])
        self._write_phase(model, history, reports)
        # One process that ends may end the others, so all agree here, once the chief has written.
        if np.any(self.workers.gather(np.array([self.asked]))):
            self.asked = True
        self.at_work = False
        self.leave_if_asked()

    def give_back(self, callbacks: Iterable[keras.callbacks.Callback], phase: int) -> None:
        """Restores what the callbacks of a finished phase had gathered when it ended."""
        states = self._callbacks[phase]
        for kept, state in zip(kept_between_phases(callbacks), states, strict=False):
            kept.restore(state)

    def feed_from(self, steps: int, epochs: int) -> tuple[int, int]:
        """The epoch, and the step in it, from which on data are needed."""
        if self.place is None:
            return 0, 0
        epoch, step = self.place["epoch"], self.place["step"]
        # At least one batch, for the checks before training.
        return (epoch, steps - 1) if epoch == epochs - 1 and step == steps else (epoch, step)

    def is_due(self, most: float) -> bool:
        """Whether SIGTERM has come, or what is kept is older than `most` seconds."""
        waited = time.monotonic() - self._saved
        return self.asked or waited >= max(min(most, self.seconds), LEAST_SHARE * self._took)

    def save(self, state: dict[str, Any]) -> None:
        """Writes the place where training is."""
        if not self.keeps:
            return
        started = time.monotonic()
        write_state(self.folder / self.STEP, state | {"random": random_state()})
        self._saved = time.monotonic()
        self._took = self._saved - started

    def ask(self) -> None:
        """Ends the process as soon as what is under way is kept."""
        self.asked = True
        if not self.at_work:
            self.leave_if_asked()

    def leave_if_asked(self) -> None:
        """Raises `SystemExit` where `ask` was called."""
        if self.asked:
            _leave()

    def note(self, notes: dict[str, Any]) -> None:
        """Keeps what was decided before training, ready for JSON."""
        if not self.keeps:
            return
        write_state(self.folder / self.NOTES, notes)

    def notes(self) -> dict[str, Any]:
        """What `note` kept; empty where that is nothing."""
        path = self.folder / self.NOTES
        return read_state(path) if path.is_file() else {}

    def remove(self) -> None:
        """Removes the folder: what was trained is kept elsewhere."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _kept_place(self, phase: int) -> dict[str, Any] | None:
        path = self.folder / self.STEP
        place = read_state(path) if path.is_file() else None
        # It may be of the phase before, if the run was killed between the two writes.
        return place if place and place["phase"] == phase else None

    def _write_phase(
        self, model: keras.Model, history: list[dict[str, Any]], reports: list[dict[str, Any]]
    ) -> None:
        if not self.keeps:
            return
        state = {
            "facts": self._facts,
            "model": values(model.variables),
            "history": history,
            "reports": reports,
            "callbacks": self._callbacks,
            "random": random_state(),
        }
        write_state(self.folder / self.PHASE, state)
        (self.folder / self.STEP).unlink(missing_ok=True)
        self._saved = time.monotonic()

    def assign(self, variables: Sequence[Any], kept: Sequence[np.ndarray]) -> None:
        """Assigns kept values to variables; refuses those of other shapes."""
        if [tuple(v.shape) for v in variables] != [value.shape for value in kept]:
            raise self._not_this("other weights than the model's")
        for variable, value in zip(variables, kept, strict=True):
            variable.assign(value)

    def _not_this(self, received: str) -> InputError:
        fix = f"Go on with the same, or delete {self.folder} to begin anew."
        return InputError(f"this training's state in {self.folder}", received, fix)

    def _say(self, reports: list[dict[str, Any]]) -> None:
        names, done = self._facts["phases"], len(reports)
        if done == len(names):
            log.info("Goes on behind the training, which is done")
            return
        where = f"phase {done + 1} of {len(names)}, {names[done][0]}"
        if self.place:
            where += f", epoch {self.place['epoch'] + 1} behind step {self.place['step']}"
        log.info("Goes on with %s", where)


@contextmanager
def terminable(checkpoint: Checkpoint) -> Iterator[None]:
    """SIGTERM keeps what is trained and raises `SystemExit` with code 143, in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: checkpoint.ask())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def facts_of(
    phases: Sequence[Phase],
    train: Images,
    val: Images | None,
    batch_size: int,
    seed: int,
    class_weights: Sequence[float] | None = None,
) -> dict[str, Any]:
    """JSON-ready facts that tell one training from another."""
    digest = hashlib.sha256()
    for images in (train, val):
        if images is not None:
            digest.update("\n".join(images.keys).encode())
            # How they are decoded and augmented; any view's will do.
            digest.update(json.dumps(images.fingerprint(0), sort_keys=True).encode())
            targets = images.targets()
            for at in range(0, len(targets), ROWS):
                digest.update(np.ascontiguousarray(targets[at : at + ROWS]).tobytes())
    return {
        "phases": [[phase.name, _ADDRESS.sub("", repr(phase))] for phase in phases],
        "data": digest.hexdigest(),
        "batch size": batch_size,
        "seed": seed,
        "class weights": None if class_weights is None else [float(w) for w in class_weights],
    }


def _leave() -> NoReturn:
    log.warning("Ended by SIGTERM: the same command goes on")
    raise SystemExit(TERMINATED)
