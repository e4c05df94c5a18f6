import logging

import numpy as np
import pytest

from keras_tl import journal as journals
from keras_tl.journal import Journal, peak_memory

log = logging.getLogger("keras_tl")


def test_seconds_are_those_between_laps_and_within_them(monkeypatch):
    times = iter([100.0, 103.0, 110.0, 110.5])
    monkeypatch.setattr(journals.time, "perf_counter", lambda: next(times))
    journal = Journal()
    journal.lap("data", audit=1.25)
    journal.lap("training")
    journal.lap("audit")
    assert journal.facts()["seconds"] == {"data": 1.75, "audit": 1.75, "training": 7.0}


def test_the_peak_of_memory_is_in_megabytes_and_never_falls():
    journal = Journal()
    journal.lap("before")
    block = np.ones(30_000_000)  # 240 MB
    journal.lap("with it")
    del block
    journal.lap("after")
    peaks = journal.facts()["peak_memory_mb"]
    assert peaks["with it"] <= peaks["after"]
    # Another test may have had more at some time.
    assert peaks["with it"] >= 240
    with open("/proc/self/status") as file:
        high = next(line for line in file if line.startswith("VmHWM"))
    assert peak_memory() == pytest.approx(1024 * int(high.split()[1]), rel=0.1)


def test_warnings_are_noted_once_and_only_within():
    log.warning("before")
    with Journal() as journal:
        log.info("not a warning")
        for count in (3, 3, 4):
            log.warning("%d images\nare gone", count)
        logging.getLogger("other").warning("not ours")
    log.warning("after")
    assert journal.facts()["warnings"] == ["3 images are gone", "4 images are gone"]


def test_an_error_ends_the_noting_too():
    with pytest.raises(ValueError, match="broken"), Journal() as journal:
        raise ValueError("broken")
    log.warning("after")
    assert journal.warnings == []
