"""What `train --fine-tune auto` decides, on what, and at what price."""

import functools
from dataclasses import replace

import keras
import numpy as np
import pytest

from keras_tl import freezing, probing
from keras_tl.backbones.load import load_backbone
from keras_tl.builders.image import build_image_model
from keras_tl.config import TrainConfig
from keras_tl.data.arrays import from_arrays
from keras_tl.data.prepare import prepare
from keras_tl.evaluation import verdict
from keras_tl.evaluation.probes import Probe
from keras_tl.evaluation.verdict import Verdict
from keras_tl.feature_cache import FeatureStore
from keras_tl.job import train
from keras_tl.training.passes import PrefixPass
from keras_tl.training.phases import Phase

PHASES = [Phase(freezing.All(), 2, 1e-3), Phase(freezing.AllButLast(1), 3, 1e-4)]


@pytest.fixture(scope="module")
def data():
    random = np.random.default_rng(0)
    labels = np.arange(180) % 3
    colors = np.array([[200, 60, 60], [60, 200, 60], [60, 60, 200]])
    images = colors[labels][:, None, None, :] + random.normal(0, 40, (180, 16, 16, 3))
    source = from_arrays(np.clip(images, 0, 255).astype(np.uint8), labels)
    return prepare(source, image_size=16, augment="dihedral")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.weights.h5"
    keras.utils.set_random_seed(0)
    load_backbone("TinyNet", weights=None).save_weights(path)
    return str(path)


def config(out, weights, **settings):
    base = {"backbone": "TinyNet", "augment": "dihedral", "epochs": 2, "fine_tune_epochs": 1}
    return TrainConfig("-", str(out), weights=weights, image_size=16, **base | settings)


def test_the_features_are_those_of_plain_keras(data, tmp_path):
    model = build_image_model("TinyNet", outputs=3, weights=None)
    parts = [probing.Part(data.val, None)]
    store = FeatureStore(tmp_path, dtype="float32")
    found = probing.features_of(
        model, PHASES, parts, task="single-label", store=store, engine="tensorflow", verbose=0
    )
    pixels = np.stack(list(data.val.images(np.arange(len(data.val))).as_numpy_iterator()))
    plain = keras.Model(model.input, [model.get_layer("one_add").output, model.layers[-3].output])
    early, last = plain.predict(pixels, verbose=0)
    np.testing.assert_allclose(found.last, last, atol=1e-5)
    np.testing.assert_allclose(found.early, early.mean(axis=(1, 2)), atol=1e-5)
    assert found.computed == len(data.val)


def test_one_pass_serves_head_fine_tuning_and_means_of_large_cuts(data, tmp_path, monkeypatch):
    monkeypatch.setattr(probing, "SMALL_ITEM", 100)  # so that a mean is stored beside the cut
    passes = spy_on_computed(monkeypatch)
    model = build_image_model("TinyNet", outputs=3, weights=None)
    parts = [probing.Part(data.val, None)]
    store = FeatureStore(tmp_path, dtype="float32")
    options = {"task": "single-label", "engine": "tensorflow", "verbose": 0, "store": store}
    found = probing.features_of(model, PHASES, parts, **options)
    assert passes == [len(data.val), 0]
    monkeypatch.undo()
    again = probing.features_of(model, PHASES, parts, **options)
    np.testing.assert_allclose(found.early, again.early, atol=1e-5)


def spy_on_computed(monkeypatch):
    computed = []
    features = PrefixPass.features

    def spy(self, images, view=None):
        found = features(self, images, view)
        computed.append(self.passes[-1].computed)
        return found

    monkeypatch.setattr(PrefixPass, "features", spy)
    return computed


