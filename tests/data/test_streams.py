from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from keras_tl.data.folders import IMAGES, from_folder
from keras_tl.data.frames import from_csv
from keras_tl.data.image_input import ImageInput
from keras_tl.data.inspection import inspect
from keras_tl.data.pipeline import Samples
from keras_tl.data.reading import read_images
from keras_tl.data.source import Source
from keras_tl.data.streams import Item, files_of, open_listing, open_stream
from keras_tl.data.tables import read_table
from keras_tl.data.texts import from_text_csv, from_text_folder, from_texts
from keras_tl.errors import InputError

INPUT = ImageInput(size=16)


@pytest.fixture
def photos(tmp_path):
    random = np.random.default_rng(0)
    for name in ("cat/a.jpg", "cat/deep/b.png", "dog/c.jpg", "dog/d.gif", "dog/.hidden/e.jpg"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 255, (40, 50, 3), np.uint8)).save(path)
    (tmp_path / "photos" / "dog" / "notes.txt").write_text("not an image")
    (tmp_path / "photos" / "dog" / "scan.tiff").write_bytes(b"II*\0")
    (tmp_path / "photos" / "cat" / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    (tmp_path / "photos" / "cat" / "empty.png").write_bytes(b"")
    return tmp_path / "photos"


def labels_of(source):
    return {
        name: source.class_names[label]
        for name, label in zip(source.ids, source.labels, strict=True)
    }


def test_a_folder_has_the_items_and_labels_of_from_folder(photos):
    items = [item for item in open_stream(str(photos)) if not item.reason]
    source = from_folder(photos)
    assert {item.id: item.label for item in items} == labels_of(source)
    assert {item.id: item.content for item in items} == dict(
        zip(source.ids, source.items, strict=True)
    )
    assert {i.id: i.reason for i in open_stream(str(photos)) if i.reason} == {
        skipped.id: skipped.reason for skipped in source.skipped if skipped.bad
    }


def test_a_folder_is_found_again_in_the_same_order(photos):
    stream = open_stream(str(photos))
    assert list(stream) == list(stream)
    assert stream.count() == len(list(stream)) == 7


def test_splits_are_told_from_classes_as_from_folder_does(photos, tmp_path):
    (tmp_path / "divided").mkdir()
    photos.rename(tmp_path / "divided" / "Validation")
    stream = open_stream(str(tmp_path / "divided"))
    assert {(i.split, i.label) for i in stream} == {("val", "cat"), ("val", "dog")}
    # Beside a class, "test" is one too.
    (tmp_path / "divided" / "Validation").rename(tmp_path / "divided" / "test")
    (tmp_path / "divided" / "boat").mkdir()
    assert {(i.split, i.label) for i in open_stream(str(tmp_path / "divided"))} == {(None, "test")}


def test_a_folder_without_class_folders_has_no_labels(photos):
    assert {item.label for item in open_stream(str(photos / "dog"))} == {None}


@pytest.mark.parametrize("top", [".", "train"])
def test_a_folder_that_several_classes_link_to_is_read_in_each(tmp_path, top):
    store = tmp_path / "store"
    store.mkdir()
    for i in range(4):
        (store / f"{i}.jpg").touch()
    data = tmp_path / "data"
    for name in "ab":
        (data / top / name).mkdir(parents=True)
        (data / top / name / "s").symlink_to(store)
    found = [item.id for item in files_of(str(data), IMAGES)]
    assert found == from_folder(data).ids.tolist() and len(found) == 8


def test_a_folder_that_links_to_itself_ends(photos):
    (photos / "cat" / "round").symlink_to(photos)
    assert open_stream(str(photos)).count() == 7


def test_a_table_of_images_says_what_from_csv_says(photos, tmp_path):
    table = tmp_path / "list.csv"
    table.write_text(
        "path;label;split\nphotos/cat/a.jpg;cat;train\nphotos/dog/c.jpg;dog;Validation\n"
    )
    items, source = list(open_stream(str(table))), from_csv(table)
    assert [item.id for item in items] == source.ids.tolist()
    assert [item.content for item in items] == source.items
    assert [item.split for item in items] == source.splits.tolist() == ["train", "val"]
    assert {item.id: item.label for item in items} == labels_of(source)


def test_a_table_needs_no_labels(photos, tmp_path):
    table = tmp_path / "list.csv"
    table.write_text("file\nphotos/cat/a.jpg\nphotos/cat/a.jpg\n")
    items = list(open_stream(str(table), path_column="file"))
    assert [(item.id, item.label) for item in items] == [("photos/cat/a.jpg", None)] * 2
    with pytest.raises(InputError, match="a column 'kind'"):
        list(open_stream(str(table), path_column="file", label_column="kind"))


def test_a_column_that_nobody_named_may_say_something_else_than_splits(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("text,split,part\nx,fold 1,train\ny,Valid,fold 1\nz,,test\n")
    items = open_stream(str(path), text_column="text")
    assert [item.split for item in items] == [None, "val", None]
    with pytest.raises(InputError, match="a split's name, received 'fold 1'"):
        list(open_stream(str(path), text_column="text", split_column="part"))


@pytest.mark.parametrize("cell", ["../secret.jpg", " ../secret.jpg", "photos/../../secret.jpg"])
def test_a_path_of_a_table_that_leaves_its_folder_is_refused(cell, photos, tmp_path, monkeypatch):
    content = f"path\nphotos/cat/a.jpg\n{cell}\n"
    (tmp_path / "list.csv").write_text(content)
    leaves = r"'.*secret\.jpg' in line 3, which leaves it"
    with pytest.raises(InputError, match=leaves):
        list(open_stream(str(tmp_path / "list.csv")))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=leaves):
        list(open_stream("list.csv"))
    with pytest.raises(InputError, match=leaves):
        list(open_listing("gs://bucket/list.csv", lambda: BytesIO(content.encode())))


def test_paths_of_a_table_at_an_address():
    cells = ("a.jpg", "b/../c.jpg", "../far/d.jpg", "gs://other/e.jpg")
    content = "\n".join(("path", *cells)).encode()
    items = open_listing("gs://bucket/far/list.csv", lambda: BytesIO(content))
    assert [(item.id, item.content) for item in items] == [
        ("a.jpg", "gs://bucket/far/a.jpg"),
        ("b/../c.jpg", "gs://bucket/far/b/../c.jpg"),
        ("../far/d.jpg", "gs://bucket/far/../far/d.jpg"),
        ("gs://other/e.jpg", "gs://other/e.jpg"),
    ]


def test_lists_in_other_encodings(photos, tmp_path):
    path = tmp_path / "some.txt"
    path.write_bytes("photos/cat/a.jpg\nphotos/caf\u00e9.jpg\n".encode("cp1252"))
    with pytest.raises(InputError, match=r"text in UTF-8, received byte 0xe9 in '.*some\.txt'"):
        list(open_stream(str(path)))
    for encoding in ("utf-8-sig", "utf-16"):
        path.write_bytes("photos/caf\u00e9.jpg\n".encode(encoding))
        assert [item.id for item in open_stream(str(path))] == ["photos/caf\u00e9.jpg"]


def test_lists_of_paths(photos, tmp_path):
    (tmp_path / "some.txt").write_text(f"photos/cat/a.jpg\n\n{photos / 'dog' / 'c.jpg'}\n")
    paths = [str(photos / "cat" / "a.jpg"), str(photos / "dog" / "c.jpg")]
    assert [item.content for item in open_stream(str(tmp_path / "some.txt"))] == paths
    assert [item.content for item in open_stream(paths)] == paths


TABLES = {
    "plain.csv": 'text,label\n"one, two",a\n"two\nlines",b\n\nthree,a\n',
    "tabs.tsv": "text\tlabel\nsay \"hi\tb\n'x'\ta\n",
    "quoted.tsv": 'text\tlabel\n"a\tb"\tb\nplain\ta\n',
    "lines.tsv": 'text\tlabel\n"a\tb\nc\nd"\tb\nplain\ta\n',
    "stray.tsv": 'text\tlabel\n"one\ta\ntwo\tb\nthree"\tb\n',
    "bom.csv": "\ufefftext,label\nä,a\nö,b\n",
    "lines.jsonl": '{"text": "x", "label": 3.0}\n\n{"text": "y", "label": 4}\n',
    "list.json": '[{"text": "x", "label": "a"}, {"text": "y", "label": "b"}]',
}


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_rows_are_those_of_the_table_read_at_once(name, encoding, tmp_path):
    path = tmp_path / name
    content = TABLES[name] if encoding == "utf-8" else TABLES[name].removeprefix("\ufeff")
    path.write_bytes(content.encode(encoding))
    items, source = list(open_stream(str(path), text_column="text")), from_text_csv(path)
    assert [item.id for item in items] == source.ids.tolist()
    assert [item.content for item in items] == source.items
    assert {item.id: item.label for item in items} == labels_of(source)


def test_nan_in_json_is_nothing(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text('{"text": "x", "label": NaN}\n{"text": NaN, "label": "b"}\n')
    first, second = open_stream(str(path), text_column="text")
    assert (first.content, first.label) == (("x",), None)
    assert (second.reason, second.label) == ("no text", "b")


def test_texts_are_joined_paired_and_named(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("key,title,body\nk1,A,B\nk2,,B\nk3, ,\n")
    joined = list(open_stream(str(path), text_column="title,body", id_column="key"))
    assert [item.content for item in joined[:2]] == [("A\nB",), ("B",)]
    assert [(item.id, item.reason) for item in joined] == [
        ("k1", ""),
        ("k2", ""),
        ("k3", "no text"),
    ]
    pairs = open_stream(str(path), text_column="title,body", pair=True)
    assert [item.content for item in pairs][:2] == [("A", "B"), ("", "B")]


def test_a_folder_of_texts_says_what_from_text_folder_says(tmp_path):
    for name, content in (("a/1.txt", b"one"), ("b/2.txt", b"two"), ("b/3.txt", b"\xff\xfe\xff")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    (tmp_path / "a" / "4.txt").write_text(" \n")
    items, source = list(open_stream(str(tmp_path), text_column="text")), from_text_folder(tmp_path)
    good = [item for item in items if not item.reason]
    assert [item.content for item in good] == source.items
    assert {i.id: i.reason for i in items if i.reason} == {s.id: s.reason for s in source.skipped}


def test_a_source_is_a_stream_too():
    source = from_texts(["x", "y"], ["a|b", "b"], splits=["train", ""])
    assert list(open_stream(source)) == [
        Item("text 0", ("x",), "a|b", "train"),
        Item("text 1", ("y",), "b", None),
    ]
    values = Source(np.array(["i"]), [b""], np.array([[1.5]], np.float32), ("t",), "regression")
    assert next(iter(open_stream(values))).label == "1.5"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", b"text,label\nx\n", "2 cells in each line"),
        ("a.csv", b"", "at least one row"),
        ("a.csv", b"text,label\n", "at least one row"),
        ("a.csv", b"txt,label\nx,a\n", "a column 'text'"),
        ("a.csv", b'text\n"open\n', "a CSV file"),
        ("a.csv", b"text\n\xff\n", "text in UTF-8"),
        ("a.csv", "text\nx\n".encode("utf-16-le"), "zeros between letters"),
        ("a.jsonl", b'{"text": 1}\n[]\n', "a JSON object"),
        ("a.jsonl", b'{"text": \n', "line 1"),
        ("a.csv", b"text\n" + b"c" * 2**25, "line 2"),
        ("a.csv", b"c" * 2**25, "line 1"),
        ("a.tsv", b"text\t" + b"c" * 2**25, "line 1"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_when_it_is_counted(name, content, said, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=said):
        open_stream(str(tmp_path / name), text_column="text").count()


def test_what_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        open_stream(str(tmp_path / "nothing"))
    with pytest.raises(InputError, match="two text columns"):
        (tmp_path / "t.csv").write_text("text\nx\n")
        open_stream(str(tmp_path / "t.csv"), text_column="text", pair=True)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="images, received none"):
        open_stream(str(tmp_path / "empty")).count()


def test_rows_come_before_the_table_ends(tmp_path):
    path = tmp_path / "long.csv"
    path.write_text("text\n" + "x\n" * 100_000 + '"')
    rows = iter(open_stream(str(path), text_column="text"))
    assert next(rows).id == "line 2"  # its end, which is damaged, was not read
    with pytest.raises(InputError):
        read_table(path, ["text"])


def read(items):
    batches = list(read_images(items, INPUT, 3))
    told = [pair for batch in batches for pair in batch.told]
    assert [item.id for item, _ in told] == [item.id for item in items]
    refused = [item for item, row in told if row is None]
    good = [item for item, row in told if row is not None]
    return good, [batch for batch in batches if len(batch.inputs)], refused


def test_pixels_are_those_of_training_and_what_is_broken_is_told_as_inspect_tells_it(photos):
    items, batches, refused = read(list(open_stream(str(photos))))
    source = inspect(from_folder(photos), INPUT, max_bad_fraction=1.0)
    wanted = Samples(source, INPUT).images(np.arange(len(source))).as_numpy_iterator()
    by_id = dict(zip(source.ids, wanted, strict=True))
    pixels = np.concatenate([batch.inputs for batch in batches])
    assert [item.id for item in items] == [i.id for i in open_stream(str(photos)) if i.id in by_id]
    for item, image in zip(items, pixels, strict=True):
        np.testing.assert_array_equal(image, by_id[item.id])
    assert {i.id: i.reason for i in refused} == {s.id: s.reason for s in source.skipped if s.bad}


def test_files_that_vanish_and_pixels_and_bytes(photos):
    items = [item for item in open_stream(str(photos)) if not item.reason]
    gone = replace(items[0], content=str(photos / "gone.jpg"))
    good, _, refused = read([gone, *items[1:]])
    assert [item.id for item in good] == ["cat/deep/b.png", "dog/c.jpg", "dog/d.gif"]
    assert [i.reason for i in refused if i.id == gone.id] == ["file not found"]
    content = (photos / "dog" / "c.jpg").read_bytes()
    _, (batch,), refused = read([Item("good", content), Item("bad", b"nothing")])
    assert [item.id for item in refused] == ["bad"]
    array = np.asarray(Image.open(photos / "cat" / "deep" / "b.png"))
    _, (of_array,), _ = read([Item("array", array)])
    _, (of_file,), _ = read([item for item in items if item.id == "cat/deep/b.png"])
    np.testing.assert_array_equal(of_array.inputs, of_file.inputs)
    assert batch.inputs.shape == (1, 16, 16, 3)


def test_what_ends_the_items_is_not_passed_over():
    def items():
        yield Item("a", b"x")
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="gone"):
        list(read_images(items(), INPUT, 3))


def test_all_may_be_broken():
    good, batches, refused = read([Item("a", b"x"), Item("b", b"")])
    assert (good, batches) == ([], [])
    assert [(item.id, item.reason) for item in refused] == [
        ("a", "not an image (starts with b'x')"),
        ("b", "empty file"),
    ]
