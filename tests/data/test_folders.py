import os
import subprocess
import sys

import pytest
from PIL import Image

from keras_tl.data.folders import from_folder, list_images
from keras_tl.data.open import align_classes
from keras_tl.errors import InputError


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"never opened")


def reasons(source):
    return {skip.id: (skip.reason, skip.bad) for skip in source.skipped}


def test_class_folders(tmp_path):
    touch(tmp_path / "dog" / "b.JPG", tmp_path / "dog" / "a.png", tmp_path / "cat" / "x" / "c.webp")
    source = from_folder(tmp_path)
    assert source.ids.tolist() == ["cat/x/c.webp", "dog/a.png", "dog/b.JPG"]
    assert source.class_names == ("cat", "dog")
    assert source.labels.tolist() == [0, 1, 1]
    assert source.items[0] == str(tmp_path / "cat" / "x" / "c.webp")
    assert source.task == "single-label"
    assert source.splits.tolist() == ["", "", ""] and source.given_splits == ()


@pytest.mark.parametrize(
    "extension", ["jpg", "jpeg", "jpe", "jfif", "png", "bmp", "gif", "webp", "Jpg", "WEBP"]
)
def test_image_extensions(tmp_path, extension):
    touch(tmp_path / "a" / f"1.{extension}", tmp_path / "b" / "1.jpg")
    assert len(from_folder(tmp_path)) == 2


def test_split_folders_count_as_given(tmp_path):
    touch(tmp_path / "Train" / "a" / "1.jpg", tmp_path / "Train" / "b" / "2.jpg")
    touch(tmp_path / "validation" / "a" / "3.jpg", tmp_path / "test" / "b" / "4.jpg")
    source = from_folder(tmp_path)
    assert source.ids.tolist() == [
        "Train/a/1.jpg",
        "Train/b/2.jpg",
        "validation/a/3.jpg",
        "test/b/4.jpg",
    ]
    assert source.splits.tolist() == ["train", "train", "val", "test"]
    assert source.given_splits == ("train", "val", "test")
    assert source.labels.tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize(
    "names",
    [("Training", "Testing", ""), ("train", "eval", "dev"), ("TRAIN", "evaluation", "Validation")],
)
def test_splits_have_their_usual_names(tmp_path, names):
    of_split = dict(zip(("train", "test", "val"), names, strict=True))
    for split, folder in of_split.items():
        if folder:
            touch(*(tmp_path / folder / kind / f"{split}.jpg" for kind in ("cat", "dog")))
    source = from_folder(tmp_path)
    assert source.class_names == ("cat", "dog")
    assert [str(name).rpartition("/")[2][:-4] for name in source.ids] == source.splits.tolist()


def test_a_single_split_folder_is_a_split(tmp_path):
    touch(tmp_path / "test" / "a" / "1.jpg", tmp_path / "test" / "b" / "2.jpg")
    assert from_folder(tmp_path).given_splits == ("test",)


def test_split_names_beside_other_folders_are_classes(tmp_path):
    touch(tmp_path / "train" / "1.jpg", tmp_path / "bus" / "2.jpg", tmp_path / ".cache" / "x.jpg")
    source = from_folder(tmp_path)
    assert source.class_names == ("bus", "train") and source.given_splits == ()


def test_class_that_train_lacks_is_kept(tmp_path):
    touch(tmp_path / "train" / "a" / "1.jpg", tmp_path / "train" / "b" / "2.jpg")
    touch(tmp_path / "test" / "c" / "3.jpg")
    source = from_folder(tmp_path)
    assert source.class_names == ("a", "b", "c")


def test_hidden_and_foreign_files_are_listed(tmp_path):
    touch(tmp_path / "a" / "1.jpg", tmp_path / "b" / "2.jpg")
    touch(tmp_path / "a" / ".hidden.jpg", tmp_path / "a" / "Thumbs.db", tmp_path / "readme.txt")
    touch(tmp_path / "__MACOSX" / "1.jpg", tmp_path / "b" / "x.tiff", tmp_path / "loose.jpg")
    source = from_folder(tmp_path)
    assert len(source) == 2
    assert reasons(source) == {
        "a/.hidden.jpg": ("hidden", False),
        "a/Thumbs.db": ("hidden", False),
        "__MACOSX": ("hidden", False),
        "readme.txt": ("not an image file (.txt)", False),
        "b/x.tiff": ("image format .tiff is not read", True),
        "loose.jpg": ("image outside a class folder", True),
    }


def test_strange_names(tmp_path):
    touch(tmp_path / "größe" / "写真.jpg", tmp_path / "b" / "two\nlines.jpg")
    source = from_folder(tmp_path)
    assert source.ids.tolist() == ["b/two\nlines.jpg", "größe/写真.jpg"]


def test_name_that_is_no_utf8_is_left_out(tmp_path):
    touch(tmp_path / "a" / "1.jpg", tmp_path / "b" / "2.jpg")
    with open(os.path.join(os.fsencode(tmp_path), b"a", b"\xff.jpg"), "wb"):
        pass
    source = from_folder(tmp_path)
    assert reasons(source) == {"a/\\udcff.jpg": ("name is not valid UTF-8", True)}


