"""Thresholds chosen on a run's val split, and all that has to follow them."""

import json
import os
import shutil

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from PIL import Image
from sklearn.metrics import confusion_matrix, f1_score

from keras_tl import cli, thresholding
from keras_tl.config import TrainConfig
from keras_tl.data.image_input import ImageInput
from keras_tl.errors import InputError
from keras_tl.evaluation import thresholds
from keras_tl.evaluation.tables import summary
from keras_tl.files import atomic_folder
from keras_tl.job import train
from keras_tl.model_info import ModelInfo
from keras_tl.reporting.facts import Outcome
from keras_tl.runs import load_run
from keras_tl.thresholding import choose_thresholds, set_thresholds

pytestmark = pytest.mark.usefixtures("small_decoder")
SETTINGS = {"backbone": "TinyNet", "weights": "none", "epochs": 1, "fine_tune_epochs": 0}


def make_images(folder, labels):
    """Grey noise, lighter for a "1", so that a model of one epoch tells some apart."""
    random = np.random.default_rng(0)
    rows = []
    for index, label in enumerate(labels):
        level = 110 + 40 * ("ill" in label)
        pixels = np.clip(random.normal(level, 50, (16, 16, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
        rows.append({"path": f"{index}.png", "label": label, "patient": f"p{index // 2}"})
    pd.DataFrame(rows).to_csv(folder / "list.csv", index=False)
    return str(folder / "list.csv")


@pytest.fixture(scope="module")
def trained(small_decoder, tmp_path_factory):
    """A run of two classes, a quarter of the images ill, two images a patient."""
    folder = tmp_path_factory.mktemp("scans")
    labels = ["ill" if index // 2 % 4 == 0 else "well" for index in range(160)]
    config = TrainConfig(
        make_images(folder, labels),
        str(folder / "run"),
        group_column="patient",
        val_fraction=0.3,
        test_fraction=0.3,
        **SETTINGS,
    )
    return train(config, verbose=0)


@pytest.fixture
def run(trained, tmp_path):
    """A copy that a test may change."""
    shutil.copytree(trained.folder, tmp_path / "run")
    return load_run(tmp_path / "run")


def table(run, name):
    return pd.read_csv(run.path(name))


def test_a_run_keeps_its_val_predictions(trained):
    splits = table(trained, trained.SPLITS)
    ids = splits.loc[splits["split"] == "val", "id"]
    assert table(trained, trained.VAL_PREDICTIONS)["id"].tolist() == ids.tolist()


@pytest.mark.parametrize("positive", ["ill", "well"])
def test_a_specificity_holds_on_val_and_all_files_follow(run, positive):
    before = run.metrics
    (threshold,) = choose_thresholds(run, "specificity", 0.8, positive=positive)
    val, test = table(run, run.VAL_PREDICTIONS), table(run, run.PREDICTIONS)
    others = val[val["true"] != positive]
    assert (others["predicted"] != positive).mean() >= 0.8
    assert run.info.thresholds == (threshold,)
    # "ill" is the first class, "well" the second.
    for frame in (val, test):
        second = frame["p_well"].to_numpy(np.float32) >= np.float32(threshold)
        assert frame["predicted"].tolist() == np.where(second, "well", "ill").tolist()
    after = run.metrics
    matrix = confusion_matrix(test["true"], test["predicted"], labels=["ill", "well"])
    assert after["confusion_matrix"] == matrix.tolist()
    assert after["roc_auc"] == pytest.approx(before["roc_auc"])
    assert after["loss"] == pytest.approx(before["loss"])
    assert after["thresholds_chosen_by"]["positive"] == positive
    assert {name: after[name] for name in ("images", "phases")} == {
        name: before[name] for name in ("images", "phases")
    }
    called_from = 1 - threshold if positive == "ill" else threshold
    said = f"“{positive}” is called from a probability of {100 * called_from:.2f}\u00a0% on"
    page = run.path(run.REPORT).read_text(encoding="utf-8")
    assert said in page and "for a specificity of 80\u00a0%" in page


@pytest.mark.slow
def test_the_saved_model_and_the_command_line_decide_by_it(run, trained, capsys):
    files = [trained.folder.parent / name for name in table(run, run.PREDICTIONS)["id"][:8]]
    arguments = ["predict", str(run.folder), *map(str, files), "--format", "json"]
    # Between two of these images' probabilities, so that both classes are called.
    levels = np.sort(table(run, run.PREDICTIONS)["p_well"][:8])
    set_thresholds(run, [float(levels[3:5].mean())])
    contents = tf.constant([file.read_bytes() for file in files])
    answer = tf.saved_model.load(str(run.path(run.SAVED_MODEL))).signatures["serving_default"]
    names = [name.decode() for name in answer(image_bytes=contents)["class_name"].numpy()]
    assert sorted(names) == ["ill"] * 4 + ["well"] * 4
    assert cli.main(arguments) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["predictions"][0]["class"] for row in rows] == names
    assert cli.main([*arguments, "--top", "2"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["predictions"][0]["class"] for row in rows] == names
    assert all(len(row["predictions"]) == 2 for row in rows)
    assert cli.main(["threshold", str(run.folder), "--reset", "--positive", "b"]) == 2
    assert cli.main(["threshold", str(run.folder), "--reset"]) == 0
    assert run.info.thresholds == ()
    assert table(run, run.PREDICTIONS).equals(table(trained, trained.PREDICTIONS))
    plain = {k: v for k, v in trained.metrics.items() if k != "seconds"}
    assert {k: v for k, v in run.metrics.items() if k != "seconds"} == plain


@pytest.mark.slow
def test_what_was_compared_before_is_said_to_be(run):
    gap = {"figure": "accuracy", "value": 0.02, "low": 0.01, "high": 0.03}
    baseline = {"kind": "A network", "accuracy": 0.9, "difference": gap, "settings": {}}
    metrics = {**run.metrics, "baseline": {**baseline, "seconds": 1.0}}
    run.path(run.METRICS).write_text(json.dumps(metrics), encoding="utf-8")
    set_thresholds(run, [0.25])
    said = "the model was compared with it before thresholds were set"
    assert said in run.path(run.REPORT).read_text(encoding="utf-8")
    assert said in run.path(run.MODEL_CARD).read_text(encoding="utf-8")
    set_thresholds(run, [])
    assert run.metrics["baseline"] == metrics["baseline"]
    assert said not in run.path(run.REPORT).read_text(encoding="utf-8")


def test_the_rarer_class_is_looked_for(run, capsys):
    assert cli.main(["threshold", str(run.folder), "--sensitivity", "1"]) == 0
    assert "at the new thresholds" in capsys.readouterr().out
    val = table(run, run.VAL_PREDICTIONS)
    assert run.metrics["thresholds_chosen_by"]["positive"] == "ill"
    assert (val[val["true"] == "ill"]["predicted"] == "ill").all()


def test_a_copy_of_the_description_in_an_export_follows(run):
    (run.folder / "litert").mkdir()
    run.info.write(run.folder / "litert")
    # Another run, which has a SavedModel of its own.
    (run.folder / "other").mkdir()
    run.info.write(run.folder / "other")
    (run.folder / "other" / run.METRICS).write_text("{}")
    set_thresholds(run, [0.25])
    assert json.loads((run.folder / "litert" / "model.json").read_text())["thresholds"] == [0.25]
    assert not json.loads((run.folder / "other" / "model.json").read_text()).get("thresholds")


class Killed(BaseException):
    """Nothing is tidied up after it."""


def contents(run):
    """What every file of a run holds, but for those that killed processes left aside."""
    paths = (path for path in run.folder.rglob("*") if path.is_file())
    inside = {str(path.relative_to(run.folder)): path for path in paths}
    return {name: path.read_bytes() for name, path in inside.items() if name[0] != "."}


def copy_saved_model(model, path, info):
    """A SavedModel in which only the description is another: what is tested is what follows."""
    with atomic_folder(path) as aside:
        shutil.copytree(copy_saved_model.older, aside, dirs_exist_ok=True)
        info.write(aside / "assets.extra")


def killed(monkeypatch, step, change):
    """Whether a change is killed when it renames something for the `step`-th time."""
    replace, left = os.replace, [step]

    def counted(*paths):
        if not left[0]:
            raise Killed
        left[0] -= 1
        replace(*paths)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", counted)
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)
        patch.setattr(type(copy_saved_model.older), "unlink", lambda *_, **__: None)
        try:
            change()
        except Killed:
            return True
    return False


@pytest.mark.slow
def test_a_run_that_is_killed_at_any_write_is_as_before_or_as_after(trained, tmp_path, monkeypatch):
    copy_saved_model.older = trained.path(trained.SAVED_MODEL)
    monkeypatch.setattr(thresholding, "export_saved_model", copy_saved_model)
    begun = tmp_path / "begun" / "run"
    shutil.copytree(trained.folder, begun)
    trained.info.write(begun / "litert")
    before = contents(load_run(begun))
    shutil.copytree(begun, tmp_path / "done" / "run")
    choose_thresholds(load_run(tmp_path / "done" / "run"), "f1")
    after = contents(load_run(tmp_path / "done" / "run"))
    changed = {name for name in after if after[name] != before.get(name)}
    assert {"model.json", "litert/model.json", "metrics.json", "report.html"} < changed
    assert {"saved_model/assets.extra/model.json", "MODEL_CARD.md"} < changed
    found, step = [], 0
    while True:
        folder = tmp_path / str(step) / "run"
        shutil.copytree(begun, folder)
        if not killed(monkeypatch, step, lambda f=folder: choose_thresholds(load_run(f), "f1")):
            break
        found.append(contents(load_run(folder)))
        assert found[-1] in (before, after)
        step += 1
    # One of each file before the renaming that counts, and one of each file after it.
    assert found.index(after) >= len(changed) and found[-1] == after
    assert len(found) - found.index(after) >= len(changed)
    again = load_run(tmp_path / "3" / "run")
    choose_thresholds(again, "f1")
    assert contents(again) == after
    assert not [path.name for path in again.folder.iterdir() if path.name[0] == "."]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("specificty", 0.9), "Did you mean specificity"),
        (("specificity",), "a share with 'specificity'"),
        (("f1", 0.9), "no share with 'f1'"),
        (("specificity", 95), "at most 1"),
    ],
)
def test_rules_that_do_not_exist_are_refused(trained, arguments, message):
    with pytest.raises(InputError, match=message):
        choose_thresholds(trained, *arguments)
    assert trained.info.thresholds == ()


