"""Who may write to a run's folder, and what a kill at any moment leaves in it."""

import pytest

from keras_tl.errors import InputError
from keras_tl.locks import LOCK
from keras_tl.runs import Run


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
