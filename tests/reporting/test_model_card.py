import json
import re
from dataclasses import replace

import pandas as pd
import pytest
import yaml
from run_folders import make_run

from keras_tl.config import TrainConfig
from keras_tl.data.audit.findings import Audit, Finding
from keras_tl.errors import InputError
from keras_tl.reporting.facts import read_facts
from keras_tl.reporting.model_card import _weights, model_card, write_model_card

NAMES = ("cat", "dog", "a|b <i>")
TITLES = ("Intended use", "Result", "The data", "Training", "Limits", "Licence", "Using the model")


def card_of(run):
    return model_card(read_facts(run))


def header_of(card):
    return yaml.safe_load(card.split("---\n")[1])


def tables_of(card):
    """Rows of each table, split where a bar is not escaped."""
    found = re.findall(r"(?:^\|.*\|\n)+", card, re.M)
    return [[re.split(r"(?<!\\)\|", line)[1:-1] for line in t.splitlines()] for t in found]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("run"), names=NAMES)


def test_the_card_has_every_part(made):
    card = write_model_card(read_facts(made.run)).read_text(encoding="utf-8")
    titles = re.findall(r"^## (.*)$", card, re.M)
    assert set(TITLES) | {"Each class", "Calibration", "What was frozen"} == set(titles)
    assert "To be filled in by the maker" in card


def test_every_row_of_every_table_has_the_columns_of_its_head(made):
    tables = tables_of(card_of(made.run))
    assert len(tables) >= 5
    for table in tables:
        assert {len(line) for line in table} == {len(table[0])}


def test_names_are_shown_as_they_are(made):
    card = card_of(made.run)
    assert r"a\|b \<i\>" in card
    assert "<i>" not in re.sub(r"`{3,}.*?`{3,}", "", card, flags=re.S).replace(r"\<i\>", "")


def test_the_header_has_the_figures(made):
    header = header_of(card_of(made.run))
    assert header["library_name"] == "keras"
    assert header["pipeline_tag"] == "image-classification"
    (entry,) = header["model-index"][0]["results"]
    figures = {metric["type"]: metric["value"] for metric in entry["metrics"]}
    metrics = made.run.metrics
    assert figures == {
        "accuracy": round(metrics["accuracy"], 4),
        "f1": round(metrics["macro_f1"], 4),
    }


def test_no_path_of_the_machine_is_in_it(made):
    card = card_of(made.run)
    assert str(made.run.folder.parent) not in card
    assert header_of(card)["model-index"][0]["results"][0]["dataset"]["name"] == "list.csv"


def test_the_classes_are_counted(made):
    splits = pd.read_csv(made.run.path(made.run.SPLITS))
    counts = splits[splits["label"] == "cat"]["split"].value_counts()
    rows = [line for table in tables_of(card_of(made.run)) for line in table]
    (row,) = [line for line in rows if line[0].strip() == "cat" and line[-1].strip().endswith("%")]
    shown = [int(cell) for cell in row[1:4]]
    assert shown == [counts[name] for name in ("train", "val", "test")]


@pytest.mark.parametrize("thresholds", [(), (0.2,)])
def test_the_calibration_error_is_the_one_worked_out_by_hand(tmp_path, thresholds):
    made = make_run(tmp_path, names=("cat", "dog"), noise=2.0)
    replace(made.info, thresholds=thresholds).write(made.run.folder)
    outputs = made.outputs.astype(float)
    confidence, right = (
        outputs.max(axis=1),
        outputs.argmax(axis=1) == made.source.split("test").labels,
    )
    error = 0.0
    for k in range(15):
        inside = (confidence * 15).astype(int).clip(0, 14) == k
        if inside.any():
            error += abs(confidence[inside].mean() - right[inside].mean()) * inside.mean()
    assert f"calibration error: {100 * error:.1f}" in card_of(made.run).replace("\u00a0", " ")


def test_weak_classes_and_small_numbers_are_limits(tmp_path):
    made = make_run(tmp_path, names=NAMES, noise=4.0)
    card = card_of(made.run)
    assert "measured on 30 images only" in card
    assert re.search(r"Fewer than 50 training images: cat \(\d+\)", card)
    missed = [name for name, row in made.run.metrics["per_class"].items() if row["recall"] < 0.7]
    assert missed and "Often missed: " in card
    assert "No groups were given" in card


def test_a_run_without_a_test_split_says_so(tmp_path):
    made = make_run(tmp_path, names=NAMES)
    path = made.run.path(made.run.METRICS)
    note = "the val split, which also chose the weights: expect less on new images"
    facts = {**made.run.metrics, "measured_on": "val", "note": note}
    path.write_text(json.dumps(facts), encoding="utf-8")
    assert f"It was measured on {note}." in card_of(made.run)


