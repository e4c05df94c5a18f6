import importlib.metadata
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from keras_tl import cli
from keras_tl.errors import InputError

COMMANDS = (
    *("train", "audit", "compare", "evaluate", "predict", "report", "backbones", "cache", "demo"),
    *("threshold", "export", "lr-find", "extract"),
)


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "keras_tl", *arguments], capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in COMMANDS)])
def test_help_needs_no_tensorflow(arguments, capsys, monkeypatch):
    for module in ("tensorflow", "keras"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 0
    assert "keras-tl" in capsys.readouterr().out
    assert "tensorflow" not in sys.modules


def test_importing_and_listing_backbones_leave_tensorflow_alone():
    code = (
        "import sys, keras_tl\n"
        "from keras_tl import cli\n"
        "assert cli.main(['backbones', 'mobile']) == 0\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules), 'imported'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == [
        "name",
        "MobileNet",
        "MobileNetV2",
        "MobileNetV3Large",
        "MobileNetV3Small",
        "NASNetMobile",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian", "photos"], "trian"),
        (["train", "photos", "--out", "run", "--backbon", "X"], "Did you mean --backbone?"),
        (["train", "photos"], "'out'"),
        (["train", "photos", "--out", "run", "--epochs", "many"], "invalid int value"),
        (["train", "photos", "--out", "run", "--fine-tune", "al"], "Did you mean all"),
        (["evaluate", "no-such-run", "photos"], "no-such-run"),
        (["predict", "no-such-run", "photo.jpg"], "no-such-run"),
        (["predict", "no-such-run", "photo.jpg", "--top", "0"], "at least 1"),
        (["backbones", "mobilnet"], "Did you mean MobileNet"),
        (["train", "--config", "no-such.yaml"], "no-such.yaml"),
        (["compare", "photos", "--few-shot", "--shots", "1,few"], "shots of at least 1"),
        (["compare", "photos", "--shots", "3"], "few_shot for shots"),
        (["compare", "photos", "--augment", "heavy"], "augment"),
        (["train", "photos", "--out", "run", "--fine-tune", "²"], "a number of blocks"),
        (["backbones", "minilm"], "For texts: MiniLM"),
        (["compare", "photos", "--backbones", "MobilNetV2"], "Did you mean MobileNetV2"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, message):
    done = run(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" not in done.stderr


def test_the_report_of_one_run_is_in_its_folder(monkeypatch, capsys):
    monkeypatch.setattr("keras_tl.runs.load_run", lambda folder: folder)
    assert cli.main(["report", "run", "--out", "page.html"]) == 2
    assert "several runs for --out" in capsys.readouterr().err


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"keras-tl {importlib.metadata.version('keras_tl')}\n"


def test_every_public_name_is_declared_and_loads():
    import ast
    from pathlib import Path

    import keras_tl

    stub = ast.parse(Path(keras_tl.__file__).with_suffix(".pyi").read_text())
    imports = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    imported = {alias.name for node in imports for alias in node.names}
    listed = ast.literal_eval(stub.body[-1].value)
    assert imported == set(listed) == set(keras_tl.__all__)
    for name in keras_tl.__all__:
        assert getattr(keras_tl, name) is not None
    assert not hasattr(keras_tl, "no_such_name")


def test_audit_says_what_it_finds_and_ends_with_3_where_it_is_strict(tmp_path, capsys):
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for index in range(4):
            pixels = random.integers(0, 256, (32, 32, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{index}.png")
    audit = ["audit", str(tmp_path / "photos"), "--no-labels"]
    assert cli.main([*audit, "--seed", "-1"]) == 2
    assert "seed of at least 0" in capsys.readouterr().err
    assert cli.main([*audit, "--engine", "bogus"]) == 2
    assert "engine to be one of auto, tensorflow, received 'bogus'" in capsys.readouterr().err
    assert cli.main([*audit, "--json", str(tmp_path)]) == 2
    assert "where a file can be written" in capsys.readouterr().err
    assert cli.main([*audit, "--strict"]) == 0
    copy = (tmp_path / "photos" / "a" / "0.png").read_bytes()
    (tmp_path / "photos" / "b" / "copy.png").write_bytes(copy)
    assert cli.main([*audit, "--json", str(tmp_path / "found.json")]) == 0
    assert "a/0.png, b/copy.png" in capsys.readouterr().out
    assert "b/copy.png" in (tmp_path / "found.json").read_text()
    assert cli.main([*audit, "--strict"]) == 3


def test_the_command_behind_a_comparison_reads_the_same_items():
    from keras_tl.cli_options import as_train_options
    from keras_tl.compare_config import CompareConfig

    config = CompareConfig("my cells.csv", group_column="module", path_column="the file")
    assert as_train_options(config) == ["--path-column", "the file", "--group-column", "module"]
    config = CompareConfig("n.csv", text_column="title,text", pair=True, encoding="cp1252")
    words = ["--text-column", "title,text", "--encoding", "cp1252", "--pair"]
    assert as_train_options(config) == words
    words = ["--text-column", "t", "--val-fraction", "0.2", "--max-tokens", "256"]
    words += ["--windows", "2", "--markup", "keep", "--seed", "3", "--no-audit"]
    settings = {"text_column": "t", "max_tokens": 256, "windows": 2, "markup": "keep"}
    settings["val_fraction"] = 0.2
    assert as_train_options(CompareConfig("n.csv", **settings, seed=3, audit=False)) == words
    settings = {"image_size": 96, "weights": "none"}
    words = ["--weights", "none", "--image-size", "96"]
    assert as_train_options(CompareConfig("cells", **settings)) == words


def test_texts_are_read_in_the_encoding_of_the_run_where_none_is_given(monkeypatch):
    from keras_tl import cli_streaming

    seen = []

    class Measuring:
        def texts_of(self, inputs, column, **how):
            seen.append((column, how["encoding"]))
            return inputs

        def predict_texts(self, run, texts):
            return np.ones((1, 1), "float32"), SimpleNamespace(ids=["a"], skipped=())

    monkeypatch.setattr(cli_streaming, "load_quietly", lambda name: Measuring())
    monkeypatch.setattr("keras_tl.evaluation.shown.format_predictions", lambda *_, **__: "")
    settings = {"text_column": "body", "pair": False, "encoding": "cp1252", "has_texts": True}
    run = SimpleNamespace(config=SimpleNamespace(**settings), info=None)
    for given in ({}, {"encoding": "utf-16"}):
        cli_streaming._show(run, SimpleNamespace(inputs=["x"], **given))
    assert seen == [("body", "cp1252"), ("body", "utf-16")]


def test_what_a_file_turns_on_or_off_the_command_line_turns_back(tmp_path, monkeypatch):
    file, found = tmp_path / "run.yaml", []
    file.write_text(
        "data: d.csv\nout: o\ntext_column: a,b\npair: true\naudit: false\nfeature_cache: false\n"
    )

    def train(config, **_):
        found.append(config)
        return SimpleNamespace(is_whole=False)

    monkeypatch.setattr(cli, "load_quietly", lambda _: SimpleNamespace(train=train))
    options = ["--audit", "--strict", "--no-pair", "--no-deterministic"]
    assert cli.main(["train", "--config", str(file), *options]) == 0
    [config] = found
    assert config.audit and config.strict
    assert not (config.pair or config.feature_cache or config.deterministic)


def test_a_table_of_images_is_predicted_into_a_folder(tmp_path):
    from keras_tl import cli_streaming

    table = tmp_path / "new.csv"
    table.write_text("path\na.jpg\n")
    with pytest.raises(InputError, match=r"the table '.*new\.csv'\. Add --out FOLDER"):
        cli_streaming._image_files([str(table)])
