"""`keras-tl lr-find` on a tiny backbone, and the page it writes."""

import numpy as np
import pytest
from PIL import Image

from keras_tl import cli
from keras_tl.backbones.load import load_backbone
from keras_tl.config import TrainConfig
from keras_tl.data.arrays import from_arrays
from keras_tl.errors import InputError
from keras_tl.rate_finding import find_rates
from keras_tl.reporting.learning_rates import write_learning_rates
from keras_tl.training.lr_finder import LearningRates


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.weights.h5"
    load_backbone("TinyNet", weights=None).save_weights(path)
    return str(path)


def config(weights, **settings):
    base = {"backbone": "TinyNet", "epochs": 1, "fine_tune": 1, "batch_size": 8, "audit": False}
    return TrainConfig("-", "-", weights=weights, image_size=16, **{**base, **settings})


@pytest.mark.slow
def test_head_and_fine_tuning_are_swept(three_colors, weights):
    found = find_rates(
        config(weights), fine_tuning=True, steps=20, source=from_arrays(*three_colors), verbose=0
    )
    assert [each.phase for each in found] == ["head", "fine-tuning"]
    assert all(1 < len(each.losses) <= 20 for each in found)


def test_a_plan_of_one_phase_has_no_fine_tuning_to_sweep(three_colors, weights):
    source = from_arrays(*three_colors)
    with pytest.raises(InputError, match="behind the head"):
        find_rates(config(weights, fine_tune="none"), fine_tuning=True, source=source)


def test_the_command_prints_a_table_and_writes_a_page(three_colors, weights, tmp_path, capsys):
    for index, (image, label) in enumerate(zip(*three_colors, strict=True)):
        path = tmp_path / "photos" / "abc"[label] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    page = tmp_path / "rates.html"
    options = ["--backbone", "TinyNet", "--weights", weights, "--steps", "20", "--no-audit"]
    data = str(tmp_path / "photos")
    assert cli.main(["lr-find", data, *options, "--out", str(page), "--batch-size", "8"]) == 0
    said = capsys.readouterr().out
    assert "Phase head" in said and "1.00e-06" in said and str(page) in said
    text = page.read_text()
    assert "<svg" in text and "Phase head" in text and "http" not in text.split("<main>")[1]


def test_the_page_says_what_to_try_or_that_there_is_nothing(tmp_path):
    rates = np.geomspace(1e-4, 1.0, 5)
    falls = LearningRates(rates, np.array([5.0, 3.0, 2.0, 1.0, np.inf]), "head")
    rises = LearningRates(rates, np.array([1.0, 2.0, 3.0, 4.0, 5.0]), "fine-tuning")
    goes_on = LearningRates(rates, np.array([5.0, 4.0, 3.0, 2.0, 1.0]), "more")
    assert (rises.suggestion, goes_on.suggestion) == (None, None)
    assert "lowest at the last rate" in str(goes_on) and "try this first" not in str(goes_on)
    text = write_learning_rates(
        [falls, rises, goes_on], "TinyNet on photos", tmp_path / "a.html"
    ).read_text()
    assert f"Try {falls.suggestion:.2g} first" in text
    assert "the curve says nothing" in text and "lowest at the last rate" in text
