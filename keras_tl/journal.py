"""What a run records about itself: the time of each step, its memory, and every warning."""

import logging
import sys
import time
from types import TracebackType
from typing import Any

try:
    import resource
except ImportError:  # On Windows.
    resource = None  # type: ignore[assignment]

log = logging.getLogger("keras_tl")


class Journal:
    """A run's notes on itself; a context manager, within which warnings are noted.

    Attributes:
        seconds: Wall time of each step.
        peak_memory_mb: Peak resident memory of the process (MB of 10^6 bytes) from its start to the
            end of each step: it never falls. Empty on Windows.
        warnings: What keras_tl has warned of, each line once, in order.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.peak_memory_mb: dict[str, int] = {}
        self.warnings: list[str] = []
        self._last = time.perf_counter()
        self._handler = _Noting(self.warnings)

    def __enter__(self) -> "Journal":
        log.addHandler(self._handler)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        log.removeHandler(self._handler)

    def lap(self, name: str, **within: float) -> None:
        """Ends a step; `within` has the seconds of it that count for other steps."""
        now = time.perf_counter()
        for step, taken in {name: now - self._last - sum(within.values()), **within}.items():
            self.seconds[step] = round(self.seconds.get(step, 0.0) + taken, 3)
        self._last = now
        if (peak := peak_memory()) is not None:
            self.peak_memory_mb[name] = round(peak / 1e6)

    def facts(self) -> dict[str, Any]:
        """The notes, ready for JSON."""
        return {
            "seconds": self.seconds,
            "peak_memory_mb": self.peak_memory_mb,
            "warnings": self.warnings,
        }


def peak_memory() -> int | None:
    """Peak resident memory of this process in bytes; None if unknown."""
    if resource is None:
        return None
    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


class _Noting(logging.Handler):
    """Notes warnings; what is worse is raised, not logged."""

    def __init__(self, notes: list[str]):
        super().__init__(logging.WARNING)
        self._notes = notes

    def emit(self, record: logging.LogRecord) -> None:
        line = " ".join(record.getMessage().split())
        if line not in self._notes:
            self._notes.append(line)
