"""The page, the card and the tables of a run with thousands of classes."""

import json
import time
import tracemalloc

import numpy as np
import pytest
from run_folders import make_run
from test_page import report

from keras_tl.reporting.comparison import write_comparison
from keras_tl.reporting.facts import label_counts, label_matrix, read_facts

CLASSES = 2000


def names(count):
    return tuple(f"class {i}" for i in range(count))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """2,000 classes with two images in train, one in val and one in test each."""
    folder = tmp_path_factory.mktemp("many")
    return make_run(folder, names=names(CLASSES), count=4 * CLASSES, images=False)


@pytest.mark.slow
def test_all_of_the_run_stays_small(made):
    tracemalloc.start()
    page = report(made.run)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # A matrix of the outputs as float64 alone has 32 MB.
    assert peak < 100e6
    size = {path.name: path.stat().st_size for path in made.run.folder.iterdir()}
    assert size["report.html"] < 200_000
    assert size["MODEL_CARD.md"] < 20_000
    assert size["metrics.json"] < 250 * CLASSES
    assert size["predictions.csv"] < 700 * CLASSES
    assert page.tags.count("tr") < 200


def test_it_says_what_is_left_out(made):
    text = report(made.run).text
    assert "most confused pairs of 2,000 classes; all" in text
    assert "The 30 classes of 2,000 with the lowest F1" in text
    assert "The 30 classes of 2,000 with the fewest images." in text
    said = "left out: with more than 200 classes (here 2,000) predictions.csv holds the 10 most"
    assert f"Curves are {said}" in text
    assert f"Temperatures are {said}" in text
    card = made.run.path("MODEL_CARD.md").read_text()
    assert "report.html shows the bins." in card


def test_the_outcome_is_the_run_s(made):
    outcome = read_facts(made.run).outcome
    test = made.source.split("test")
    predicted = made.outputs.argmax(axis=1)
    rows = np.arange(len(test))
    assert outcome.is_sparse
    assert outcome.true_class.tolist() == test.labels.tolist()
    assert outcome.chosen_class.tolist() == predicted.tolist()
    assert outcome.right.tolist() == (predicted == test.labels).tolist()
    np.testing.assert_allclose(outcome.confidence, made.outputs.max(axis=1), rtol=1e-6)
    best = np.sort(made.outputs, axis=1)
    np.testing.assert_allclose(outcome.margin, best[:, -1] - best[:, -2], rtol=1e-4, atol=1e-9)
    of_true = np.asarray(outcome.outputs[rows, test.labels]).ravel()
    np.testing.assert_allclose(of_true, made.outputs[rows, test.labels], rtol=1e-6)


def test_intervals_are_those_of_whole_arrays(made, monkeypatch):
    from keras_tl.evaluation import bootstrap

    outcome = read_facts(made.run).outcome
    part = np.arange(0, 1500)
    present, chosen = outcome.present[part], outcome.chosen[part]
    found = bootstrap.classification_intervals(present, chosen, count=50)
    monkeypatch.setattr(bootstrap, "CLASSES", CLASSES)
    wanted = bootstrap.classification_intervals(present.toarray(), chosen.toarray(), count=50)
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name].low, values.low, rtol=1e-12)
        np.testing.assert_allclose(found[name].high, values.high, rtol=1e-12)


def test_labels_are_counted_as_in_a_matrix(made, tmp_path):
    few = make_run(tmp_path, names=("a", "b", "c"), images=False, task="multi-label")
    for run in (made, few):
        facts = read_facts(run.run)
        labels = facts.splits["label"][:400]
        wanted = label_matrix(labels, facts.info).sum(axis=0)
        assert label_counts(labels, facts.info).tolist() == wanted.tolist()


def test_two_of_them_are_compared(made, tmp_path):
    other = make_run(tmp_path, names=names(CLASSES), count=4 * CLASSES, seed=1, images=False)
    page = write_comparison([made.run, other.run], tmp_path / "both.html").read_text()
    assert "Paired differences" in page
    assert "2,000" in page
    assert len(page) < 200_000


def test_the_figures_have_pairs_and_no_matrix(made):
    figures = json.loads(made.run.path(made.run.METRICS).read_text())
    assert "confusion_matrix" not in figures
    assert 0 < len(figures["confused"]) <= CLASSES


@pytest.mark.slow
def test_ten_thousand_classes_take_a_minute_or_two(tmp_path):
    made = make_run(tmp_path, names=names(10_000), count=40_000, images=False)
    started = time.process_time()
    report(made.run)
    assert time.process_time() - started < 180
    assert len(made.run.path("report.html").read_bytes()) < 250_000
