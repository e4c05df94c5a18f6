import csv
import errno
import io
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from keras_tl.errors import InputError
from keras_tl.files import (
    CHANGES,
    atomic_changes,
    atomic_file,
    atomic_folder,
    atomic_write_text,
    cache_root,
    check_file_path,
    csv_text,
    csv_writer,
    finish_changes,
    remove_leftovers,
)


def _names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("own", "general", "expected"),
    [
        ("/own", "/general", "/own"),
        (None, "/general", "/general/keras_tl"),
        (None, None, "/home/me/.cache/keras_tl"),
        ("", "", "/home/me/.cache/keras_tl"),
    ],
)
def test_the_cache_is_where_the_environment_says(monkeypatch, own, general, expected):
    monkeypatch.setenv("HOME", "/home/me")
    for name, value in (("KERAS_TL_CACHE", own), ("XDG_CACHE_HOME", general)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    assert cache_root() == Path(expected)


def test_text_is_written_as_utf8_and_replaces_the_older(tmp_path):
    path = tmp_path / "new" / "labels.txt"
    atomic_write_text(path, "älter\n")
    atomic_write_text(path, "neuer Löwe\n")
    assert path.read_bytes() == "neuer Löwe\n".encode()
    assert _names(path.parent) == ["labels.txt"]


def test_file_is_written_beside_with_the_same_ending(tmp_path):
    with atomic_file(tmp_path / "model.weights.h5") as aside:
        assert aside.parent == tmp_path
        assert aside.name.endswith("model.weights.h5")
        aside.write_text("weights")
        assert not (tmp_path / "model.weights.h5").exists()
    assert _names(tmp_path) == ["model.weights.h5"]


def test_failure_in_a_file_keeps_the_older_one(tmp_path):
    atomic_write_text(tmp_path / "a.txt", "older")
    with pytest.raises(ZeroDivisionError), atomic_file(tmp_path / "a.txt") as aside:
        aside.write_text("half")
        raise ZeroDivisionError
    assert _names(tmp_path) == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "older"


@pytest.mark.parametrize("writer", [atomic_file, atomic_folder, atomic_changes])
@pytest.mark.parametrize(("number", "named"), [(errno.ENOSPC, True), (errno.ETIMEDOUT, False)])
def test_a_full_disk_is_told_with_what_there_was_no_room_for(tmp_path, writer, number, named):
    target = tmp_path / "run"
    target.mkdir()
    with pytest.raises(OSError, match=os.strerror(number)) as caught, writer(target):
        raise OSError(number, os.strerror(number))
    assert caught.value.filename == (str(target) if named else None)
    assert str(target) in str(caught.value) or not named


def test_a_folder_in_a_files_place_is_named(tmp_path):
    with pytest.raises(OSError) as caught:
        atomic_write_text(tmp_path, "text")
    assert str(caught.value.filename) == str(tmp_path)


def test_where_no_file_can_be_written(tmp_path, monkeypatch):
    check_file_path(tmp_path / "new" / "file.json")
    (tmp_path / "file").touch()
    check_file_path(tmp_path / "file")
    for folder in (tmp_path, "/"):
        with pytest.raises(InputError, match="received the folder"):
            check_file_path(folder)
    with pytest.raises(InputError, match=r"below, where .*file is a file"):
        check_file_path(tmp_path / "file" / "below")
    # What root may do, nobody is refused.
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    with pytest.raises(InputError, match="in a folder that cannot be written to"):
        check_file_path(tmp_path / "new" / "file.json")


def test_failure_before_anything_was_written_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), atomic_file(tmp_path / "a.txt"):
        raise KeyboardInterrupt
    assert _names(tmp_path) == []


def test_folder_appears_whole(tmp_path):
    with atomic_folder(tmp_path / "deep" / "saved_model") as aside:
        (aside / "variables").mkdir()
        (aside / "variables" / "data").write_text("1")
        assert not (tmp_path / "deep" / "saved_model").exists()
    assert _names(tmp_path / "deep") == ["saved_model"]
    assert (tmp_path / "deep" / "saved_model" / "variables" / "data").read_text() == "1"


def test_folder_replaces_an_older_one_wholly(tmp_path):
    for name in ("older", "newer"):
        with atomic_folder(tmp_path / "out") as aside:
            (aside / name).write_text(name)
    assert _names(tmp_path) == ["out"]
    assert _names(tmp_path / "out") == ["newer"]


@pytest.mark.parametrize("leads_somewhere", [True, False])
def test_a_folder_takes_the_place_of_a_link_and_not_of_what_it_leads_to(tmp_path, leads_somewhere):
    (tmp_path / "latest").symlink_to("real")
    if leads_somewhere:
        atomic_write_text(tmp_path / "real" / "older", "older")
    with atomic_folder(tmp_path / "latest") as aside:
        (aside / "newer").write_text("newer")
    assert not (tmp_path / "latest").is_symlink()
    assert _names(tmp_path / "latest") == ["newer"]
    kept = ["real"] if leads_somewhere else []
    assert _names(tmp_path) == ["latest", *kept]
    assert [(tmp_path / name / "older").read_text() for name in kept] == ["older"] * len(kept)


