"""Finished runs that were damaged, as `predict`, `evaluate`, `report` and `export` find them."""

import os
import shutil

import keras
import pytest
from reporting.run_folders import make_run
from robustness.corpus import runs
from robustness.corpus.case import EITHER
from robustness.ending import assert_refused, ended, listing

from keras_tl.builders.image import build_image_model
from keras_tl.runs import Run

NAMES = ("a", "b", "c")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run of a model of random weights, on 30 images."""
    made = make_run(tmp_path_factory.mktemp("made"), names=NAMES, count=30)
    keras.utils.set_random_seed(0)
    build_image_model("TinyNet", outputs=3, weights=None).save(made.run.path(Run.MODEL))
    return made


def arguments(command, made, folder):
    images = os.path.dirname(made.source.items[0])
    return {
        "predict": ("predict", folder, made.source.items[0]),
        "evaluate": ("evaluate", folder, os.path.join(images, "list.csv")),
        "report": ("report", folder),
        "export": ("export", folder, "--format", "litert", "--out", folder / "exported"),
    }[command]


def cases():
    """Refused at once is fast; what ends as it may, writes a page or converts a model, is not."""
    for case in runs.CASES:
        fast = case.ends != EITHER and (case.command == "predict" or case.name.endswith("json"))
        yield pytest.param(case, id=case.id, marks=() if fast else pytest.mark.slow)


@pytest.mark.parametrize("case", list(cases()))
def test_a_damaged_run_is_refused_in_one_line(case, made, tmp_path, capsys):
    folder = shutil.copytree(made.run.folder, tmp_path / "run")
    path = folder / case.name
    # A run without a val split has nothing to damage there.
    ends = case.ends if path.exists() else EITHER
    content = case.damage(path.read_bytes()) if path.exists() else None
    path.unlink(missing_ok=True)
    if content is not None:
        path.write_bytes(content)
    before = listing(tmp_path)
    if ends == EITHER:
        code, said = ended(capsys, *arguments(case.command, made, folder))
        assert code in (0, 1, 2), said
    else:
        assert_refused(capsys, *arguments(case.command, made, folder))
        assert listing(tmp_path) == before
    assert {path.name for path in tmp_path.iterdir()} == {"run"}


@pytest.mark.parametrize("command", ["predict", "evaluate", "report"])
def test_the_run_itself_is_good(command, made, tmp_path, capsys):
    """The twin: what was damaged is read where it is not."""
    folder = shutil.copytree(made.run.folder, tmp_path / "run")
    code, said = ended(capsys, *arguments(command, made, folder))
    assert code == 0, said