@pytest.mark.slow
@pytest.mark.parametrize("answer", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_run_does_what_the_verdict_says_and_no_pass_more(
    data, weights, tmp_path, monkeypatch, answer
):
    monkeypatch.setenv("KERAS_TL_CACHE", str(tmp_path / "cache"))
    judge = probing.judge

    def fixed(*arguments, **options):
        facts = vars(judge(*arguments, **options))
        return Verdict(**{**facts, "fine_tune": answer})

    monkeypatch.setattr(probing, "judge", fixed)
    computed = spy_on_computed(monkeypatch)
    run = train(config(tmp_path / "auto", weights), source=data.source, verbose=0)
    decision = run.metrics["fine_tune_decision"]
    assert decision["fine_tune"] is answer
    assert decision["accuracy"] > 0.9
    assert len(run.metrics["phases"]) == (2 if answer else 1)
    passes_of_auto = sum(computed)

    monkeypatch.setenv("KERAS_TL_CACHE", str(tmp_path / "other"))
    computed.clear()
    asked = config(tmp_path / "asked", weights, fine_tune=1 if answer else "none")
    plain = train(asked, source=data.source, verbose=0)
    assert passes_of_auto == sum(computed)
    assert "fine_tune_decision" not in plain.metrics
    # To decide moves nothing: the runs are the same.
    assert plain.metrics["loss"] == pytest.approx(run.metrics["loss"], rel=1e-3)


@pytest.fixture
def decision(data, weights, tmp_path):
    """What is decided of a run: `decision(data, store)`."""

    def decided(some=data, store=None, **settings):
        model = build_image_model("TinyNet", outputs=3, weights=weights, image_size=16)
        asked = config(tmp_path, weights, **settings)
        phases, why = probing.settle_plan(model, some, asked, store, verbose=0)
        assert why is None or len(phases) == (2 if why["fine_tune"] else 1)
        return why

    return decided


def test_easy_images_need_no_fine_tuning(decision, tmp_path):
    found = decision(store=FeatureStore(tmp_path / "store"))
    assert not found["fine_tune"]
    assert "a linear layer on its features reaches" in found["why"]


@pytest.mark.parametrize("deterministic", [False, True])
def test_no_clock_decides_of_a_deterministic_run(decision, tmp_path, monkeypatch, deterministic):
    judged = []

    def judge(*arguments, **options):
        judged.append(options["seconds"])
        return replace(verdict.judge(*arguments, **options), fine_tune=True)

    monkeypatch.setattr(probing, "judge", judge)
    monkeypatch.setattr(probing, "seconds_to_fine_tune", lambda *_, **__: 60.0)
    store = FeatureStore(tmp_path / "store")
    found = decision(store=store, deterministic=deterministic)
    assert judged == ([None] if deterministic else [None, 60.0])
    assert found["seconds"] == judged[-1] and "points" in found["why"]


@pytest.mark.parametrize("score, asked", [(0.8, 1), (1.0, 0)])
def test_the_clock_is_asked_only_where_fine_tuning_may_pay(data, monkeypatch, score, asked):
    shown = Probe("accuracy", score, (score, score), np.zeros((1, 1)), (1.0,), np.ones(1))
    monkeypatch.setattr(probing, "linear_probe", lambda *_, **__: shown)
    calls = []

    def clock():
        calls.append("asked")
        return 1e6

    features = probing.ProbedFeatures(np.zeros((1, 1)), np.zeros((1, 1)), None, 0)
    # It takes so long that it is never worth it.
    source = data.train.source
    decide = functools.partial(probing.decide, features, source, images_per_class=60)
    assert not decide(clock=clock).fine_tune
    assert len(calls) == asked
    assert decide(clock=None).fine_tune is bool(asked)


def test_without_a_store_the_number_of_images_decides(decision, data, caplog):
    caplog.set_level("INFO")
    assert decision() == {
        "fine_tune": True,
        "why": f"decided by the number of training images, {len(data.train)}",
    }
    assert "nothing is probed" in caplog.text


def test_few_items_of_a_class_are_too_few_without_a_probe_too(decision, data, monkeypatch):
    monkeypatch.setattr(probing, "FEW_PER_CLASS", len(data.train))
    found = decision()
    assert not found["fine_tune"] and "too few for fine-tuning" in found["why"]


def test_a_sample_does_not_make_classes_smaller(decision, data, tmp_path, monkeypatch):
    """What counts is how many there are to train on, not how many were looked at."""
    judged = []

    def judge(*arguments, **options):
        judged.append(options["images_per_class"])
        return verdict.judge(*arguments, **options)

    monkeypatch.setattr(probing, "judge", judge)
    monkeypatch.setattr(probing, "MAX_IMAGES", 30)
    decision(store=FeatureStore(tmp_path / "store"), deterministic=True)
    assert judged == [len(data.train) / 3]


def test_of_one_group_nothing_can_be_probed(decision, data, tmp_path, caplog):
    caplog.set_level("INFO")
    source = replace(data.source, groups=np.full(len(data.source), "one", dtype=object))
    found = decision(replace(data, source=source), FeatureStore(tmp_path / "store"))
    assert found["fine_tune"] and "accuracy" not in found
    assert "with one group to train on nothing is probed" in caplog.text


def test_settings_of_a_head_that_has_no_phase_are_said_to_do_nothing(
    data, weights, tmp_path, caplog
):
    model = build_image_model("TinyNet", outputs=3, weights=weights, image_size=16)
    full = config(tmp_path, weights, plan="full")
    phases, _ = probing.settle_plan(model, data, full, None, verbose=0)
    assert [phase.epochs for phase in phases] == [1]
    assert "plan=full has no phase of the head alone" in caplog.text
    caplog.clear()
    probing.settle_plan(model, data, replace(full, epochs=TrainConfig.epochs), None, verbose=0)
    assert not caplog.records


@pytest.mark.parametrize(
    "settings, warned",
    [
        ({"fine_tune": "none", "fine_tune_epochs": 5}, True),
        ({"plan": "feature-extraction", "fine_tune_epochs": 5}, True),
        ({"plan": "full", "fine_tune_epochs": 5}, False),
        # What nobody asked for: the defaults.
        ({"fine_tune": "none", "fine_tune_epochs": None}, False),
        ({"plan": "feature-extraction", "fine_tune_epochs": None}, False),
    ],
)
def test_epochs_of_no_fine_tuning_are_told(decision, caplog, settings, warned):
    decision(**settings)
    assert ("fine_tune_epochs does not count" in caplog.text) is warned


def test_too_few_images_are_not_probed(decision, three_colors, tmp_path, caplog):
    caplog.set_level("INFO")
    images, labels = three_colors
    few = prepare(from_arrays(images, labels), image_size=16, augment="dihedral")
    found = decision(few, FeatureStore(tmp_path / "store"))
    assert not found["fine_tune"]
    assert "accuracy" not in found
    assert caplog.text.count("No fine-tuning: 42 training images are too few for it") == 1


def test_equal_images_are_a_group(data):
    source = data.train.source
    assert probing.groups_of(source) is None
    doubled = source.take(np.array([0, 1, 1, 2]))
    assert len(np.unique(probing.groups_of(doubled))) == 3


def test_items_of_no_group_are_on_their_own(data):
    few = data.train.source.take(np.array([0, 1, 2, 3, 3]))
    source = replace(few, groups=np.array(["a", "", "a", "", ""], dtype=object))
    a, one, again, two, equal = probing.groups_of(source)
    assert a == again and two == equal and len({a, one, two}) == 3


def test_equal_items_of_several_groups_are_not_divided(data):
    source = data.train.source.take(np.array([0, 0, 1, 2]))
    source = replace(source, groups=np.array(["a", "b", "b", ""], dtype=object))
    first, *tied, alone = probing.groups_of(source)
    assert tied == [first, first] and alone != first


def test_items_of_no_group_are_dealt_to_all_folds(data, monkeypatch):
    """They are no group that must be in one fold as a whole."""
    source = data.train.source
    groups = np.full(len(source), "", dtype=object)
    groups[:2] = "a"
    dealt = []
    monkeypatch.setattr(probing, "linear_probe", lambda *_, **options: dealt.append(options))
    monkeypatch.setattr(probing, "judge", lambda *_, **__: None)
    features = probing.ProbedFeatures(np.zeros((len(source), 1)), np.zeros((1, 1)), None, 0)
    probing.decide(features, replace(source, groups=groups), images_per_class=9, clock=None)
    assert [options["folds"] for options in dealt] == [5, 5]
    assert all(len(np.unique(options["groups"])) == len(source) - 1 for options in dealt)


def test_a_sample_has_each_class_in_its_share(data):
    chosen = probing.sample(data.train, 45, seed=0)
    assert len(chosen) == 45
    assert np.bincount(chosen.source.labels).tolist() == [15, 15, 15]
    assert (np.diff([data.train.keys.index(key) for key in chosen.keys]) > 0).all()
    rare = replace(data.train, source=data.train.source.take(np.r_[:60, [0] * 240]))
    counts = np.bincount(rare.source.labels)
    for count in (100, 299):
        share = np.bincount(probing.sample(rare, count, seed=1).source.labels) / counts
        np.testing.assert_allclose(share, count / 300, atol=0.03)
    assert len(probing.sample(data.train, 10_000, seed=0)) == len(data.train)
