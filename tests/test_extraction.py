"""Embeddings and predictions in shards, against plain Keras; what a kill leaves; the command."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from PIL import Image

import keras_tl as ktl
from keras_tl import cli, extraction, shard_folder
from keras_tl.backbones.encoders import load_encoder
from keras_tl.backbones.load import load_backbone
from keras_tl.builders.image import build_image_model
from keras_tl.builders.text import build_text_classifier
from keras_tl.data import reading, streams
from keras_tl.data.texts import from_texts
from keras_tl.errors import InputError
from keras_tl.extraction import predict_to_shards
from keras_tl.measuring import predict_files, predict_texts
from tests.made_runs import image_run, text_run
from tests.tiny_encoder import write_reviews, write_tiny_bert

pq = pytest.importorskip("pyarrow.parquet", reason="the extra parquet")

# Another size of batch, another order of summation.
ATOL = 1e-5
SIZE = 16


@pytest.fixture(scope="module")
def photos(tmp_path_factory, three_colors):
    folder = tmp_path_factory.mktemp("extracted") / "photos"
    for index, (image, label) in enumerate(zip(*three_colors, strict=True)):
        path = folder / "abc"[label] / f"{index:02}.png"
        path.parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray(image).save(path)
    (folder / "b" / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    keras.utils.set_random_seed(3)
    path = tmp_path_factory.mktemp("weights") / "tiny.weights.h5"
    load_backbone("TinyNet", weights=None).save_weights(path)
    return str(path)


@pytest.fixture(scope="module")
def tiny(weights):
    return {"backbone": "TinyNet", "weights": weights, "verbose": 0}


@pytest.fixture(scope="module")
def whole(photos, tiny, tmp_path_factory):
    return ktl.extract(str(photos), tmp_path_factory.mktemp("whole") / "out", **tiny)


def table(done):
    frame = pq.read_table([str(path) for path in done.shards]).to_pandas()
    return frame.set_index("id")


def examples(done):
    records = tf.data.TFRecordDataset([str(path) for path in done.shards])
    return [tf.train.Example.FromString(r.numpy()).features.feature for r in records]


def pixels_of(photos, ids):
    return np.stack([np.asarray(Image.open(photos / name)) for name in ids])


def by_plain_keras(photos, ids, weights):
    backbone = load_backbone("TinyNet", weights=weights)
    return backbone.predict(pixels_of(photos, ids), verbose=0).mean(axis=(1, 2))


def test_embeddings_are_the_pooled_features_that_plain_keras_gives(whole, photos, weights):
    frame = table(whole)
    found = np.stack(frame["embedding"])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, by_plain_keras(photos, frame.index, weights), atol=ATOL)


def test_a_wrong_order_of_channels_would_show(photos, weights, tiny, tmp_path, monkeypatch):
    decode = reading.decode
    reading.decoder.cache_clear()
    monkeypatch.setattr(reading, "decode", lambda *arguments: decode(*arguments)[..., ::-1])
    frame = table(ktl.extract(str(photos), tmp_path / "out", **tiny))
    reading.decoder.cache_clear()
    wanted = by_plain_keras(photos, frame.index, weights)
    assert not np.allclose(np.stack(frame["embedding"]), wanted, atol=100 * ATOL)


def test_each_item_is_there_once_with_its_label(whole, photos):
    frame = table(whole)
    files = {path.relative_to(photos).as_posix() for path in photos.rglob("*.png")}
    assert set(frame.index) == files
    assert len(frame) == len(files) == whole.items
    assert (frame["label"] == [name.split("/")[0] for name in frame.index]).all()
    assert frame["split"].isna().all()


def test_the_index_says_what_was_computed_with_what(whole, photos, tiny):
    index = json.loads((whole.folder / "extract.json").read_text())
    assert index == whole.index
    settings = index["settings"]
    assert settings["model"]["backbone"] == "TinyNet"
    assert (settings["outputs"], settings["input"]["size"]) == (16, SIZE)
    assert settings["data"] == str(photos)
    assert index["versions"]["keras"] == keras.__version__
    assert index["complete"] is True
    assert {path.name for path in whole.folder.iterdir()} == {
        "extract.json",
        "skipped.csv",
        "embeddings-00000.parquet",
    }


def test_what_is_broken_is_listed(whole):
    assert whole.skipped == 1
    (row,) = pd.read_csv(whole.folder / "skipped.csv").to_dict("records")
    assert row["id"] == "b/broken.jpg"
    assert "truncated" in row["reason"]


def test_tfrecords_hold_the_same(whole, photos, tiny, tmp_path):
    done = ktl.extract(str(photos), tmp_path / "out", format="tfrecord", shard_items=25, **tiny)
    assert [path.suffix for path in done.shards] == [".tfrecord"] * 3
    frame, found = table(whole), examples(done)
    assert [e["id"].bytes_list.value[0].decode() for e in found] == frame.index.tolist()
    assert [e["label"].bytes_list.value[0].decode() for e in found] == frame["label"].tolist()
    assert all("split" not in example for example in found)
    numbers = np.array([example["embedding"].float_list.value for example in found], np.float32)
    np.testing.assert_allclose(numbers, np.stack(frame["embedding"]), atol=ATOL)


def killed_at(number, monkeypatch):
    """Lets an extraction end as if it were killed before a shard is whole."""
    write = shard_folder.ShardFolder.write

    def killed(self, shard, *rest):
        if shard == number:
            raise KeyboardInterrupt
        write(self, shard, *rest)

    monkeypatch.setattr(shard_folder.ShardFolder, "write", killed)


@pytest.fixture(scope="module")
def stopped(photos, tiny, tmp_path_factory):
    """What a kill left: two shards of five."""
    out = tmp_path_factory.mktemp("stopped") / "out"
    with pytest.MonkeyPatch.context() as patch:
        killed_at(2, patch)
        with pytest.raises(KeyboardInterrupt):
            ktl.extract(str(photos), out, shard_items=15, **tiny)
    return out


@pytest.fixture
def begun(stopped, tmp_path):
    return Path(shutil.copytree(stopped, tmp_path / "out"))


def test_whole_shards_are_kept_and_gone_on_with(whole, begun, photos, tiny, monkeypatch):
    kept = {path: path.stat().st_mtime_ns for path in begun.glob("*.parquet")}
    assert len(kept) == 2
    assert json.loads((begun / "extract.json").read_text())["complete"] is False
    read = []
    reader = extraction.read_images

    def watched(items, *how):
        return reader((read.append(item) or item for item in items), *how)

    monkeypatch.setattr(extraction, "read_images", watched)
    done = ktl.extract(str(photos), begun, shard_items=15, **tiny)
    assert len(read) == 61 - 30  # nothing is read twice
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert (done.items, done.skipped) == (60, 1)
    assert not (begun / "progress").exists()
    pd.testing.assert_frame_equal(table(done), table(whole), atol=ATOL)


def test_a_shard_without_its_mark_is_made_again(whole, begun, photos, tiny):
    # Killed between the two renames, and while the next was being written.
    (begun / "progress" / "00001.json").unlink()
    (begun / "embeddings-00001.parquet").write_bytes(b"half")
    (begun / ".0123abcd-embeddings-00002.parquet").write_bytes(b"half")
    done = ktl.extract(str(photos), begun, shard_items=15, **tiny)
    pd.testing.assert_frame_equal(table(done), table(whole), atol=ATOL)
    assert not list(begun.glob(".0123abcd*"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"image_size": 20}, "input.size 20 (it has 16)"),
        ({"layer": "one_add"}, "model.layer 'one_add'"),
        ({"format": "tfrecord"}, "format 'tfrecord'"),
        ({"shard_items": 16}, "shard_items 16 (it has 15)"),
        ({"weights": "none"}, "model.sha256"),
    ],
)
def test_other_settings_are_refused(changes, said, begun, photos, tiny):
    before = sorted(begun.rglob("*"))
    with pytest.raises(InputError, match="the settings of what was begun") as refused:
        ktl.extract(str(photos), begun, **{"shard_items": 15, **tiny, **changes})
    assert said in str(refused.value)
    assert sorted(begun.rglob("*")) == before


def test_a_folder_of_before_columns_were_kept_is_refused(begun, photos, tiny):
    index = json.loads((begun / "extract.json").read_text())
    del index["settings"]["columns"]
    (begun / "extract.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match=r"columns\.path_column 'path' \(it has None\)"):
        ktl.extract(str(photos), begun, shard_items=15, **tiny)


@pytest.mark.slow
def test_a_cell_that_is_run_again_goes_on(whole, photos, tiny, tmp_path):
    """A notebook keeps the traceback, and with it what the frames of the call held."""
    with pytest.MonkeyPatch.context() as patch:
        killed_at(1, patch)
        with pytest.raises(KeyboardInterrupt) as kept:
            ktl.extract(str(photos), tmp_path / "out", shard_items=15, **tiny)
    done = ktl.extract(str(photos), tmp_path / "out", shard_items=15, **tiny)
    assert kept.tb
    pd.testing.assert_frame_equal(table(done), table(whole), atol=ATOL)


def test_nothing_left_to_compute_changes_no_engine(begun, photos, tiny):
    folder = extraction.ShardFolder
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folder, "finish", lambda self: None)
        with pytest.raises(TypeError):
            ktl.extract(str(photos), begun, shard_items=15, **tiny)
    for path in (begun / "progress").iterdir():
        path.write_text(json.dumps({**json.loads(path.read_text()), "computed_in": "LiteRT"}))
    index = ktl.extract(str(photos), begun, shard_items=15, **tiny).index
    assert index["computed_in"] == "LiteRT"


def test_data_that_changed_meanwhile_are_refused(begun, photos, tiny):
    first = photos / "a" / "00.png"
    first.rename(photos / "a" / "00x.png")
    try:
        with pytest.raises(InputError, match="the data have changed"):
            ktl.extract(str(photos), begun, shard_items=15, **tiny)
    finally:
        (photos / "a" / "00x.png").rename(first)


def test_folders_that_are_not_to_be_filled(whole, photos, tiny, tmp_path):
    with pytest.raises(InputError, match="which is complete"):
        ktl.extract(str(photos), whole.folder, **tiny)
    (tmp_path / "thesis.txt").write_text("mine")
    for out in (tmp_path, tmp_path / "thesis.txt"):
        with pytest.raises(InputError, match=r"a (new )?folder"):
            ktl.extract(str(photos), out, **tiny)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_no_two_fill_one_folder(photos, tiny, tmp_path, monkeypatch):
    write = shard_folder.ShardFolder.write
    refused = []

    def meanwhile(self, *rest):
        if not refused:
            with pytest.raises(InputError) as error:
                ktl.extract(str(photos), tmp_path / "out", **tiny)
            refused.append(error)
        write(self, *rest)

    monkeypatch.setattr(shard_folder.ShardFolder, "write", meanwhile)
    assert ktl.extract(str(photos), tmp_path / "out", **tiny).items == 60
    assert "being filled" in str(refused[0].value)


def test_a_folder_whose_name_is_no_utf8_is_refused(photos, tiny, tmp_path):
    with pytest.raises(InputError, match="out in characters of UTF-8"):
        ktl.extract(str(photos), tmp_path / os.fsdecode(b"\xff"), **tiny)
    assert not list(tmp_path.iterdir())


def test_what_a_kill_in_the_first_write_leaves_is_no_reason_to_refuse(photos, tiny, tmp_path):
    (tmp_path / ".01234567-extract.json").write_text("half")
    assert ktl.extract(str(photos), tmp_path, **tiny).items == 60
    assert not (tmp_path / ".01234567-extract.json").exists()


@pytest.mark.slow
def test_no_more_than_a_shard_is_held(photos, tiny, tmp_path, monkeypatch):
    """Items are found as they are needed: beyond a shard, as many as are being decoded."""
    listing = tmp_path / "long.txt"
    path = next(photos.rglob("*.png"))
    listing.write_text(f"{path}\n" * 1000)
    found, ahead, sizes = [], [], []
    item, write = streams.Item, shard_folder.ShardFolder.write

    def counted(*arguments, **named):
        found.append(1)
        return item(*arguments, **named)

    def watched(self, shard, columns, *rest):
        # The first 1000 were found when they were counted.
        ahead.append(len(found) - 1000 - sum(sizes))
        sizes.append(len(columns["id"]))
        write(self, shard, columns, *rest)

    monkeypatch.setattr(streams, "Item", counted)
    monkeypatch.setattr(shard_folder.ShardFolder, "write", watched)
    done = ktl.extract(str(listing), tmp_path / "out", shard_items=100, **tiny)
    assert sizes == [100] * 10
    assert max(ahead) < 400
    assert done.items == 1000  # what is listed again is there again


def test_a_layer_may_be_named(photos, weights, tiny, tmp_path):
    frame = table(ktl.extract(str(photos), tmp_path / "out", layer="one_add", **tiny))
    backbone = load_backbone("TinyNet", weights=weights)
    inner = keras.Model(backbone.input, backbone.get_layer("one_add").output)
    wanted = inner.predict(pixels_of(photos, frame.index), verbose=0).mean(axis=(1, 2))
    np.testing.assert_allclose(np.stack(frame["embedding"]), wanted, atol=ATOL)


@pytest.fixture(scope="module")
def run(tmp_path_factory, small_decoder):
    keras.utils.set_random_seed(4)
    model = build_image_model("TinyNet", outputs=3, weights=None)
    return image_run(tmp_path_factory.mktemp("extracted-run") / "run", model)


def test_a_run_gives_what_its_head_is_put_on(run, photos, tmp_path):
    frame = table(ktl.extract(str(photos), tmp_path / "out", run=run, verbose=0))
    model = run.model()
    pixels = pixels_of(photos, frame.index)
    kernel, bias = model.get_layer("head_predictions").get_weights()
    logits = np.stack(frame["embedding"]) @ kernel + bias
    found = keras.ops.softmax(logits)
    np.testing.assert_allclose(found, model.predict(pixels, verbose=0), atol=ATOL)


def test_predictions_in_shards_are_those_of_predict_and_of_keras(run, photos, tmp_path):
    frame = table(predict_to_shards(run, str(photos), tmp_path / "out", shard_items=20, verbose=0))
    columns = [f"p_{name}" for name in run.info.class_names]
    outputs, _ = predict_files(run, [str(photos / name) for name in frame.index])
    np.testing.assert_allclose(frame[columns], outputs, atol=ATOL)
    plain = run.model().predict(pixels_of(photos, frame.index), verbose=0)
    np.testing.assert_allclose(frame[columns], plain, atol=ATOL)
    best = [run.info.class_names[i] for i in outputs.argmax(axis=1)]
    assert frame["predicted"].tolist() == best
    np.testing.assert_allclose(frame["confidence"], outputs.max(axis=1), atol=ATOL)
    assert frame.dtypes[columns[0]] == np.float32


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    write_tiny_bert(folder / "bert")
    write_reviews(folder / "reviews.csv", count=20)
    with (folder / "reviews.csv").open("a") as file:
        file.write(",,positive\n")
    return folder


def test_texts_are_what_the_encoder_makes_of_strings(texts, tmp_path):
    how = {"backbone": str(texts / "bert"), "max_tokens": 16, "verbose": 0, "shard_items": 8}
    done = ktl.extract(str(texts / "reviews.csv"), tmp_path / "out", text_column="text", **how)
    frame = table(done)
    reviews = pd.read_csv(texts / "reviews.csv").iloc[:20]
    wanted = load_encoder(texts / "bert", max_tokens=16)(tf.constant(reviews["text"].tolist()))
    np.testing.assert_allclose(np.stack(frame["embedding"]), wanted, atol=ATOL)
    assert frame["label"].tolist() == reviews["label"].tolist()
    assert frame.index[0] == "line 2"
    assert pd.read_csv(done.folder / "skipped.csv")["reason"].tolist() == ["no text"]


def test_other_columns_are_refused(texts, tmp_path, monkeypatch):
    reviews, out = tmp_path / "reviews.csv", tmp_path / "out"
    frame = pd.read_csv(texts / "reviews.csv").iloc[:10].assign(part="train")
    frame.to_csv(reviews, index=False)
    how = {"backbone": str(texts / "bert"), "max_tokens": 16, "verbose": 0, "shard_items": 4}
    how["text_column"] = "text"
    with monkeypatch.context() as patch:
        killed_at(1, patch)
        with pytest.raises(KeyboardInterrupt):
            ktl.extract(str(reviews), out, **how)
    for name, other in (
        ("text_column", "title"),
        ("label_column", "title"),
        ("split_column", "part"),
        ("id_column", "title"),
        ("encoding", "cp1252"),
    ):
        with pytest.raises(InputError, match=f"received columns.{name} '{other}'"):
            ktl.extract(str(reviews), out, **how | {name: other})
    assert ktl.extract(str(reviews), out, **how).items == 10


def test_texts_in_memory_and_pairs(texts, tmp_path):
    source = from_texts([("good", "film"), ("bad", "plot")], ids=["x", "y"])
    how = {"backbone": str(texts / "bert"), "max_tokens": 16, "verbose": 0}
    frame = table(ktl.extract(source, tmp_path / "out", **how))
    model = load_encoder(texts / "bert", max_tokens=16, texts=2)
    wanted = model(tf.constant([["good", "film"], ["bad", "plot"]]))
    np.testing.assert_allclose(np.stack(frame["embedding"]), wanted, atol=ATOL)
    assert frame.index.tolist() == ["x", "y"]


def test_predictions_of_texts(texts, tmp_path):
    model = build_text_classifier(texts / "bert", outputs=2, max_tokens=16)
    run = text_run(tmp_path / "run", model, 16)
    data = str(texts / "reviews.csv")
    frame = table(predict_to_shards(run, data, tmp_path / "out", verbose=0))
    outputs, _ = predict_texts(run, pd.read_csv(data)["text"].iloc[:20].tolist())
    np.testing.assert_allclose(frame[["p_bad", "p_good"]], outputs, atol=ATOL)
    with pytest.raises(InputError, match="Expected texts, received images"):
        predict_to_shards(run, [data], tmp_path / "other", verbose=0)


def command(*arguments):
    try:
        return cli.main([str(argument) for argument in arguments])
    except SystemExit as stopped:
        return stopped.code


def test_the_commands(run, photos, weights, tmp_path, capsys):
    model = ("--backbone", "TinyNet", "--weights", weights, "--engine", "tensorflow")
    assert command("extract", photos, *model, "--out", tmp_path / "a", "--shard-items", 30) == 0
    assert "60 items in 3 shards" in capsys.readouterr().out
    assert command("extract", photos, "--run", run.folder, "--out", tmp_path / "b") == 0
    assert command("predict", run.folder, photos, "--out", tmp_path / "c") == 0
    predicted = pq.read_table(tmp_path / "c" / "predictions-00000.parquet")
    assert predicted.column_names[:5] == ["id", "label", "split", "predicted", "confidence"]
    form = ("--format", "tfrecord")
    assert command("predict", run.folder, photos, "--out", tmp_path / "d", *form) == 0
    assert (tmp_path / "d" / "predictions-00000.tfrecord").is_file()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("extract", "{photos}"), "--out"),
        (("extract", "{photos}", "--out", "{out}", "--format", "npy"), "npy"),
        (("extract", "{photos}", "--out", "{out}", "--shard-items", "0"), "at least 1"),
        (("extract", "{photos}", "--out", "{out}", "--backbone", "TinyNt"), "TinyNet"),
        (("extract", "{photos}x", "--out", "{out}", "--backbone", "TinyNet"), "exist"),
        (
            ("extract", "{photos}", "--out", "{out}", "--run", "{run}", "--resize", "crop"),
            "also resize",
        ),
        (
            ("extract", "{photos}", "--out", "{out}", "--run", "{run}", "--layer", "two_ad"),
            "two_add",
        ),
        (("extract", "{photos}", "--out", "{out}", "--", "--streaming"), "--streaming"),
        (("predict", "{run}", "{photos}", "--format", "parquet"), "--out"),
        (("predict", "{run}", "{photos}", "--beam"), "--out"),
        (("predict", "{run}", "{photos}", "--label-column", "x"), "--label-column"),
        (("predict", "{run}", "{photos}", "--text-column", "x"), "--text-column"),
        (("predict", "{run}", "{photos}", "--shard-items", "5"), "--shard-items"),
        (
            ("predict", "{run}", "{photos}", "--out", "{out}", "--beam", "--shard-items", "5"),
            "received --runner beam",
        ),
        (
            ("extract", "{photos}", "--out", "{out}", "--beam", "--shard-items", "5"),
            "received --runner beam",
        ),
        (
            ("extract", "{photos}", "--out", "{out}", "--beam", "--engine", "tensorflow"),
            "--engine with --runner local",
        ),
        (("extract", "{photos}", "--out", "{out}", "--group-column", "x"), "--group-column"),
        (("predict", "{run}", "{photos}", "--out", "{out}", "--format", "csv"), "parquet or"),
        (("predict", "{run}", "{photos}", "{photos}", "--out", "{out}"), "one INPUT"),
        (("predict", "{run}", "{photos}", "--out", "{out}", "--top", "3"), "--top 3"),
        (("predict", "{run}", "{photos}", "--out", "{out}", "--id-column", "x"), "id_column"),
        (
            ("predict", "{run}", "{photos}", "--beam", "--out", "{out}", "--id-column", "x"),
            "id_column",
        ),
        (
            ("extract", "{photos}", "--run", "{run}", "--out", "{out}", "--id-column", "x"),
            "id_column",
        ),
        (("predict", "{run}", "{photos}", "--out", "gs://{out}"), "Give --beam"),
        (("extract", "{photos}", "--run", "{run}", "--out", "gs://{out}"), "Give --beam"),
        (("extract", "s3://{photos}", "--run", "{run}", "--out", "{out}"), "Give --beam"),
    ],
)
def test_a_wrong_command_is_answered_in_a_line(arguments, said, run, photos, tmp_path, capsys):
    names = {"photos": photos, "run": run.folder, "out": tmp_path / "out"}
    assert command(*(word.format(**names) for word in arguments)) == 2
    lines = capsys.readouterr().err.splitlines()
    assert said in lines[-1]
    assert "Traceback" not in "".join(lines)
    assert not (tmp_path / "out").exists()


def test_nothing_that_can_be_read_is_bad_input(tmp_path, tiny, capsys):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"nothing")
    done = ktl.extract(str(tmp_path / "photos"), tmp_path / "out", **tiny)
    assert (done.items, done.skipped) == (0, 1)
    model = ("--backbone", "TinyNet", "--weights", tiny["weights"])
    assert command("extract", tmp_path / "photos", *model, "--out", tmp_path / "other") == 2


KILLED = """
import os, signal, sys
import keras_tl as ktl
from keras_tl import shard_formats
sys.path.insert(0, {tests!r})
from tests.conftest import TINY_NET
from keras_tl.backbones import registry
registry.register(TINY_NET)
shards = []
def write(columns, path, write=shard_formats._write_parquet):
    write(columns, path)
    shards.append(path)
    if len(shards) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
