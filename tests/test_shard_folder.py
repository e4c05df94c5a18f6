"""What an extraction's folder is gone on with, and what is refused of it."""

import json

import numpy as np
import pytest

from keras_tl import shard_folder, shard_formats
from keras_tl.data.streams import Item
from keras_tl.errors import InputError
from keras_tl.locks import LOCK
from keras_tl.shard_folder import INDEX, PROGRESS, ShardFolder

SETTINGS = {"kind": "embeddings", "input": {"size": 16}}
FORM = shard_formats.get("tfrecord")


def opened(path):
    return ShardFolder(path, "embeddings", FORM, SETTINGS)


@pytest.fixture
def begun(tmp_path):
    """A folder with one whole shard, whose process is gone."""
    folder = opened(tmp_path / "out")
    item, bad = Item("a.png", ""), Item("b.png", "", reason="empty file")
    columns = shard_formats.columns_of([item], {"embedding": np.ones((1, 2), np.float32)})
    folder.write(0, columns, [item], [bad])
    folder._hold.release()
    return folder.path


def test_a_whole_shard_is_known_again(begun):
    facts = opened(begun).done(0)
    assert (facts.file, facts.items) == ("embeddings-00000.tfrecord", 1)
    assert facts.skipped == [("b.png", "empty file")]


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
    [{"items": "one"}, {"skipped": [["b.png"]]}, {"skipped": 3}, {"sha256": None}, {"more": 1}],
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
        opened(begun).finish()
        return hold(*arguments, **how)

    monkeypatch.setattr(shard_folder, "Hold", late)
    with pytest.raises(InputError, match="which is complete"):
        opened(begun)
    assert json.loads((begun / INDEX).read_text())["items"] == 1
    assert not (begun / PROGRESS).exists() and not (begun / LOCK).exists()
