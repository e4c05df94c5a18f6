import numpy as np
import pandas as pd
import pytest

from keras_tl.data.frames import from_csv, from_dataframe
from keras_tl.data.texts import from_text_dataframe
from keras_tl.errors import InputError


@pytest.fixture
def folder(tmp_path):
    for name in ("a.jpg", "b.jpg", "c.jpg", "d.jpg", "sub/e.jpg"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"never opened")
    return tmp_path


def write(folder, text, encoding="utf-8"):
    path = folder / "list.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_dataframe(folder):
    frame = pd.DataFrame({"path": ["b.jpg", "sub/../a.jpg", "sub/e.jpg"], "label": ["y", "x", "y"]})
    source = from_dataframe(frame, root=folder)
    assert source.ids.tolist() == ["b.jpg", "a.jpg", "sub/e.jpg"]
    assert source.items == [str(folder / name) for name in source.ids]
    assert source.class_names == ("x", "y") and source.labels.tolist() == [1, 0, 1]
    assert source.groups is None and source.given_splits == ()


def test_ids_and_texts_are_plain_objects(folder):
    frame = pd.DataFrame({"path": ["a.jpg", "b.jpg"], "label": ["x", "y"], "group": ["g", "h"]})
    source = from_dataframe(frame, root=folder)
    for array in (source.ids, source.splits, source.groups):
        assert type(array) is np.ndarray and {type(text) for text in array} == {str}
    assert {type(item) for item in source.items} == {str}


def test_absolute_and_outside_paths_of_a_dataframe(folder):
    frame = pd.DataFrame({"path": [str(folder / "a.jpg"), "../b.jpg"], "label": ["x", "y"]})
    source = from_dataframe(frame, root=folder / "sub")
    assert source.ids.tolist() == [(folder / "a.jpg").as_posix(), (folder / "b.jpg").as_posix()]


def test_whole_numbers_beside_a_nan_are_refused_then_named_whole(folder):
    frame = pd.DataFrame({"path": ["a.jpg", "b.jpg", "c.jpg"], "label": [1, None, 2]})
    with pytest.raises(InputError, match=r"1 without one \(row 1\)"):
        from_dataframe(frame, root=folder)
    assert from_dataframe(frame.dropna(), root=folder).class_names == ("1", "2")


@pytest.mark.parametrize("dtype", ["category", "string", "object"])
def test_dtypes_of_labels(folder, dtype):
    frame = pd.DataFrame({"path": ["a.jpg", "b.jpg"], "label": pd.Series(["y", "x"], dtype=dtype)})
    assert from_dataframe(frame, root=folder).labels.tolist() == [1, 0]


def test_label_columns_and_group_column(folder):
    frame = pd.DataFrame(
        {
            "file": ["a.jpg", "b.jpg", "c.jpg"],
            "cat": [1, 0, 1],
            "dog": [1, 1, 0],
            "patient": [7.0, np.nan, 7.0],
        }
    )
    source = from_dataframe(
        frame, root=folder, path_column="file", label_column=["cat", "dog"], group_column="patient"
    )
    assert source.task == "multi-label" and source.class_names == ("cat", "dog")
    assert source.labels.tolist() == [[1, 1], [0, 1], [1, 0]]
    assert source.groups.tolist() == ["7", "", "7"]


