"""Each recipe, whole, on images made by code and a tiny backbone."""

import re
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import f1_score, mean_absolute_error, recall_score, roc_auc_score

from keras_tl.runs import load_run

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("small_decoder")]
TESTS = str(Path(__file__).parents[1])
TINY = ["--backbone", "TinyNet", "--epochs", "2"]


def write_table(folder, values, **columns):
    """An image for each value: a grey level in noise; and a table of them."""
    random = np.random.default_rng(0)
    for index, value in enumerate(values):
        pixels = random.normal(60 + 120 * value, 30, (16, 16, 3))
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(folder / f"{index}.png")
    paths = [f"{index}.png" for index in range(len(values))]
    pd.DataFrame({"path": paths, **columns}).to_csv(folder / "table.csv", index=False)
    return str(folder / "table.csv")


def predictions(folder):
    return pd.read_csv(folder / "run" / "predictions.csv", keep_default_na=False)


def figure(out, name):
    """The first number on the line that begins with a name."""
    line = next(line for line in out.splitlines() if line.startswith(name))
    return float(re.search(r"\d\.\d+|\d+", line.removeprefix(name))[0])


def test_medical_images(tmp_path, capsys):
    from keras_tl.recipes import medical_images

    ill = np.arange(160) // 2 % 4 == 0
    labels, patients = np.where(ill, "malignant", "benign"), [f"p{i // 2}" for i in range(160)]
    table = write_table(tmp_path, ill, label=labels, patient=patients)
    medical_images.main([table, "--out", str(tmp_path / "run"), "--specificity", "0.8", *TINY])
    out = capsys.readouterr().out
    splits = pd.read_csv(tmp_path / "run" / "splits.csv")
    assert (splits.groupby("group")["split"].nunique() == 1).all()
    run = load_run(tmp_path / "run")
    assert len(run.info.thresholds) == 1
    val = pd.read_csv(run.path(run.VAL_PREDICTIONS))
    assert (val[val["true"] == "benign"]["predicted"] == "benign").mean() >= 0.8
    test = predictions(tmp_path)
    truth = test["true"] == "malignant"
    recall = recall_score(truth, test["predicted"] == "malignant", zero_division=0)
    assert figure(out, "sensitivity") == pytest.approx(recall, abs=6e-4)
    assert figure(out, "ROC AUC") == pytest.approx(
        roc_auc_score(truth, test["p_malignant"]), abs=6e-4
    )
    assert "true \\ predicted" in out and "specificity" in out


def test_multi_label(tmp_path, capsys):
    from keras_tl.recipes import multi_label

    values = np.arange(120) % 4 / 3
    names = np.array(["|", "light", "light|bright", "bright"])[np.arange(120) % 4]
    groups = [f"g{i // 4}" for i in range(120)]
    table = write_table(tmp_path, values, label=names, group=groups)
    multi_label.main([table, "--out", str(tmp_path / "run"), *TINY])
    out = capsys.readouterr().out
    test = predictions(tmp_path)
    truth, called = (
        np.array([[name in cell.split("|") for name in ("bright", "light")] for cell in column])
        for column in (test["true"], test["predicted"])
    )
    line = next(line for line in out.splitlines() if line.startswith("macro f1"))
    expected = f1_score(truth, called, average="macro", zero_division=0)
    assert float(line.split()[3]) == pytest.approx(expected, abs=6e-4)
    thresholds = load_run(tmp_path / "run").info.thresholds
    assert figure(out, "light: from") == pytest.approx(thresholds[1], abs=6e-4)


def test_regression(tmp_path, capsys):
    from keras_tl.recipes import regression

    values = np.round(np.random.default_rng(1).random(120), 3)
    table = write_table(tmp_path, values, age=100 + 10 * values)
    regression.main([table, "--target", "age", "--out", str(tmp_path / "run"), *TINY])
    out = capsys.readouterr().out
    test = predictions(tmp_path)
    error = mean_absolute_error(test["true_age"], test["predicted_age"])
    assert figure(out, "mae") == pytest.approx(error, rel=1e-3)
    splits = pd.read_csv(tmp_path / "run" / "splits.csv")
    mean = splits.loc[splits["split"] == "train", "label"].mean()
    guess = np.abs(test["true_age"] - mean).mean()
    assert figure(out, "MAE of the mean") == pytest.approx(guess, rel=1e-3)


@pytest.mark.parametrize("divided", [False, True])
def test_few_shot(tmp_path, capsys, three_colors, divided):
    from keras_tl.recipes import few_shot

    images, labels = three_colors
    for index, (pixels, label) in enumerate(zip(images, labels, strict=True)):
        split = ("train", "val", "test")[index % 20 // 7] if divided else "."
        path = tmp_path / "photos" / split / "abc"[label] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    few_shot.main([str(tmp_path / "photos"), "--shots", "2", "30", "--seeds", "0", "1", *TINY])
    rows = capsys.readouterr().out.splitlines()[1:]
    # No class has 30 images and one to spare.
    assert rows[1:] == ["Left out, since a class has too few images, or its groups leave none: 30"]
    shots, probe, trained = rows[0].split()[0], *re.findall(r"([\d.]+) ±", rows[0])
    assert shots == "2"
    assert float(probe) > 50 and 0 <= float(trained) <= 100


PROGRAM = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from keras_tl.backbones import registry
import conftest
registry.register(conftest.TINY_NET)
from keras_tl.place_options import launch
from keras_tl.recipes import regression
launch(regression.main)
"""


def told_by(folder, table, *places):
    """What each of several processes prints, the same recipe in all of them."""
    command = [sys.executable, "-c", PROGRAM, TESTS, table]
    command += ["--target", "age", "--out", str(folder / "run"), *TINY]
    processes = [
        subprocess.Popen([*command, *place], stdout=subprocess.PIPE, text=True, cwd=folder)
        for place in places
    ]
    try:
        said = [process.communicate(timeout=300)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0] * len(places)
    return said


def test_in_two_processes_it_is_what_one_gives(tmp_path):
    values = np.round(np.random.default_rng(1).random(120), 3)
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    table = write_table(tmp_path, values, age=100 + 10 * values)
    with socket.socket() as one, socket.socket() as two:
        for each in (one, two):
            each.bind(("127.0.0.1", 0))
        workers = ",".join(f"127.0.0.1:{each.getsockname()[1]}" for each in (one, two))
    where = ["--strategy", "multiworker", "--workers", workers, "--worker-index"]
    chief, other = told_by(tmp_path / "two", table, [*where, "0"], [*where, "1"])
    [alone] = told_by(tmp_path / "one", table, ["--strategy", "cpu"])
    assert figure(chief, "mae") == pytest.approx(figure(alone, "mae"), rel=1e-2)
    assert "MAE of the mean" in chief and "MAE of the mean" not in other
    found, expected = (predictions(tmp_path / name)["predicted_age"] for name in ("two", "one"))
    np.testing.assert_allclose(found, expected, atol=0.02)
