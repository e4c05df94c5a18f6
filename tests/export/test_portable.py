import json
import subprocess
import sys
import venv
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from portable_models import NAMES, SIZE, info, model, samples

from keras_tl.errors import CheckError, InputError
from keras_tl.export import gate, litert, portable
from keras_tl.export.gate import run_program
from keras_tl.export.litert import export_litert, integer_operators
from keras_tl.model_info import ModelInfo

INT8 = {"calibration": samples(30), "held_out": samples(20, seed=5)}
FILES = {
    "README.md",
    "export.json",
    "labels.txt",
    "model.json",
    "model.tflite",
    "predict.py",
    "requirements.txt",
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return export_litert(model(), tmp_path_factory.mktemp("litert") / "out", info())


@pytest.fixture
def photo(tmp_path):
    """A red image of the model's size, and what the model makes of it."""
    pixels = np.full((SIZE, SIZE, 3), (200, 40, 90), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a photo.png")
    return tmp_path / "a photo.png", model().predict(pixels[None].astype(float), verbose=0)[0]


def test_the_folder_has_all_that_is_needed(exported):
    assert {path.name for path in exported.iterdir()} == FILES
    assert ModelInfo.read(exported) == info()
    assert (exported / "labels.txt").read_text(encoding="utf-8") == "red\ngröön\n"
    facts = json.loads((exported / "export.json").read_text())
    assert facts["bytes"] == (exported / "model.tflite").stat().st_size
    assert facts["compared"]["images"] == 4
    assert facts["compared"]["largest_difference"] < 1e-5
    assert 0 < facts["milliseconds"]["one_thread"] < 1000


def test_the_program_says_what_keras_says(exported, photo):
    file, expected = photo
    received = run_program(exported, [str(file)], info())
    np.testing.assert_allclose(received[0], expected, atol=1e-5)


WITHOUT = """
import runpy, sys
for name in ("tensorflow", "keras", "keras_tl", "tf_keras"):
    sys.modules[name] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_the_program_runs_without_tensorflow_and_keras(exported, photo):
    file, expected = photo
    command = [sys.executable, "-c", WITHOUT, str(exported / "predict.py"), str(file)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    head, line = done.stdout.splitlines()
    assert head.split("\t") == ["file", "class", "probability"]
    assert line.split("\t") == [str(file), "red", f"{expected[0]:.4f}"]


def test_a_file_that_cannot_be_read_is_named_and_the_others_are_predicted(exported, photo):
    (photo[0].parent / "broken.jpg").write_bytes(b"no image")
    command = [sys.executable, str(exported / "predict.py"), "--json", "broken.jpg", photo[0].name]
    done = subprocess.run(command, capture_output=True, text=True, cwd=photo[0].parent)
    assert done.returncode == 2
    assert "broken.jpg: cannot identify image file" in done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads(done.stdout)["class"] == "red"


def test_a_reader_that_has_seen_enough_is_no_error(exported, photo):
    command = [sys.executable, str(exported / "predict.py"), str(photo[0])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as program:
        program.stdout.close()
        said = program.stderr.read().decode()
    assert program.returncode == 141
    assert "Error" not in said and "Exception" not in said


@pytest.mark.slow
def test_the_program_runs_with_only_its_requirements(exported, photo, tmp_path):
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    needed = str(exported / "requirements.txt")
    subprocess.run([python, "-m", "pip", "install", "--quiet", "-r", needed], check=True)
    listed = subprocess.run([python, "-m", "pip", "list"], capture_output=True, text=True).stdout
    assert "tensorflow" not in listed.lower() and "keras" not in listed.lower()
    file, expected = photo
    command = [python, str(exported / "predict.py"), "--json", str(file)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
    received = json.loads(done.stdout)["probabilities"]
    np.testing.assert_allclose([received[name] for name in NAMES], expected, atol=1e-5)


@pytest.mark.slow
def test_float16_is_half_as_large(tmp_path):
    import keras

    inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Dense(64)(keras.layers.Flatten()(inputs / 255))
    wide = keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(x))
    sizes = {
        precision: (
            export_litert(wide, tmp_path / precision, info(), precision=precision) / "model.tflite"
        )
        .stat()
        .st_size
        for precision in ("float32", "float16")
    }
    assert sizes["float16"] < 0.6 * sizes["float32"]


def test_int8_computes_in_integers_and_decides_alike(tmp_path):
    path = export_litert(model(), tmp_path / "out", info(), precision="int8", **INT8)
    integer, operators = integer_operators((path / "model.tflite").read_bytes())
    assert integer == operators > 3
    compared = json.loads((path / "export.json").read_text())["compared"]
    assert compared["images"] == 20
    assert compared["accuracy"] == compared["keras_accuracy"] == compared["agreement"] == 1.0


def test_weights_alone_in_int8_are_not_called_int8(tmp_path, monkeypatch):
    """The converter does so where it is given no images to calibrate on."""
    convert = litert._convert
    dynamic = convert(model(), "float16", None)
    assert integer_operators(dynamic)[0] == 0
    with pytest.raises(CheckError, match="operators compute in integers"):
        litert._check_integers(dynamic)


def test_int8_without_images_is_refused(tmp_path):
    with pytest.raises(InputError, match="images to calibrate on"):
        export_litert(model(), tmp_path / "out", info(), precision="int8")
    assert list(tmp_path.iterdir()) == []


def test_int8_that_decides_otherwise_is_refused_with_the_figures(tmp_path):
    """Calibrated on nearly grey images, whose activations hardly have a range."""
    greys = [np.full((20, 24, 3), (128, 128 + i % 2, 128), np.uint8) for i in range(30)]
    grey = replace(INT8["calibration"], source=replace(INT8["calibration"].source, items=greys))
    with pytest.raises(CheckError, match=r"held-out images.*received \d+.\d%, and \d+"):
        export_litert(
            model(), tmp_path / "out", info(), precision="int8", **{**INT8, "calibration": grey}
        )
    assert list(tmp_path.iterdir()) == []


def test_accuracy_that_is_lost_beyond_chance_is_refused(tmp_path, monkeypatch):
    """Of 100 images Keras has all right."""
    targets = np.eye(2, dtype=np.float32)[np.arange(100) % 2]
    held_out = samples(100)

    def compare(wrong, allowed=0.02):
        outputs = targets.copy()
        outputs[:wrong] = outputs[:wrong, ::-1]
        monkeypatch.setattr(gate, "run_program", lambda *_: outputs)
        monkeypatch.setattr(gate, "TensorFlowEngine", lambda _: lambda batch: [targets])
        monkeypatch.setattr(gate, "BATCH", 100)
        return gate._compare_decisions(tmp_path, model(), info(), held_out, allowed)

    assert compare(2)["accuracy"] == 0.98
    assert compare(2)["loss_allowed"] == pytest.approx(1.645 * 2**0.5 / 100)
    with pytest.raises(CheckError, match=r"lose at most 4\.0%.*received 94\.0%, and 94\.0% right"):
        compare(6)
    assert compare(6, allowed=0.06)["agreement"] == 0.94
    with pytest.raises(CheckError, match=r"decide as Keras does on 90\.0%"):
        compare(11, allowed=0.5)


def compare_values(monkeypatch, targets, difference, **options):
    """Keras says what is true of each held-out image, the program more by a difference."""
    targets = np.array(targets, np.float32)
    held_out = samples(len(targets), task="regression")
    held_out = replace(held_out, source=replace(held_out.source, labels=targets))
    monkeypatch.setattr(gate, "run_program", lambda *_: targets + difference)
    monkeypatch.setattr(gate, "TensorFlowEngine", lambda _: lambda batch: [targets])
    arguments = {"tolerance": None, **options}
    return gate._compare_decisions(None, None, info("regression"), held_out, **arguments)


def test_a_regression_is_compared_in_deviations_of_the_target(monkeypatch):
    targets = [[0, 1], [4, 3]]  # standard deviations 2 and 1
    found = compare_values(monkeypatch, targets, np.array([0.1, 0.02]))
    assert found["difference"] == pytest.approx(0.05)
    assert found["largest_difference_allowed"] == 0.1
    with pytest.raises(CheckError, match=r"within 0\.1 standard.*received 0\.150"):
        compare_values(monkeypatch, targets, np.array([0.3, 0.02]))
    found = compare_values(monkeypatch, targets, np.array([0.3, 0.02]), tolerance=0.2)
    assert found["largest_difference_allowed"] == 0.2
    with pytest.raises(CheckError, match=r"within 0\.01 standard.*received 0\.050"):
        compare_values(monkeypatch, targets, np.array([0.1, 0.02]), tolerance=0.01)


@pytest.mark.parametrize("targets", [[[4, 0.5]], [[4, 0.5]] * 3], ids=["one image", "one value"])
def test_targets_that_are_all_the_same(monkeypatch, targets):
    """Those of the training are 0 and 4 in turn: their standard deviation is 2."""
    options = {"calibration": samples(10, task="regression")}
    found = compare_values(monkeypatch, targets, np.array([0.1, 0.02]), **options)
    assert found["difference"] == pytest.approx(0.05)
    with pytest.raises(CheckError, match=r"received 0\.150"):
        compare_values(monkeypatch, targets, np.array([0.3, 0.02]), **options)
    # Without them the largest output is the unit: 4 and 0.5.
    found = compare_values(monkeypatch, targets, np.array([0.1, 0.02]))
    assert found["difference"] == pytest.approx(0.04)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["multi-label", "regression"])
def test_other_tasks(tmp_path, task, photo):
    images = {name: samples(30, seed, task) for seed, name in enumerate(INT8)}
    for precision in ("float32", "int8"):
        options = images if precision == "int8" else {}
        path = export_litert(
            model(task), tmp_path / precision, info(task), precision=precision, **options
        )
    command = [sys.executable, str(path / "predict.py"), str(photo[0])]
    head, line = subprocess.run(command, capture_output=True, encoding="utf-8").stdout.splitlines()
    cells = line.split("\t")
    if task == "multi-label":
        assert head.split("\t") == ["file", "classes", *NAMES]
        assert cells[1] == "red"
    else:
        assert head.split("\t") == ["file", *NAMES]
        assert float(cells[1]) > float(cells[2])


def test_a_threshold_decides(tmp_path, photo):
    file, expected = photo
    sure = info(thresholds=(float(expected[1]) - 0.001,))
    path = export_litert(model(), tmp_path / "out", sure)
    command = [sys.executable, str(path / "predict.py"), "--json", str(file)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
    assert json.loads(done.stdout)["class"] == "gröön"


FAULTS = {
    "channels swapped": ("return padded", "return padded[..., ::-1]", "pixels within 1 level"),
    "EXIF skipped": ("if orientation > 4:", "if False:", "EXIF says to turn"),
    "pixels scaled twice": (
        "runner(pixels=pixels[None].astype(np.float32))",
        "runner(pixels=pixels[None].astype(np.float32) / 255)",
        "outputs of predict.py within",
    ),
    "classes reordered": (
        'names, thresholds = info["class_names"]',
        'names, thresholds = info["class_names"][::-1]',
        "outputs of predict.py within",
    ),
    "the least probable class": ("outputs.argmax()", "outputs.argmin()", "predict.py to say"),
    "it fails": (
        "    status = 0\n",
        "    raise SystemExit('no')\n",
        "predict.py to run, received no",
    ),
}


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(fault, marks=() if fault == "classes reordered" else pytest.mark.slow)
        for fault in FAULTS
    ],
)
def test_a_faulty_program_is_refused(tmp_path, monkeypatch, fault):
    right, wrong, message = FAULTS[fault]
    write = portable._write_beside

    def write_faulty(folder, *rest):
        write(folder, *rest)
        program = folder / "predict.py"
        text = program.read_text(encoding="utf-8")
        assert right in text
        program.write_text(text.replace(right, wrong), encoding="utf-8")

    monkeypatch.setattr(portable, "_write_beside", write_faulty)
    with pytest.raises(CheckError, match=message):
        export_litert(model(), tmp_path / "out", info())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_another_model_is_refused(tmp_path, monkeypatch):
    convert, other = litert.LITERT.convert, model()
    other.get_layer("out").bias.assign([0.5, -0.5])
    swapped = replace(litert.LITERT, convert=lambda _, *rest: convert(other, *rest))
    monkeypatch.setattr(litert, "LITERT", swapped)
    with pytest.raises(CheckError, match=r"outputs of predict\.py within 1\.0e-03"):
        export_litert(model(), tmp_path / "out", info())
    export_litert(model(), tmp_path / "out", info(), tolerance=1.0)


@pytest.mark.parametrize(
    "policy", ["mixed_bfloat16", pytest.param("mixed_float16", marks=pytest.mark.slow)]
)
def test_a_model_in_mixed_precision_is_exported_in_float32(tmp_path, policy):
    import keras

    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        mixed = model()
    finally:
        keras.config.set_dtype_policy(previous)
    path = export_litert(mixed, tmp_path / "out", info())
    pixels = samples(1).images(np.arange(1)).as_numpy_iterator().next()
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    received = run_program(path, [str(tmp_path / "photo.png")], info())
    np.testing.assert_allclose(received, model().predict(pixels[None].astype(float)), atol=1e-5)


def test_what_does_not_convert_is_said_in_one_line(tmp_path, monkeypatch):
    def fail(*_):
        raise TypeError("first\n'NoneType' object is not callable")

    monkeypatch.setattr(litert.tf.lite.TFLiteConverter, "from_saved_model", fail)
    with pytest.raises(CheckError, match="TypeError: 'NoneType' object is not callable") as raised:
        export_litert(model(), tmp_path / "out", info())
    assert len(str(raised.value).splitlines()) == 1


def test_an_unknown_precision_is_refused(tmp_path):
    with pytest.raises(InputError, match="Did you mean float16"):
        export_litert(model(), tmp_path / "out", info(), precision="flaot16")


def test_every_option_of_the_gate_is_in_its_facts():
    assert gate.TOLERANCES.keys() == set(portable.PRECISIONS) - {"int8"}
