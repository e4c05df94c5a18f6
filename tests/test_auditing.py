from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from keras_tl import freezing
from keras_tl.auditing import (
    audit,
    audit_with_labels,
    can_be_probed,
    findings_on_labels,
    head_features,
    plain_features,
)
from keras_tl.config import TrainConfig
from keras_tl.data import augment
from keras_tl.data.arrays import from_arrays
from keras_tl.data.audit.judging import look_through
from keras_tl.data.image_input import ImageInput
from keras_tl.data.inspection import inspect
from keras_tl.data.prepare import ImageData, prepare
from keras_tl.feature_cache import FeatureStore
from keras_tl.training.fit import run_phases
from keras_tl.training.phases import Phase

RANDOM_TINY = {"backbone": "TinyNet", "weights": "none", "engine": "tensorflow", "verbose": 0}


def numbered(labels, groups=None):
    """A source whose images do not matter."""
    labels = np.asarray(labels)
    pixels = np.arange(len(labels), dtype=np.int64)
    images = [np.full((4, 4, 3), value % 251, np.uint8) for value in pixels]
    ids = [f"{i:04d}" for i in pixels]
    names = [f"c{i}" for i in range(labels.max() + 1)]
    source = from_arrays(images, labels, class_names=names, groups=groups, ids=ids)
    return replace(source, hashes=source.ids.copy())


def kinds(findings):
    return {finding.kind: finding for finding in findings}


def test_the_features_are_those_of_the_plain_backbone(three_colors):
    import keras

    from keras_tl.builders.image import build_image_model

    images, labels = three_colors
    source = inspect(from_arrays(images, labels), ImageInput(size=16))
    keras.utils.set_random_seed(7)
    data = ImageData(source, ImageInput(size=16), augment.get("none"))
    config = TrainConfig("", "", backbone="TinyNet", weights="none")
    features = plain_features(config, data, engine="tensorflow", verbose=0)
    keras.utils.set_random_seed(7)
    model = build_image_model("TinyNet", outputs=3, weights=None)
    last = model.get_layer("head_predictions").input
    wanted = keras.Model(model.input, last).predict(images.astype(np.float32), verbose=0)
    np.testing.assert_allclose(features, wanted, atol=2e-3 * np.abs(wanted).max())


def test_a_planted_wrong_label_is_found_from_pixels(three_colors):
    images, labels = three_colors
    wrong = labels.copy()
    wrong[[4, 31]] = (wrong[[4, 31]] + 1) % 3
    found = audit(from_arrays(images, wrong, ids=[f"{i}.png" for i in range(60)]), **RANDOM_TINY)
    finding = kinds(found.findings)["wrong-label"]
    assert {("4.png",), ("31.png",)} <= set(finding.sets)
    assert len(finding.sets) <= 4
    assert finding.why[0].startswith("labelled ")
    clean = audit(from_arrays(images, wrong), labels=False, **RANDOM_TINY)
    assert "wrong-label" not in kinds(clean.findings)


HEAD = Phase(freezing.All(), 3, 1e-2, name="head")
BLOCK = Phase(freezing.AllButLast(1), 2, 1e-3, name="fine-tuning")


@pytest.fixture
def data(three_colors):
    """Sixty images in three splits, two of them under a wrong label; several views of each."""
    images, labels = three_colors
    wrong = labels.copy()
    wrong[[4, 31]] = (wrong[[4, 31]] + 1) % 3
    source = from_arrays(images, wrong, ids=[f"{i}.png" for i in range(60)])
    return prepare(source, image_size=16, val_fraction=0.2, test_fraction=0.2)


def test_what_the_head_gets(data, tiny_model, tmp_path):
    import keras

    features, why = head_features(tiny_model, [HEAD, BLOCK], data, FeatureStore(tmp_path))
    assert why == ""
    layer = tiny_model.get_layer("head_predictions")
    part = keras.Model(tiny_model.input, layer.input)
    for split, view in (("train", 0), ("val", None), ("test", None)):
        samples = data.samples(split)
        pixels = samples.images(np.arange(len(samples)), view).batch(len(samples))
        wanted = part.predict(next(pixels.as_numpy_iterator()).astype(np.float32), verbose=0)
        found = features[data.source.splits == split]
        np.testing.assert_allclose(found, wanted, atol=2e-3 * np.abs(wanted).max())


def test_labels_are_judged_by_features_that_training_reads_again(data, tiny_model, tmp_path):
    store = FeatureStore(tmp_path)
    found = audit_with_labels(tiny_model, [HEAD, BLOCK], data, store)
    finding = kinds(found.findings)["wrong-label"]
    assert {("4.png",), ("31.png",)} <= set(finding.sets)
    assert len(finding.sets) <= 4
    result = run_phases(
        tiny_model, [HEAD, BLOCK], data.train, data.val, feature_store=store, verbose=0
    )
    computed = {done.view: done.computed for done in result.phases[0].passes}
    assert computed == {0: 0, 1: len(data.train), 2: len(data.train), None: 0}
    assert [done.computed for done in result.phases[1].passes] == [0, 0, 0]