def test_failure_in_a_folder_keeps_the_older_one(tmp_path):
    with atomic_folder(tmp_path / "out") as aside:
        (aside / "a").write_text("older")
    with pytest.raises(ZeroDivisionError), atomic_folder(tmp_path / "out") as aside:
        (aside / "a").write_text("half")
        raise ZeroDivisionError
    assert _names(tmp_path) == ["out"]
    assert (tmp_path / "out" / "a").read_text() == "older"


def test_failed_rename_brings_the_older_folder_back(tmp_path, monkeypatch):
    with atomic_folder(tmp_path / "out") as aside:
        (aside / "a").write_text("older")
    replace, calls = os.replace, []

    def failing_second(source, target):
        calls.append(target)
        if len(calls) == 2:
            raise OSError("disk gone")
        replace(source, target)

    monkeypatch.setattr(os, "replace", failing_second)
    with pytest.raises(OSError, match="disk gone"), atomic_folder(tmp_path / "out") as aside:
        (aside / "a").write_text("newer")
    assert _names(tmp_path) == ["out"]
    assert (tmp_path / "out" / "a").read_text() == "older"


def test_folder_does_not_replace_a_file(tmp_path):
    (tmp_path / "out").write_text("precious")
    with pytest.raises(InputError, match="a folder's path"), atomic_folder(tmp_path / "out"):
        pass
    assert (tmp_path / "out").read_text() == "precious"


def test_folder_replaces_only_what_it_knows(tmp_path):
    target = tmp_path / "out"
    target.mkdir()
    for content in ("new", "newer"):  # into an empty folder, then over an older one
        with atomic_folder(target, known_by="export.json") as aside:
            (aside / "export.json").write_text(content)
    assert (target / "export.json").read_text() == "newer"
    (target / "export.json").rename(target / "holiday.jpg")
    refused = pytest.raises(InputError, match="other things in it")
    with refused, atomic_folder(target, known_by="export.json"):
        pytest.fail("the block has begun")
    assert _names(tmp_path) == ["out"] and _names(target) == ["holiday.jpg"]


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path):
    for name in (".0123abcd-model.keras", "model.keras", ".hidden", ".0123-x", ".zzzzzzzz-y"):
        (tmp_path / name).write_text("x")
    with atomic_folder(tmp_path / "saved_model") as aside:
        (aside / "part").write_text("x")
        left = tmp_path / aside.name.replace("saved_model", "other")
        left.mkdir()
        (left / "part").write_text("x")
    remove_leftovers(tmp_path)
    kept = [".0123-x", ".hidden", ".zzzzzzzz-y", "model.keras", "saved_model"]
    assert _names(tmp_path) == kept


def test_a_link_that_a_killed_process_left_goes_without_what_it_leads_to(tmp_path):
    atomic_write_text(tmp_path / "real" / "a", "mine")
    for name, target in ((".0123abcd-latest", "real"), (".0123abcd-lost", "nowhere")):
        (tmp_path / name).symlink_to(target)
    remove_leftovers(tmp_path)
    assert _names(tmp_path) == ["real"]
    assert (tmp_path / "real" / "a").read_text() == "mine"


class Killed(BaseException):
    """Nothing is tidied up after it."""


def killed_at(monkeypatch, step, names=("replace", "mkdir", "rmdir")):
    """Lets so many changes of the disk pass; with the next one the process is gone."""
    left = [step]

    def counted(change):
        def run(*arguments, **options):
            if not left[0]:
                raise Killed
            left[0] -= 1
            return change(*arguments, **options)

        return run

    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: None)
    for name in names:
        monkeypatch.setattr(os, name, counted(getattr(os, name)))


def contents(folder):
    """What every file below a folder holds, by its path."""
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}


OLDER = {"a": "older", "b": "older", "sub/c": "older", "sub/kept": "kept"}
NEWER = OLDER | {"a": "newer", "sub/c": "newer", "new/deep/d": "newer"}


def begin(folder):
    for name, text in OLDER.items():
        atomic_write_text(folder / name, text)


def change(folder):
    with atomic_changes(folder) as aside:
        for name in ("a", "sub/c", "new/deep/d"):
            (aside / name).parent.mkdir(parents=True, exist_ok=True)
            (aside / name).write_text("newer")
        assert {k: v for k, v in contents(folder).items() if not k.startswith(".")} == OLDER


def test_several_files_change_together(tmp_path):
    begin(tmp_path)
    change(tmp_path)
    assert contents(tmp_path) == NEWER
    assert _names(tmp_path) == ["a", "b", "new", "sub"]


def test_a_change_that_fails_leaves_all_as_it_was(tmp_path):
    begin(tmp_path)
    with pytest.raises(ZeroDivisionError), atomic_changes(tmp_path) as aside:
        (aside / "a").write_text("newer")
        raise ZeroDivisionError
    assert contents(tmp_path) == OLDER
    assert _names(tmp_path) == ["a", "b", "sub"]


