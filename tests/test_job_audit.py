"""The audit inside the main job, as the Python API and the command line run it."""

import json

import pandas as pd
import pytest
from data.audit.audit_pictures import COPIES, encoded, photograph

from keras_tl import cli, job
from keras_tl.compare_config import CompareConfig
from keras_tl.config import TrainConfig
from keras_tl.data.audit.findings import read_audit
from keras_tl.job import train
from keras_tl.preparing import prepare_data

SETTINGS = {"backbone": "TinyNet", "weights": "none", "image_size": 16, "batch_size": 8}
SETTINGS |= {"epochs": 1, "fine_tune_epochs": 0}
OPTIONS = [
    word for name, value in SETTINGS.items() for word in (f"--{name.replace('_', '-')}", str(value))
]
PHOTOGRAPHS = 24


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Photographs in two classes, a darker copy of each in the same class, and a broken file."""
    folder = tmp_path_factory.mktemp("photos")
    for i in range(PHOTOGRAPHS):
        of_class = folder / ("cat", "dog")[i % 2]
        of_class.mkdir(exist_ok=True)
        (of_class / f"{i}.jpg").write_bytes(encoded(photograph(i), quality=92))
        (of_class / f"copy of {i}.jpg").write_bytes(COPIES["darker"](photograph(i)))
    (folder / "cat" / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    return folder


@pytest.fixture(scope="module")
def leaking(photos, tmp_path_factory):
    """A list of them in which every copy is in the test split."""
    rows = [
        {"path": path, "label": path.parent.name, "split": "test" if "copy" in path.name else ""}
        for path in sorted(photos.rglob("*.jpg"))
        if path.name != "broken.jpg"
    ]
    table = tmp_path_factory.mktemp("tables") / "leaking.csv"
    frame = pd.DataFrame(rows)
    frame.loc[frame["split"] == "", "split"] = "train"
    frame.to_csv(table, index=False)
    return table


def split_of(run):
    table = pd.read_csv(run.path(run.SPLITS))
    return dict(zip(table["id"], table["split"], strict=True))


@pytest.mark.slow
def test_near_duplicates_are_on_one_side_and_the_report_says_what_was_seen(
    photos, tmp_path, monkeypatch
):
    monkeypatch.setattr(job, "export_saved_model", lambda *_, **__: None)
    run = train(TrainConfig(str(photos), str(tmp_path / "run"), **SETTINGS), verbose=0)
    splits = split_of(run)
    for name, split in splits.items():
        assert splits[name.replace("copy of ", "")] == split
    assert set(splits.values()) == {"train", "val", "test"}
    found = {finding.kind: finding for finding in read_audit(run.path(run.AUDIT)).findings}
    assert len(found["near-duplicates"].sets) == PHOTOGRAPHS
    assert found["unreadable"].sets == (("cat/broken.jpg",),)
    page = run.path(run.REPORT).read_text(encoding="utf-8")
    assert "Audit of the images" in page and f"{PHOTOGRAPHS} pairs of images" in page
    assert run.metrics["seconds"]["audit"] > 0


@pytest.mark.slow
def test_the_twin_without_an_audit_divides_them(photos, tmp_path):
    out = tmp_path / "run"
    assert cli.main(["train", str(photos), "--out", str(out), "--no-audit", *OPTIONS]) == 0
    table = pd.read_csv(out / "splits.csv")
    splits = dict(zip(table["id"], table["split"], strict=True))
    assert any(splits[name.replace("copy of ", "")] != split for name, split in splits.items())
    assert not (out / "audit.json").exists()
    assert "audit" not in json.loads((out / "metrics.json").read_text())["seconds"]


def test_a_comparison_divides_as_training_does(photos):
    compared = prepare_data(CompareConfig(str(photos)).training(""), image_size=16)
    trained = prepare_data(TrainConfig(str(photos), "run"), image_size=32)
    assert compared.source.splits.tolist() == trained.source.splits.tolist()
    plain = prepare_data(CompareConfig(str(photos), audit=False).training(""), image_size=16)
    assert plain.source.splits.tolist() != trained.source.splits.tolist()


def test_strict_stops_before_training_and_writes_nothing(leaking, tmp_path, capsys):
    out = tmp_path / "run"
    assert cli.main(["train", str(leaking), "--out", str(out), "--strict", *OPTIONS]) == 3
    error = capsys.readouterr().err
    assert "24 pairs of near-duplicates lie in two splits" in error
    assert len(error.strip().splitlines()) == 1 and "Traceback" not in error
    assert not out.exists()


def test_one_file_that_cannot_be_read_stops_a_strict_run_by_name(photos, tmp_path, capsys):
    """Also where --max-bad-fraction would let it pass; audit ends with 3 after all was told."""
    out, found = tmp_path / "run", tmp_path / "found.json"
    options = [*OPTIONS, "--max-bad-fraction", "0.5"]
    assert cli.main(["train", str(photos), "--out", str(out), "--strict", *options]) == 3
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("keras-tl: Expected data without serious findings")
    assert "1 file cannot be read as an image, cat/broken.jpg (JPEG that is truncated" in error
    assert not out.exists()
    command = ["audit", str(photos), "--strict", "--no-labels", "--json", str(found)]
    assert cli.main(command) == 3
    assert "cat/broken.jpg  (JPEG that is truncated" in capsys.readouterr().out
    [finding] = [f for f in read_audit(found).serious]
    assert (finding.kind, finding.sets) == ("unreadable", (("cat/broken.jpg",),))


@pytest.mark.slow
def test_given_splits_are_trained_on_as_they_are(leaking, tmp_path):
    run = train(TrainConfig(str(leaking), str(tmp_path / "run"), **SETTINGS), verbose=0)
    table = pd.read_csv(leaking)
    tested = {name for name, split in split_of(run).items() if split == "test"}
    assert len(tested) == (table["split"] == "test").sum()
    found = {finding.kind: finding for finding in read_audit(run.path(run.AUDIT)).findings}
    assert found["near-leak"].severity == "serious"
