"""The pipeline on Beam's own local runner, against plain Keras and the commands without Beam."""

import csv
import errno
import json
import os
import pickle
import shutil

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from PIL import Image

from keras_tl import cli
from keras_tl.backbones.encoders import load_encoder
from keras_tl.backbones.load import load_backbone
from keras_tl.builders.text import build_text_classifier
from keras_tl.data import streams
from keras_tl.data.folders import IMAGES
from keras_tl.data.streams import Item
from keras_tl.errors import CheckError, InputError
from keras_tl.measuring import predict_files, predict_texts
from keras_tl.runs import Run
from tests.made_runs import image_run, text_run
from tests.tiny_encoder import write_reviews, write_tiny_bert

beam = pytest.importorskip("apache_beam", reason="the extra beam")
pq = pytest.importorskip("pyarrow.parquet", reason="the extra beam")

from keras_tl.beam import pipeline, served, sources, transforms  # noqa: E402
from keras_tl.beam.served import pack, unpack  # noqa: E402

# Another size of batch, another order of summation.
ATOL = 1e-5


@pytest.fixture(scope="module")
def photos(tmp_path_factory, three_colors):
    folder = tmp_path_factory.mktemp("beam") / "photos [1]"
    for index, (image, label) in enumerate(zip(*three_colors, strict=True)):
        path = folder / "abc"[label] / "deep" / f"{index:02}.png"
        path.parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray(image).save(path)
    (folder / "b" / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    (folder / "b" / "empty.png").write_bytes(b"")
    (folder / "b" / "scan.tif").write_bytes(b"II*\0")
    (folder / "b" / "notes.txt").write_text("not an image")
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "x.png").write_bytes(b"nothing")
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    keras.utils.set_random_seed(4)
    from keras_tl.builders.image import build_image_model

    model = build_image_model("TinyNet", outputs=3, weights=None)
    return image_run(tmp_path_factory.mktemp("beam-run") / "run", model)


