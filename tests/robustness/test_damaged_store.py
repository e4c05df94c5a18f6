"""A store that is damaged by hand gives the right numbers or computes them again."""

import json
import os
import shutil

import numpy as np
import pytest

from keras_tl import freezing, shards
from keras_tl.data.arrays import from_arrays
from keras_tl.data.image_input import ImageInput
from keras_tl.data.pipeline import Samples
from keras_tl.feature_cache import FeatureStore
from keras_tl.training.fit import run_phases
from keras_tl.training.phases import Phase
from keras_tl.training.schedules import Constant

KEYS = ["a1", "b2", "c3"]
VALUES = np.array([[1, 2], [3, 4], [5, 6]], np.float32)


def filled(root):
    """Two entries of the same shape and rows, with other numbers; their folders."""
    for model, scale in ((1, 1.0), (2, 10.0)):
        FeatureStore(root).open(model=model).append(KEYS, [VALUES * scale, VALUES * scale + 1])
    store = FeatureStore(root, dtype="float16")
    return [store.folder(dtype="float16", model=model) for model in (1, 2)]


def lies(root):
    """Whether an entry gives a wrong number, as another process would read it."""
    shards._verified.clear()
    entry = FeatureStore(root).open(model=1)
    missing = entry.missing(KEYS)
    present = [key for position, key in enumerate(KEYS) if position not in missing]
    if present:
        read = entry.read(present).gather(np.arange(len(present)))
        right = VALUES[[KEYS.index(key) for key in present]]
        return not (np.array_equal(read[0], right) and np.array_equal(read[1], right + 1))
    return False


def is_computed_again(root):
    assert not lies(root)
    return len(FeatureStore(root).open(model=1).missing(KEYS)) == 3


def flips(path):
    """The file with a bit of each byte changed in turn."""
    content = path.read_bytes()
    for position in range(len(content)):
        flipped = bytearray(content)
        flipped[position] ^= 1 << position % 8
        yield bytes(flipped)


@pytest.mark.parametrize("suffix", [".0.bin", ".1.bin", ".json"])
def test_a_flipped_byte_anywhere(tmp_path, suffix, caplog):
    folder = filled(tmp_path)[0]
    (path,) = folder.glob(f"*{suffix}")
    kept = {file: file.read_bytes() for file in folder.iterdir()}
    for content in flips(path):
        path.write_bytes(content)
        caplog.clear()
        assert is_computed_again(tmp_path)
        assert len(caplog.messages) == 1
        assert "damaged shard of stored features is computed again" in caplog.text
        assert not list(folder.iterdir())
        for file, whole in kept.items():
            file.write_bytes(whole)
    assert not is_computed_again(tmp_path)


@pytest.mark.parametrize("suffix", [".0.bin", ".1.bin", ".json"])
@pytest.mark.parametrize("length", [0, 1, 6, 11])
def test_a_truncated_file(tmp_path, suffix, length):
    (path,) = filled(tmp_path)[0].glob(f"*{suffix}")
    os.truncate(path, length)
    assert is_computed_again(tmp_path)


@pytest.mark.parametrize("suffix", [".0.bin", ".1.bin", ".json"])
def test_a_removed_file(tmp_path, suffix):
    (path,) = filled(tmp_path)[0].glob(f"*{suffix}")
    path.unlink()
    assert is_computed_again(tmp_path)


@pytest.mark.parametrize("suffix", [".0.bin", ".1.bin", ".json"])
@pytest.mark.parametrize("whole", [True, False], ids=["ended", "not ended"])
def test_a_folder_in_the_place_of_a_file(tmp_path, suffix, whole):
    folder = filled(tmp_path)[0]
    (path,) = folder.glob(f"*{suffix}")
    path.unlink()
    path.mkdir()
    (path / "file").touch()
    if not whole:
        next(folder.glob("*.json")).rename(folder / "moved")
    assert is_computed_again(tmp_path)
    assert not path.exists()


@pytest.mark.parametrize("suffix", [".0.bin", ".json"])
def test_a_link_to_itself_in_the_place_of_a_file(tmp_path, suffix):
    (path,) = filled(tmp_path)[0].glob(f"*{suffix}")
    path.unlink()
    path.symlink_to(path.name)
    FeatureStore(tmp_path).stored()
    assert is_computed_again(tmp_path)