def test_csv_with_everything(folder):
    path = write(
        folder,
        "path,label,split,group\na.jpg,x,Train,1\nb.jpg,y,validation,1\n\nc.jpg,x,test,\nd.jpg,y,,2\n",
        "utf-8-sig",
    )
    source = from_csv(path)
    assert source.ids.tolist() == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
    assert source.splits.tolist() == ["train", "val", "test", ""]
    assert source.given_splits == ("train", "val", "test")
    assert source.groups.tolist() == ["1", "1", "", "2"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", " "])
def test_csv_delimiters(folder, delimiter):
    text = "path,label\na.jpg,x\nb.jpg,y\n".replace(",", delimiter)
    assert from_csv(write(folder, text)).labels.tolist() == [0, 1]


def test_csv_cells_stay_text(folder):
    source = from_csv(write(folder, "path,label\na.jpg,NA\nb.jpg,nan\nc.jpg,None\n"))
    assert source.class_names == ("NA", "None", "nan")


def test_csv_of_numbers(folder):
    assert from_csv(write(folder, "path,label\na.jpg,0.25\nb.jpg,1\n")).labels.tolist() == [
        [0.25],
        [1.0],
    ]
    assert from_csv(write(folder, "path,label\na.jpg,10\nb.jpg,9\n")).class_names == ("9", "10")


def test_csv_quotes_and_strange_characters(folder):
    name = "one, two\u2028three\nfour.jpg"
    (folder / name).write_bytes(b"")
    source = from_csv(write(folder, f'path,label\n"{name}",x\na.jpg,y\n'))
    assert source.ids.tolist() == [name, "a.jpg"]


def test_root_of_a_csv(folder):
    path = write(folder, "path,label\ne.jpg,x\n../a.jpg,y\n")
    with pytest.raises(InputError, match=r"'\.\./a\.jpg' in line 3"):
        from_csv(path, root=folder / "sub")
    path = write(folder, f"path,label\ne.jpg,x\n{folder / 'a.jpg'},y\n")
    assert len(from_csv(path, root=folder / "sub")) == 2


@pytest.mark.parametrize("cell", [" ../a.jpg", "\u00a0../a.jpg", "sub/../../a.jpg ", ".. "])
def test_blanks_do_not_let_a_path_leave(folder, cell):
    path = write(folder / "sub", f"path,label\ne.jpg,x\n{cell},y\n")
    with pytest.raises(InputError, match="in line 3, which leaves it"):
        from_csv(path)


def test_a_path_may_come_back(folder):
    path = write(folder / "sub", "path,label\n../sub/e.jpg,x\n" + f" {folder / 'a.jpg'},y\n")
    assert from_csv(path).ids.tolist() == ["e.jpg", (folder / "a.jpg").as_posix()]


def test_missing_files_are_bad(folder):
    source = from_csv(write(folder, "path,label\na.jpg,x\ngone.jpg,x\nb.jpg,y\nsub,y\n"))
    assert source.ids.tolist() == ["a.jpg", "b.jpg"]
    assert [(s.id, s.reason, s.bad) for s in source.skipped] == [
        ("gone.jpg", "file not found", True),
        ("sub", "file not found", True),
    ]


def test_no_files_at_all_names_root(folder):
    with pytest.raises(InputError, match=r"2 paths without a file \(u\.jpg, v\.jpg\).*as root"):
        from_csv(write(folder, "path,label\nu.jpg,x\nv.jpg,y\n"))


def test_class_without_files_is_refused(folder):
    with pytest.raises(InputError, match="none in 'y'"):
        from_csv(write(folder, "path,label\na.jpg,x\ngone.jpg,y\n"))


def test_repeated_rows(folder):
    source = from_csv(write(folder, "path,label\na.jpg,x\n./a.jpg,x\nb.jpg,y\n"))
    assert source.ids.tolist() == ["a.jpg", "b.jpg"]
    assert [(s.id, s.reason, s.bad) for s in source.skipped] == [
        ("a.jpg", "listed again in line 3", False)
    ]
    with pytest.raises(InputError, match=r"'a\.jpg' in line 2 and otherwise in line 4"):
        from_csv(write(folder, "path,label\na.jpg,x\nb.jpg,y\na.jpg,y\n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "an empty file"),
        ("\n\n", "an empty file"),
        ("path,label\n", "at least one row"),
        ("path,label\na.jpg,x,more\n", "3 in line 2"),
        ("path,label\na.jpg\n", "1 in line 2"),
        ('path,label\n"a.jpg,x\n', "unexpected end of data"),
        ("path,lable\na.jpg,x\n", r"a column 'label'.*path, lable\. Did you mean lable\?"),
        ("file,label\na.jpg,x\n", "a column 'path'.*of texts.*--text-column"),
        ("path,label,label\na.jpg,x,y\n", "one column 'label'"),
        ("path,label\na.jpg,x\nb.jpg,\n", r"1 without one \(line 3\)"),
        ("path,label\n,x\nb.jpg,y\n", r"a path in every row, received 1 without one \(line 2\)"),
        ("path,label,split\na.jpg,x,trian\nb.jpg,y,test\n", "Did you mean train"),
    ],
)
def test_csv_that_cannot_be_used(folder, text, message):
    with pytest.raises(InputError, match=message):
        from_csv(write(folder, text))


def test_csv_that_cannot_be_read(folder):
    with pytest.raises(InputError, match="No such file"):
        from_csv(folder / "nothing.csv")
    path = write(folder, "")
    path.write_bytes(b"path,label\n\xff\xd8\xff,x\n")
    with pytest.raises(InputError, match="UTF-8"):
        from_csv(path)


def test_named_split_column_must_exist(folder):
    with pytest.raises(InputError, match="a column 'fold'"):
        from_csv(write(folder, "path,label\na.jpg,x\nb.jpg,y\n"), split_column="fold")


@pytest.mark.parametrize("kind", [int, str, np.int64])
def test_columns_with_numbers_for_names(folder, kind):
    frame = pd.DataFrame([["y", "b.jpg", "g", "val"], ["x", "a.jpg", "h", "train"]])
    columns = {"path_column": 1, "label_column": 0, "group_column": 2, "split_column": 3}
    columns = {name: kind(number) for name, number in columns.items()}
    source = from_dataframe(frame, root=folder, **columns)
    assert (source.class_names, source.labels.tolist()) == (("x", "y"), [1, 0])
    assert source.groups.tolist() == ["g", "h"] and source.splits.tolist() == ["val", "train"]
    texts = from_text_dataframe(
        frame, columns["path_column"], label_column=columns["label_column"], id_column=kind(2)
    )
    assert texts.items == [("b.jpg",), ("a.jpg",)] and texts.labels.tolist() == [1, 0]
    assert texts.ids.tolist() == ["g", "h"]
    both = from_text_dataframe(frame, {kind(1): "", kind(2): ""}, label_column=None, pair=True)
    assert both.items == [("b.jpg", "g"), ("a.jpg", "h")]
    with pytest.raises(InputError, match="a column '7', received the columns 0, 1, 2"):
        from_text_dataframe(frame, kind(7))