def test_links(tmp_path):
    touch(tmp_path / "data" / "a" / "1.jpg", tmp_path / "data" / "b" / "2.jpg")
    touch(tmp_path / "elsewhere" / "deep" / "3.jpg")
    a = tmp_path / "data" / "a"
    (a / "self").symlink_to(a)
    (a / "up").symlink_to(tmp_path)
    (a / "elsewhere").symlink_to(tmp_path / "elsewhere")
    (a / "gone.jpg").symlink_to(tmp_path / "nothing.jpg")
    (a / "loop.jpg").symlink_to(a / "loop.jpg")
    os.mkfifo(a / "pipe.jpg")
    source = from_folder(tmp_path / "data")
    assert source.ids.tolist() == ["a/1.jpg", "a/elsewhere/deep/3.jpg", "b/2.jpg"]
    visited = ("link to a folder that is visited already", False)
    assert reasons(source) == {
        "a/self": visited,
        "a/up": visited,
        "a/gone.jpg": ("broken link", True),
        "a/loop.jpg": ("broken link", True),
        "a/pipe.jpg": ("not a regular file", True),
    }


def test_unreadable_folder_is_listed(tmp_path, monkeypatch):
    touch(tmp_path / "a" / "1.jpg", tmp_path / "a" / "closed" / "2.jpg", tmp_path / "b" / "3.jpg")
    listdir = os.listdir

    def refuse(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return listdir(path)

    monkeypatch.setattr(os, "listdir", refuse)
    source = from_folder(tmp_path)
    assert len(source) == 2
    assert reasons(source) == {"a/closed": ("unreadable folder: Permission denied", True)}


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ([], "no folders"),
        (["1.jpg", "2.jpg"], "2 images directly in it"),
        (["a/1.jpg"], "one, 'a'"),
        (["a/1.jpg", "b/readme.txt"], "none in 'b'"),
        (["train/1.jpg", "test/2.jpg"], "1 images directly in it"),
        (["val/a/1.jpg", "valid/a/1.jpg"], "one folder for each split"),
    ],
)
def test_folders_that_cannot_be_used(tmp_path, paths, message):
    touch(*(tmp_path / path for path in paths))
    with pytest.raises(InputError, match=message):
        from_folder(tmp_path)


def test_no_folder(tmp_path):
    touch(tmp_path / "file.jpg")
    with pytest.raises(InputError, match="does not exist"):
        from_folder(tmp_path / "nowhere")
    with pytest.raises(InputError, match="the file"):
        from_folder(tmp_path / "file.jpg")


@pytest.mark.parametrize("read", [from_folder, list_images])
def test_a_folder_whose_own_path_is_no_utf8_is_refused(tmp_path, read, monkeypatch):
    root = tmp_path / "\udcff"
    touch(root / "a" / "1.jpg", root / "b" / "2.jpg")
    with pytest.raises(InputError, match=r"a path in UTF-8, received '.*\\udcff'"):
        read(root)
    # A relative path is below the folder that is worked in.
    monkeypatch.chdir(root)
    with pytest.raises(InputError, match="a path in UTF-8"):
        read(".")


@pytest.mark.parametrize(
    ("task", "message"), [("regression", "CSV"), ("multi-label", "CSV"), ("singel", "Did you mean")]
)
def test_other_tasks_are_refused(tmp_path, task, message):
    touch(tmp_path / "a" / "1.jpg", tmp_path / "b" / "2.jpg")
    with pytest.raises(InputError, match=message):
        from_folder(tmp_path, task=task)


def test_given_classes_need_not_all_be_there(tmp_path):
    touch(tmp_path / "b" / "1.jpg")
    source = from_folder(tmp_path, class_names=("c", "b", "a"))
    assert source.class_names == ("c", "b", "a") and source.labels.tolist() == [1]
    with pytest.raises(InputError, match="1 items labelled 'b'"):
        from_folder(tmp_path, class_names=("c", "a"))


def test_list_images(tmp_path):
    touch(tmp_path / "2.jpg", tmp_path / "sub" / "1.png", tmp_path / "notes.txt")
    paths, skipped = list_images(tmp_path)
    assert paths == ["2.jpg", "sub/1.png"]
    assert [skip.id for skip in skipped] == ["notes.txt"]


def test_import_is_cheap():
    heavy = "{'tensorflow', 'keras', 'pandas'}"
    code = f"import sys, keras_tl.data.folders; print({heavy} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


def test_an_accent_may_be_a_character_of_its_own(tmp_path):
    two, one = "cafe\u0301", "caf\u00e9"
    for name in (f"train/{one}", "train/tea", f"val/{two}", "val/tea"):
        (tmp_path / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name / "a.png")
    assert from_folder(tmp_path).class_names == (one, "tea")
    assert from_folder(tmp_path, class_names=("tea", two)).labels.tolist() == [1, 0, 1, 0]
    assert align_classes(from_folder(tmp_path), ("tea", two)).labels.tolist() == [1, 0, 1, 0]
