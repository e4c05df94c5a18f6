"""Who may write to a run's folder, and what a kill at any moment leaves in it."""

import os
from pathlib import Path

import pytest

from keras_tl import locks
from keras_tl.config import TrainConfig
from keras_tl.errors import InputError
from keras_tl.locks import LOCK, Hold
from keras_tl.runs import Run, check_outside


def test_a_folder_is_one_process_own_until_it_is_let_go(tmp_path):
    first, second = Run(tmp_path / "run"), Run(tmp_path / "run")
    first.begin()
    first.path(".01234567-history.csv").write_text("being written")
    with pytest.raises(InputError, match=r"in which another one is training. Wait for it"):
        second.begin()
    assert first.path(".01234567-history.csv").is_file()
    second.close()
    with pytest.raises(InputError, match="another one is training"):
        Run(first.folder).begin()
    first.close()
    assert not first.path(LOCK).exists()
    second.begin()
    assert not first.path(".01234567-history.csv").exists()


def test_what_another_process_has_just_finished_is_not_begun_anew(tmp_path):
    run = Run(tmp_path)
    run.check_free()
    run.path(Run.METRICS).write_text("{}")
    with pytest.raises(InputError, match="a finished run"):
        run.begin()


def test_what_another_process_has_just_left_is_gone_on_with_only_as_it_was(tmp_path):
    run, config = Run(tmp_path), TrainConfig("photos", str(tmp_path))
    run.check_free(config)
    run.path(Run.CONFIG).write_text(TrainConfig("photos", str(tmp_path), epochs=7).to_yaml())
    # Without what was trained there is nothing to go on with.
    run.begin(config)
    run.close()
    run.path(Run.CHECKPOINT).mkdir()
    with pytest.raises(InputError, match=r"epochs \d+ \(it has 7\)"):
        run.begin(config)
    run.path(Run.CONFIG).write_text(config.to_yaml())
    run.close()
    run.begin(config)


def test_a_lock_that_was_removed_while_it_was_opened_is_none(tmp_path, monkeypatch):
    first, flock = Hold(tmp_path / LOCK, shared=False), locks.fcntl.flock

    def first_ends(*args):
        monkeypatch.setattr(locks.fcntl, "flock", flock)
        (tmp_path / LOCK).unlink()
        first.release()
        flock(*args)

    monkeypatch.setattr(locks.fcntl, "flock", first_ends)
    second = Hold(tmp_path / LOCK, shared=False)
    assert second.alone and not Hold(tmp_path / LOCK, shared=False).alone


@pytest.mark.parametrize("left", [(".01234567-config.yaml",), (LOCK,), (LOCK, ".89abcdef-model")])
def test_what_a_kill_in_the_first_write_leaves_is_no_reason_to_refuse(tmp_path, left):
    for name in left:
        (tmp_path / name).write_text("half")
    run = Run(tmp_path)
    run.check_free()
    run.begin()
    assert {path.name for path in tmp_path.iterdir()} == {LOCK}


@pytest.mark.parametrize("name", ["notes.txt", ".0123456-config.yaml", ".hidden"])
def test_files_that_no_run_wrote_are(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(InputError, match="which has other things in it"):
        Run(tmp_path).check_free()
    assert (tmp_path / name).read_text() == "mine"


def test_a_process_that_was_told_the_chiefs_checkpoint_may_begin(tmp_path):
    """Its folder is a temporary one, with nothing else in it."""
    (tmp_path / Run.CHECKPOINT).mkdir()
    Run(tmp_path).begin()


def whole_with_checkpoint(folder):
    """What a kill leaves between the last file of a run and its checkpoint."""
    run = Run(folder)
    run.path(Run.CHECKPOINT).mkdir(parents=True)
    run.path(Run.METRICS).write_text("{}")
    (run.path(Run.CHECKPOINT) / "phase.npz").write_bytes(b"kept")
    return run


def test_the_checkpoint_of_a_whole_run_goes_where_the_run_is_met(tmp_path):
    run = whole_with_checkpoint(tmp_path)
    run.path(LOCK).touch()
    with pytest.raises(InputError, match="a finished run"):
        run.check_free()
    assert {path.name for path in tmp_path.iterdir()} == {Run.METRICS}


def test_but_not_while_its_own_process_is_at_work(tmp_path):
    run = whole_with_checkpoint(tmp_path)
    hold = Hold(run.path(LOCK), shared=False)
    with pytest.raises(InputError, match="a finished run"):
        run.check_free()
    hold.release()
    names = {path.name for path in tmp_path.rglob("*")}
    assert names == {Run.METRICS, Run.CHECKPOINT, "phase.npz", LOCK}


@pytest.mark.parametrize(
    ("data", "out", "beside"),
    [
        (".", "run", "../run"),
        (".", "runs/first", "../first"),
        ("../photos", "red/run", "../run"),
        # A link to a place in the data, and data that a link leads to.
        ("../photos", "../inside/run", "../run"),
        ("../link", "run", "../run"),
        # A table, the data themselves, a place that only begins alike, another one.
        ("list.csv", "run", None),
        (".", ".", None),
        (".", "../photos-run", None),
        (".", "../run", None),
        # Not there: it is said elsewhere.
        ("lost", "lost/run", None),
        ("tfds:mnist", "run", None),
    ],
)
def test_a_run_in_the_folder_of_its_data_is_refused(data, out, beside, tmp_path, monkeypatch):
    (tmp_path / "photos" / "red").mkdir(parents=True)
    (tmp_path / "photos" / "list.csv").touch()
    (tmp_path / "inside").symlink_to("photos/red")
    (tmp_path / "link").symlink_to("photos")
    monkeypatch.chdir(tmp_path / "photos")
    if beside is None:
        check_outside(data, out)
        return
    with pytest.raises(InputError) as refused:
        check_outside(data, out)
    said = f"Expected a folder for the run outside the data, received {out}, which is in {data}. "
    assert str(refused.value) == f"{said}Try --out {os.path.normpath(beside)}."
    check_outside(data, beside)
    assert not Path(out).exists()
