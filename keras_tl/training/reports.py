"""What training reports, phase by phase and epoch by epoch."""

from dataclasses import dataclass, field
from typing import Any

from keras_tl.freezing import FreezingSummary
from keras_tl.training.passes import Pass
from keras_tl.training.phases import Phase


@dataclass(frozen=True)
class PhaseReport:
    """What happened in one phase.

    Attributes:
        name: The phase's name.
        freezing: What was frozen.
        cut: Names of the layers that the frozen prefix ends at; empty where nothing is frozen
            from the input on.
        passes: Runs of the frozen prefix over images.
        seconds: Wall time of the passes and of the training.
        learning_rate: The phase's highest rate.
    """

    name: str
    freezing: FreezingSummary
    cut: tuple[str, ...]
    passes: tuple[Pass, ...]
    seconds: dict[str, float]
    learning_rate: float

    def kept(self) -> dict[str, Any]:
        """What a checkpoint keeps of it; `freezing` is read from the model again."""
        passes = [vars(done) for done in self.passes]
        return {"cut": self.cut, "passes": passes, "seconds": self.seconds}

    @classmethod
    def read(cls, phase: Phase, summary: FreezingSummary, kept: dict[str, Any]) -> "PhaseReport":
        """Reads what was kept of a phase."""
        passes, rate = tuple(Pass(**done) for done in kept["passes"]), phase.learning_rate
        return cls(phase.name, summary, tuple(kept["cut"]), passes, kept["seconds"], rate)


@dataclass
class TrainingResult:
    """What `run_phases` gives back.

    Attributes:
        history: One row an epoch: phase, epoch, seconds, learning_rate, loss, metrics.
        phases: A report for each phase.
    """

    history: list[dict[str, Any]] = field(default_factory=list)
    phases: list[PhaseReport] = field(default_factory=list)
