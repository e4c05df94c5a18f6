"""The benchmark of many images and classes, at a size that a test can wait for."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def load(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import load

    return load


def test_made_images_are_of_their_class_and_some_are_copies(load):
    classes = 10
    numbers = range(classes, 220)
    copies = [n for n in numbers if n % load.COPY_EVERY == 0]
    assert len(copies) == 4
    contents = {n: load.content(n, classes) for n in numbers}
    equal = [n for n in copies if contents[n] == contents[n - classes]]
    ways = [load.WAYS[n // load.COPY_EVERY % len(load.WAYS)] for n in copies]
    assert sorted(ways) == sorted(load.WAYS)
    assert equal == [n for n, way in zip(copies, ways, strict=True) if way == "equal"]
    assert len(set(contents.values())) == len(contents) - len(equal)
    assert load.content(20, classes) == contents[20]


def test_what_grows_is_named(load):
    def step(images, processor, peak, code=0):
        return load.Step("audit", images, 1.0, processor, peak, code)

    flat = [step(1000, 10, 500e6), step(4000, 20, 502e6), step(16_000, 90, 510e6)]
    assert load.failures(flat, 4.0) == []
    heavy = [*flat[:2], step(16_000, 90, 700e6)]
    assert load.failures(heavy, 4.0) == ["audit: 13.3 KB more memory an image at 16,000"]
    slow = [*flat[:2], step(16_000, 160, 510e6)]
    assert load.failures(slow, 4.0) == ["audit: 2.00 times the processor an image at 16,000"]
    assert load.failures([step(1000, 1, 1, 2)], 4.0) == ["audit of 1,000 ended with 2"]


@pytest.mark.slow
def test_three_hundred_classes_go_through_every_step(tmp_path):
    arguments = ["--work", str(tmp_path), "--classes", "300", "--images", "1500"]
    command = [sys.executable, str(BENCHMARKS / "load.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    run = tmp_path / "300-classes" / "run-1500"
    figures = json.loads((run / "metrics.json").read_text())
    table = pd.read_csv(run / "predictions.csv")
    assert "confusion_matrix" not in figures
    assert len(figures["per_class"]) == 300
    assert (table["true"] == table["predicted"]).mean() == pytest.approx(figures["accuracy"])
    wrong = sum(count for *_, count in figures["confused"])
    assert wrong == (table["true"] != table["predicted"]).sum()
    loss = -np.log(np.clip(table["p_true"], 1e-7, 1)).mean()
    assert loss == pytest.approx(figures["loss"], rel=1e-4)
    assert (run / "report.html").stat().st_size < 500_000