@pytest.fixture(scope="module")
def predicted(run, photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("predicted") / "out"
    index = pipeline.predict(run, str(photos), str(out))
    return out, index


def table(out, kind):
    files = sorted(out.glob(f"{kind}-*.parquet"))
    return pq.read_table([str(file) for file in files]).to_pandas().set_index("id").sort_index()


def skipped(out):
    rows = [csv.DictReader(path.open(newline="")) for path in out.glob("skipped-*.csv")]
    return {row["id"]: row["reason"] for reader in rows for row in reader}


def pixels_of(photos, ids):
    return np.stack([np.asarray(Image.open(photos / name)) for name in ids])


def test_predictions_are_those_of_predict_and_of_keras(predicted, run, photos):
    frame = table(predicted[0], "predictions")
    columns = [f"p_{name}" for name in run.info.class_names]
    outputs, _ = predict_files(run, [str(photos / name) for name in frame.index])
    np.testing.assert_allclose(frame[columns], outputs, atol=ATOL)
    plain = run.model().predict(pixels_of(photos, frame.index), verbose=0)
    np.testing.assert_allclose(frame[columns], plain, atol=ATOL)
    assert frame["predicted"].tolist() == [run.info.class_names[i] for i in plain.argmax(axis=1)]
    # The comparison can fail: other pixels give other numbers.
    turned = run.model().predict(pixels_of(photos, frame.index)[..., ::-1], verbose=0)
    assert not np.allclose(frame[columns], turned, atol=100 * ATOL)


def test_each_item_is_there_once_or_among_the_skipped(predicted, photos):
    out, index = predicted
    frame = table(out, "predictions")
    readable = sorted(path.relative_to(photos).as_posix() for path in photos.rglob("deep/*.png"))
    assert frame.index.tolist() == readable
    assert frame["label"].tolist() == [name[0] for name in readable]
    reasons = skipped(out)
    assert set(reasons) == {"b/broken.jpg", "b/empty.png", "b/scan.tif"}
    assert "truncated" in reasons["b/broken.jpg"]
    assert reasons["b/empty.png"] == "empty file"
    assert (index["items"], index["skipped"]) == (60, 3)


def test_the_index_names_the_shards_and_the_model_goes(predicted, photos):
    out, index = predicted
    assert json.loads((out / "extract.json").read_text()) == index
    assert {shard["file"] for shard in index["shards"]} == {p.name for p in out.glob("*.parquet")}
    assert not list(out.glob("*.zip"))
    assert index["settings"]["data"] == str(photos)
    assert index["settings"]["columns"] == {"path_column": "path"}


def test_a_folder_that_is_not_empty_is_refused(predicted, run, photos):
    before = sorted(predicted[0].iterdir())
    with pytest.raises(InputError, match="which has other things in it"):
        pipeline.predict(run, str(photos), str(predicted[0]))
    assert sorted(predicted[0].iterdir()) == before


def test_a_folder_that_beam_would_take_for_a_pattern_is_refused(run, photos, tmp_path):
    with pytest.raises(InputError, match=r"signs of patterns, received \[ in"):
        pipeline.predict(run, str(photos), str(tmp_path / "out[1]"))


@pytest.mark.slow
def test_embeddings_from_a_table_as_tfrecord(photos, tmp_path):
    weights = tmp_path / "tiny.weights.h5"
    load_backbone("TinyNet", weights=None).save_weights(weights)
    names = sorted(path.relative_to(photos).as_posix() for path in photos.rglob("deep/*.png"))[:20]
    rows = [f"{photos / name},{name[0]},train" for name in names]
    lost = f"{photos / 'gone.png'},a,test"
    (tmp_path / "list.csv").write_text("\n".join(["path,label,split", *rows, lost]) + "\n")
    options = {"backbone": "TinyNet", "weights": str(weights), "format": "tfrecord"}
    out = tmp_path / "out"
    index = pipeline.extract(str(tmp_path / "list.csv"), str(out), **options)
    records = tf.data.TFRecordDataset([str(path) for path in out.glob("*.tfrecord")])
    found = [tf.train.Example.FromString(r.numpy()).features.feature for r in records]
    by_id = {e["id"].bytes_list.value[0].decode(): e for e in found}
    assert len(found) == index["items"] == 20
    assert {e["split"].bytes_list.value[0] for e in found} == {b"train"}
    backbone = load_backbone("TinyNet", weights=weights)
    wanted = backbone.predict(pixels_of(photos, names), verbose=0).mean(axis=(1, 2))
    numbers = [by_id[str(photos / name)]["embedding"].float_list.value for name in names]
    np.testing.assert_allclose(numbers, wanted, atol=ATOL)
    assert list(skipped(out).values()) == ["file not found"]


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("beam-texts")
    write_tiny_bert(folder / "bert")
    write_reviews(folder / "reviews.csv", count=20)
    with (folder / "reviews.csv").open("a") as file:
        file.write(",,positive\n")
    return folder


@pytest.mark.slow
def test_embeddings_of_pairs_of_texts(texts, tmp_path):
    how = {"text_column": "title,text", "pair": True, "max_tokens": 16}
    backbone = str(texts / "bert")
    out = tmp_path / "out"
    index = pipeline.extract(
        str(texts / "reviews.csv"), str(out), backbone=backbone, format="parquet", **how
    )
    frame = table(out, "embeddings")
    reviews = pd.read_csv(texts / "reviews.csv").iloc[:20]
    reviews.index = [f"line {i}" for i in range(2, 22)]
    pairs = reviews.loc[frame.index, ["title", "text"]].to_numpy().tolist()
    wanted = load_encoder(texts / "bert", max_tokens=16, texts=2)(tf.constant(pairs))
    np.testing.assert_allclose(np.stack(frame["embedding"]), wanted, atol=ATOL)
    assert frame["label"].tolist() == reviews.loc[frame.index, "label"].tolist()
    assert skipped(out) == {"line 22": "no text"}
    assert (index["items"], index["skipped"]) == (20, 1)


@pytest.mark.slow
def test_predictions_of_a_folder_of_texts(texts, tmp_path):
    model = build_text_classifier(texts / "bert", outputs=2, max_tokens=16)
    run = text_run(tmp_path / "run", model, 16)
    contents = {
        "a/1.txt": b"good film",
        "b/2.txt": b"awful plot",
        "b/3.txt": b"\xff",
        "b/4.txt": b" ",
    }
    for name, content in contents.items():
        (tmp_path / "folder" / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / "folder" / name).write_bytes(content)
    pipeline.predict(run, str(tmp_path / "folder"), str(tmp_path / "out"))
    frame = table(tmp_path / "out", "predictions")
    outputs, _ = predict_texts(run, ["good film", "awful plot"])
    assert frame.index.tolist() == ["a/1.txt", "b/2.txt"]
    np.testing.assert_allclose(frame[["p_bad", "p_good"]], outputs, atol=ATOL)
    assert skipped(tmp_path / "out") == {"b/3.txt": "not in UTF-8", "b/4.txt": "no text"}
    with pytest.raises(InputError, match="Expected texts, received images"):
        pipeline._run(
            pipeline.prediction_scorer(run),
            run.path(run.SAVED_MODEL),
            str(tmp_path / "folder"),
            {},
            str(tmp_path / "other"),
            pipeline.shard_formats.get("parquet"),
            (),
        )


def test_what_is_packed_is_what_runs(run, photos, tmp_path):
    pack(run.path(run.SAVED_MODEL), str(tmp_path / "model.zip"))
    model = unpack(str(tmp_path / "model.zip"))
    names = ["a/deep/00.png", "b/broken.jpg", "b/deep/01.png"]
    items = [Item(name, (photos / name).read_bytes()) for name in names]
    good, outputs, bad = model.run(items)
    assert [item.id for item in good] == [names[0], names[2]]
    assert [item.id for item in bad] == [names[1]]
    plain = run.model().predict(pixels_of(photos, [names[0], names[2]]), verbose=0)
    np.testing.assert_allclose(outputs, plain, atol=ATOL)


def test_a_process_loads_the_model_once(run, tmp_path, monkeypatch):
    loaded = []
    monkeypatch.setattr(transforms, "unpack", lambda address: loaded.append(address) or Loaded())
    score = transforms.Score("model.zip", "predictions")
    # As threads of a worker get it.
    threads = [pickle.loads(pickle.dumps(score)) for _ in range(3)]
    for each in threads:
        each.setup()
    assert loaded == ["model.zip"]


class Loaded:
    """Stands for a model; `Shared` refers to it weakly."""


def known(item):
    return item.id, item.label, item.split, item.reason


def assert_items(source, expected):
    from apache_beam.testing.util import assert_that, equal_to

    with beam.Pipeline(runner=pipeline.LOCAL_RUNNER) as p:
        assert_that(p | source | beam.Map(known), equal_to(expected))


def by_address(folder):
    """As a folder in a bucket is gone through."""
    return sources.FolderItems(str(folder), IMAGES)


@pytest.mark.parametrize("opened", [by_address, lambda folder: sources.open_items(str(folder))])
def test_splits_are_told_from_classes(opened, tmp_path):
    for name in ("train/a/1.png", "Valid/b/2.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(b"x")
    expected = [("train/a/1.png", "a", "train", ""), ("Valid/b/2.png", "b", "val", "")]
    assert_items(opened(tmp_path), expected)


@pytest.mark.parametrize("opened", [by_address, lambda folder: sources.open_items(str(folder))])
def test_a_folder_has_the_items_that_it_has_without_beam(opened, photos):
    assert_items(opened(photos), [known(item) for item in streams.open_stream(str(photos))])


def test_links_are_followed_and_broken_ones_are_told(photos, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a").symlink_to(photos / "a")
    (tmp_path / "photos" / "lost.png").symlink_to(tmp_path / "nothing")
    expected = [known(item) for item in streams.open_stream(str(tmp_path / "photos"))]
    assert ("lost.png", None, None, "broken link") in expected
    assert len(expected) == 1 + len(list((photos / "a").rglob("*.png"))) > 2
    assert_items(sources.open_items(str(tmp_path / "photos")), expected)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("nothing", "which does not exist"),
        ("", "in which there is none"),
        ("no.csv", "cannot be read"),
        ("tfds:mnist", "a folder"),
    ],
)
def test_data_that_are_not_there(data, said, run, tmp_path):
    data = data if ":" in data else str(tmp_path / data)
    with pytest.raises(InputError, match=said):
        pipeline.predict(run, data, str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_the_command_passes_options_on(run, photos, tmp_path, capsys, monkeypatch):
    seen = []
    options = pipeline._options
    monkeypatch.setattr(pipeline, "_options", lambda given: seen.extend(given) or options(given))
    arguments = ["predict", str(run.folder), str(photos), "--runner", "beam"]
    arguments += ["--out", str(tmp_path / "out"), "--", "--direct_num_workers=1"]
    assert cli.main(arguments) == 0
    assert seen == ["--direct_num_workers=1"]
    assert "60 items in" in capsys.readouterr().out


@pytest.mark.parametrize("lost", ["", "saved_model.pb", "variables/variables.index"])
def test_a_run_without_its_whole_saved_model_is_refused_at_once(lost, run, photos, tmp_path):
    half = Run(shutil.copytree(run.folder, tmp_path / "run"))
    if lost:
        (half.path(run.SAVED_MODEL) / lost).unlink()
    else:
        shutil.rmtree(half.path(run.SAVED_MODEL))
    with pytest.raises(InputError, match=f"received one without {lost or 'saved_model.pb'}. Copy"):
        pipeline.predict(half, str(photos), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_names_that_are_no_utf8_are_listed_as_without_beam(run, photos, tmp_path):
    folder = tmp_path / "odd"
    for name in (b"train/a/1.png", b"train/a/\xff.png", b"\xfe/2.png"):
        path = os.path.join(os.fsencode(folder), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        shutil.copy(photos / "a" / "deep" / "00.png", path)
    index = pipeline.predict(run, str(folder), str(tmp_path / "out"))
    assert index["items"] == 1
    frame = table(tmp_path / "out", "predictions")
    assert frame[["label", "split"]].to_dict("index") == {
        "train/a/1.png": {"label": "a", "split": "train"}
    }
    reason = "name is not valid UTF-8"
    beside = {item.id: item.reason for item in streams.open_stream(str(folder)) if item.reason}
    # A whole folder is one entry, which is not gone through.
    assert beside == {"train/a/\\udcff.png": reason, "\\udcfe": reason}
    assert skipped(tmp_path / "out") == beside
    files = [("train/a/\\udcff.png", None, None, reason), ("\\udcfe/2.png", None, None, reason)]
    assert_items(by_address(folder), [("train/a/1.png", "a", "train", ""), *files])


def test_what_ends_a_worker_is_told_in_one_line(run, photos, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(served.ServedModel, "run", full)
    with pytest.raises(CheckError, match=r"DONE, received .*No space left on device") as told:
        pipeline.predict(run, str(photos), str(tmp_path / "out"))
    assert "\n" not in str(told.value)
    assert "Traceback" not in str(told.value)
    # Neither the model, nor the index, which comes last.
    assert not list((tmp_path / "out").glob("*.zip"))
    assert not (tmp_path / "out" / "extract.json").exists()


@pytest.mark.slow
def test_several_processes_give_each_item_once(run, photos, tmp_path):
    how = ["--direct_num_workers=2", "--direct_running_mode=multi_processing"]
    out = tmp_path / "out"
    pipeline.predict(run, str(photos), str(out), pipeline_options=how)
    frame = table(out, "predictions")
    assert len(frame) == frame.index.nunique() == 60
    columns = [f"p_{name}" for name in run.info.class_names]
    plain = run.model().predict(pixels_of(photos, frame.index), verbose=0)
    np.testing.assert_allclose(frame[columns], plain, atol=ATOL)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes of POSIX")
def test_a_named_pipe_is_not_waited_for(tmp_path):
    pipe = tmp_path / "a.png"
    os.mkfifo(pipe)
    [found] = transforms.ReadFiles(texts=False).process(Item("a.png", str(pipe)))
    assert found.tag == transforms.SKIPPED and found.value.reason
