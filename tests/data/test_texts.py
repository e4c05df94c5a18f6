import json

import numpy as np
import pandas as pd
import pytest

from keras_tl.data.open import open_data
from keras_tl.data.source import content_hash
from keras_tl.data.texts import (
    from_text_csv,
    from_text_dataframe,
    from_text_folder,
    from_texts,
    inspect_texts,
    is_blank,
)
from keras_tl.errors import InputError


def write(folder, text, name="list.csv", encoding="utf-8"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
    return path


def test_a_csv(tmp_path):
    path = write(tmp_path, 'text,label\nhello there,ham\n\n"a, b\nand c",spam\nbye,ham\n')
    source = from_text_csv(path)
    assert source.items == [("hello there",), ("a, b\nand c",), ("bye",)]
    # The second text stands in lines 4 and 5.
    assert source.ids.tolist() == ["line 2", "line 4", "line 6"]
    assert source.class_names == ("ham", "spam") and source.labels.tolist() == [0, 1, 0]
    assert source.groups is None and source.given_splits == () and source.skipped == ()


def test_texts_from_memory_are_any_sequence():
    series = pd.Series(["x", "y"], index=[3, 4])
    assert from_texts(series).items == [("x",), ("y",)]
    assert from_texts(np.array([["a", "b"], ["c", "d"]])).items == [("a", "b"), ("c", "d")]
    assert from_texts(iter([["a", None], ("c", "d")])).items == [("a", ""), ("c", "d")]
    for nothing in (None, ""):
        source = from_texts([nothing, "z"])
        assert source.items == [("z",)] and source.skipped[0].id == "text 0"


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([("a", "b"), "cd"], "pairs of two each, received others among them"),
        (["cd", ("a", "b")], "pairs of two each"),
        ([("a", "b"), ("c", "d", "e")], "pairs of two each"),
        ([("a",), ("b",)], "pairs of two each"),
        ([b"ab"], r"texts as strings, received bytes"),
    ],
)
def test_texts_of_several_kinds_are_refused(texts, message):
    with pytest.raises(InputError, match=message) as caught:
        from_texts(texts)
    assert "\n" not in str(caught.value)


def test_groups_that_nobody_named_are_said(tmp_path, caplog):
    caplog.set_level("INFO", "keras_tl")
    path = write(tmp_path, "text,label,group\naa,x,g\nbb,y,h\n")
    from_text_csv(path)
    assert "Groups are those of column 'group'" in caplog.text
    caplog.clear()
    from_text_csv(path, group_column="group")
    assert "Groups are" not in caplog.text


def test_splits_groups_and_ids(tmp_path):
    path = write(
        tmp_path,
        "no,text,label,split,group\n7,aa,x,train,g\n8,bb,y,,\n9,cc,x,Validation,h\n",
        encoding="utf-8-sig",
    )
    source = from_text_csv(path, id_column="no")
    assert source.ids.tolist() == ["7", "8", "9"]
    assert source.splits.tolist() == ["train", "", "val"] and source.given_splits == (
        "train",
        "val",
    )
    assert source.groups.tolist() == ["g", "", "h"]


def test_two_columns_are_joined_or_a_pair(tmp_path):
    path = write(tmp_path, "title,body,label\nT,B,x\n , C ,y\nD,,x\n")
    joined = from_text_csv(path, "title,body")
    assert joined.items == [("T\nB",), (" C ",), ("D",)]
    paired = from_text_csv(path, ["title", "body"], pair=True)
    assert paired.items == [("T", "B"), (" ", " C "), ("D", "")]
    with pytest.raises(InputError, match="two text columns for a pair, received title"):
        from_text_csv(path, "title", pair=True)


def test_texts_in_which_nothing_can_be_seen_are_bad(tmp_path):
    path = write(tmp_path, 'text,label\na,x\n"  \n ",x\n,y\n\u200b\ufeff\x00,y\n:),y\n')
    source = from_text_csv(path)
    assert source.items == [("a",), (":)",)] and source.labels.tolist() == [0, 1]
    assert [(skip.id, skip.reason, skip.bad) for skip in source.skipped] == [
        ("line 3", "no text", True),
        ("line 5", "no text", True),
        ("line 6", "no text", True),
    ]
    with pytest.raises(InputError, match="at most 50% bad texts, received 3 of 5"):
        inspect_texts(source, max_bad_fraction=0.5)
    assert len(inspect_texts(source, max_bad_fraction=0.6)) == 2


def test_a_class_without_texts_is_refused(tmp_path):
    with pytest.raises(InputError, match="one readable text in each class, received none in 'y'"):
        from_text_csv(write(tmp_path, "text,label\na,x\n ,y\n"))


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_delimiters(tmp_path, delimiter):
    text = "label,text\nx,a\ny,b\n".replace(",", delimiter)
    assert from_text_csv(write(tmp_path, text)).items == [("a",), ("b",)]


