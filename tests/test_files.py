import os
from pathlib import Path

import pytest

from keras_tl.errors import InputError
from keras_tl.files import (
    atomic_file,
    atomic_folder,
    atomic_write_text,
    cache_root,
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
