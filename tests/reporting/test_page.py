import json
import re
from dataclasses import replace

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from run_folders import ODD_NAMES, Page, make_run
from scipy.stats import binomtest

from keras_tl.data.source import content_hash
from keras_tl.errors import InputError
from keras_tl.evaluation.bootstrap import classification_intervals
from keras_tl.evaluation.metrics import decide
from keras_tl.reporting.blocks import number, percent
from keras_tl.reporting.facts import read_facts
from keras_tl.reporting.page import write_report
from keras_tl.reporting.pictures import SHOWN
from keras_tl.reporting.result import _always_the_same, bounds


def report(run, **options):
    path = write_report(run, **options)
    assert path == run.path("report.html")
    html = path.read_text(encoding="utf-8")
    assert len(html.encode()) < 2_000_000
    return Page(html)


def test_the_page_stands_alone_and_escapes_what_users_name(made, tiny_model):
    page = report(made.run, model=tiny_model)
    assert "script" not in page.tags
    assert all(value.startswith(("#", "data:")) for value in page.loaded)
    for name in ODD_NAMES:
        assert " ".join(name.split()) in page.text
    assert "<i>broken</i>.jpg" in page.text
    assert "run <b>&" in page.text


def test_the_twin_of_escaping_is_seen():
    assert "script" in Page(f"<p>{ODD_NAMES[0]}</p>").tags


def test_the_result_is_that_of_the_predictions(made):
    text = report(made.run).text
    targets = made.source.split("test").targets() > 0.5
    chosen = decide(made.outputs, made.info)
    right = (targets == chosen).all(axis=1).mean()
    bounds = classification_intervals(targets, chosen)["accuracy"]
    assert f"Of 30 images of the test split, the model got {100 * right:.1f} % right" in text
    assert f"95 % interval {100 * bounds.low:.1f} % to {100 * bounds.high:.1f} %" in text


@pytest.mark.parametrize(("figure", "task"), [("accuracy", "single-label"), ("mae", "regression")])
def test_an_answer_without_looking_that_is_no_worse_is_said_to_be(tmp_path, figure, task):
    made = make_run(tmp_path, task=task, names=("depth",) if task == "regression" else ODD_NAMES)
    facts = read_facts(made.run)
    said = "which is no worse than the model."
    assert said not in _always_the_same(facts) != ""
    truth = made.source.split("test").targets()
    if task == "regression":
        at_best = np.abs(truth - np.median(truth)).mean()
        just = {True: 1.001 * at_best, False: 0.999 * at_best}
    else:
        at_best = truth.mean(axis=0).max()
        just = {True: at_best, False: at_best + 0.001}
    for is_said, value in just.items():
        worse = replace(facts, metrics={**facts.metrics, figure: value})
        assert _always_the_same(worse).endswith(said) == is_said


def test_how_the_kept_epoch_was_chosen(made, tmp_path):
    assert "lowest val loss; its weights were kept, unless" in report(made.run).text
    path = made.run.path("history.csv")
    history = pd.read_csv(path)
    history["val_refined_loss"] = history["val_loss"]
    history.to_csv(path, index=False)
    assert "lowest val loss, after the best temperature; its" in report(made.run).text


def test_an_interval_that_does_not_hold_its_figure_is_not_shown(made):
    facts = read_facts(made.run)
    assert bounds(facts, "macro_f1") is not None
    beside = replace(facts, metrics={**facts.metrics, "macro_f1": 0.01})
    assert bounds(beside, "macro_f1") is None


def test_what_the_frozen_prefix_saved_by_hand(made):
    text = report(made.run).text
    # 60 train and 30 val images: 5 epochs + 3 epochs of 90; 2 views of train and val once in the
    # first phase, and all of the second, where nothing is frozen.
    assert (
        "Plain training would have run 720 images through it, this run 420: 1.7 times fewer" in text
    )


def test_a_frozen_part_that_is_computed_at_every_step_saves_nothing(made):
    facts = made.run.metrics
    for phase in facts["phases"]:
        phase.update(images_through_frozen_prefix=0, images_asked_of_frozen_prefix=0)
    made.run.path("metrics.json").write_text(json.dumps(facts))
    assert "Nothing was saved" in report(made.run).text
    facts["phases"][0]["images_asked_of_frozen_prefix"] = 150
    facts["phases"].pop()
    made.run.path("metrics.json").write_text(json.dumps(facts))
    assert "what is frozen was in the store from before" in report(made.run).text