def test_a_change_that_is_killed_at_any_step_is_all_or_nothing(tmp_path, monkeypatch):
    outcomes, step = [], 0
    while True:
        folder = tmp_path / str(step)
        begin(folder)
        with monkeypatch.context() as patch:
            killed_at(patch, step)
            try:
                change(folder)
            except Killed:
                pass
            else:
                break
        finish_changes(folder)
        seen = {k: v for k, v in contents(folder).items() if not k.startswith(".")}
        outcomes.append(seen)
        assert seen in (OLDER, NEWER)
        with atomic_changes(folder) as aside:
            (aside / "b").write_text("again")
        assert contents(folder) == seen | {"b": "again"}  # and nothing left over
        step += 1
    assert outcomes[0] == OLDER and outcomes[-1] == NEWER
    assert len(outcomes) > 8


@pytest.mark.parametrize("step", range(3))
def test_two_that_finish_a_change_at_once(step, tmp_path, monkeypatch):
    """One finishes it all just before the other moves its first, second or third file."""
    begin(tmp_path)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        killed_at(patch, 1, ["replace"])  # the first is the one that counts
        change(tmp_path)
    assert (tmp_path / CHANGES).is_dir()
    replace, calls = os.replace, []

    def late(*paths):
        calls.append(paths)
        if len(calls) == step + 1:
            finish_changes(tmp_path)
        replace(*paths)

    monkeypatch.setattr(os, "replace", late)
    finish_changes(tmp_path)
    assert contents(tmp_path) == NEWER
    assert _names(tmp_path) == ["a", "b", "new", "sub"]


def test_a_change_that_cannot_be_finished_is_one_line(tmp_path, monkeypatch):
    begin(tmp_path)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        killed_at(patch, 1, ["replace"])
        change(tmp_path)

    def refused(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "replace", refused)
    with pytest.raises(InputError, match=r"finish what was begun there, received .*: Permission"):
        finish_changes(tmp_path)


def hostile(tmp_path, link, target, *files):
    """A run with a link in it, and files that wait to be moved; beside it what is the user's."""
    run = tmp_path / "run"
    for name in ("mine/secret", "run/metrics.json", *(f"run/{CHANGES}/{file}" for file in files)):
        atomic_write_text(tmp_path / name, name)
    (run / link).parent.mkdir(parents=True, exist_ok=True)
    (run / link).symlink_to(target)
    return run


@pytest.mark.parametrize(
    ("link", "target", "files"),
    [
        (CHANGES, "../mine", []),
        ("saved_model", "../mine", ["saved_model/evil", "model.json"]),
        ("saved_model", "../mine", ["saved_model/deep/evil", "model.json"]),
        (f"{CHANGES}/more", "../../mine", ["model.json"]),
        (f"{CHANGES}/model.json", "../../mine/secret", ["other.json"]),
    ],
)
def test_a_link_in_a_folder_moves_nothing_out_of_it_or_into_others(tmp_path, link, target, files):
    run = hostile(tmp_path, link, target, *files)
    before = sorted(tmp_path.rglob("*")), contents(tmp_path)
    with pytest.raises(InputError, match=r"a folder without links, .*received the link .*/run/"):
        finish_changes(run)
    assert (sorted(tmp_path.rglob("*")), contents(tmp_path)) == before


def test_a_change_behind_a_link_is_refused_before_it_counts(tmp_path):
    run = hostile(tmp_path, "saved_model", "../mine")
    with pytest.raises(InputError, match="saved_model"), atomic_changes(run) as aside:
        (aside / "saved_model").mkdir()
        (aside / "saved_model" / "new").write_text("new")
    assert _names(run) == ["metrics.json", "saved_model"]
    assert _names(tmp_path / "mine") == ["secret"]


def test_a_folder_may_be_called_by_a_link(tmp_path):
    begin(tmp_path / "real")
    (tmp_path / "run").symlink_to("real")
    change(tmp_path / "run")
    assert contents(tmp_path / "real") == NEWER


def test_a_cell_may_hold_any_line_end():
    cells = ["two\rlines", "two\nlines", "two\r\nlines", 'a "quote"', "a, comma", "\r\n", "plain"]
    frame = pd.DataFrame({"id": cells, "value": np.arange(7) / 2})
    text = csv_text(frame)
    assert pd.read_csv(io.StringIO(text)).equals(frame)
    # The twin: pandas' own is not read back.
    assert not pd.read_csv(io.StringIO(frame.to_csv(index=False))).equals(frame)
    assert text.startswith("id,value\n") and text.endswith("\nplain,3.0\n")
    file = io.StringIO()
    csv_writer(file).writerows([cells, ["plain"]])
    assert list(csv.reader(io.StringIO(file.getvalue(), newline=""))) == [cells, ["plain"]]
    assert file.getvalue().endswith("plain\nplain\n")