form = shard_formats.ShardFormat("parquet", write)
shard_formats._FORMATS["parquet"] = form
ktl.extract({photos!r}, {out!r}, backbone="TinyNet", weights={weights!r}, shard_items=15)
"""


@pytest.mark.slow
def test_a_process_that_is_killed_leaves_whole_shards(whole, photos, tiny, tmp_path):
    root, out = str(Path(__file__).parents[1]), tmp_path / "out"
    names = {"tests": root, "photos": str(photos), "out": str(out), "weights": tiny["weights"]}
    done = subprocess.run([sys.executable, "-c", KILLED.format(**names)], env={**os.environ})
    assert done.returncode == -signal.SIGKILL
    assert len(list(out.glob("embeddings-*.parquet"))) == 2
    assert len(list(out.glob(".*.parquet"))) == 1
    again = ktl.extract(str(photos), out, shard_items=15, **tiny)
    pd.testing.assert_frame_equal(table(again), table(whole), atol=ATOL)
    assert not list(out.glob(".*"))


def test_another_tokenizer_is_another_model(texts, tmp_path, monkeypatch):
    def changed(path):
        words = (path / "vocab.txt").read_text().splitlines()
        words[-1], words[-2] = words[-2], words[-1]
        (path / "vocab.txt").write_text("\n".join(words) + "\n")

    shutil.copytree(texts / "bert", tmp_path / "bert")
    how = {"backbone": str(tmp_path / "bert"), "max_tokens": 16, "text_column": "text"}
    how |= {"verbose": 0, "shard_items": 8}
    with monkeypatch.context() as patched:
        killed_at(1, patched)
        with pytest.raises(KeyboardInterrupt):
            ktl.extract(str(texts / "reviews.csv"), tmp_path / "out", **how)
    changed(tmp_path / "bert")
    with pytest.raises(InputError, match="model"):
        ktl.extract(str(texts / "reviews.csv"), tmp_path / "out", **how)