def test_quotes_of_a_tsv_that_do_not_add_up_are_characters(tmp_path):
    path = write(tmp_path, 'text\tlabel\n"Good," he said\tx\nsay "no\ty\n"open\tx\n', "list.tsv")
    assert from_text_csv(path).items == [('"Good," he said',), ('say "no',), ('"open',)]
    quoted = write(tmp_path, 'text\tlabel\n"a\tb\nc\nd"\tx\ne\ty\n', "quoted.tsv")
    assert from_text_csv(quoted).items == [("a\tb\nc\nd",), ("e",)]
    with pytest.raises(InputError, match="line 2 of"):
        from_text_csv(write(tmp_path, 'text,label\n"Good," he said,x\nb,y\n'))


def test_no_rows_of_a_tsv_vanish_between_two_stray_quotes(tmp_path):
    table = 'text\tlabel\n"A triumph\tpos\ndull\tneg\nthe end."\tneg\n'
    source = from_text_csv(write(tmp_path, table, "stray.tsv"))
    assert source.items == [('"A triumph',), ("dull",), ('the end."',)]


def test_json_lines(tmp_path):
    rows = [
        {"text": "a\u00e9", "label": "x"},
        {"text": None, "label": "y"},
        {"label": "y", "text": "b \ud83d\ude00", "more": [1]},
        {"label": "y", "text": "half \ud83d"},
    ]
    text = "\n\n".join(map(json.dumps, rows))
    source = from_text_csv(write(tmp_path, text, "list.jsonl"))
    assert source.items == [("aé",), ("b 😀",), ("half ?",)]
    assert source.ids.tolist() == ["line 1", "line 5", "line 7"]
    assert [skip.id for skip in source.skipped] == ["line 3"]
    listed = from_text_csv(write(tmp_path, json.dumps(rows), "list.json"))
    assert listed.items == source.items and listed.ids.tolist() == ["row 0", "row 2", "row 3"]
    labels = '{"text": "a", "label": ["x", "y"]}\n{"text": "b", "label": []}\n'
    several = from_text_csv(write(tmp_path, labels, "several.jsonl"))
    assert several.task == "multi-label" and several.labels.tolist() == [[1, 1], [0, 0]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"text": "a", "label": "x"}\n{"text": \n', "line 2 of"),
        ('"a"\n', "str in line 1"),
        ("[1, 2]", "int in row 0"),
        ("", "an empty file"),
    ],
)
def test_json_that_cannot_be_used(tmp_path, content, message):
    with pytest.raises(InputError, match=message):
        from_text_csv(write(tmp_path, content, "list.jsonl"))


def test_json_whose_rows_have_keys_of_their_own_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("keras_tl.data.tables.CELLS", 1000)
    rows = [{"text": "a", "label": "xy"[i % 2], f"key {i}": i} for i in range(300)]
    # 300 rows of 302 keys are 90,600 cells, for 900 values.
    path = write(tmp_path, "\n".join(map(json.dumps, rows)), "list.jsonl")
    with pytest.raises(InputError, match="received 302 keys in 300 rows, few of them in each"):
        from_text_csv(path)
    # 180 rows of 182 keys are 32,760 cells, below 64 for each of 540 values.
    path = write(tmp_path, "\n".join(map(json.dumps, rows[:180])), "list.jsonl")
    assert len(from_text_csv(path)) == 180
    monkeypatch.undo()
    path = write(tmp_path, "\n".join(map(json.dumps, rows)), "list.jsonl")
    assert len(from_text_csv(path)) == 300


def test_encodings(tmp_path):
    text = "text,label\nfine,x\ncaf\u00e9,y\n"
    latin = write(tmp_path, text, encoding="cp1252")
    with pytest.raises(InputError, match=r"UTF-8, received byte 0xe9 at offset 21 \(line 3\)"):
        from_text_csv(latin)
    assert from_text_csv(latin, encoding="cp1252").items[1] == ("café",)
    wide = write(tmp_path, text, "wide.csv", encoding="utf-16")
    assert from_text_csv(wide).items[1] == ("café",)
    for encoding in ("utf-16-le", "utf-16-be"):
        unmarked = write(tmp_path, text, "unmarked.csv", encoding=encoding)
        with pytest.raises(InputError, match="zeros between letters"):
            from_text_csv(unmarked)
        assert from_text_csv(unmarked, encoding=encoding).items[1] == ("café",)
    with pytest.raises(InputError, match="'klingon'"):
        from_text_csv(latin, encoding="klingon")


