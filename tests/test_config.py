import pytest
import yaml

from keras_tl.compare_config import CompareConfig
from keras_tl.config import TrainConfig
from keras_tl.config_files import make_config, read_config
from keras_tl.errors import InputError


def test_a_configuration_comes_back_from_its_file(tmp_path):
    config = TrainConfig(data="fotos é", out="run", fine_tune=3, learning_rate=1e-5, patience=4)
    path = tmp_path / "config.yaml"
    path.write_text(config.to_yaml(), encoding="utf-8")
    assert make_config(read_config(path)) == config
    assert set(yaml.safe_load(path.read_text())["versions"]) >= {"keras_tl", "keras", "tensorflow"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("backbon: X", "Did you mean backbone"),
        ("schema_version: 99", "schema_version 1"),
        ("a: [1", "does not parse"),
        ("just words", "one `name: value` a line"),
        ("!!python/object/apply:os.system ['true']", "does not parse"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(tmp_path, text, message):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_config(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        read_config(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    "wrong",
    [
        {"precision": "float64"},
        {"fine_tune": "som"},
        {"epochs": -1},
        {"batch_size": 0},
        {"batch_size": "many"},
        {"batch_size": True},
        {"learning_rate": 0},
        {"image_size": "big"},
        {"class_weights": "yes"},
        {"dropout": 1.0},
        {"seed": -1},
        {"views": 1},
        {"val_fraction": 1.5},
        {"label_smoothing": 2},
        {"augment": "heavy"},
        {"engine": "onnx"},
    ],
)
def test_wrong_values_are_refused(wrong):
    with pytest.raises(InputError):
        make_config({"data": "photos", "out": "run", **wrong})


def test_data_and_out_are_needed():
    with pytest.raises(InputError, match="'out'"):
        make_config({"data": "photos"})


def test_a_number_of_blocks_may_be_text():
    assert TrainConfig("photos", "run", fine_tune="4").fine_tune == 4


def test_numbers_that_yaml_takes_for_text_are_numbers():
    config = make_config({"data": "photos", "out": "run", "learning_rate": "1e-3"})
    assert config.learning_rate == 0.001


def test_a_comparison_sees_what_a_run_with_the_same_settings_sees():
    from dataclasses import asdict

    settings = {"image_size": 96, "augment": "strong", "seed": 4, "group_column": "patient"}
    comparison = CompareConfig("photos", **settings)
    expected = asdict(TrainConfig("photos", "", backbone="VGG16", **settings))
    assert asdict(comparison.training("VGG16")) == expected


@pytest.mark.parametrize(
    "wrong",
    [{"folds": 1}, {"images": 0}, {"shots": "0,1"}, {"seeds": "1;2"}, {"resize": "fit"}],
)
def test_wrong_values_of_a_comparison_are_refused(wrong):
    with pytest.raises(InputError):
        CompareConfig("photos", **wrong)


def test_the_choices_are_those_that_there_are():
    from keras_tl import tasks
    from keras_tl.config import CHOICES
    from keras_tl.data import augment, image_input
    from keras_tl.feature_cache import DTYPES
    from keras_tl.training import passes, phases, schedules

    assert CHOICES["resize"] == image_input.RESIZE_MODES
    assert CHOICES["task"] == ("auto", *tasks.TASKS)
    assert set(CHOICES["optimizer"]) == set(phases.OPTIMIZERS)
    assert set(CHOICES["schedule"]) == set(schedules.SCHEDULES)
    assert set(CHOICES["augment"]) == set(augment.PRESETS)
    assert CHOICES["feature_dtype"] == DTYPES
    assert CHOICES["engine"] == passes.ENGINES
