"""What an extraction's folder is gone on with, and what is refused of it."""

import json
import resource
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from keras_tl import shard_folder, shard_formats
from keras_tl.data.streams import Item
from keras_tl.errors import InputError
from keras_tl.locks import LOCK
from keras_tl.shard_folder import INDEX, PROGRESS, ShardFolder

SETTINGS = {"kind": "embeddings", "input": {"size": 16}}
FORM = shard_formats.get("tfrecord")
ITEM = Item("a", ("good", "film"), label="x", split="train")
BAD = Item("b.png", "", reason="empty file")


def opened(path, form=FORM):
    return ShardFolder(path, "embeddings", form, SETTINGS)


def columns(rows=1):
    numbers = {"embedding": np.ones((rows, 2), np.float32)}
    return shard_formats.columns_of([ITEM] * rows, numbers)


@pytest.fixture
def begun(tmp_path):
    """A folder with one whole shard, whose process is gone."""
    folder = opened(tmp_path / "out")
    folder.write(0, columns(), [ITEM], [BAD], "TensorFlow")
    folder.close()
    return folder.path


def test_a_whole_shard_is_known_again(begun):
    facts = opened(begun).done(0)
    assert (facts.file, facts.items) == ("embeddings-00000.tfrecord", 1)
    assert facts.skipped == [("b.png", "empty file")]
    assert facts.computed_in == "TensorFlow"


def test_a_shard_whose_file_is_gone_is_made_again(begun):
    folder = opened(begun)
    (begun / folder.done(0).file).unlink()
    assert folder.done(0) is None


def test_items_of_a_shard_are_known_again_in_any_order(begun):
    items = iter([replace(BAD, reason=""), ITEM, ITEM])
    assert opened(begun).pass_over(items, 2) == 1
    assert list(items) == [ITEM]


@pytest.mark.parametrize(
    "change",
    [
        {"id": "c"},
        {"label": "y"},
        {"label": None},
        {"split": "test"},
        {"content": ("good", "plot")},
        {"content": ("good film",)},
    ],
)
def test_a_table_that_was_edited_is_refused(begun, change):
    with pytest.raises(InputError, match="the data have changed since"):
        opened(begun).pass_over(iter([replace(ITEM, **change), BAD]), 2)


def test_the_index_names_all_engines(begun):
    folder = opened(begun)
    folder.write(1, columns(), [ITEM], [], "OpenVINO")
    folder.write(2, columns(0), [], [BAD], "")
    folder.write(3, columns(), [ITEM], [], "TensorFlow")
    index = folder.finish(4)
    assert index["computed_in"] == "TensorFlow, OpenVINO"
    engines = [shard["computed_in"] for shard in index["shards"]]
    assert engines == ["TensorFlow", "OpenVINO", "", "TensorFlow"]


def test_who_is_interrupted_at_the_beginning_keeps_no_lock(tmp_path, monkeypatch):
    def interrupted():
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shard_folder, "versions", interrupted)
        with pytest.raises(KeyboardInterrupt) as kept:
            opened(tmp_path / "out")
    opened(tmp_path / "out").close()
    assert kept.tb  # A notebook keeps it, and with it the frames.


@pytest.mark.parametrize("name", shard_formats._FORMATS)
def test_a_disk_that_is_full_is_told_with_the_name_of_the_shard(name, tmp_path):
    form = shard_formats.get(name)
    folder = opened(tmp_path / "out", form)
    numbers = np.random.default_rng(1).random((1000, 20), np.float32)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large") as told:
            folder.write(0, {**columns(1000), "embedding": numbers}, [ITEM] * 1000, [], "x")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not isinstance(told.value, tf.errors.OpError)
    assert told.value.filename == str(folder.path / f"embeddings-00000{form.ending}")
    assert folder.done(0) is None
    assert sorted(path.name for path in folder.path.iterdir()) == [LOCK, INDEX, PROGRESS]


@pytest.mark.parametrize("name", shard_formats._FORMATS)
def test_a_name_with_a_colon_is_no_address(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = opened("emb-12:30", shard_formats.get(name))
    folder.write(0, columns(), [ITEM], [], "TensorFlow")
    (shard,) = folder.finish(1)["shards"]
    assert (tmp_path / "emb-12:30" / shard["file"]).stat().st_size


@pytest.mark.parametrize(
    "content",
    [b"", b'{"complete": fal', b"\xff", b"[]", b"3", b"{}", b'{"complete": false, "settings": {}}'],
)
def test_a_damaged_index_is_one_line(begun, content):
    (begun / INDEX).write_bytes(content)
    before = sorted(begun.rglob("*"))
    with pytest.raises(InputError, match=r"extract\.json as it was written.* begin anew\.$") as one:
        opened(begun)
    assert "\n" not in str(one.value)
    assert sorted(begun.rglob("*")) == before


@pytest.mark.parametrize(
    ("name", "value"), [("settings", [1]), ("complete", "no"), ("versions", None)]
)
def test_an_index_that_was_edited_is_one_line(begun, name, value):
    facts = json.loads((begun / INDEX).read_text())
    (begun / INDEX).write_text(json.dumps({**facts, name: value}))
    with pytest.raises(InputError, match="Delete the folder to begin anew"):
        opened(begun)


@pytest.mark.parametrize(
    "change",
    [
        {"items": "one"},
        {"skipped": [["b.png"]]},
        {"skipped": 3},
        {"sha256": None},
        {"computed_in": None},
        {"more": 1},
    ],
)
def test_a_shard_of_which_something_else_is_said_is_one_line(begun, change):
    mark = begun / PROGRESS / "00000.json"
    mark.write_text(json.dumps({**json.loads(mark.read_text()), **change}))
    with pytest.raises(InputError, match=r"00000\.json as it was written.* begin anew\.$"):
        opened(begun).done(0)


def test_who_looked_before_another_one_finished_does_not_do_it_again(begun, monkeypatch):
    """The other one finishes between the look at the folder and the lock."""
    hold = shard_folder.Hold

    def late(*arguments, **how):
        monkeypatch.setattr(shard_folder, "Hold", hold)
        opened(begun).finish(1)
        return hold(*arguments, **how)

    monkeypatch.setattr(shard_folder, "Hold", late)
    with pytest.raises(InputError, match="which is complete"):
        opened(begun)
    assert json.loads((begun / INDEX).read_text())["items"] == 1
    assert not (begun / PROGRESS).exists() and not (begun / LOCK).exists()


def test_shards_of_data_that_were_longer_go(begun):
    folder = opened(begun)
    folder.write(1, columns(), [ITEM], [], "TensorFlow")
    index = folder.finish(1)
    assert index["items"] == 1 and len(index["shards"]) == 1
    assert [path.name for path in begun.glob("embeddings-*")] == [index["shards"][0]["file"]]
