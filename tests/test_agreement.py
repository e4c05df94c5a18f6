"""What must be the same in all processes, and what each of them says where it is not."""

from dataclasses import replace
from functools import partial

import keras
import numpy as np
import pytest
from processes import told_by
from together import together

from keras_tl.agreement import check_data, check_settings, check_weights, refused_together
from keras_tl.config import TrainConfig
from keras_tl.data.source import Source
from keras_tl.errors import InputError

CONFIG = TrainConfig(data="photos", out="run")
SOURCE = Source(
    ids=np.array(["a/1", "a/2", "b/1", "b/\udc80"], object),
    items=[b"1", b"2", b"3", b"4"],
    labels=np.array([0, 0, 1, 1]),
    class_names=("a", "b"),
    splits=np.array(["train", "val", "train", "val"], object),
    hashes=np.array(["k1", "k2", "k3", "k4"], object),
)
# Each process has options and data of its own; the last argument is its number.
TRAIN = """
import shutil
from keras_tl import cli
options, photos = sys.argv[1:3]
own = sys.argv[-1] == "1"
shutil.copytree(photos, "photos")
if own and options == "fewer":
    os.remove("photos/b/1.png")
if own and options == "others":
    shutil.copy("photos/b/2.png", "photos/b/1.png")
command = ["train", "photos", "--out", "run", "--backbone", "TinyNet", "--weights", "none"]
command += ["--epochs", "2" if own and options == "epochs" else "1", "--no-audit"]
sys.exit(cli.main([*command, *sys.argv[3:]]))
"""


def refused(*parts):
    """The one line that all of them are refused with."""
    errors = together(*parts)
    assert all(isinstance(error, InputError) for error in errors), errors
    [line] = {str(error) for error in errors}
    return line


def settings(config, **more):
    return lambda workers: check_settings(workers, config, **more)


def data(**changes):
    return lambda workers: check_data(workers, replace(SOURCE, **changes))


def test_settings_that_differ_are_named():
    other = replace(CONFIG, epochs=3, optimizer="sgd")
    line = refused(settings(CONFIG), settings(CONFIG), settings(other))
    assert line == (
        "Expected the same settings in all processes, received epochs (30 in process 0, 3 in "
        "process 2), optimizer (adamw in process 0, sgd in process 2). Start all with the same "
        "options, but for the number of the process."
    )
    assert "steps (20 in" in refused(settings(CONFIG, steps=20), settings(CONFIG, steps=30))


def test_what_one_alone_knows_ends_all():
    def begins(expected):
        def begin(workers):
            with refused_together(workers):
                if expected:
                    raise InputError(expected, "another", "Mend it.")

        return begin

    assert (
        refused(begins("a folder"), begins("")) == "Expected a folder, received another. Mend it."
    )
    assert refused(begins(""), begins("a disk"), begins("")).startswith("Expected a disk")
    assert together(begins(""), begins("")) == [None, None]


def test_machines_may_have_things_elsewhere(tmp_path):
    paths = [tmp_path / name / "w.weights.h5" for name in "ab"]
    for path in paths:
        path.parent.mkdir()
        path.touch()
    configs = [TrainConfig(data=str(p.parent), out=str(p.parent), weights=str(p)) for p in paths]
    assert together(*map(settings, configs)) == [None, None]
    others = [replace(configs[0], weights=name) for name in ("none", "imagenet")]
    assert "weights (none in" in refused(*map(settings, others))


def test_versions_that_differ_are_named(monkeypatch):
    found = iter(["1", "2"] * 9)
    monkeypatch.setattr("keras_tl.versions.version", lambda _: next(found))
    monkeypatch.setattr("keras_tl.versions.PACKAGES", ("keras",))
    assert "received keras (" in refused(settings(CONFIG), settings(CONFIG))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"ids": np.array(["a/1", "a/2", "b/1", "b/2"], object)},
            "id of item 3 (b/\udc80 in process 0, b/2 in process 1)",
        ),
        (
            {"hashes": np.array(["k1", "k9", "k3", "k4"], object)},
            "content of item 1, a/2 (k2 in process 0, k9 in process 1)",
        ),
        (
            {"labels": np.array([0, 1, 0, 1])},
            "label of item 1, a/2 (0 in process 0, 1 in process 1)",
        ),
        (
            {"splits": np.array(["train", "val", "val", "train"], object)},
            "split of item 2, b/1 (train in process 0, val in process 1)",
        ),
        (
            {"class_names": ("a", "c")},
            "class names (('a', 'b') in process 0, ('a', 'c') in process 1)",
        ),
        ({"task": "regression"}, "task (single-label in process 0, regression in process 1)"),
    ],
)
def test_the_first_item_that_differs_is_named(changes, said):
    assert together(data(), data()) == [None, None]
    assert f"the same data in all processes, received {said}" in refused(data(), data(**changes))


def test_items_that_are_missing_are_counted():
    fewer = SOURCE.take(np.arange(3))
    line = refused(data(), lambda workers: check_data(workers, fewer))
    assert "the same data in all processes, received 4 items in process 0, 3 in process 1" in line


def test_weights_of_another_file_are_refused():
    layers = [keras.layers.Dense(2, name="dense") for _ in range(2)]
    models = [keras.Sequential([keras.Input([3]), layer], name="net") for layer in layers]
    kernel = np.arange(1, 7, dtype=np.float32).reshape(3, 2)
    models[0].set_weights([kernel, np.zeros(2)])
    parts = [partial(check_weights, model=model) for model in models]
    models[1].set_weights([kernel * (1 + 1e-6), np.zeros(2)])
    assert together(*parts) == [None, None]
    models[1].set_weights([kernel * 1.1, np.zeros(2)])
    assert "received another net/dense/kernel in process 1 than in process 0" in refused(*parts)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("epochs", "settings in all processes, received epochs (1 in process 0, 2 in process 1)"),
        ("fewer", "data in all processes, received 60 items in process 0, 59 in process 1"),
        ("others", "data in all processes, received content of item 20, b/1.png. Give"),
    ],
)
def test_all_processes_end_with_the_same_line(options, said, tmp_path, three_colors):
    from PIL import Image

    for index, (pixels, label) in enumerate(zip(*three_colors, strict=True)):
        path = tmp_path / "photos" / "ab"[int(label > 0)] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    ended = told_by(TRAIN, [options, tmp_path / "photos"], tmp_path, 2, code=2)
    [line] = {errors.splitlines()[-1] for _, errors in ended}
    assert said in line
    assert not any("Traceback" in errors for _, errors in ended)


def test_a_setting_may_be_longer_than_any_name():
    columns = ",".join(f"measurement_{i:02d}" for i in range(40))
    config = TrainConfig("t.csv", "run", task="regression", label_column=columns)
    assert config.with_absolute_paths().label_column == columns
    assert together(settings(config), settings(config)) == [None, None]
