"""Files that are odd by their names, their kind or who may read them, beside good ones."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import unicodedata
from pathlib import Path

import pytest
from robustness.corpus import pictures
from robustness.ending import deadline, listing

from keras_tl.config_files import read_config
from keras_tl.data.folders import from_folder
from keras_tl.data.frames import from_csv
from keras_tl.data.image_input import ImageInput
from keras_tl.data.inspection import inspect, refused_unread
from keras_tl.data.open import open_data
from keras_tl.data.streams import open_stream
from keras_tl.errors import InputError

PNG = pictures.WHOLE["png"][1]
INPUT = ImageInput(size=16)
NAMES = {
    "blanks": "a photograph of mine.png",
    "blanks at its ends": " a .png",
    "a line end": "two\nlines.png",
    "a carriage return": "two\rlines.png",
    "a tab": "a\tb.png",
    "quotes": "a \"b\" 'c' `d`.png",
    "a dollar": "$(touch evil).png",
    "a semicolon": "a; touch evil; b.png",
    "a star": "*.png",
    "brackets": "[abc]{d,e}.png",
    "a backslash": "a\\b.png",
    "emoji": "\U0001f600\U0001f1e9\U0001f1ea.png",
    "letters that combine": "e\u0301\u0308.png",
    "letters from right to left": "\u05d0\u05d1.png",
    "a turned extension": "a\u202egnp.png",
    "a blank of no width": "a\u200b.png",
    "a control character": "a\x1b[31m.png",
    "a leading hyphen": "--help.png",
    "two dots": "a..png",
    "255 bytes": "n" * 251 + ".png",
    "markup": "<script>alert(1)<／script>.png",
    "a per cent": "%s%n%d.png",
    "a comma": "a,b.png",
    "an URL": "http:··example.org·a.png",
}


@pytest.fixture
def folder(tmp_path):
    for label in ("a", "b"):
        (tmp_path / "data" / label).mkdir(parents=True)
        for number in range(3):
            (tmp_path / "data" / label / f"{number}.png").write_bytes(PNG)
    return tmp_path / "data"


def left_out(folder):
    with deadline():
        source = inspect(from_folder(folder), INPUT, max_bad_fraction=1.0)
    return source, {skipped.id: skipped.reason for skipped in source.skipped}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_file_of_any_name_is_read(name, folder):
    (folder / "a" / name).write_bytes(PNG)
    before = listing(folder.parent)
    source, skipped = left_out(folder)
    assert f"a/{name}" in source.ids and not skipped
    assert listing(folder.parent) == before


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_class_of_any_name_is_read(name, folder):
    (folder / name).mkdir()
    (folder / name / "0.png").write_bytes(PNG)
    source, _ = left_out(folder)
    # Letters and their accents are one character in a class's name, whatever the file system has.
    assert unicodedata.normalize("NFC", name) in source.class_names
    assert f"{name}/0.png" in source.ids


def listens(path):
    """A socket; its path may have a hundred letters."""
    before = os.getcwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(before)


KINDS = {
    "a pipe": os.mkfifo,
    "a socket": listens,
    "a link to /dev/zero": lambda path: path.symlink_to("/dev/zero"),
    "a link to /dev/random": lambda path: path.symlink_to("/dev/random"),
    "a link to a terminal": lambda path: path.symlink_to("/dev/tty"),
    "a link to itself": lambda path: path.symlink_to(path),
    "a link to nothing": lambda path: path.symlink_to("nothing.png"),
    "a folder": lambda path: path.mkdir(),
    "a file of 3 TB without content": lambda path: _sparse(path, 3 * 2**40),
    "a link to /proc/self/mem": lambda path: path.symlink_to("/proc/self/mem"),
}


def _sparse(path, size):
    path.touch()
    os.truncate(path, size)


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_what_is_no_file_is_left_out_and_nothing_waits_for_it(make, folder):
    make(folder / "a" / "odd.png")
    source, skipped = left_out(folder)
    assert len(source) == 6
    assert "a/odd.png" in skipped or (folder / "a" / "odd.png").is_dir()


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_the_same_in_a_table(make, folder):
    make(folder / "a" / "odd.png")
    rows = [f"{label}/{number}.png,{label}" for label in "ab" for number in range(3)]
    table = folder / "table.csv"
    table.write_text("\n".join(["path,label", *rows, "a/odd.png,a"]))
    with deadline():
        source = inspect(from_csv(table), INPUT, max_bad_fraction=1.0)
    assert len(source) == 6 and [skipped.id for skipped in source.skipped] == ["a/odd.png"]


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_the_same_as_a_table(make, tmp_path):
    path = tmp_path / "table.csv"
    make(path)
    for column in (None, "text"):
        with deadline(), pytest.raises(InputError) as error:
            open_data(str(path), text_column=column)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_the_same_as_settings(make, tmp_path):
    path = tmp_path / "config.yaml"
    make(path)
    with deadline(), pytest.raises(InputError):
        read_config(path)


def test_names_that_no_file_can_have_are_left_out(folder):
    """A NUL, half of a character (JSON can write one), and too many letters."""
    names = ["a/\0.png", "\ud800.png", "n" * 5000 + ".png"]
    for number, name in enumerate(names):
        table = folder / f"{number}.jsonl"
        good = [(f"{label}/{n}.png", label) for label in "ab" for n in range(3)]
        rows = [{"path": path, "label": label} for path, label in [*good, (name, "a")]]
        table.write_text("\n".join(map(json.dumps, rows)))
        found = inspect(from_csv(table), INPUT, max_bad_fraction=1.0)
        assert len(found) == 6 and len(found.skipped) == 1
        refused = [bool(refused_unread(item.content)) for item in open_stream(table)]
        assert refused == [False] * 6 + [True]


def test_links_in_a_circle_are_walked_once(folder):
    (folder / "a" / "to b").symlink_to(folder / "b")
    (folder / "b" / "to a").symlink_to(folder / "a")
    (folder / "a" / "self").symlink_to(folder / "a")
    (folder / "a" / "up").symlink_to("/")
    source, skipped = left_out(folder)
    assert len(source) <= 12 and "a/up" in skipped


def test_a_folder_of_two_hundred_levels_is_walked(folder):
    before = os.getcwd()
    os.chdir(folder / "a")
    try:
        for _ in range(200):
            os.mkdir("d")
            os.chdir("d")
    finally:
        os.chdir(before)
    source, _ = left_out(folder)
    assert len(source) == 6


NOBODY = 65534
LOOK = """
import os, sys
os.setgid({nobody}); os.setuid({nobody})
from keras_tl.data.folders import from_folder
source = from_folder(sys.argv[1])
print([(s.id, s.reason, s.bad) for s in source.skipped], len(source))
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become nobody")
def test_a_folder_that_nobody_may_read_is_listed(folder):
    (folder / "a" / "closed").mkdir()
    (folder / "a" / "closed" / "0.png").write_bytes(PNG)
    (folder / "a" / "closed").chmod(0o700)
    for path in (folder, *folder.parents):
        if Path(tempfile.gettempdir()) in path.parents:
            path.chmod(0o755)
    code = LOOK.format(nobody=NOBODY)
    # Imported as root, who may read the packages.
    code = "import keras_tl.data.folders\n" + code
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, timeout=60
    )
    expected = [("a/closed", "unreadable folder: Permission denied", True)]
    assert done.stdout.strip() == f"{expected} 6", done.stderr


def test_a_table_that_is_a_folder_or_a_device_is_one_line(folder):
    for path in (folder / "a", "/dev/null"):
        with deadline(), pytest.raises(InputError) as error:
            from_csv(path)
        assert "\n" not in str(error.value)
