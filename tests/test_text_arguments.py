"""What `keras-tl predict` is given for a model of texts."""

import io
import sys

import pytest

from keras_tl.errors import InputError
from keras_tl.text_arguments import texts_of


def test_of_a_folder_its_files_are_read_and_no_folders(tmp_path):
    """One may be called as a text is: an archive that was unpacked, for example."""
    (tmp_path / "old.txt").mkdir()
    (tmp_path / "old.txt" / "a.txt").write_text("a film")
    (tmp_path / "b.txt").write_text("a book")
    found = texts_of([str(tmp_path)], "text")
    assert found.items == [("a book",), ("a film",)]


@pytest.mark.parametrize("text", ["A paragraph of a review. " * 20, "好" * 90, "a/" * 3000])
def test_a_text_longer_than_a_file_name_is_a_text(text):
    assert texts_of([text], "text").items == [(text,)]


def test_lines_are_counted_as_an_editor_counts_them(monkeypatch):
    """Blank ones too; what else may end a line (U+2028, a form feed) is part of a text."""
    lines = "one\u2028more\r\n\r\nthree\x0cmore\n".encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))
    found = texts_of(["-"], "text")
    assert found.ids.tolist() == ["line 1", "line 3"]
    assert found.items == [("one\u2028more",), ("three\x0cmore",)]


def test_standard_input_without_a_text_is_refused(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\n \n")))
    with pytest.raises(InputError, match="standard input, received none"):
        texts_of(["-"], "text")


def test_rows_of_several_tables_are_told_apart(tmp_path):
    first, second = tmp_path / "a.csv", tmp_path / "b.csv"
    first.write_text("text,key\ngood,x1\n,x2\n")
    second.write_text("text,key\nbad,y1\n")
    both = [str(first), str(second)]
    found = texts_of(both, "text")
    assert found.ids.tolist() == [f"{first} line 2", f"{second} line 2"]
    assert [skipped.id for skipped in found.skipped] == [f"{first} line 3"]
    assert texts_of(both, "text", id_column="key").ids.tolist() == ["x1", "y1"]
    assert texts_of(both[:1], "text").ids.tolist() == ["line 2"]


def test_splits_and_labels_of_a_table_decide_nothing(tmp_path):
    table = tmp_path / "a.csv"
    table.write_text("text,split,label\ngood,holdout,\n")
    found = texts_of([str(table)], "text")
    assert found.items == [("good",)]
    assert found.splits.tolist() == [""]


def test_a_file_without_a_text_is_passed_over_among_others(tmp_path):
    full, empty = tmp_path / "a.txt", tmp_path / "b.txt"
    full.write_text("a film")
    empty.write_text(" \n")
    found = texts_of([str(full), str(empty)], "text")
    assert found.items == [("a film",)]
    assert [skipped.id for skipped in found.skipped] == [str(empty)]
    with pytest.raises(InputError, match=r"can be seen, received 1 without any \(.*b.txt\)"):
        texts_of([str(empty)], "text")
