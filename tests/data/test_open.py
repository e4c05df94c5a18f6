import numpy as np
import pandas as pd
import pytest
from PIL import Image

from keras_tl.auditing import audit
from keras_tl.data.arrays import from_arrays
from keras_tl.data.open import align_classes, open_data
from keras_tl.data.prepare import prepare
from keras_tl.data.streams import open_stream
from keras_tl.errors import InputError


@pytest.fixture
def photos(tmp_path):
    for name, level in (("dark", 20), ("light", 220)):
        (tmp_path / name).mkdir()
        for index in range(10):
            image = np.full((12, 12, 3), level + index, np.uint8)
            Image.fromarray(image).save(tmp_path / name / f"{index}.png")
    return tmp_path


def test_a_folder_a_csv_and_given_classes(photos):
    source = open_data(str(photos))
    assert (len(source), source.class_names) == (20, ("dark", "light"))
    (photos / "list.csv").write_text("file,kind\nlight/0.png,light\ndark/1.png,dark\n")
    columns = {"path_column": "file", "label_column": "kind"}
    table = open_data(str(photos / "list.csv"), class_names=("light", "dark"), **columns)
    assert table.labels.tolist() == [0, 1]


@pytest.mark.parametrize("data", ["no/such/folder", "tfds:no_such_dataset"])
def test_what_is_not_there_is_refused(data):
    with pytest.raises(InputError):
        open_data(data)


@pytest.mark.parametrize(
    "named",
    [
        {"group_column": "patient"},
        {"split_column": "fold"},
        {"label_column": "kind"},
        {"path_column": "file"},
        {"text_column": "text", "id_column": "id"},
        {"text_column": "title,body", "pair": True},
    ],
)
def test_columns_are_for_tables(photos, named):
    """Groups that go unheeded would leak between splits."""
    with pytest.raises(InputError, match="for a folder"):
        open_data(str(photos), **named)
    if "pair" not in named:
        with pytest.raises(InputError, match="for a data set of TFDS"):
            open_data("tfds:no_such_dataset", **named)
    if not {"group_column", "pair"} & named.keys():
        for data, what in ((str(photos), "a folder"), ("tfds:no", "a data set"), (["a"], "a list")):
            with pytest.raises(InputError, match=f"for {what}"):
                open_stream(data, **named)


def test_an_encoding_is_for_texts(photos):
    for opened in (open_data, open_stream):
        with pytest.raises(InputError, match="texts for an encoding, received images"):
            opened(str(photos), encoding="cp1252")


@pytest.mark.parametrize("name", ["list.csv", ""])
@pytest.mark.parametrize("columns", [{}, {"text_column": "path"}])
def test_data_at_a_path_that_is_no_utf8_are_refused(tmp_path, name, columns):
    folder = tmp_path / "\udcff"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"never opened")
    (folder / "list.csv").write_text("path,label\na.png,x\na.png,y\n")
    for opened in (open_data, open_stream):
        with pytest.raises(InputError, match=r"data at a path in UTF-8, received '.*\\udcff"):
            opened(str(folder / name), **columns)


def test_classes_are_matched_by_name():
    images = np.zeros((3, 4, 4, 3), np.uint8)
    source = from_arrays(images, ["b", "a", "b"])
    aligned = align_classes(source, ("c", "b", "a"))
    assert aligned.labels.tolist() == [1, 2, 1]
    np.testing.assert_array_equal(aligned.targets()[0], [0, 1, 0])
    several = from_arrays(images, ["b|a", "a", "b"])
    np.testing.assert_array_equal(
        align_classes(several, ("c", "b", "a")).labels, [[0, 1, 1], [0, 0, 1], [0, 1, 0]]
    )
    with pytest.raises(InputError, match="also b"):
        align_classes(source, ("a", "c"))


def test_targets_that_are_missing_are_not_0():
    source = from_arrays(np.zeros((2, 4, 4, 3), np.uint8), [0.5, 1.5])
    assert source.task == "regression" and source.class_names == ("label",)
    assert align_classes(source, ("label",)) is source
    with pytest.raises(InputError, match="the targets a, label, received label"):
        align_classes(source, ("a", "label"))


def test_what_is_open_or_can_be_opened(photos):
    data = prepare(photos, image_size=8, seed=1)
    assert data.counts == prepare(str(photos), image_size=8, seed=1).counts
    assert audit(photos, labels=False) == audit(str(photos), labels=False)
    for opened in (prepare, audit):
        with pytest.raises(InputError, match=r"received ImageData. Pass its \.source"):
            opened(data)
        for other in (pd.DataFrame({"path": ["a.png"]}), np.zeros((2, 4, 4, 3), np.uint8), None):
            with pytest.raises(InputError, match=r"opened source.*from_dataframe.*from_arrays"):
                opened(other)


def test_prepare_divides_what_can_be_read(photos):
    (photos / "dark" / "bad.png").write_bytes(b"no image")
    data = prepare(str(photos), image_size=8, seed=1, val_fraction=0.2, test_fraction=0.2)
    assert data.counts == {"train": 12, "val": 4, "test": 4}
    assert len(data.train) == 12
    assert [skipped.id for skipped in data.source.skipped] == ["dark/bad.png"]
    pixels, targets = next(iter(data.val.batches(4)))
    # Flat images stay flat whatever the resizing: the level tells the class.
    np.testing.assert_array_equal(pixels.numpy()[:, 0, 0, 0] > 128, targets.numpy()[:, 1] == 1)
    assert pixels.shape == (4, 8, 8, 3)