def test_the_audit_is_told(tmp_path):
    made = make_run(tmp_path, names=NAMES)
    assert "were not audited" in card_of(made.run)
    leak = Finding("leak", "serious", "Equal images in two splits.", (("a", "b"),) * 3, ("",) * 3)
    note = Finding("size", "note", "Of many sizes.")
    Audit({"train": 9}, {"cat": 9}, (leak, note)).write(made.run.path(made.run.AUDIT))
    rows = [line for table in tables_of(card_of(made.run)) for line in table]
    assert ["serious", "Equal images in two splits.", "3"] in [
        [cell.strip() for cell in line] for line in rows
    ]
    assert "Of many sizes" not in card_of(made.run)


@pytest.mark.parametrize(
    ("weights", "backbone", "told"),
    [
        ("imagenet", "MobileNetV2", "ImageNet weights are under Apache-2.0"),
        ("imagenet", "VGG16", "ImageNet weights are under CC-BY-4.0"),
        ("none", "MobileNetV2", "began with random weights"),
        ("mine.h5", "MobileNetV2", "is not known to keras_tl"),
    ],
)
def test_the_licence_is_the_weights(tmp_path, weights, backbone, told):
    made = make_run(tmp_path, names=NAMES)
    run = made.run
    for name, old, new in (
        (run.CONFIG, "weights: none", f"weights: {weights}"),
        ("model.json", '"TinyNet"', f'"{backbone}"'),
    ):
        text = run.path(name).read_text(encoding="utf-8")
        assert old in text
        run.path(name).write_text(text.replace(old, new), encoding="utf-8")
    card = card_of(run)
    assert told in card
    # The header's is that of the model, which nobody has given it.
    assert header_of(card)["license"] == "unknown"


@pytest.mark.parametrize("task", ["multi-label", "regression"])
def test_other_tasks(tmp_path, task):
    names = ("age",) if task == "regression" else NAMES
    card = card_of(make_run(tmp_path, task=task, names=names).run)
    header = header_of(card)
    assert ("pipeline_tag" in header) == (task == "multi-label")
    assert ("Calibration" in card) == (task == "multi-label")
    assert ("## Each target" in card) == (task == "regression")


def test_a_run_that_lacks_everything_has_a_card(tmp_path):
    made = make_run(tmp_path, names=NAMES)
    run = made.run
    kept = {"config.yaml"}
    for path in run.folder.iterdir():
        if path.name not in kept:
            path.unlink()
    card = card_of(run)
    assert "did not come to its end" in card
    assert "measured on 0" not in card and "saved_model" not in card


def test_exports_are_listed_and_those_with_older_thresholds_named(tmp_path):
    made = make_run(tmp_path, names=("cat", "dog"))
    assert "keras-tl export" in card_of(made.run)
    facts = {
        "format": "litert",
        "precision": "float32",
        "bytes": 13_500_000,
        "milliseconds": {"one_thread": 8.25, "all_cores": 4.5, "cores": 2},
        "compared": {"images": 12, "largest_difference": 2e-6, "allowed": 1e-3},
    }
    folder = made.run.folder / "litert-float32"
    folder.mkdir()
    (folder / "export.json").write_text(json.dumps(facts), encoding="utf-8")
    made.info.write(folder)
    card = card_of(made.run)
    rows = [[cell.strip() for cell in line] for table in tables_of(card) for line in table]
    assert [
        "litert-float32",
        r"outputs within 2.0e-06 of Keras' on 12 images",
        "13.5 MB",
        "8.2 ms",
        "4.5 ms",
    ] in rows
    assert "to be exported again" not in card
    replace(made.info, thresholds=(0.3,)).write(made.run.folder)
    assert "to be exported again: litert-float32" in card_of(made.run)


def test_what_an_export_left_half_written_is_none(tmp_path):
    made = make_run(tmp_path, names=("cat", "dog"))
    folder = made.run.folder / ".0123-litert-float32"
    folder.mkdir()
    (folder / "export.json").write_text("{}", encoding="utf-8")
    assert ".0123" not in card_of(made.run)
    folder.rename(made.run.folder / "litert-float32")
    with pytest.raises(InputError, match=r"export\.json as it was written"):
        card_of(made.run)


def test_the_highest_rate_is_the_phases_own(tmp_path):
    """The history has the rates at the ends of epochs."""
    made = make_run(tmp_path)
    assert "| 5 epochs |" in card_of(made.run)
    metrics = made.run.metrics
    metrics["phases"][0]["learning_rate"] = 0.0123
    made.run.path(made.run.METRICS).write_text(json.dumps(metrics), encoding="utf-8")
    assert "5 epochs, highest rate 0.0123" in card_of(made.run)


def test_the_weights_of_a_hub_module_are_its_own():
    config = TrainConfig("d", "o", "hub:https://tfhub.dev/google/a/1", image_size=224)
    assert _weights(config, "image") == "those the module was published with"
