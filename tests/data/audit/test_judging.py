import json

import numpy as np
import pytest
from audit_pictures import COPIES, encoded, photograph
from PIL import Image, ImageFilter

from keras_tl.data.arrays import from_arrays
from keras_tl.data.audit.findings import Audit, Finding, read_audit
from keras_tl.data.audit.groups import NearGroups
from keras_tl.data.audit.judging import judge, look_through, without_hubs
from keras_tl.data.audit.near import Pairs
from keras_tl.data.image_input import ImageInput
from keras_tl.data.inspection import inspect
from keras_tl.errors import AuditError, InputError

INPUT = ImageInput()


def audited(items, labels, **options):
    source = inspect(from_arrays(items, labels, **options), INPUT, max_bad_fraction=1.0)
    return judge(source, look_through(source, INPUT))


def by_kind(audit):
    return {finding.kind: finding for finding in audit.findings}


def photographs(count, first=0):
    return [encoded(photograph(i), quality=92) for i in range(first, first + count)]


def test_a_clean_set_has_no_findings():
    audit = audited(photographs(24), ["cat", "dog"] * 12)
    assert audit.findings == ()
    assert audit.classes == {"cat": 12, "dog": 12}
    assert audit.images == {"": 24}
    assert str(audit).endswith("Nothing was found.")
    assert audit.exit_code(strict=True) == 0
    audit.refuse_serious()


@pytest.fixture(scope="module")
def planted():
    """24 photographs, then: an equal file, a copy in test with another label, a mirrored one."""
    clean = photographs(24)
    items = [
        *clean,
        clean[0],
        COPIES["re-encoded"](photograph(1)),
        COPIES["mirrored"](photograph(2)),
    ]
    labels = ["cat", "dog"] * 12 + ["cat", "cat", "cat"]
    splits = ["train"] * 20 + ["val"] * 2 + ["test"] * 2 + ["test", "test", "train"]
    ids = [f"{i}.jpg" for i in range(len(items))]
    return audited(items, labels, splits=splits, ids=ids)


def test_copies_across_splits_and_labels(planted):
    found = by_kind(planted)
    assert found["leak"].sets == (("0.jpg", "24.jpg"),)
    assert found["leak"].why == ("equal files: train / test",)
    assert found["near-leak"].sets == (("1.jpg", "25.jpg"),)
    assert found["near-leak"].severity == "serious"
    assert found["near-two-labels"].sets == (("1.jpg", "25.jpg"),)
    assert found["near-two-labels"].why[0].endswith(": dog / cat")
    assert found["near-duplicates"].sets == (("2.jpg", "26.jpg"), ("1.jpg", "25.jpg"))
    assert found["near-duplicates"].why[0].startswith("mirrored, similarity ")
    assert "two-labels" not in found
    assert planted.images == {"train": 21, "val": 2, "test": 4}


def test_strict_refuses_what_is_serious(planted):
    assert (planted.exit_code(strict=False), planted.exit_code(strict=True)) == (0, 3)
    with pytest.raises(AuditError, match="1 image is in more than one split"):
        planted.refuse_serious()


def test_one_picture_under_two_labels_and_in_two_groups():
    clean = photographs(20)
    png, bmp = encoded(photograph(30), "PNG"), encoded(photograph(30), "BMP")
    labels = ["cat", "dog"] * 10 + ["cat", "dog"]
    audit = audited([*clean, png, bmp], labels, groups=["p1"] * 20 + ["p2", "p3"])
    found = by_kind(audit)
    assert found["two-labels"].why == ("equal pixels: cat / dog",)
    assert found["two-labels"].severity == "serious"
    assert found["groups-alike"].why == ("equal pixels: p2 / p3",)
    same = audited([*clean, png, bmp], ["cat", "dog"] * 10 + ["dog", "dog"])
    assert set(by_kind(same)) == {"duplicates"}


def test_blank_files_of_equal_pixels_stay_together():
    black = [encoded(Image.new("RGB", (50, 50)), kind) for kind in ("PNG", "BMP", "GIF")]
    source = from_arrays([*photographs(4), *black], ["a", "b"] * 3 + ["a"], ids=list("0123xyz"))
    source = inspect(source, INPUT)
    seen = look_through(source, INPUT)
    assert len(seen.pairs) == 0
    assert seen.groups.names.tolist() == [""] * 4 + ["x"] * 3


def test_an_image_like_many_that_are_not_like_each_other_is_like_none():
    """0 is like 1 to 10, of which only 1 shares its group; 11 to 13 are like each other."""
    first = np.array([0] * 10 + [11, 11, 12])
    second = np.array([*range(1, 11), 12, 13, 13])
    pairs = Pairs(first, second, np.ones(13, np.float32), np.zeros(13, bool))
    names = np.array(["a", "a", *[""] * 9, *"bbb"], dtype=object)
    kept = without_hubs(pairs, NearGroups(names, (), 10))
    assert list(zip(kept.first, kept.second, strict=True)) == [(0, 1), (11, 12), (11, 13), (12, 13)]
    large = NearGroups(names, (tuple(range(11)),), 10)
    assert len(without_hubs(pairs, large)) == 13


