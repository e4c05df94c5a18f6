"""What `keras-tl predict` is given for a model of texts."""

from keras_tl.text_arguments import texts_of


def test_of_a_folder_its_files_are_read_and_no_folders(tmp_path):
    """One may be called as a text is: an archive that was unpacked, for example."""
    (tmp_path / "old.txt").mkdir()
    (tmp_path / "old.txt" / "a.txt").write_text("a film")
    (tmp_path / "b.txt").write_text("a book")
    found = texts_of([str(tmp_path)], "text")
    assert found.items == [("a book",), ("a film",)]
