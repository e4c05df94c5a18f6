from dataclasses import replace

import numpy as np
import pytest

from keras_tl.evaluation import held_out
from keras_tl.evaluation.held_out import HeldOut
from keras_tl.evaluation.probes import linear_probe


@pytest.fixture(autouse=True)
def nothing_remembered(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_TL_CACHE", str(tmp_path))


@pytest.fixture(params=["single-label", "multi-label", "regression"])
def given(request) -> HeldOut:
    return items(request.param)


def items(task: str) -> HeldOut:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, 4)).astype(np.float32)
    labels = (features[:, :2] + rng.normal(size=(60, 2)) > 0).astype(np.float32)
    if task == "single-label":
        labels = labels[:, 0].astype(np.int64)
    trusted = np.arange(60) % 7 > 0
    return HeldOut(features, labels, task, np.arange(60) % 3, trusted, (0.1, 1.0))


@pytest.fixture
def fits(monkeypatch) -> list[str]:
    """The fits that are made."""
    made = []
    for name in ("fit_logistic", "fit_ridge"):
        fit = getattr(held_out, name)

        def noted(*args, name=name, fit=fit):
            made.append(name)
            return fit(*args)

        monkeypatch.setattr(held_out, name, noted)
    return made


def test_what_was_predicted_is_not_fitted_again(given, fits):
    outputs, penalties = given.predict()
    for _ in range(2):
        again, chosen = given.recall_or_predict()
        np.testing.assert_array_equal(again, outputs)
        assert again.dtype == np.float32 and again.flags.writeable
        assert chosen == penalties
    assert len(fits) == 3 + 3


@pytest.mark.parametrize("name", ["features", "labels", "fold_of", "trusted", "penalties"])
def test_what_decides_the_predictions_is_known_by(given, fits, name):
    given.recall_or_predict()
    value = getattr(given, name)
    if name == "penalties":
        other = (0.1, 2.0)
    else:
        other = value.copy()
        other[5] = other[6] if name == "fold_of" else 1 - other[5]
        assert (other != value).any()
    changed = replace(given, **{name: other})
    again, chosen = changed.recall_or_predict()
    assert len(fits) == 6
    outputs, penalties = changed.predict()
    np.testing.assert_array_equal(again, outputs)
    assert chosen == penalties


def test_another_task_on_the_same_labels_is_another(fits):
    given = items("multi-label")
    given.recall_or_predict()
    replace(given, task="regression").recall_or_predict()
    assert len(fits) == 6


def test_many_predictions_are_not_remembered(given, fits, tmp_path, monkeypatch):
    monkeypatch.setattr(held_out, "MOST_PREDICTIONS", 60)
    given.recall_or_predict()
    given.recall_or_predict()
    assert len(fits) == 6 and not list(tmp_path.iterdir())


def test_a_probe_remembers_where_it_is_asked_to(given, fits):
    probes = [
        linear_probe(given.features, given.labels, task=given.task, folds=3, remember=remember)
        for remember in (False, False, True, True)
    ]
    assert len(fits) == 9
    for probe in probes[1:]:
        np.testing.assert_array_equal(probe.outputs, probes[0].outputs)
        np.testing.assert_array_equal(probe.resampled, probes[0].resampled)
        assert (probe.score, probe.figures) == (probes[0].score, probes[0].figures)


def test_groups_decide_too_but_not_their_names(given, fits):
    given.recall_or_predict()
    groups = np.array(["a", "b", "c", "d", "e", "f"], dtype=object)[np.arange(60) % 6]
    grouped = replace(given, groups=groups)
    grouped.recall_or_predict()
    assert len(fits) == 6
    renamed = np.array([f"{name}{name}" for name in groups], dtype=object)
    replace(given, groups=renamed).recall_or_predict()
    assert len(fits) == 6
    replace(given, groups=np.roll(groups, 1) + np.array(["", "x"] * 30, dtype=object)).predict()
    assert len(fits) == 9
