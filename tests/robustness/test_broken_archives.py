"""Archives of TF-Hub modules that are damaged, of something else, or lead out of their folder."""

import tempfile
from pathlib import Path

import hub_modules
import pytest
import tensorflow as tf
from robustness.corpus import archives
from robustness.ending import listing
from robustness.test_broken_modules import check, files_of

from keras_tl.backbones.hub import load_hub_backbone


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The files of a good module, by name."""
    folder = tmp_path_factory.mktemp("good") / "module"
    tf.saved_model.save(hub_modules.ImageModule(), str(folder))
    return files_of(folder)


@pytest.fixture(autouse=True)
def scratch(tmp_path, monkeypatch):
    """Where archives are unpacked; nothing stays there."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield
    assert not any(folder.iterdir())


@pytest.mark.parametrize("case", archives.ARCHIVES, ids=lambda case: case.id)
def test_an_archive_is_read_or_refused_in_one_line(case, files, tmp_path, caplog):
    (tmp_path / "inside").mkdir()
    path = tmp_path / "inside" / "module.tar.gz"
    path.write_bytes(case.pack(files))
    before = set(listing(tmp_path))
    check(case, path, caplog)
    assert set(listing(tmp_path)) == before
    assert not Path(archives.ELSEWHERE).exists()


def test_the_module_itself_is_good(files, tmp_path):
    """The twin: what was damaged is read where it is not."""
    (tmp_path / "module.tar.gz").write_bytes(archives.packed(files))
    assert load_hub_backbone(tmp_path / "module.tar.gz").layers
