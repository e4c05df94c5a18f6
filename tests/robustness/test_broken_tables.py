"""CSV files, tables of texts and settings that are broken, as commands are given them."""

import numpy as np
import pytest
from PIL import Image
from robustness.corpus import configs, tables
from robustness.corpus.case import EITHER, READ
from robustness.ending import assert_refused, deadline, listing

from keras_tl.config_files import make_config, read_config
from keras_tl.data.frames import from_csv
from keras_tl.data.open import open_data
from keras_tl.errors import InputError


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data" / "sub").mkdir(parents=True)
    for number, name in enumerate(tables.FILES):
        image = Image.fromarray(np.full((8, 8, 3), 20 * number, np.uint8))
        image.save(tmp_path / "data" / name)
    return tmp_path / "data"


def written(folder, case):
    path = folder / case.name
    path.write_bytes(case.content)
    return path


def check_source(case, open_it):
    """What is read has labelled items; what is not is one line."""
    try:
        with deadline():
            source = open_it()
    except InputError as error:
        assert case.ends != READ, error
        assert case.said in str(error)
        assert "\n" not in str(error) and len(str(error)) < 2000
    else:
        assert case.ends in (READ, EITHER)
        assert len(source) == len(source.labels) > 0
        return source


@pytest.mark.parametrize("case", tables.CASES, ids=lambda case: case.id)
def test_a_table_is_read_or_refused_in_one_line(case, folder):
    path = written(folder, case)
    before = listing(folder.parent)
    source = check_source(case, lambda: from_csv(path))
    if source:
        # Nothing but what lies in the folder, or is named in full.
        assert {str(item).startswith(str(folder)) for item in source.items} == {True}
    assert listing(folder.parent) == before


@pytest.mark.parametrize("case", tables.TEXT_CASES, ids=lambda case: case.id)
def test_a_table_of_texts_is_read_or_refused_in_one_line(case, tmp_path):
    path = written(tmp_path, case)
    check_source(case, lambda: open_data(str(path), text_column="text"))


SAMPLED = [case for case in tables.CASES if case.ends == "refused"][::4]


@pytest.mark.parametrize("case", SAMPLED, ids=lambda case: case.id)
@pytest.mark.parametrize("command", ["audit", "compare", "train", "lr-find"])
def test_commands_refuse_a_table_in_one_line(command, case, folder, capsys):
    path = written(folder, case)
    before = listing(folder.parent)
    out = [] if command in ("audit", "compare") else ["--out", folder.parent / "run"]
    options = ["--no-labels"] if command == "audit" else []
    assert_refused(capsys, command, path, *out, *options, said=case.said)
    assert listing(folder.parent) == before


@pytest.mark.parametrize("case", configs.CASES, ids=lambda case: case.id)
def test_settings_are_refused_in_one_line(case, tmp_path, capsys, monkeypatch):
    canary = tmp_path / "canary"
    path = tmp_path / case.name
    path.write_bytes(case.content.replace(b"{canary}", str(canary).encode()))
    monkeypatch.chdir(tmp_path)
    before = listing(tmp_path)
    assert_refused(capsys, "train", "--config", path)
    assert not canary.exists() and listing(tmp_path) == before


def test_the_settings_themselves_are_good(tmp_path):
    """The twin: what was damaged is read where it is not."""
    (tmp_path / "config.yaml").write_text(configs.GOOD)
    config = make_config(read_config(tmp_path / "config.yaml"))
    assert (config.backbone, config.epochs, config.learning_rate) == ("TinyNet", 2, 0.001)