def test_a_class_that_does_not_exist_is_refused(trained):
    with pytest.raises(InputError, match="Did you mean ill"):
        choose_thresholds(trained, "f1", positive="il")


def test_without_val_predictions_there_is_nothing_to_choose_on(run, capsys):
    run.path(run.VAL_PREDICTIONS).unlink()
    assert cli.main(["threshold", str(run.folder), "--best", "f1"]) == 2
    assert "predictions_val.csv" in capsys.readouterr().err


def test_a_first_class_of_which_nothing_is_left_has_no_threshold():
    """Where the model gives an item of it wholly to the second, no threshold finds that."""
    second = np.array([1.0, 0.2, 0.1, 0.3, 0.9, 0.8, 0.7, 1.0])
    truth = np.eye(2)[[0, 0, 0, 0, 1, 1, 1, 1]]
    scores = np.stack([1 - second, second], axis=1)
    outcome = Outcome(np.arange(8).astype(object), scores, truth, scores > 0.5)
    with pytest.raises(InputError, match="a threshold that gives what was asked for"):
        thresholding._between_two(
            outcome, 0, thresholding._rule("sensitivity", 1.0), must_hold=True
        )
    rule = thresholding._rule("sensitivity", 0.75)
    found = thresholding._between_two(outcome, 0, rule, must_hold=True)
    assert (second[:4] < np.float32(found)).sum() == 3
    assert thresholding._between_two(outcome, 0, lambda *_: 0.0, must_hold=False) == 1.0


