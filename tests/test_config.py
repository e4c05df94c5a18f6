import os
import re

import numpy as np
import pytest
import yaml

from keras_tl.compare_config import CompareConfig
from keras_tl.config import TrainConfig
from keras_tl.config_files import beside, make_config, read_config
from keras_tl.errors import InputError


def test_a_configuration_comes_back_from_its_file(tmp_path):
    config = TrainConfig(data="fotos é", out="run", fine_tune=3, learning_rate=1e-5, patience=4)
    path = tmp_path / "config.yaml"
    path.write_text(config.to_yaml(), encoding="utf-8")
    assert make_config(read_config(path)) == config
    assert set(yaml.safe_load(path.read_text())["versions"]) >= {"keras_tl", "keras", "tensorflow"}


MAILS = {"text_column": "text"}


@pytest.mark.parametrize(
    ("file", "given", "name", "value"),
    [
        (MAILS, {"backbone": "keras_hub:bert"}, "fine_tune_learning_rate", 5e-5),
        (MAILS, {"backbone": "minilm"}, "fine_tune_learning_rate", 3e-4),
        ({}, {"fine_tune": "lora"}, "fine_tune_learning_rate", 1e-3),
        ({"fine_tune": "lora"}, {"fine_tune": 3}, "fine_tune_learning_rate", 2e-4),
        ({"fine_tune": "lora", "lora_rank": 4}, {"fine_tune": "none"}, "lora_rank", 8),
        ({"plan": "feature-extraction"}, {"plan": "lp-ft"}, "fine_tune", "all"),
        ({"plan": "feature-extraction"}, {"plan": "auto"}, "fine_tune", "auto"),
        ({}, MAILS, "backbone", "MiniLM"),
        ({}, MAILS, "augment", "none"),
        ({"deterministic": True}, {"deterministic": False}, "engine", "auto"),
        # What was chosen stays.
        (MAILS | {"fine_tune_learning_rate": 1e-4}, {"seed": 1}, "fine_tune_learning_rate", 1e-4),
        ({"fine_tune_learning_rate": 1e-4}, {"fine_tune": 3}, "fine_tune_learning_rate", 1e-4),
        ({"engine": "tensorflow"}, {"deterministic": False}, "engine", "tensorflow"),
        # Without it the file's others would be refused.
        ({"fine_tune": "lora", "lora_rank": 4}, {"seed": 1}, "fine_tune", "lora"),
        (MAILS | {"plan": "gradual", "fine_tune": 2, "mixup": 0.2}, {"seed": 1}, "fine_tune", 2),
    ],
)
def test_defaults_of_a_file_follow_what_is_given(tmp_path, file, given, name, value):
    path = tmp_path / "config.yaml"
    path.write_text(make_config({"data": "d", "out": "run", **file}).to_yaml(), encoding="utf-8")
    settings = read_config(path)
    assert make_config(beside(settings, {})) == make_config(settings)
    assert getattr(make_config(beside(settings, given)), name) == value


def test_paths_and_numbers_of_numpy_are_written_as_plain_ones(tmp_path):
    given = {"epochs": np.int64(3), "learning_rate": np.float64(1e-3)}
    config = TrainConfig(tmp_path, tmp_path / "run", **given)
    assert config == TrainConfig(str(tmp_path), str(tmp_path / "run"), epochs=3, learning_rate=1e-3)
    assert yaml.safe_load(config.to_yaml())["epochs"] == 3
    compared = CompareConfig(tmp_path, max_bad_fraction=np.float32(0.5))
    assert (compared.data, type(compared.max_bad_fraction)) == (str(tmp_path), float)


@pytest.mark.parametrize(
    "wrong",
    [
        {"class_weights": True, "class_weight_beta": 0.99},
        {"class_weights": True, "sampling": "balanced"},
        {"class_weight_beta": 0.99, "sampling": "balanced"},
        {"text_column": "text", "resize": "pad"},
    ],
)
def test_settings_that_would_go_unheeded_are_refused(wrong):
    with pytest.raises(InputError, match="settings for"):
        TrainConfig("photos", "run", **wrong)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("backbon: X", "Did you mean backbone"),
        ("schema_version: 99", "schema_version 1"),
        ("a: [1", "does not parse"),
        ("just words", "one `name: value` a line"),
        ("epochs: 1\nseed: 2\nepochs: 2\n", "it has epochs more than once"),
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
        {"out": "r\0un"},
        {"data": os.fsdecode(b"ph\xff")},
    ],
)
def test_wrong_values_are_refused(wrong):
    with pytest.raises(InputError):
        make_config({"data": "photos", "out": "run", **wrong})