def test_pictures_are_the_most_confident_mistakes_and_the_least_certain(tmp_path, tiny_model):
    made = make_run(tmp_path, noise=2.5)
    page = report(made.run, model=tiny_model)
    table = pd.read_csv(made.run.path("predictions.csv"))
    wrong = table[table["true"] != table["predicted"]].sort_values("confidence", ascending=False)
    assert len(wrong) > 3
    best = np.sort(made.outputs, axis=1)
    unsure = table.iloc[np.argsort(best[:, -1] - best[:, -2], kind="stable")[:SHOWN]]
    ids = [text for text in page.texts if text.startswith("im <")]
    assert ids == [*wrong["id"][:SHOWN], *unsure["id"]]
    # Each with what decided beside it.
    assert sum(value.startswith("data:image/jpeg") for value in page.loaded) == 2 * len(ids)


def test_images_that_have_changed_are_not_shown(made):
    table = pd.read_csv(made.run.path("predictions.csv"))
    for name in table["id"]:
        path = made.run.folder.parent / "images" / name
        Image.new("RGB", (16, 16)).save(path)
    assert "images are gone, or not what they were" in report(made.run).text


def test_images_that_are_gone_are_said_to_be(made):
    (made.run.folder.parent / "images" / "list.csv").unlink()
    assert "The images of this run cannot be opened: Expected" in report(made.run).text


def test_images_may_be_given_as_pixels(made, tiny_model):
    pixels = [np.asarray(Image.open(item)) for item in made.source.items]
    source = replace(made.source, items=pixels)
    # What was hashed is what is given: pixels, not files.
    splits = pd.read_csv(made.run.path("splits.csv"))
    splits["sha256"] = [content_hash(item) for item in pixels]
    splits.to_csv(made.run.path("splits.csv"), index=False)
    page = report(made.run, source=source, model=tiny_model)
    assert "Least certain" in page.text and "images are gone" not in page.text


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("metrics.json", "it did not come to its end"),
        ("history.csv", "needs history.csv"),
        ("predictions.csv", "needs predictions.csv"),
        ("splits.csv", "needs splits.csv"),
        ("config.yaml", "no config.yaml"),
        ("model.json", "no model.json"),
    ],
)
def test_a_file_that_is_missing_is_named(made, file, said):
    made.run.path(file).unlink()
    assert said in report(made.run).text


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("metrics.json", lambda text: text.replace('"accuracy"', '"other"')),
        ("history.csv", lambda text: text.replace("learning_rate", "rate")),
        ("splits.csv", lambda text: text.replace("group", "grp")),
        ("predictions.csv", lambda text: re.sub(r",[^,\n]*\n$", ",nan\n", text)),
    ],
)
def test_a_file_that_was_changed_is_named(made, file, change):
    path = made.run.path(file)
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(InputError, match="as it was written"):
        report(made.run)


def test_names_that_would_turn_the_page_around_are_not_printed(tmp_path):
    made = make_run(tmp_path, names=("a\u202eb", "c\x1bd", "e"))
    text = report(made.run).text
    assert "a\ufffdb" in text and not {"\u202e", "\x1b"} & set(text)


def test_of_a_thousand_targets_a_few_are_shown(tmp_path):
    made = make_run(tmp_path, task="regression", names=tuple(f"t{k}" for k in range(60)), count=240)
    page = report(made.run).text
    assert "(and 55 more targets)" in page and "The first 30 of 60; all are in metrics.json" in page
    assert "The first 30 of 60 targets." in page
    assert "t29" in page and "t45" not in page


def test_what_the_median_would_reach_is_told_of_each_target(tmp_path):
    made = make_run(tmp_path, task="regression", names=("x", "y"))
    truth = made.source.split("test").targets()
    x, y = np.abs(truth - np.median(truth, axis=0)).mean(axis=0)
    told = report(made.run).text.replace("\u00a0", " ")
    [error, other] = re.search(r"off by (\S+) for x, (\S+) for y\.", told).groups()
    assert float(error) == pytest.approx(x, rel=1e-2)
    assert float(other) == pytest.approx(y, rel=1e-2)
    metrics = made.run.metrics
    metrics["per_target"]["y"]["mae"] = 10 * float(y)
    made.run.path("metrics.json").write_text(json.dumps(metrics))
    assert "for y, which is no worse than the model for y." in report(made.run).text


def test_thresholds_that_were_given_are_told(tmp_path):
    made = make_run(tmp_path, names=("ill", "well"))
    assert "is called from" not in report(made.run).text
    replace(made.info, thresholds=(0.99999,)).write(made.run.folder)
    said = "“well” is called from a probability of 99.999 % on, which was given."
    assert said in report(made.run).text.replace("\u00a0", " ")


