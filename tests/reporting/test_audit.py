import json

import pytest
from run_folders import Page

from keras_tl.data.audit.findings import Audit, Finding
from keras_tl.errors import InputError
from keras_tl.reporting.audit import SHOWN
from keras_tl.reporting.page import write_report


def shown(made, *findings):
    """The page's section on the audit, and how many images are in it."""
    Audit({"train": 60}, {"a": 60}, findings).write(made.run.path("audit.json"))
    html = write_report(made.run).read_text(encoding="utf-8")
    section = html.split('<section id="audit-of-the-images">')[1].split("</section>")[0]
    assert len(section.encode()) < 200_000
    page = Page(f"<section>{section}</section>")
    return page.text, sum(value.startswith("data:image/jpeg") for value in page.loaded)


def ids(made, *numbers):
    return tuple(str(made.source.ids[i]) for i in numbers)


def test_pairs_across_splits_are_shown_side_by_side(made):
    pairs = tuple(ids(made, i, i + 60) for i in range(10))
    why = tuple(f"similarity 0.{99 - i}: train / test" for i in range(10))
    leak = Finding("near-leak", "serious", "10 pairs lie in <two> splits.", pairs, why)
    text, images = shown(made, leak)
    assert "Found: 1 serious." in text and "10 pairs lie in <two> splits." in text
    assert "Near-duplicates in more than one split (2 more are listed below)" in text
    assert "similarity 0.99: train / test" in text
    assert " = ".join(pairs[0]) in text
    assert images == 2 * SHOWN


def test_suspected_labels_are_shown_one_by_one(made):
    finding = Finding(
        "wrong-label", "warning", "2 labels.", (ids(made, 4), ids(made, 9)), ("labelled a", "or b")
    )
    text, images = shown(made, finding)
    assert "Labels suspected to be wrong, the surest first" in text and "labelled a" in text
    assert images == 2


def test_what_needs_no_picture_is_listed(made):
    sets = tuple((f"{i}.jpg",) for i in range(70))
    text, images = shown(made, Finding("dark", "note", "70 are dark.", sets, ("why",) * 70))
    assert images == 0
    assert "49.jpg" in text and "50.jpg" not in text
    assert "20 more are in audit.json." in text


def test_images_that_are_gone_are_listed_all_the_same(made):
    finding = Finding("wrong-label", "warning", "1 label.", (("gone.png",),), ("labelled a",))
    text, images = shown(made, finding)
    assert images == 0
    assert "1 of 1 images are gone" in text and "gone.png" in text


def test_nothing_was_found(made):
    assert "Nothing was found." in shown(made)[0]


def test_a_run_without_an_audit_says_so(made):
    text = Page(write_report(made.run).read_text(encoding="utf-8")).text
    assert "its images were not looked through" in text


@pytest.mark.parametrize("contents", ["", json.dumps({"schema_version": 0})])
def test_an_audit_that_cannot_be_read_is_said(made, contents):
    made.run.path("audit.json").write_text(contents)
    with pytest.raises(InputError, match="an audit"):
        write_report(made.run)
