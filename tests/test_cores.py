"""The cores of a process are those of its affinity and of its control groups."""

import pytest

from keras_tl import cores


@pytest.fixture
def group(tmp_path, monkeypatch):
    """A process in the control group /a/b, without limits so far."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "own").write_text("0::/a/b\n")
    monkeypatch.setattr(cores, "PROCESS_GROUP", tmp_path / "own")
    monkeypatch.setattr(cores, "GROUPS", tmp_path)
    monkeypatch.setattr(cores.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    return tmp_path / "a"


def test_cores_are_those_of_the_affinity_and_of_the_control_groups(group):
    assert cores.usable_cores() == 8
    (group / "b" / "cpu.max").write_text("max 100000\n")
    (group / "cpu.max").write_text("250000 100000\n")
    assert cores.usable_cores() == 3
    (group / "b" / "cpu.max").write_text("20000 100000\n")
    assert cores.usable_cores() == 1