def test_huge_cells_and_nul_bytes(tmp_path):
    long = "word " * 100_000
    source = from_text_csv(write(tmp_path, f"text,label\n{long},x\nb\x00b,y\n"))
    assert len(source.items[0][0]) == 500_000 and source.items[1] == ("b\x00b",)


def test_a_cell_over_the_limit_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("keras_tl.data.tables.LARGEST_CELL", 100)
    path = write(tmp_path, f"text,label\n{'a' * 100},x\n{'b' * 101},y\n")
    with pytest.raises(InputError, match=r"line 3 .*field larger than field limit \(100\)"):
        from_text_csv(path)


@pytest.mark.parametrize("header", ["text,label,{}", "{}\ttext\tlabel", "{}"])
def test_a_name_of_a_column_over_the_limit_is_refused(tmp_path, monkeypatch, header):
    monkeypatch.setattr("keras_tl.data.tables.LARGEST_CELL", 100)
    path = write(tmp_path, header.format("c" * 101) + "\na,x,y\n")
    with pytest.raises(InputError, match=r"line 1 .*field larger than field limit \(100\)"):
        from_text_csv(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "an empty file"),
        ("text,label\n", "at least one row"),
        ("text,label\na,x,more\n", "3 in line 2"),
        ('text,label\na,x\n"b,y\n', "line 3 .*unexpected end of data"),
        ("txet,label\na,x\n", r"a column 'text', .* txet, label. Did you mean txet\?"),
        ("text,lable\na,x\n", r"a column 'label', .*Did you mean lable\?"),
        ("text,label\na,x\nb,\n", r"1 without one \(line 3\)"),
        ("text,label\na,x\nb,x\n", "at least two classes"),
        ("text,label\n ,x\n,y\n", r"texts, received 2 without any \(line 2, line 3\)"),
        (f"ham\t{'word ' * 20}\nspam\tyes\n", "the columns ham, word word .*[.]{3}[.]"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path, content, message):
    with pytest.raises(InputError, match=message):
        from_text_csv(write(tmp_path, content))


def test_ids_must_be_there_once_each(tmp_path):
    path = write(tmp_path, "id,text,label\n1,a,x\n1,b,y\n")
    with pytest.raises(InputError, match="'1' in line 2 and in line 3"):
        from_text_csv(path, id_column="id")
    path = write(tmp_path, "id,text,label\n1,a,x\n,b,y\n")
    with pytest.raises(InputError, match="none in line 3"):
        from_text_csv(path, id_column="id")


def test_without_labels(tmp_path):
    source = from_text_csv(write(tmp_path, "text\na\nb\n"), label_column=None)
    assert source.class_names == () and source.labels.tolist() == [0, 0]
    source = from_texts(["a", " ", "b"])
    assert source.items == [("a",), ("b",)] and source.ids.tolist() == ["text 0", "text 2"]
    pairs = from_texts([("a", ""), ("b", "c")], ["x", "y"], splits=["train", "test"])
    assert pairs.items == [("a", ""), ("b", "c")] and pairs.given_splits == ("train", "test")
    with pytest.raises(InputError, match="2 labels, received 1"):
        from_texts(["a", "b"], ["x"])


@pytest.mark.parametrize("dtype", ["string", "object", "category"])
def test_a_dataframe(dtype):
    frame = pd.DataFrame({"text": ["a", None, "b"], "label": [1, 0, 0]}, index=[5, 6, 7])
    source = from_text_dataframe(frame.astype({"text": dtype}))
    assert source.ids.tolist() == ["row 5", "row 7"] and source.items == [("a",), ("b",)]
    assert {type(text) for (text,) in source.items} == {str}
    assert source.class_names == ("0", "1") and source.labels.tolist() == [1, 0]


def test_an_index_that_repeats_is_not_taken_for_ids():
    frame = pd.DataFrame({"text": ["a", "b"], "label": ["x", "y"]}, index=[3, 3])
    assert from_text_dataframe(frame).ids.tolist() == ["row 0", "row 1"]


def test_numbers_of_regressions():
    frame = pd.DataFrame({"text": ["a", "b"], "stars": [4.5, 1]})
    source = from_text_dataframe(frame, label_column="stars")
    assert source.task == "regression" and source.labels.tolist() == [[4.5], [1.0]]