def test_a_threshold_of_the_first_class_parts_neighbouring_numbers():
    below = np.float32(0.75)
    for _ in range(50):
        above = np.nextafter(below, np.float32(1))
        second = np.array([0.1, below, above, 0.9], np.float32)
        truth = np.eye(2)[[0, 0, 1, 1]]
        scores = np.stack([1 - second, second], axis=1)
        outcome = Outcome(np.arange(4).astype(object), scores, truth, truth > 0)
        rule = thresholding._rule("sensitivity", 1.0)
        found = np.float32(thresholding._between_two(outcome, 0, rule, must_hold=True))
        assert (second >= found).tolist() == [False, False, True, True]
        below = above


def test_labels_that_are_rare_or_not_there_are_named(caplog):
    random = np.random.default_rng(0)
    scores = random.random((200, 3))
    truth = np.stack([scores[:, 0] > 0.5, np.arange(200) == 7, np.zeros(200, bool)], axis=1)
    outcome = Outcome(np.arange(200).astype(object), scores, truth.astype(float), scores > 0.5)
    info = ModelInfo(ImageInput(16), ("often", "once", "never"), "multi-label")
    chosen, left = thresholding._one_each(outcome, info, thresholds.best_f1)
    assert left == ["never"] and chosen[2] == 0.5
    told = "\n".join(record.getMessage() for record in caplog.records)
    assert "The threshold of once was chosen by only 1 image on one side" in told
    assert "never keeps the threshold" in told and "often" not in told


