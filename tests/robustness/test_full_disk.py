"""`keras-tl train` where files cannot be written to their end, and again where they can."""

import resource
import subprocess

import pytest
from robustness.test_killed_pass import pictures, train_command

from keras_tl.runs import Run
from keras_tl.shards import leftovers


def train(command, megabytes):
    """Runs a command that cannot write files of more than so many megabytes."""
    size = int(megabytes * 1e6) if megabytes else resource.RLIM_INFINITY
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=600,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
    )


@pytest.mark.slow
def test_where_nothing_more_can_be_written_one_line_says_so(tmp_path, monkeypatch):
    cache, run = tmp_path / "cache", Run(tmp_path / "run")
    monkeypatch.setenv("KERAS_TL_CACHE", str(cache))
    command = train_command(pictures(tmp_path / "data"), run.folder)
    # In the middle of the pass; and in the middle of the model, of some 14 MB.
    for megabytes, said in ((0.1, "room to write features"), (5, "File too large")):
        done = train(command, megabytes)
        assert done.returncode == 2, done.stderr[-2000:]
        last = done.stderr.strip().splitlines()[-1]
        assert last.startswith("keras-tl: ") and said in last
        assert "Traceback" not in done.stderr
        assert not list(run.folder.glob(".*"))
        assert not run.path(Run.MODEL).exists()
        assert not any(leftovers(folder) for folder in cache.glob("features/*/"))
    done = train(command, None)
    assert done.returncode == 0, done.stderr[-2000:]
    assert run.is_whole