def test_a_folder(tmp_path):
    for name, content in {
        "train/neg/1.txt": b"bad",
        "train/pos/1.txt": b"\xef\xbb\xbfgood\r\nvery",
        "train/pos/2.txt": b" ",
        "train/pos/3.txt": b"caf\xe9",
        "train/pos/4.jpg": b"",
        "test/neg/1.TXT": b"worse",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    source = from_text_folder(tmp_path)
    assert source.ids.tolist() == ["train/neg/1.txt", "train/pos/1.txt", "test/neg/1.TXT"]
    assert source.items == [("bad",), ("good\nvery",), ("worse",)]
    assert source.labels.tolist() == [0, 1, 0] and source.given_splits == ("train", "test")
    assert {(skip.id, skip.reason, skip.bad) for skip in source.skipped} == {
        ("train/pos/2.txt", "no text", True),
        ("train/pos/3.txt", "not in UTF-8", True),
        ("train/pos/4.jpg", "not a text file (.jpg)", False),
    }
    assert len(from_text_folder(tmp_path, encoding="latin-1")) == 4
    with pytest.raises(InputError, match="'klingon'"):
        from_text_folder(tmp_path, encoding="klingon")


def test_hashes_do_not_collide():
    texts = [("ab", "c"), ("a", "bc"), ("abc",), ("abc", ""), ("", "abc"), ('a", "b', "c")]
    assert len({content_hash(item) for item in texts}) == len(texts)
    assert content_hash(("ab", "c")) == content_hash(("ab", "c"))
    source = inspect_texts(from_texts(["x", "y", "x"]))
    assert (source.hashes[:, None] == source.hashes[None]).sum() == 5


def test_open_data_by_what_it_is(tmp_path):
    path = write(tmp_path, "title,body,kind,fold\na,b,x,train\nc,d,y,test\n")
    options = {"label_column": "kind", "split_column": "fold"}
    source = open_data(str(path), text_column="title,body", pair=True, **options)
    assert source.items == [("a", "b"), ("c", "d")] and source.given_splits == ("train", "test")
    aligned = open_data(str(path), text_column="body", class_names=("y", "x"), **options)
    assert aligned.labels.tolist() == [1, 0]
    with pytest.raises(InputError, match="No such file"):
        open_data(str(tmp_path / "nothing.csv"), text_column="text")
    (tmp_path / "sets" / "a").mkdir(parents=True)
    (tmp_path / "sets" / "b").mkdir()
    write(tmp_path, "one", "sets/a/1.txt")
    write(tmp_path, "two", "sets/b/1.txt")
    assert open_data(str(tmp_path / "sets"), text_column="text").items == [("one",), ("two",)]


@pytest.mark.parametrize("text", ["", " \n\t", "\u00a0\u3000", "\u200b\u200d\ufeff", "\x00"])
def test_blank(text):
    assert is_blank(text) and not is_blank(text + ".")


def test_items_are_taken_in_order():
    source = from_texts(["a", "b", "c"], ["x", "y", "x"])
    assert source.take(np.array([2, 0])).items == [("c",), ("a",)]


def test_labels_in_columns_are_read_as_those_of_images_are():
    texts = [f"text {i}" for i in range(6)]
    hot = np.eye(3, dtype=int)[[0, 1, 2, 0, 1, 2]]
    several = hot | np.roll(hot, 1, axis=1)
    one_hot = from_texts(texts, hot)
    assert (one_hot.task, one_hot.labels.tolist()) == ("single-label", [0, 1, 2, 0, 1, 2])
    multi = from_texts(texts, several, class_names=["a", "group", "c"])
    assert (multi.task, multi.class_names) == ("multi-label", ("a", "group", "c"))
    np.testing.assert_array_equal(multi.labels, several)
    values = np.arange(12).reshape(6, 2) / 3
    numbers = from_texts(texts, values, task="regression")
    np.testing.assert_allclose(numbers.labels, values, rtol=1e-6)
    names = from_texts(texts, [0, 1, 1, 0, 1, 1], class_names=["no", "yes"])
    assert names.class_names == ("no", "yes") and names.labels.tolist() == [0, 1, 1, 0, 1, 1]
    groups = from_texts(texts, hot, groups=["p", np.nan, pd.NA, None, 1.0, 1]).groups
    assert groups.tolist() == ["p", "", "", "", "1", "1"]


def test_labels_called_group_are_no_groups():
    frame = pd.DataFrame({"text": list("abcd"), "group": ["control", "patient"] * 2})
    source = from_text_dataframe(frame, label_column="group")
    assert source.groups is None and source.class_names == ("control", "patient")
    with pytest.raises(InputError, match=r"another column for groups .* label column 'group'"):
        from_text_dataframe(frame, label_column="group", group_column="group")


def test_label_columns_of_booleans_are_read_and_named_once(tmp_path):
    path = write(tmp_path, "text,spam,rude\na,True,False\nb,True,True\nc,False,False\n")
    source = from_text_csv(path, label_column=["spam", "rude"])
    assert (source.task, source.labels.tolist()) == ("multi-label", [[1, 0], [1, 1], [0, 0]])
    with pytest.raises(InputError, match="different label columns, received spam, spam"):
        from_text_csv(path, label_column=["spam", "spam"])