def test_what_shows_little():
    picture = photograph(40)
    dark = picture.point(lambda value: value // 8)
    light = picture.point(lambda value: 227 + value // 9)
    odd = [
        encoded(Image.new("RGB", (240, 180), (9, 9, 9)), "PNG"),
        encoded(dark),
        encoded(light),
        encoded(picture.filter(ImageFilter.GaussianBlur(9))),
        encoded(picture.resize((60, 45))),
        encoded(picture.resize((400, 90))),
    ]
    ids = ["blank", "dark", "light", "blurred", "small", "odd"]
    others = [encoded(photograph(i, (300, 240))) for i in range(30)]
    labels = ["a", "b"] * 18
    audit = audited([*odd, *others], labels, ids=[*ids, *map(str, range(30))])
    found = by_kind(audit)
    assert found["blank"].sets == (("blank",),)
    assert found["dark"].sets == (("dark",),)
    assert found["light"].sets == (("light",),)
    assert ("blurred",) in found["blurred"].sets
    assert set(found["small"].sets) == {("small",), ("odd",)}
    assert found["small"].why == ("60 x 45 pixels", "400 x 90 pixels")
    assert found["odd-shape"].sets == (("odd",),)


def test_files_that_were_scaled_before_they_were_saved():
    scaled = [photograph(i).point(lambda value: value // 128) for i in range(8)]
    items = [encoded(image, "PNG") for image in scaled]
    found = by_kind(audited(items + photographs(8, 8), [0, 1] * 8))
    assert len(found["scaled"].sets) == 8 and found["scaled"].severity == "serious"
    assert found["scaled"].text.startswith("8 of 16 images have no pixel above 1 of 255")
    # Where most are not, they are dark ones; and black ones were not scaled.
    assert "scaled" not in by_kind(audited(items[:7] + photographs(9, 8), [0, 1] * 8))
    black = encoded(Image.new("RGB", (50, 50)), "PNG")
    assert "scaled" not in by_kind(audited([black] * 4, [0, 1] * 2))


def test_smooth_by_nature_is_not_blurred():
    smooth = [photograph(i).filter(ImageFilter.GaussianBlur(9)) for i in range(20)]
    assert "blurred" not in by_kind(audited([encoded(image) for image in smooth], ["a", "b"] * 10))


def test_classes():
    items = photographs(46)
    labels = ["many"] * 40 + ["few"] * 3 + ["unseen"] * 3
    splits = ["train"] * 43 + ["test"] * 3
    found = by_kind(audited(items, labels, splits=splits))
    assert "few (3), unseen (3)" in found["few-images"].text
    assert "(many) has 40 images" in found["imbalance"].text
    assert found["never-trained"].severity == "serious"
    assert found["never-trained"].text.endswith("never trained, so never predicted: unseen.")


def test_files_that_cannot_be_read(tmp_path):
    from keras_tl.data.folders import from_folder

    for i, contents in enumerate(photographs(20)):
        path = tmp_path / "ab"[i % 2] / f"{i}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(contents)
    (tmp_path / "a" / "cut.jpg").write_bytes(photographs(1)[0][:900])
    (tmp_path / "a" / "notes.txt").write_text("notes")
    source = inspect(from_folder(tmp_path), INPUT)
    found = by_kind(judge(source, look_through(source, INPUT)))
    assert found["unreadable"].sets == (("a/cut.jpg",),)
    assert found["unreadable"].why[0].startswith("JPEG that is truncated")
    assert found["foreign"].sets == (("a/notes.txt",),)


def test_values_of_a_regression():
    items = [*photographs(12), photographs(1)[0], COPIES["re-encoded"](photograph(1))]
    values = [*np.linspace(0, 1, 12), 0.5, 0.9]
    found = by_kind(audited(items, values, task="regression"))
    assert found["two-labels"].why == ("equal files: 0.0 / 0.5",)
    assert set(found) == {"two-labels", "duplicates", "near-duplicates"}


def test_an_audit_is_read_back_as_it_was_written(planted, tmp_path):
    path = tmp_path / "audit.json"
    planted.write(path)
    assert read_audit(path) == planted
    facts = json.loads(path.read_text())
    assert facts["serious"] == 2
    assert facts["findings"][0]["sets"][0]["ids"] == ["0.jpg", "24.jpg"]
    facts["findings"][0]["severity"] = "<img src=x onerror=alert()>"
    path.write_text(json.dumps(facts))
    with pytest.raises(InputError, match="severities serious, warning, note"):
        read_audit(path)
    path.write_text('{"schema_version": 99}')
    with pytest.raises(InputError, match="an audit of version 1"):
        read_audit(path)
    path.write_text("<html>")
    with pytest.raises(InputError, match="an audit's JSON"):
        read_audit(path)


def test_the_text_and_what_a_notebook_shows():
    sets = tuple((f"{i}.jpg",) for i in range(9))
    findings = (Finding("dark", "note", "9 images are very dark.", sets, ("why <so>",) * 9),)
    audit = Audit({"train": 2000}, {"cat": 9}, ()).with_findings(findings)
    text = str(audit)
    assert text.splitlines()[0] == "2,000 images: 2,000 train; 1 class."
    assert "    0.jpg  (why <so>)" in text
    assert "    and 6 more" in text
    assert text.endswith("Found: 1 note.")
    html = audit._repr_html_()
    assert "&lt;so&gt;" in html and "<summary>9 images are very dark.</summary>" in html
    assert "Found: 1 note." in html


def test_a_finding_in_one_line_says_where_it_is_first():
    finding = Finding(
        "leak", "serious", "2 images occur twice.", (("a", "b"), ("c", "d")), ("", "")
    )
    assert finding.brief == "serious: 2 images occur twice. The first: a = b."
    one = Finding("dark", "note", "1 image is dark.", (("a",),), ("",))
    assert one.brief == "note: 1 image is dark. Namely: a."
    many = Finding("leak", "serious", "1 image.", (tuple("abcdef"),), ("",))
    assert many.brief.endswith("Namely: a = b = c = d and 2 more.")
    assert Finding("few", "warning", "Few.").brief == "warning: Few."


def test_the_worst_comes_first():
    findings = [Finding(kind, kind, "") for kind in ("note", "serious", "warning")]
    audit = Audit({}, {}, ()).with_findings(findings)
    assert [finding.kind for finding in audit.findings] == ["serious", "warning", "note"]
