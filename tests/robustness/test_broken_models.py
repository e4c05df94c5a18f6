"""Weights, models and encoders that are broken, hostile or of something else."""

import io
import os
import shutil
import sys

import numpy as np
import pytest
from backbones.test_torch_checkpoint import WRITTEN_BY_TORCH, written_by_torch
from robustness.corpus import models
from robustness.corpus.case import EITHER
from robustness.ending import deadline, listing
from tiny_encoder import write_tiny_bert

from keras_tl.backbones import encoders
from keras_tl.backbones.load import load_backbone
from keras_tl.backbones.torch_checkpoint import read_state_dict
from keras_tl.backbones.weight_files import load_weights
from keras_tl.errors import InputError
from keras_tl.runs import Run


@pytest.fixture(scope="module")
def target():
    return load_backbone("TinyNet", weights=None)


@pytest.fixture(scope="module")
def good(target, tmp_path_factory):
    """Good files of each kind, their content."""
    folder = tmp_path_factory.mktemp("good")
    found = {f"{kind}.pth": written_by_torch(kind) for kind in WRITTEN_BY_TORCH}
    target.save_weights(folder / "x.weights.h5")
    target.save(folder / "x.keras")
    target.save(folder / "x.h5")
    return found | {kind: (folder / f"x.{kind}").read_bytes() for kind in models.KINDS[:3]}


def read(case, path, target):
    if case.kind.endswith("pth"):
        return read_state_dict(path)
    return load_weights(target, path)


def check(case, run):
    try:
        with deadline():
            run()
    except InputError as error:
        assert "\n" not in str(error) and len(str(error)) < 2000
    else:
        assert case.ends == EITHER


@pytest.mark.parametrize("case", models.CASES, ids=lambda case: case.id)
def test_a_weights_file_is_read_or_refused_in_one_line(case, good, target, tmp_path):
    path = tmp_path / "inside" / f"x.{case.kind}"
    path.parent.mkdir()
    path.write_bytes(case.damage(good[case.kind]))
    before, weights = listing(tmp_path), target.get_weights()
    check(case, lambda: read(case, path, target))
    assert listing(tmp_path) == before
    if case.ends != EITHER:
        assert all(map(np.array_equal, target.get_weights(), weights))


@pytest.mark.parametrize("kind", models.KINDS)
def test_the_files_themselves_are_good(kind, good, target, tmp_path):
    """The twin: what was damaged is read where it is not."""
    (tmp_path / f"x.{kind}").write_bytes(good[kind])
    check(models.Damaged("", kind, bytes, EITHER), lambda: None)
    assert read(models.Damaged("", kind, bytes), tmp_path / f"x.{kind}", target)


@pytest.mark.parametrize("name", models.CODE)
def test_code_in_a_model_is_not_run(name, good, target, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    content = models.with_code(str(tmp_path / "canary"))[name](good["keras"])
    (folder / Run.MODEL).write_bytes(content)
    with deadline(), pytest.raises(InputError) as error:
        Run(folder).model()
    assert "\n" not in str(error.value) and len(str(error.value)) < 2000
    # Of the weights of such an archive nothing but arrays is read.
    load_weights(target, folder / Run.MODEL)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("kind", ["zip.pth", "legacy.pth"])
def test_pickled_code_is_not_run(kind, good, tmp_path):
    code = models.pickle.dumps(models.Opens(str(tmp_path / "canary")), 2)
    content = models.with_pickle(code)(good[kind]) if kind == "zip.pth" else code
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(InputError, match=r"which a state dict has no use for|does not begin"):
        read_state_dict(tmp_path / "x.pth")
    assert not (tmp_path / "canary").exists()
    # The twin: to unpickle it would run it.
    models.pickle.load(io.BytesIO(code)).close()
    assert (tmp_path / "canary").exists()


RUN_MODELS = [case for case in models.CASES if case.kind == "keras"]


@pytest.mark.parametrize("case", RUN_MODELS, ids=lambda case: case.id)
def test_a_runs_model_is_read_or_refused_in_one_line(case, good, tmp_path):
    (tmp_path / Run.MODEL).write_bytes(case.damage(good["keras"]))
    before = listing(tmp_path)
    check(case, lambda: Run(tmp_path).model())
    assert listing(tmp_path) == before


@pytest.mark.parametrize("name", models.LARGE)
def test_a_runs_model_of_more_weights_than_it_holds_is_one_line(name, tmp_path):
    (tmp_path / Run.MODEL).write_bytes(models.LARGE[name])
    before = listing(tmp_path)
    with deadline(), pytest.raises(InputError) as error:
        Run(tmp_path).model()
    assert "\n" not in str(error.value) and str(tmp_path) in str(error.value)
    assert listing(tmp_path) == before


def test_a_runs_model_of_the_weights_that_it_holds_is_read(tmp_path):
    """The twin: the same layers, of as many units as there are weights."""
    (tmp_path / Run.MODEL).write_bytes(models.SMALL)
    assert Run(tmp_path).model().count_params() == 40


@pytest.mark.parametrize("kind", ["keras", "h5", "weights.h5"])
def test_weights_that_are_no_file_are_one_line(kind, target, tmp_path):
    os.mkfifo(tmp_path / f"pipe.{kind}")
    (tmp_path / f"zeros.{kind}").symlink_to("/dev/zero")
    (tmp_path / f"folder.{kind}").mkdir()
    for path in [*tmp_path.iterdir(), tmp_path / f"nothing.{kind}"]:
        with deadline(), pytest.raises(InputError, match=r"\(not (a file|there)\)"):
            load_weights(target, path)


@pytest.fixture(scope="module")
def tiny_bert(tmp_path_factory):
    return write_tiny_bert(tmp_path_factory.mktemp("encoder") / "tiny")


@pytest.mark.parametrize("case", models.ENCODERS, ids=lambda case: case.id)
def test_an_encoder_is_read_or_refused_in_one_line(case, tiny_bert, tmp_path):
    folder = shutil.copytree(tiny_bert, tmp_path / "encoder")
    path = folder / case.name
    content = path.read_bytes() if path.is_file() else b"{}"
    if case.name == "tokenizer.json":
        (folder / "vocab.txt").unlink()
    path.write_bytes(case.damage(content))
    check(case, lambda: encoders.load_encoder(folder, max_tokens=16))


def test_nothing_of_all_this_imported_torch():
    assert "torch" not in sys.modules