@pytest.mark.parametrize("wrong", [{"epochs": "3"}, {"image_size": (64, 64)}, {"dropout": [0.1]}])
def test_numbers_are_numbers(wrong):
    [[name, value]] = wrong.items()
    with pytest.raises(InputError, match=re.escape(f"{name} as one number, received {value!r}")):
        TrainConfig("photos", "run", **wrong)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"lora_rank": 4}, "lora_rank=4 with fine_tune=auto. Take fine_tune=lora, or leave it out"),
        ({"views": 3, "augment": "none"}, "views=3 with augment=none. Leave it out"),
        ({"views": 3, "augment": "dihedral"}, "views=3 with augment=dihedral. Leave it out"),
        (
            {"weights": "none", "backbone": "hub:https://tfhub.dev/a/b/1"},
            "weights='none' with a module of TF-Hub. Leave it out",
        ),
        (
            {"weights": "mine.weights.h5", "text_column": "text"},
            "weights of a text encoder to be one of imagenet, none, received 'mine.weights.h5'",
        ),
    ],
)
def test_what_means_nothing_without_another_setting_is_refused(settings, said):
    with pytest.raises(InputError) as refused:
        TrainConfig("photos", "run", **settings)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"lora_rank": 4, "fine_tune": "lora"},
        {"views": 3},
        {"views": 3, "augment": "none", "cutmix": 0.5},
    ],
)
def test_where_it_means_something_it_is_taken(settings):
    config = TrainConfig("photos", "run", **settings)
    assert {name: getattr(config, name) for name in settings} == settings


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
    from keras_tl.data import augment, image_input
    from keras_tl.feature_cache import DTYPES
    from keras_tl.setting_values import CHOICES
    from keras_tl.training import passes, phases, schedules

    assert CHOICES["resize"] == image_input.RESIZE_MODES
    assert CHOICES["task"] == ("auto", *tasks.TASKS)
    assert set(CHOICES["optimizer"]) == set(phases.OPTIMIZERS)
    assert set(CHOICES["schedule"]) == set(schedules.SCHEDULES)
    assert set(CHOICES["augment"]) == set(augment.PRESETS)
    assert CHOICES["feature_dtype"] == DTYPES
    assert CHOICES["engine"] == passes.ENGINES


def test_names_stay_names_whatever_lies_in_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("imagenet", "MiniLM", "EfficientNetLite0", "encoder", "module"):
        (tmp_path / name).mkdir()
    images = TrainConfig("imagenet", "run").with_absolute_paths()
    assert images.data == str(tmp_path / "imagenet")
    assert (images.weights, images.backbone) == ("imagenet", "EfficientNetLite0")
    texts = TrainConfig("news.csv", "run", text_column="text")
    assert texts.with_absolute_paths().backbone == "MiniLM"


@pytest.mark.parametrize(
    ("backbone", "absolute"),
    [
        ("encoder", "{}/encoder"),
        ("keras_hub:bert", "keras_hub:bert"),
        ("hub:encoder+module", "hub:{0}/encoder+{0}/module"),
        ("hub:https://tfhub.dev/a/1", "hub:https://tfhub.dev/a/1"),
    ],
)
def test_folders_of_encoders_are_found_from_elsewhere(tmp_path, monkeypatch, backbone, absolute):
    monkeypatch.chdir(tmp_path)
    for name in ("encoder", "module"):
        (tmp_path / name).mkdir()
    config = TrainConfig("news.csv", "run", backbone=backbone, text_column="text")
    assert config.with_absolute_paths().backbone == absolute.format(tmp_path)


def test_minilm_has_its_own_rate_however_it_is_written():
    rates = {
        name: TrainConfig("n", "r", backbone=name, text_column="t").fine_tune_learning_rate
        for name in ("MiniLM", "minilm", "keras_hub:bert")
    }
    assert rates == {"MiniLM": 3e-4, "minilm": 3e-4, "keras_hub:bert": 5e-5}


@pytest.mark.parametrize(
    "asked",
    [
        {"label_smoothing": 0.1},
        {"focal_gamma": 2.0},
        {"cutmix": 0.5},
        {"sampling": "balanced"},
        {"class_weights": True},
        {"class_weight_beta": 0.99},
    ],
)
def test_what_is_for_classes_is_refused_for_a_regression(asked):
    with pytest.raises(InputError, match=f"{next(iter(asked))}=.* for classes"):
        TrainConfig("photos", "run", task="regression", **asked)
    TrainConfig("photos", "run", task="regression", mixup=0.2)
    config = TrainConfig("photos", "run", **asked)
    config.check_task("multi-label")
    with pytest.raises(InputError, match="for classes"):
        config.check_task("regression")


@pytest.mark.parametrize("asked", [{"max_tokens": 64}, {"markup": "keep"}, {"encoding": "cp1252"}])
def test_what_is_for_texts_is_refused_for_images(asked):
    """Who forgot to name the column of texts would else train on images of them."""
    with pytest.raises(InputError, match=f"{next(iter(asked))}=.* with images.*--text-column"):
        TrainConfig("photos", "run", **asked)
    TrainConfig("news.csv", "run", text_column="text", **asked)
