import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from keras_tl import baselines
from keras_tl.baselines import add_baseline, difference
from keras_tl.config import TrainConfig
from keras_tl.data.image_input import ImageInput
from keras_tl.data.prepare_texts import TextData
from keras_tl.data.source import Source, content_hash
from keras_tl.data.splits import write_splits
from keras_tl.data.text_input import TextInput
from keras_tl.errors import CheckError
from keras_tl.evaluation.baseline import Baseline
from keras_tl.evaluation.predictions import predictions_frame
from keras_tl.model_info import ModelInfo
from keras_tl.reporting.facts import Outcome
from keras_tl.runs import Run

NAMES = ("ham", "spam")


def outcome_of(right, truth):
    chosen = np.where(right[:, None], truth, 1 - truth) > 0.5
    ids = np.array([f"line {i}" for i in range(len(truth))], dtype=object)
    return Outcome(ids, chosen.astype(float), truth, chosen)


def test_the_difference_by_hand():
    truth = np.eye(2)[np.arange(40) % 2]
    # Both right in 30, the model alone in 8, the baseline alone in 2.
    model, other = np.ones(40, bool), np.ones(40, bool)
    model[:2], other[2:10] = False, False
    outputs = np.where(other[:, None], truth, 1 - truth).astype(np.float32)
    info = ModelInfo(ImageInput(16), NAMES, "single-label")
    found = difference(outcome_of(model, truth), outputs, info)
    assert found["figure"] == "accuracy"
    assert found["value"] == pytest.approx(6 / 40)
    # Twice the chance of at most 2 heads among 10.
    assert found["p"] == pytest.approx(2 * (1 + 10 + 45) / 1024)
    assert found["low"] < 6 / 40 < found["high"]
    # The twin: the other way round.
    outputs = np.where(model[:, None], truth, 1 - truth).astype(np.float32)
    assert difference(outcome_of(other, truth), outputs, info)["value"] == pytest.approx(-6 / 40)
    # The test takes each item for one of its own.
    assert "p" not in difference(outcome_of(model, truth), outputs, info, np.arange(40) // 2)


def test_the_difference_of_a_regression_is_that_of_the_mean_errors():
    truth = np.arange(20.0)[:, None]
    none = np.zeros(truth.shape, bool)
    outcome = Outcome(np.arange(20).astype(object), truth + 1.0, truth, none)
    info = ModelInfo(ImageInput(16), ("depth",), "regression")
    found = difference(outcome, truth - 3.0, info)
    assert (found["figure"], found["value"]) == ("mae", -2.0)
    assert "p" not in found


def test_several_targets_are_compared_in_their_deviations():
    """Else the one with the largest unit would count alone."""
    truth = np.stack([np.arange(20.0), 1e4 * np.arange(20.0)], axis=1)
    outcome = Outcome(
        np.arange(20).astype(object), truth + np.array([3.0, 0]), truth, truth > np.inf
    )
    info = ModelInfo(ImageInput(16), ("near", "far"), "regression")
    found = difference(outcome, truth + np.array([0, 1e4]), info)
    deviation = truth[:, 0].std()
    assert found["reached_in_deviations"] == pytest.approx(1 / deviation / 2)
    assert found["value"] == pytest.approx((3 - 1) / deviation / 2)


@pytest.fixture
def made(tmp_path):
    """A run of texts whose labels a word decides, and a model that guesses."""
    random = np.random.default_rng(0)
    labels = np.arange(160) % 2
    items = [
        (f"{('report', 'money')[k]} " + " ".join(random.choice(list("abcdefgh"), 6)) + f" n{i}",)
        for i, k in enumerate(labels)
    ]
    ids = np.array([f"line {i}" for i in range(160)], dtype=object)
    splits = np.array(["train"] * 100 + ["val"] * 20 + ["test"] * 40, dtype=object)
    hashes = np.array([content_hash(item) for item in items], dtype=object)
    source = Source(ids, items, labels, NAMES, splits=splits, hashes=hashes)
    run = Run(tmp_path / "run")
    run.begin()
    config = TrainConfig("mails.csv", str(run.folder), text_column="text")
    run.path(run.CONFIG).write_text(config.to_yaml(), encoding="utf-8")
    info = ModelInfo(None, NAMES, "single-label", backbone="MiniLM", text_input=TextInput())
    info.write(run.folder)
    write_splits(source, run.path(run.SPLITS))
    for split in ("train", "test"):
        part = source.split(split)
        guessed = np.full((len(part), 2), (0.6, 0.4), np.float32)
        frame = predictions_frame(part.ids, guessed, part.targets(), info)
        frame.to_csv(run.path(run.PREDICTIONS), index=False)
    return run, TextData(source, TextInput())


def test_a_run_of_texts_always_has_one(made):
    run, data = made
    found = add_baseline(run, data, "test", verbose=0)["baseline"]
    assert json.loads(json.dumps(found)) == found
    assert found["kind"] == "TF-IDF with logistic regression"
    assert found["accuracy"] == 1.0
    assert found["difference"]["value"] == pytest.approx(-0.5)
    assert "per_class" not in found and found["seconds"] > 0


def test_it_learns_from_the_training_split_alone(made):
    run, data = made
    labels = data.source.labels.copy()
    # What train says is turned round; val and test are as they were.
    labels[:100] = 1 - labels[:100]
    found = add_baseline(run, replace(data, source=replace(data.source, labels=labels)), "test")
    assert found["baseline"]["accuracy"] == 0.0


@pytest.mark.parametrize("case", ["train split", "random weights", "images not asked"])
def test_where_there_is_none(made, case):
    run, data = made
    if case == "random weights":
        config = replace(run.config, weights="none")
        run.path(run.CONFIG).write_text(config.to_yaml(), encoding="utf-8")
    if case == "images not asked":
        config = TrainConfig("photos", str(run.folder))
        run.path(run.CONFIG).write_text(config.to_yaml(), encoding="utf-8")
        replace(run.info, image_input=ImageInput(16), text_input=None).write(run.folder)
    assert add_baseline(run, data, "train" if case == "train split" else "test") == {}


def test_a_failed_check_of_the_baseline_does_not_lose_the_run(made, tmp_path, monkeypatch, caplog):
    # Nothing is remembered there.
    monkeypatch.setenv("KERAS_TL_CACHE", str(tmp_path))

    def fail(*_, **__):
        raise CheckError("a gradient", "none", "Look.")

    monkeypatch.setattr(baselines, "text_baseline", fail)
    assert add_baseline(*made, "test") == {}
    assert "There is no baseline" in caplog.text


def test_the_same_texts_are_answered_from_what_is_remembered():
    random = np.random.default_rng(0)
    calls = []

    def make():
        calls.append(1)
        return Baseline("a kind", random.random((3, 2)).astype(np.float32), {"C": 1.0})

    first = baselines._remembered({"train": ["a"], "seed": 0}, np.eye(2), make)
    again = baselines._remembered({"train": ["a"], "seed": 0}, np.eye(2), make)
    assert len(calls) == 1
    assert (again.kind, again.settings) == (first.kind, first.settings)
    np.testing.assert_array_equal(again.outputs, first.outputs)
    # Other labels, other texts.
    baselines._remembered({"train": ["a"], "seed": 0}, 1 - np.eye(2), make)
    baselines._remembered({"train": ["b"], "seed": 0}, np.eye(2), make)
    assert len(calls) == 3


def test_of_very_many_classes_there_is_none(made, monkeypatch, caplog):
    monkeypatch.setattr(baselines, "MANY_CLASSES", 1)
    assert add_baseline(*made, "test") == {}
    assert "There is no baseline: Expected 1 classes at most for it, received 2" in caplog.text


def test_a_class_that_only_the_test_split_has_is_another_baseline(made, tmp_path, monkeypatch):
    """The training labels are the same bytes, the outputs are one more."""
    monkeypatch.setenv("KERAS_TL_CACHE", str(tmp_path))
    run, data = made
    assert add_baseline(run, data, "test")["baseline"]
    source = replace(data.source, class_names=(*data.class_names, "zebra"))
    found = baselines._answers(replace(data, source=source), "test", run.config, verbose=0)
    assert found.outputs.shape == (len(data.samples("test")), len(data.class_names) + 1)


def test_of_one_group_the_difference_has_no_test(made):
    run, data = made
    frame = pd.read_csv(run.path(run.SPLITS))
    frame["group"] = "author 1"
    frame.to_csv(run.path(run.SPLITS), index=False)
    gap = add_baseline(run, data, "test")["baseline"]["difference"]
    assert gap["of_one_group"] and "p" not in gap
