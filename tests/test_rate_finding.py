"""`keras-tl lr-find` on a tiny backbone, and the page it writes."""

import numpy as np
import pytest
from PIL import Image
from processes import told_by

from keras_tl import cli
from keras_tl.backbones.load import load_backbone
from keras_tl.config import TrainConfig
from keras_tl.data.arrays import from_arrays
from keras_tl.errors import InputError
from keras_tl.rate_finding import find_rates
from keras_tl.reporting.learning_rates import write_learning_rates
from keras_tl.training.lr_finder import LearningRates

# The command as it is; each process notes what it found.
NOTING = """
import numpy as np
from keras_tl import cli, rate_finding
find = rate_finding.find_rates

def noted(*arguments, **options):
    found = find(*arguments, **options)
    np.savez("found.npz", *[each.losses for each in found])
    return found

rate_finding.find_rates = noted
sys.exit(cli.main(["lr-find", *sys.argv[1:]]))
"""


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


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.hour
def test_two_processes_find_what_one_does(weights, tmp_path):
    random = np.random.default_rng(0)
    for index in range(75):
        path = tmp_path / "photos" / "abc"[index % 3] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = random.normal(110, 60, (16, 16, 3))
        pixels[..., index % 3] += 10
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path)
    command = [tmp_path / "photos", "--backbone", "StillNet", "--weights", weights, "--epochs", "2"]
    command += ["--fine-tune", "1", "--fine-tuning", "--steps", "20", "--batch-size", "8"]
    command += ["--dropout", "0", "--engine", "tensorflow", "--feature-dtype", "float32"]
    command += ["--no-audit", "--out", "rates.html"]
    [(alone, _)] = told_by(NOTING, command, tmp_path / "one", 1)
    (chief, _), (other, _) = told_by(NOTING, command, tmp_path / "two", 2)
    found = [np.load(path) for path in sorted(tmp_path.glob("*/*/found.npz"))]
    assert len(found) == 3 and found[0].files == ["arr_0", "arr_1"]
    for name in found[0].files:
        expected, of_chief, of_other = (each[name] for each in found)
        np.testing.assert_array_equal(of_other, of_chief)
        # The last rates are of 1 to 10, where a rounding grows with each step.
        np.testing.assert_allclose(of_chief[:14], expected[:14], atol=2e-5)
    assert "Phase fine-tuning" in alone and "Phase fine-tuning" in chief and other == ""
    assert [len(list(tmp_path.glob(f"two/{i}/rates.html"))) for i in (0, 1)] == [1, 0]


@pytest.mark.slow
def test_what_is_wrong_with_the_data_ends_each_process(tmp_path):
    for _, errors in told_by(NOTING, [tmp_path / "none"], tmp_path, 2, code=2):
        assert "which does not exist" in errors.splitlines()[-1] and "Traceback" not in errors


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


def test_what_cannot_be_swept_or_written_is_refused_before_any_work(tmp_path, capsys):
    (tmp_path / "page").mkdir()
    for options, said in (
        (["--steps", "5"], "at least"),
        (["--out", str(tmp_path / "page")], "folder"),
    ):
        assert cli.main(["lr-find", str(tmp_path / "none"), *options]) == 2
        assert said in capsys.readouterr().err
