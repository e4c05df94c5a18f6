import json
import subprocess
import sys

import pytest

from keras_tl.data.image_input import ImageInput
from keras_tl.data.text_input import TextInput
from keras_tl.errors import InputError
from keras_tl.model_info import ModelInfo

INFO = ModelInfo(
    ImageInput(size=96, resize="crop"), ("Löwe", "猫"), "single-label", backbone="VGG16"
)


def _changed(**changes):
    return json.dumps({**json.loads(INFO.to_json()), **changes})


def test_written_and_read_back_equal(tmp_path):
    path = INFO.write(tmp_path)
    assert path == tmp_path / "model.json"
    assert ModelInfo.read(tmp_path) == INFO
    assert ModelInfo.read(path) == INFO


def test_found_in_the_extra_assets_of_a_saved_model(tmp_path):
    INFO.write(tmp_path / "assets.extra")
    assert ModelInfo.read(tmp_path) == INFO


def test_file_is_readable_json(tmp_path):
    text = INFO.write(tmp_path).read_text(encoding="utf-8")
    assert "Löwe" in text and "猫" in text
    values = json.loads(text)
    assert next(iter(values)) == "format_version"
    assert values["format_version"] == 5
    assert values["image_input"]["size"] == 96
    assert values["thresholds"] == []


def test_thresholds_are_a_half_each_unless_given():
    assert ModelInfo(ImageInput(), ("a", "b"), "multi-label").thresholds == (0.5, 0.5)
    given = ModelInfo(ImageInput(), ("a", "b"), "multi-label", (0.2, 0.9))
    assert ModelInfo.from_json(given.to_json()).thresholds == (0.2, 0.9)


def test_two_exclusive_classes_may_have_one_threshold():
    given = ModelInfo(ImageInput(), ("a", "b"), "single-label", (0.2,))
    assert ModelInfo.from_json(given.to_json()).thresholds == (0.2,)


@pytest.mark.parametrize(
    ("task", "names", "thresholds"),
    [
        ("single-label", "ab", (0.5, 0.5)),
        ("single-label", "abc", (0.5,)),
        ("multi-label", "ab", (0.5,)),
        ("regression", "ab", (0.5,)),
        ("regression", "a", (0.5,)),
        ("single-label", "ab", (1.5,)),
        ("multi-label", "ab", (0.5, -0.1)),
        ("multi-label", "ab", (0.5, float("nan"))),
    ],
)
def test_thresholds_that_do_not_fit_are_refused(task, names, thresholds):
    with pytest.raises(InputError, match="thresholds"):
        ModelInfo(ImageInput(), tuple(names), task, thresholds)


def test_unknown_task_is_refused():
    with pytest.raises(InputError, match="Did you mean single-label"):
        ModelInfo(ImageInput(), ("a",), "single-labels")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (_changed(clas_names=["a"]), "'clas_names'. Did you mean class_names"),
        (_changed(format_version=6), "format_version 6.*newer keras_tl"),
        (_changed(format_version="1"), "format_version of 1 or more"),
        (_changed(image_input={"size": 96}), "none named resize"),
        (_changed(image_input={"siez": 96}), "'siez'. Did you mean size"),
        (_changed(image_input=96), "JSON object as image_input"),
        ('{"format_version": 1}', "none named image_input"),
        ("[1]", "a list"),
        ('{"format_version": ', "a text that is none"),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path, text, message):
    (tmp_path / "model.json").write_text(text)
    with pytest.raises(InputError, match=message):
        ModelInfo.read(tmp_path)


def test_a_description_of_before_reads_the_beginning_all_markup_and_no_words():
    info = ModelInfo(None, ("a", "b"), "single-label", text_input=TextInput(64, 2))
    values = json.loads(info.to_json())
    assert values["text_input"].pop("bag_of_words") == 0
    with pytest.raises(InputError, match="none named bag_of_words"):
        ModelInfo.from_json(json.dumps(values))
    values["format_version"] = 4
    assert ModelInfo.from_json(json.dumps(values)) == info
    assert values["text_input"].pop("markup") == "keep"
    with pytest.raises(InputError, match="none named markup"):
        ModelInfo.from_json(json.dumps(values))
    values["format_version"] = 3
    assert ModelInfo.from_json(json.dumps(values)) == info
    assert values["text_input"].pop("truncate") == "head"
    with pytest.raises(InputError, match="none named truncate"):
        ModelInfo.from_json(json.dumps(values))
    values["format_version"] = 2
    assert ModelInfo.from_json(json.dumps(values)) == info


def test_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"a folder with a model\.json"):
        ModelInfo.read(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        ModelInfo.read(tmp_path / "nowhere")


def test_importing_it_does_not_import_tensorflow():
    code = "import keras_tl.model_info, sys; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