@pytest.mark.slow
def test_each_of_several_labels_gets_its_best_f1(tmp_path):
    random = np.random.default_rng(1)
    kinds = ("ill", "old", "ill|old", "|")
    labels = [kinds[k] for k in random.integers(0, 4, 90)]
    config = TrainConfig(
        make_images(tmp_path, labels),
        str(tmp_path / "run"),
        val_fraction=0.4,
        test_fraction=0.2,
        **SETTINGS,
    )
    run = train(config, verbose=0)
    before = table(run, run.VAL_PREDICTIONS)
    chosen = choose_thresholds(run, "f1")
    assert run.info.thresholds == chosen
    for name, threshold in zip(run.info.class_names, chosen, strict=True):
        present = before["true"].fillna("").str.split("|").map(lambda names, n=name: n in names)
        scores = before[f"p_{name}"].to_numpy(np.float32)
        best = max(f1_score(present, scores >= score) for score in scores)
        assert f1_score(present, scores >= np.float32(threshold)) == pytest.approx(best)
    rows = run.metrics["per_class"]
    assert [rows[name]["threshold"] for name in run.info.class_names] == list(chosen)
    assert summary(run.metrics)
    with pytest.raises(InputError, match="no positive class"):
        choose_thresholds(run, "f1", positive="ill")


def test_several_labels_refuse_what_no_rule_can_follow():
    """One class in two can be left as it is, but not all, and no share is above 1."""
    with pytest.raises(InputError, match="at most 1"):
        thresholding._rule("specificity", 95.0)
    with pytest.raises(InputError, match="at most 1"):
        thresholding._rule("specificity", float("nan"))
    outcome = Outcome(np.arange(9).astype(object), np.full((9, 2), 0.3), np.zeros((9, 2)), None)
    info = ModelInfo(ImageInput(16), ("one", "two"), "multi-label")
    with pytest.raises(InputError, match="a class for which the rule can be followed"):
        thresholding._one_each(outcome, info, thresholds.best_f1)