def test_metrics_of_an_older_version_do(made):
    old = {key: made.run.metrics[key] for key in ("task", "samples", "accuracy", "per_class")}
    made.run.path("metrics.json").write_text(json.dumps(old))
    text = report(made.run).text
    assert "says nothing of phases" in text and "says nothing of time" in text
    assert "says nothing of files that were passed over" in text


def test_a_split_that_chose_the_weights_is_warned_of(made):
    note = "the val split, which also chose the weights: expect less on new images"
    facts = {**made.run.metrics, "measured_on": "val", "note": note}
    made.run.path("metrics.json").write_text(json.dumps(facts))
    assert f"Measured on {note}." in report(made.run).text


def test_the_temperature_is_fitted_on_val_where_its_predictions_are(made):
    assert "cross-fitted on the test split" in report(made.run).text
    predictions = made.run.path("predictions.csv").read_text()
    made.run.path(made.run.VAL_PREDICTIONS).write_text(predictions)
    assert "fitted on the val split" in report(made.run).text


def test_a_temperature_that_does_not_help_is_said_to(tmp_path):
    made = make_run(tmp_path, noise=2.0)
    assert "leave the probabilities as they are" not in report(made.run).text
    predictions = pd.read_csv(made.run.path("predictions.csv"))
    is_right = predictions["true"] == predictions["predicted"]
    # Nearly all that val was asked, it got right: it would have the model surer than it may be.
    some = pd.concat([predictions[is_right], predictions[~is_right][:1]])
    some.to_csv(made.run.path(made.run.VAL_PREDICTIONS), index=False)
    assert "worse: leave the probabilities as they are." in report(made.run).text
    # With all right, it would have it as sure as can be.
    predictions[is_right].to_csv(made.run.path(made.run.VAL_PREDICTIONS), index=False)
    page = report(made.run)
    assert "has no mistake to fit a temperature to" in page.text
    assert "With temperature" not in page.text


def test_steps_are_listed_by_when_they_ended(made):
    facts = made.run.metrics
    facts["seconds"] = {"data": 1.0, "audit": 2.0, "build": 3.0, "training": 4.0}
    facts["peak_memory_mb"] = {"data": 100, "build": 200, "audit": 300, "training": 400}
    made.run.path("metrics.json").write_text(json.dumps(facts))
    memory = [text for text in report(made.run).texts if re.fullmatch(r"\d+ MB", text)]
    assert memory == ["100 MB", "200 MB", "300 MB", "400 MB"]


def test_groups_are_resampled_together(made):
    splits = pd.read_csv(made.run.path("splits.csv"))
    splits["group"] = [f"patient {i // 8}" for i in range(len(splits))]
    splits.to_csv(made.run.path("splits.csv"), index=False)
    facts = read_facts(made.run)
    assert facts.groups.max() + 1 == 15
    text = report(made.run).text
    assert "images of a group together; they know" in text
    splits["group"] = [f"patient {i // 40}" for i in range(len(splits))]
    splits.to_csv(made.run.path("splits.csv"), index=False)
    few = read_facts(made.run).groups.max() + 1
    assert f"together (of {few} groups, too few: they are wider in truth)" in report(made.run).text
    splits["group"] = "patient 1"
    splits.to_csv(made.run.path("splits.csv"), index=False)
    alone = report(made.run).text
    assert "There are no intervals: all measured images are of one group." in alone
    assert "95 % interval" not in alone.partition("Confusion matrix")[0].partition("Result")[2]


def test_several_labels(tmp_path, tiny_model):
    page = report(make_run(tmp_path, task="multi-label").run, model=tiny_model)
    assert "the model got every class right in" in page.text
    assert "Most confident mistakes" in page.text and "Confusion matrix" not in page.text
    assert "is not there" in page.text


@pytest.mark.parametrize("names", [("depth <mm>",), ("a", "b", "c")])
def test_values(tmp_path, names):
    page = report(make_run(tmp_path, task="regression", names=names).run)
    off = "depth <mm> is off by" if len(names) == 1 else "the model is off on average: a by"
    assert off in page.text
    # Targets of several units have no mean error.
    assert page.texts.count("root mean squared error") == (2 if len(names) == 1 else 1)
    assert page.texts.count("residual") == len(names)
    assert "Calibration" not in page.text and "Confusion" not in page.text


