"""`keras-tl export` on a small run: every folder is compared before it is kept."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from keras_tl import cli, exporting
from keras_tl.config import TrainConfig
from keras_tl.errors import CheckError, InputError
from keras_tl.job import train
from keras_tl.model_info import ModelInfo
from keras_tl.runs import load_run


@pytest.fixture(scope="module")
def trained(tmp_path_factory, three_colors):
    """A run on 60 images of three colours, in class folders."""
    folder = tmp_path_factory.mktemp("export")
    images, labels = three_colors
    for index, (pixels, label) in enumerate(zip(images, labels, strict=True)):
        place = folder / "photos" / ("red", "green", "blue")[label]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).resize((24, 20)).save(place / f"{index}.png")
    config = TrainConfig(
        str(folder / "photos"),
        str(folder / "run"),
        backbone="TinyNet",
        weights="none",
        augment="none",
        fine_tune="all",
        epochs=8,
        fine_tune_epochs=8,
        learning_rate=0.01,
        fine_tune_learning_rate=0.01,
        val_fraction=0.2,
        test_fraction=0.2,
    )
    return train(config, verbose=0)


@pytest.fixture
def run(trained, tmp_path):
    shutil.copytree(trained.folder, tmp_path / "run")
    return load_run(tmp_path / "run")


@pytest.mark.slow
def test_several_precisions_at_once(run, capsys):
    command = ["export", str(run.folder), "--format", "litert", "--precision", "float32,int8"]
    assert cli.main(command) == 0
    shown = capsys.readouterr()
    for precision in ("float32", "int8"):
        folder = run.folder / f"litert-{precision}"
        assert ModelInfo.read(folder) == run.info
        assert f"python {folder / 'predict.py'}" in shown.out
    facts = json.loads((run.folder / "litert-int8" / "export.json").read_text())
    assert facts["compared"]["images"] == run.metrics["images"]["test"]
    assert facts["compared"]["accuracy"] >= run.metrics["accuracy"] - 0.1
    floats = json.loads((run.folder / "litert-float32" / "export.json").read_text())
    # Four made to show faults, and eight of the run's own.
    assert floats["compared"]["images"] == 12
    for name in ("report.html", "MODEL_CARD.md"):
        assert "litert-int8" in run.path(name).read_text(encoding="utf-8")


REFUSALS = {
    "litert-int8": CheckError("int8 to decide as Keras does", "another", "Take float16."),
    "onnx-float32": InputError("the package onnx", "none", "Install it."),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("names", "code"),
    [(["litert-int8"], 1), (["onnx-float32"], 2), (list(REFUSALS), 1), ([], 0)],
)
def test_one_that_is_refused_does_not_stop_the_others(
    run, capsys, caplog, monkeypatch, names, code
):
    def export_as(format_):
        def export(model, path, info, *, precision, **_):
            if (name := f"{format_}-{precision}") in names:
                raise REFUSALS[name]
            info.write(path)
            return path

        return export

    for format_ in ("litert", "onnx"):
        monkeypatch.setitem(exporting.EXPORTERS, format_, export_as(format_))
    command = ["export", str(run.folder), "--format", "litert,onnx", "--precision", "int8,float32"]
    assert cli.main(command) == code
    shown = capsys.readouterr()
    for name in ("litert-int8", "litert-float32", "onnx-int8", "onnx-float32"):
        assert (run.folder / name).is_dir() == (name not in names)
        assert (f"{name}/predict.py" in shown.out) == (name not in names)
    told = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert told == [f"{name} is not written. {REFUSALS[name]}" for name in names]
    if names:
        assert shown.err.splitlines()[-1] == (
            f"keras-tl: Expected 4 exports, received {4 - len(names)}, without {', '.join(names)}. "
            "Above is told why; those that were written are kept."
        )


@pytest.mark.slow
@pytest.mark.parametrize("name", REFUSALS)
def test_one_alone_that_is_refused_is_one_line(run, capsys, monkeypatch, name):
    def export(*_, **__):
        raise REFUSALS[name]

    format_, precision = name.split("-")
    monkeypatch.setitem(exporting.EXPORTERS, format_, export)
    code = cli.main(["export", str(run.folder), "--format", format_, "--precision", precision])
    assert code == (1 if name == "litert-int8" else 2)
    assert capsys.readouterr().err.splitlines()[-1] == f"keras-tl: {REFUSALS[name]}"


@pytest.mark.slow
def test_every_run_has_a_model_card(trained):
    card = trained.path(trained.MODEL_CARD).read_text(encoding="utf-8")
    assert card.startswith("---\n")
    assert "## Limits" in card


@pytest.mark.slow
def test_out_is_for_one_export(run, tmp_path, capsys):
    command = ["export", str(run.folder), "--out", str(tmp_path / "small")]
    assert cli.main([*command, "--precision", "float32,float16"]) == 2
    assert "one format and precision with --out" in capsys.readouterr().err
    assert cli.main([*command, "--precision", "float16"]) == 0
    assert (tmp_path / "small" / "predict.py").is_file()
    assert cli.main([*command, "--precision", "float16"]) == 0  # over the older one
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.jpg").touch()
    for folder in (tmp_path / "photos", run.folder):
        before = sorted(folder.rglob("*"))
        assert cli.main(["export", str(run.folder), "--out", str(folder)]) == 2
        assert "other things in it" in capsys.readouterr().err.splitlines()[-1]
        assert sorted(folder.rglob("*")) == before
    assert not (run.folder / "litert-float16").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--format", "lightrt"], "Did you mean litert"),
        (["--precision", "int4"], "int8"),
        (["--tolerance", "nan"], "tolerance of at least 0"),
        (["--tolerance", "-1"], "tolerance of at least 0"),
    ],
)
def test_unknown_names_are_refused(run, capsys, options, message):
    assert cli.main(["export", str(run.folder), *options]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error.splitlines()[-1]
    assert len(error.splitlines()) == 1


@pytest.mark.slow
def test_int8_needs_the_images_and_float32_does_not(run, capsys):
    text = run.path(run.CONFIG).read_text(encoding="utf-8")
    lines = ["data: gone" if line.startswith("data:") else line for line in text.splitlines()]
    run.path(run.CONFIG).write_text("\n".join(lines), encoding="utf-8")
    assert cli.main(["export", str(run.folder), "--precision", "int8"]) == 2
    assert "images to calibrate on" in capsys.readouterr().err
    assert cli.main(["export", str(run.folder)]) == 0


@pytest.mark.slow
def test_an_image_that_was_changed_is_not_drawn(run, trained, tmp_path):
    from keras_tl.exporting import _drawn
    from keras_tl.reporting.album import Album
    from keras_tl.reporting.facts import read_facts

    facts = read_facts(run)
    before = _drawn(facts, Album(facts), "train", 300)
    assert len(before) == run.metrics["images"]["train"]
    np.testing.assert_array_equal(
        before.source.labels,
        [run.info.class_names.index(name.split("/")[0]) for name in before.source.ids],
    )
    facts.splits.loc[facts.splits["id"] == before.source.ids[0], "sha256"] = "another"
    after = _drawn(facts, Album(facts), "train", 300)
    assert list(after.source.ids) == list(before.source.ids[1:])
    facts.splits["split"] = facts.splits["split"].replace("val", "test")
    assert len(_drawn(facts, Album(facts), "val", 300)) == 0