@pytest.mark.parametrize(
    ("phases", "store", "why"),
    [
        ([HEAD], None, "without a feature store"),
        ([BLOCK], FeatureStore, "the first phase does not keep the whole backbone frozen"),
        ([Phase(freezing.Nothing(), 1, 1e-3)], FeatureStore, "the first phase does not"),
    ],
)
def test_why_labels_are_not_judged(data, tiny_model, tmp_path, caplog, phases, store, why):
    caplog.set_level("INFO", "keras_tl")
    found = audit_with_labels(tiny_model, phases, data, store and store(tmp_path))
    assert found == data.audit
    assert why in caplog.text


def test_neighbours_that_give_each_other_away():
    """Twenty stretches of thirty images; features say the stretch, not the class."""
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1], 300)
    stretch = np.arange(600) // 30
    features = random.normal(0, 3, (20, 40))[stretch] + random.normal(0, 0.5, (600, 40))
    found = kinds(findings_on_labels(features.astype(np.float32), numbered(labels)))
    assert "a probe is right on 100.0% of items whose neighbours" in found["order-leak"].text
    order = random.permutation(600)
    shuffled = findings_on_labels(features[order].astype(np.float32), numbered(labels[order]))
    assert "order-leak" not in kinds(shuffled)
    # With a copy of each elsewhere, none would be new to a probe, wherever it is cut.
    twice = numbered(np.tile(labels, 2))
    twice = replace(twice, hashes=np.tile(twice.hashes[:600], 2))
    found = kinds(findings_on_labels(np.tile(features, (2, 1)).astype(np.float32), twice))
    assert "a probe is right on 100.0% of items whose neighbours" in found["order-leak"].text
    groups = [f"g{i}" for i in stretch]
    told = findings_on_labels(features.astype(np.float32), numbered(labels, groups))
    assert "order-leak" not in kinds(told)


def test_features_that_say_the_class_give_nothing_away():
    random = np.random.default_rng(1)
    labels = np.repeat([0, 1, 2], 100)
    features = random.normal(0, 1, (3, 10))[labels] * 4 + random.normal(0, 1, (300, 10))
    assert findings_on_labels(features.astype(np.float32), numbered(labels)) == []


def test_an_image_that_shows_nothing_is_no_suspect(three_colors):
    images, labels = (part.copy() for part in three_colors)
    images[7] = 90
    ids = [f"{i}" for i in range(60)]
    source = inspect(from_arrays(images, labels, ids=ids), ImageInput(size=16))
    features = np.eye(3, dtype=np.float32)[labels] * 4
    features += np.random.default_rng(0).normal(0, 0.5, features.shape).astype(np.float32)
    features[7] = np.roll(features[7], 1)
    features[8] = np.roll(features[8], 1)
    blind = kinds(findings_on_labels(features, source))["wrong-label"]
    assert {("7",), ("8",)} <= set(blind.sets)
    seen = look_through(source, ImageInput(size=16))
    assert kinds(findings_on_labels(features, source, seen))["wrong-label"].sets == (("8",),)


@pytest.mark.parametrize(
    ("labels", "can"),
    [([0, 1] * 25, True), ([0, 1] * 24, False), ([0] * 50 + [1] * 4, False)],
)
def test_what_can_be_probed(labels, can):
    assert can_be_probed(numbered(labels)) == can


def test_other_tasks_are_audited_without_labels(three_colors):
    images, labels = three_colors
    found = audit(from_arrays(images, labels / 2, task="regression"), **RANDOM_TINY)
    assert "wrong-label" not in kinds(found.findings)
    assert found.classes == {}


@pytest.mark.slow
def test_flipped_labels_of_solar_cells():
    """Cells that are surely defective or surely not; one in twenty is flipped."""
    from keras_tl.recipes.solar_cells import read_cells

    cells = read_cells()
    cells = cells[cells["probability"].isin([0.0, 1.0])]
    truth = (cells["probability"] == 1).to_numpy().astype(np.int64)
    flipped = np.random.default_rng(0).permutation(len(cells))[: len(cells) // 20]
    labels = truth.copy()
    labels[flipped] = 1 - labels[flipped]
    contents = [Path(path).read_bytes() for path in cells["path"]]
    source = inspect(
        from_arrays(contents, labels, class_names=["functional", "defective"]), ImageInput()
    )
    data = ImageData(source, ImageInput(), augment.get("none"))
    features = plain_features(TrainConfig("", ""), data, verbose=0)
    found = kinds(findings_on_labels(features, source))
    suspects = [int(ids[0]) for ids in found["wrong-label"].sets]
    hits = np.isin(suspects, flipped)
    assert hits.sum() > 0.6 * len(flipped)
    assert hits.mean() > 0.45
    assert hits[: len(flipped)].mean() > 0.5
    assert "order-leak" in found
