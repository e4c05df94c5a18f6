"""The whole job on a tiny backbone, as the Python API and the command line run it."""

import csv
import json
import subprocess
import sys
from dataclasses import replace

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from PIL import Image
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

from keras_tl import cli, job
from keras_tl.backbones.load import load_backbone
from keras_tl.config import TrainConfig
from keras_tl.errors import InputError
from keras_tl.job import train
from keras_tl.runs import load_run

SETTINGS = {
    "backbone": "TinyNet",
    "weights": "none",
    "epochs": 2,
    "fine_tune_epochs": 1,
    "batch_size": 8,
}
OPTIONS = [
    word for name, value in SETTINGS.items() for word in (f"--{name.replace('_', '-')}", str(value))
]


@pytest.fixture(scope="module")
def photos(tmp_path_factory, three_colors):
    folder = tmp_path_factory.mktemp("photos")
    images, labels = three_colors
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = folder / ("röd", "green", "blue")[label] / f"{index}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(path)
    (folder / "blue" / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    (folder / "blue" / "notes.txt").write_text("not an image")
    return folder


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    return train(TrainConfig(str(photos), str(out), **SETTINGS), verbose=0)


def test_a_run_has_all_that_it_promises(run):
    names = {path.name for path in run.folder.iterdir()}
    assert names == {
        "config.yaml",
        "splits.csv",
        "audit.json",
        "history.csv",
        "model.keras",
        "model.json",
        "saved_model",
        "predictions.csv",
        "predictions_val.csv",
        "metrics.json",
        "MODEL_CARD.md",
        "report.html",
    }


def test_the_figures_follow_from_the_predictions(run):
    table = pd.read_csv(run.path(run.PREDICTIONS))
    metrics = run.metrics
    assert metrics["measured_on"] == "test"
    assert metrics["accuracy"] == pytest.approx(accuracy_score(table["true"], table["predicted"]))
    names = list(run.info.class_names)
    f1 = f1_score(table["true"], table["predicted"], labels=names, average="macro", zero_division=0)
    assert metrics["macro_f1"] == pytest.approx(f1)
    matrix = confusion_matrix(table["true"], table["predicted"], labels=names)
    assert metrics["confusion_matrix"] == matrix.tolist()


def test_what_was_left_out_is_listed(run):
    skipped = {row["id"]: row["reason"] for row in run.metrics["skipped"]}
    assert set(skipped) == {"blue/broken.jpg", "blue/notes.txt"}


def test_the_splits_are_written_and_the_predictions_are_those_of_test(run):
    with run.path(run.SPLITS).open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 60
    test = {row["id"] for row in rows if row["split"] == "test"}
    assert set(pd.read_csv(run.path(run.PREDICTIONS))["id"]) == test


def test_the_keras_model_and_the_saved_model_agree_on_a_file(run, photos):
    path = photos / "green" / "1.png"
    signature = tf.saved_model.load(str(run.path(run.SAVED_MODEL))).signatures["serving_default"]
    answer = signature(image_bytes=tf.constant([path.read_bytes()]))
    pixels = np.asarray(Image.open(path).convert("RGB"))[None]
    expected = run.model().predict(pixels, verbose=0)
    np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-4)
    names = run.info.class_names
    assert answer["class_name"].numpy()[0].decode() == names[expected[0].argmax()]