def test_a_manifest_of_brackets_within_brackets(tmp_path):
    (path,) = filled(tmp_path)[0].glob("*.json")
    path.write_text("[" * 100_000)
    assert is_computed_again(tmp_path)


def test_a_file_in_the_place_of_an_entry(tmp_path):
    folder, other = filled(tmp_path)
    shutil.rmtree(folder)
    folder.touch()
    assert [item.folder for item in FeatureStore(tmp_path).stored()] == [other]
    assert is_computed_again(tmp_path)
    assert FeatureStore(tmp_path).open(model=1).folder == folder
    FeatureStore(tmp_path).open(model=1).append(KEYS, [VALUES, VALUES + 1])
    assert not is_computed_again(tmp_path)


def edited(change):
    """A fault: the manifest's body is changed, and its checksum is not."""

    def damage(folder, _):
        (path,) = folder.glob("*.json")
        facts = json.loads(path.read_text())
        change(facts["body"])
        path.write_text(json.dumps(facts))

    return damage


def another_entrys_shard(folder, other):
    shutil.rmtree(folder)
    shutil.copytree(other, folder)


def another_entrys_files(folder, other):
    for path, mine in zip(sorted(other.iterdir()), sorted(folder.iterdir()), strict=True):
        shutil.copyfile(path, mine)


def tensors_in_each_others_place(folder, _):
    first, second = sorted(folder.glob("*.bin"))
    kept = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(kept)


DAMAGES = {
    "keys swapped": edited(lambda body: body["keys"].reverse()),
    "a key lost": edited(lambda body: body["keys"].pop()),
    "entry": edited(lambda body: body.update(entry="0" * 64)),
    "dtype": edited(lambda body: body["tensors"][0].update(dtype="<i2")),
    "shape": edited(lambda body: body["tensors"][0].update(shape=[2, 3])),
    "crc32": edited(lambda body: body["tensors"][1].update(crc32=0)),
    "a tensor lost": edited(lambda body: body["tensors"].pop()),
    "another entry's shard": another_entrys_shard,
    "another entry's files": another_entrys_files,
    "tensors swapped": tensors_in_each_others_place,
    "a manifest that is a list": lambda folder, _: next(folder.glob("*.json")).write_text("[1]"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_what_was_changed_with_care(tmp_path, damage):
    folders = filled(tmp_path)
    damage(*folders)
    assert is_computed_again(tmp_path)


def test_the_check_itself_would_see_a_lie(tmp_path, monkeypatch):
    """The twin: without checksums, swapped keys are believed."""
    folder, other = filled(tmp_path)
    monkeypatch.setattr(shards, "_digest", lambda body: "same")
    FeatureStore(tmp_path).clear()
    filled(tmp_path)
    edited(lambda body: body["keys"].reverse())(folder, other)
    assert lies(tmp_path)


def test_foreign_files_do_no_harm_and_stay(tmp_path):
    folder = filled(tmp_path)[0]
    for name in ("notes.json", "notes.txt", "0.bin", "prefix.tflite"):
        (folder / name).write_text("mine")
    (tmp_path / "README").write_text("mine")
    assert not is_computed_again(tmp_path)
    assert (folder / "notes.json").read_text() == "mine"


def train(model, three_colors, root, start):
    images, labels = three_colors
    data = Samples(from_arrays(list(images), labels), ImageInput(size=16))
    model.set_weights(start)
    plan = [Phase(freezing.All(), 2, 0.05, Constant(), "sgd")]
    store = FeatureStore(root, dtype="float32")
    result = run_phases(model, plan, data, batch_size=8, feature_store=store, verbose=0)
    return [row["loss"] for row in result.history], result.phases[0].passes[0].computed


def test_training_on_a_damaged_store_gives_the_same_losses(tiny_model, three_colors, tmp_path):
    tiny_model.get_layer("head_dropout").rate = 0.0
    start = tiny_model.get_weights()
    losses, computed = train(tiny_model, three_colors, tmp_path, start)
    assert computed == 60
    assert train(tiny_model, three_colors, tmp_path, start) == (losses, 0)
    path = max(tmp_path.rglob("*.bin"), key=lambda file: file.stat().st_size)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 + 3] ^= 0x40
    path.write_bytes(content)
    assert train(tiny_model, three_colors, tmp_path, start) == (losses, 60)