def test_a_single_target_shows_its_largest_errors(tmp_path):
    made = make_run(tmp_path, task="regression", names=("depth",))
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(2, 3)(inputs)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Rescaling(2.0, 1.0)(keras.layers.Dense(1)(x))
    page = report(made.run, model=keras.Model(inputs, x))
    errors = np.abs(made.outputs - made.source.split("test").targets())[:, 0]
    worst = made.source.split("test").ids[np.argsort(-errors)[:SHOWN]]
    assert [text for text in page.texts if text.startswith("im <")] == list(worst)
    assert "speaks for a larger value" in page.text and "the class that is" not in page.text


def test_where_nothing_speaks_for_the_answer_the_picture_beside_is_grey(tmp_path):
    made = make_run(tmp_path, noise=2.5)
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(1, 3, activation="relu", kernel_initializer="ones")(inputs)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dense(3, "softmax", name="classes")(x)
    model = keras.Model(inputs, x)
    # The map speaks for the first class, against the second, and not of the third.
    model.get_layer("classes").set_weights([np.array([[1.0, -1.0, 0.0]]), np.zeros(3)])
    page = report(made.run, model=model)
    assert "All grey: nothing in the picture does." in page.text
    shown = sum(text.startswith("im <") for text in page.texts)
    assert sum(value.startswith("data:image/jpeg") for value in page.loaded) == 2 * shown


def test_two_classes_have_one_curve_of_the_rarer_one(tmp_path):
    made = make_run(tmp_path, names=("intact", "defective"))
    table = pd.read_csv(made.run.path("predictions.csv"))
    first_intact = table.index[table["true"] == "intact"][0]
    table.loc[first_intact, "true"] = "defective"
    table.to_csv(made.run.path("predictions.csv"), index=False)
    text = report(made.run).text
    assert "The class looked for is “intact”." in text
    assert "mean of 2 classes" not in text
    path = made.run.path("metrics.json")
    chosen = {"rule": "f1", "share": None, "positive": "defective", "images": 9}
    metrics = json.loads(path.read_text()) | {"thresholds_chosen_by": chosen}
    replace(made.info, thresholds=(0.4,)).write(made.run.folder)
    path.write_text(json.dumps(metrics), encoding="utf-8")
    assert "The class looked for is “defective”." in report(made.run).text


@pytest.mark.parametrize(
    ("share", "digits", "text"),
    [
        (None, 1, "–"),
        (1.0, 1, "100.0 %"),
        (0.0, 0, "0 %"),
        (0.9997, 1, "99.97 %"),
        (0.996, 0, "99.6 %"),
        (0.0004, 1, "0.04 %"),
        (0.987, 1, "98.7 %"),
        (1 - 1e-9, 1, "> 99.999999 %"),
        (1e-9, 1, "< 0.000001 %"),
    ],
)
def test_only_all_is_a_hundred_per_cent(share, digits, text):
    assert percent(share, digits).replace("\u00a0", " ") == text


def test_0_has_no_sign_and_thousands_no_exponent():
    assert [number(x) for x in (-0.0, 54093.8759, 9999.4, -1e6)] == [
        "0",
        "54,094",
        "9,999",
        "-1,000,000",
    ]
    assert number(5e-6) == "5e-06"


def test_one_image_has_no_calibration(made):
    path = made.run.path("predictions.csv")
    pd.read_csv(path).iloc[:1].to_csv(path, index=False)
    text = report(made.run).text
    assert "One image says nothing of it." in text and "needs predictions.csv" not in text


def test_a_thousand_classes_stay_bounded(tmp_path):
    names = tuple(f"class {i}" for i in range(300))
    made = make_run(tmp_path, names=names, count=1600, images=False)
    page = report(made.run)
    assert "most confused pairs of 300 classes" in page.text
    assert page.tags.count("tr") < 150
    assert len(made.run.path("report.html").read_bytes()) < 200_000


def test_without_a_mistake(tmp_path):
    made = make_run(tmp_path, noise=0.01)
    text = report(made.run).text
    count = int((made.source.splits == "test").sum())
    # Resamples of nothing but right answers all agree; Wilson's interval is as wide as it must be.
    low = 100 * binomtest(count, count).proportion_ci(method="wilson").low
    assert f"the model got 100.0 % right (95 % interval {low:.1f} % to 100.0 %)" in text
    assert "1.00–1.00" not in text
    assert "No class was taken for another." in text
    assert "Most confident mistakes: none." in text


def test_ids_and_classes_that_look_like_numbers_stay_text(tmp_path):
    made = make_run(tmp_path, names=("NA", "007", "1e3"))
    facts = read_facts(made.run)
    truth = made.source.split("test").labels
    assert (facts.outcome.truth.argmax(axis=1) == truth).all()
    assert re.search(r"\b007\b", report(made.run).text)