def test_the_keras_model_loads_without_keras_tl(run):
    code = (
        "import sys; sys.modules['keras_tl'] = None\n"
        "import keras\n"
        f"print(keras.models.load_model({str(run.path(run.MODEL))!r}).count_params())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == str(run.model().count_params()), done.stderr[-1000:]


@pytest.mark.slow
def test_the_same_configuration_gives_the_same_run(run, tmp_path, monkeypatch):
    monkeypatch.setattr(job, "export_saved_model", lambda *_, **__: None)
    arguments = ["train", "--config", str(run.path(run.CONFIG)), "--out", str(tmp_path / "again")]
    assert cli.main(arguments) == 0
    again = load_run(tmp_path / "again")
    for value, expected in zip(again.model().get_weights(), run.model().get_weights(), strict=True):
        np.testing.assert_allclose(value, expected, atol=1e-5)
    assert again.metrics["confusion_matrix"] == run.metrics["confusion_matrix"]


def test_a_finished_run_is_not_overwritten(run, photos, capsys):
    code = cli.main(["train", str(photos), "--out", str(run.folder), *OPTIONS])
    assert code == 2
    assert "a finished run" in capsys.readouterr().err


def test_a_folder_with_other_things_is_not_touched(tmp_path, photos, capsys):
    (tmp_path / "thesis.txt").write_text("mine")
    assert cli.main(["train", str(photos), "--out", str(tmp_path), *OPTIONS]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_predict_ranks_classes_in_three_formats(run, photos, capsys):
    files = [str(photos / "green" / "1.png"), str(photos / "green" / "4.png")]
    pixels = np.stack([np.asarray(Image.open(file)) for file in files])
    expected = run.model().predict(pixels, verbose=0)

    assert cli.main(["predict", str(run.folder), *files, "--top", "2", "--format", "json"]) == 0
    records = json.loads(capsys.readouterr().out)
    assert [record["id"] for record in records] == files
    for record, row in zip(records, expected, strict=True):
        best = [run.info.class_names[i] for i in np.argsort(-row)[:2]]
        assert [entry["class"] for entry in record["predictions"]] == best
        assert record["predictions"][0]["probability"] == pytest.approx(row.max(), abs=1e-4)

    assert cli.main(["predict", str(run.folder), *files, "--format", "csv"]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [row["class_1"] for row in rows] == [r["predictions"][0]["class"] for r in records]

    assert cli.main(["predict", str(run.folder), str(photos / "green")]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 20


def test_predict_says_which_file_is_bad_and_does_the_rest(run, photos, capsys, caplog):
    files = [str(photos / "green" / "1.png"), str(photos / "blue" / "broken.jpg")]
    assert cli.main(["predict", str(run.folder), *files]) == 2
    assert len(capsys.readouterr().out.splitlines()) == 1
    assert "broken.jpg" in caplog.text


def test_evaluate_matches_classes_by_name(run, photos, tmp_path, capsys):
    rows = [("röd", 0), ("röd", 3), ("green", 1), ("blue", 2)]
    lines = [f"{photos / name / str(index)}.png,{name}" for name, index in rows]
    table = tmp_path / "some.csv"
    table.write_text("\n".join(["file,kind", *lines]), encoding="utf-8")
    columns = ["--path-column", "file", "--label-column", "kind"]
    assert cli.main(["evaluate", str(run.folder), str(table), *columns]) == 0
    pixels = np.stack([np.asarray(Image.open(line.rpartition(",")[0])) for line in lines])
    predicted = run.model().predict(pixels, verbose=0).argmax(axis=1)
    right = np.mean(
        [run.info.class_names[p] == name for p, (name, _) in zip(predicted, rows, strict=True)]
    )
    assert f"{right:.4f}" in capsys.readouterr().out


def test_evaluate_says_which_images_the_model_has_seen(run, photos, caplog):
    assert cli.main(["evaluate", str(run.folder), str(photos)]) == 0
    counts = run.metrics["images"]
    assert f"{counts['train'] + counts['val']} of these 60 items" in caplog.text


def test_evaluate_refuses_classes_that_the_model_does_not_know(run, photos, tmp_path, capsys):
    table = tmp_path / "some.csv"
    path = photos / "green" / "1.png"
    table.write_text(f"path,label\n{path},green\n{path.with_name('4.png')},gren")
    assert cli.main(["evaluate", str(run.folder), str(table)]) == 2
    assert "gren" in capsys.readouterr().err


@pytest.mark.slow
def test_without_test_images_the_figures_say_what_they_are(photos, tmp_path):
    config = TrainConfig(str(photos), str(tmp_path / "run"), test_fraction=0.0, **SETTINGS)
    metrics = train(config, verbose=0).metrics
    assert metrics["measured_on"] == "val"
    assert "also chose the weights" in metrics["note"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("labels", "task", "figure"),
    [
        ({0: "warm", 1: "cold|green", 2: "cold"}, "multi-label", "micro_f1"),
        ({0: 100.5, 1: 250.25, 2: 400.75}, "regression", "mae"),
    ],
)
def test_other_tasks_come_from_a_csv(photos, tmp_path, labels, task, figure):
    names = ("röd", "green", "blue")
    rows = [
        {"path": str(path), "label": labels[label]}
        for label, name in enumerate(names)
        for path in (photos / name).glob("*.png")
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "labels.csv", index=False)
    config = TrainConfig(str(tmp_path / "labels.csv"), str(tmp_path / "run"), **SETTINGS)
    run = train(config, verbose=0)
    assert run.info.task == task
    assert np.isfinite(run.metrics[figure])
    if task == "regression":
        assert run.model().get_layer("head_unit").offset == pytest.approx([250], abs=30)


@pytest.mark.slow
def test_a_run_notes_its_memory_and_what_it_warned_of(photos, tmp_path):
    settings = SETTINGS | {"batch_size": 500}
    run = train(TrainConfig(str(photos), str(tmp_path / "run"), **settings), verbose=0)
    metrics = run.metrics
    steps = ("data", "build", "training", "export", "evaluation")
    peaks = [metrics["peak_memory_mb"][step] for step in steps]
    # TensorFlow alone takes more than 200 MB.
    assert peaks[0] > 200 and peaks == sorted(peaks)
    assert any("500 images to fill a batch" in line for line in metrics["warnings"])
    page = run.path(run.REPORT).read_text(encoding="utf-8")
    assert "500 images to fill a batch" in page and f"{peaks[-1]:,} MB" in page


@pytest.mark.slow
def test_a_run_is_whole_only_with_its_page(photos, tmp_path, monkeypatch):
    seen = []

    def broken_page(run, **options):
        seen.append((run.is_whole, options["metrics"]["samples"]))
        raise RuntimeError("no page")

    config = TrainConfig(str(photos), str(tmp_path / "run"), audit=False, **SETTINGS)
    with monkeypatch.context() as patch:
        patch.setattr(job, "write_report", broken_page)
        with pytest.raises(RuntimeError, match="no page"):
            train(config, verbose=0)
    assert seen == [(False, 9)]
    # A page that fails (a kill is something else) costs no figures.
    assert load_run(tmp_path / "run").metrics["samples"] == 9


def test_an_image_size_below_the_least_is_refused_before_the_data_are_opened(tmp_path):
    config = TrainConfig("no-such-photos", str(tmp_path / "run"), "TinyNet", image_size=7)
    with pytest.raises(InputError, match="image size of at least 8 for TinyNet"):
        train(config)


def test_evaluate_says_where_labels_fit_in_another_order(run, photos, tmp_path, caplog):
    """The same photographs under interchanged names."""
    paths = sorted(photos.glob("*/*.png"))
    pixels = np.stack([np.asarray(Image.open(path)) for path in paths])
    predicted = run.model().predict(pixels, verbose=0).argmax(axis=1)
    assert (np.bincount(predicted, minlength=3) >= 5).all()
    other = np.roll(run.info.class_names, 1)[predicted]
    pd.DataFrame({"path": paths, "label": other}).to_csv(tmp_path / "other.csv", index=False)
    assert cli.main(["evaluate", str(run.folder), str(tmp_path / "other.csv")]) == 0
    assert "'blue' as 'green', 'green' as 'röd', 'röd' as 'blue', one for one" in caplog.text
    assert "accuracy is 0.0%, and would be 100.0%" in caplog.text


def test_too_many_bad_files_stop_before_training(tmp_path, capsys):
    for name in ("a", "b"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for index in range(4):
            path = tmp_path / "photos" / name / f"{index}.png"
            Image.fromarray(np.full((8, 8, 3), 30 * index, np.uint8)).save(path)
    (tmp_path / "photos" / "a" / "0.png").write_bytes(b"")
    out = tmp_path / "run"
    assert cli.main(["train", str(tmp_path / "photos"), "--out", str(out), *OPTIONS]) == 2
    assert "max-bad-fraction" in capsys.readouterr().err
    assert not out.exists() or not any(out.iterdir())


@pytest.mark.slow
def test_class_weights_let_all_classes_count_the_same(photos, tmp_path, monkeypatch):
    seen = {}
    run_phases = job.run_phases

    def spy(*arguments, **options):
        seen.update(options)
        return run_phases(*arguments, **options)

    monkeypatch.setattr(job, "run_phases", spy)
    paths = [(photos / "green" / f"{3 * i + 1}.png", "green") for i in range(20)]
    paths += [(photos / "blue" / f"{3 * i + 2}.png", "blue") for i in range(5)]
    rows = [{"path": path, "label": label, "split": "train"} for path, label in paths]
    pd.DataFrame(rows).to_csv(tmp_path / "some.csv", index=False)
    config = TrainConfig(
        str(tmp_path / "some.csv"), str(tmp_path / "run"), class_weights=True, **SETTINGS
    )
    job.train(replace(config, val_fraction=0.0), verbose=0)
    # Of 25 images blue has 5 and green 20: 25 / (2 * 5) and 25 / (2 * 20).
    assert seen["class_weights"] == pytest.approx([2.5, 0.625])


@pytest.mark.slow
@pytest.mark.parametrize(
    "precision", [pytest.param("mixed_bfloat16", marks=pytest.mark.slow), "mixed_float16"]
)
def test_mixed_precision_trains_and_exports(photos, tmp_path, precision):
    out = str(tmp_path / "run")
    config = TrainConfig(str(photos), out, precision=precision, tensorboard=True, **SETTINGS)
    run = job.train(config, verbose=0)
    assert keras.config.dtype_policy().name == "float32"
    assert run.model().get_layer("one_conv").compute_dtype == precision.removeprefix("mixed_")
    assert list(run.path("tensorboard").rglob("events.out.tfevents*"))


def test_a_policy_that_fits_no_layer_is_refused_before_anything_is_written(photos, tmp_path):
    weights = tmp_path / "tiny.weights.h5"
    load_backbone("TinyNet", weights=None).save_weights(weights)
    settings = SETTINGS | {"weights": str(weights), "fine_tune": 99}
    with pytest.raises(InputError, match="blocks"):
        train(TrainConfig(str(photos), str(tmp_path / "run"), **settings))
    assert not (tmp_path / "run").exists() or not any((tmp_path / "run").iterdir())


def test_without_tensorboard_its_logs_are_refused_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(job, "find_spec", lambda name: None)
    config = TrainConfig("no-such-photos", str(tmp_path / "run"), tensorboard=True)
    with pytest.raises(InputError, match="pip install tensorboard"):
        job.train(config)


def test_an_unfinished_run_is_no_run(tmp_path):
    with pytest.raises(InputError, match="finished run"):
        load_run(tmp_path)
