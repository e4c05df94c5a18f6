"""A run's items, found again."""

from pathlib import Path

from keras_tl.reporting.album import Album
from keras_tl.reporting.facts import read_facts
from keras_tl.reporting.page import write_report


def test_an_item_that_is_gone_or_changed_is_counted(made):
    album = Album(read_facts(made.run), made.source)
    ids = [str(name) for name in made.source.ids[:4]]
    Path(made.source.items[0]).unlink()
    Path(made.source.items[1]).write_bytes(b"another")
    found, trouble = album.find(ids)
    assert list(found) == ids[2:]
    assert trouble == "2 of 4 images are gone, or not what they were in this run."


def test_a_report_is_written_where_the_opened_images_are_gone(made, tiny_model):
    for item in made.source.items:
        Path(item).unlink()
    page = write_report(made.run, source=made.source, model=tiny_model)
    assert "are gone, or not what they were" in page.read_text(encoding="utf-8")
