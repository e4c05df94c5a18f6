import importlib.util
import json
import logging
import shutil
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest

from keras_tl import engines, freezing, frozen_prefix
from keras_tl.engines import LiteRTEngine, OpenVINOEngine, TensorFlowEngine, litert, selection
from keras_tl.engines.kept import kept

# OpenVINO is an extra.
INSTALLED = [LiteRTEngine] + [OpenVINOEngine] * bool(importlib.util.find_spec("openvino"))


@pytest.fixture
def prefix(tiny_model):
    freezing.AllButLast(1).apply(tiny_model)
    return frozen_prefix.split(tiny_model).prefix


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), np.uint8)


@pytest.fixture
def lines(caplog):
    caplog.set_level(logging.INFO, logger="keras_tl")
    return caplog


@pytest.fixture(autouse=True)
def litert_alone(monkeypatch):
    """The race is between LiteRT and TensorFlow, and short."""
    monkeypatch.setattr(selection, "CONVERTING", {"LiteRT": LiteRTEngine})
    monkeypatch.setattr(selection, "RACE_SECONDS", 0.1)


@pytest.fixture
def litert_is_fast(monkeypatch):
    """On a net as small as these a race is won by chance."""
    wait_before(monkeypatch, TensorFlowEngine, 0.05)


def wait_before(monkeypatch, kind, seconds):
    run = kind.__call__
    monkeypatch.setattr(kind, "__call__", lambda *a: time.sleep(seconds) or run(*a))


def test_tensorflow_is_keras(prefix, pixels):
    engine = TensorFlowEngine(prefix)
    expected = keras.tree.flatten(prefix(pixels.astype("float32"), training=False))[0]
    for part in (slice(0, 4), slice(4, 5)):
        np.testing.assert_allclose(engine(pixels[part])[0], expected[part], atol=1e-6)


@pytest.mark.parametrize("kind", INSTALLED)
def test_an_engine_agrees_and_takes_any_number_of_images(prefix, pixels, tmp_path, kind):
    engine = kind(prefix, tmp_path)
    expected = TensorFlowEngine(prefix)(pixels)[0]
    for part in (slice(0, 4), slice(4, 5)):
        (output,) = engine(pixels[part])
        assert output.dtype == np.float32
        np.testing.assert_allclose(output, expected[part], atol=1e-4)


@pytest.mark.parametrize("kind", INSTALLED)
def test_several_tensors_come_in_the_order_of_the_cut(tiny_model, pixels, tmp_path, kind):
    names = ("two_add", "stem_out", "one_conv", "head_pool")
    outputs = [tiny_model.get_layer(name).output for name in names]
    model = keras.Model(tiny_model.input, outputs)
    found = kind(model, tmp_path)(pixels)
    for output, expected in zip(found, TensorFlowEngine(model)(pixels), strict=True):
        np.testing.assert_allclose(output, expected, atol=1e-4)


def test_a_whole_model_will_do(tiny_model, pixels, tmp_path):
    (output,) = engines.choose(tiny_model, pixels, tmp_path)(pixels)
    np.testing.assert_allclose(output, tiny_model.predict(pixels, verbose=0), atol=1e-5)


@pytest.mark.usefixtures("litert_is_fast")
def test_a_prefix_is_converted_once(prefix, pixels, tmp_path, monkeypatch):
    first = engines.choose(prefix, pixels, tmp_path)
    monkeypatch.setattr(litert, "_convert", lambda *_: pytest.fail("converted again"))
    second = engines.choose(prefix, pixels, tmp_path)
    assert first.name == second.name == "LiteRT"
    np.testing.assert_array_equal(first(pixels)[0], second(pixels)[0])


@pytest.mark.usefixtures("litert_is_fast")
def test_for_few_images_nothing_is_converted(prefix, pixels, tmp_path, monkeypatch):
    monkeypatch.setattr(selection, "WORTH_CONVERTING_SECONDS", 1e6)
    assert engines.choose(prefix, pixels, tmp_path, images=10).name == "TensorFlow"
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(selection, "WORTH_CONVERTING_SECONDS", 0.0)
    assert engines.choose(prefix, pixels, tmp_path, images=10).name == "LiteRT"
    # What was chosen once stays, so that later images come from the same arithmetic.
    monkeypatch.setattr(selection, "WORTH_CONVERTING_SECONDS", 1e6)
    assert engines.choose(prefix, pixels, tmp_path, images=10).name == "LiteRT"


def test_any_flipped_bit_of_a_kept_file_is_seen(tmp_path):
    path = tmp_path / "prefix.tflite"
    assert kept(path, lambda: b"content") == b"content"
    whole = path.read_bytes()
    for where in range(len(whole)):
        damaged = bytearray(whole)
        damaged[where] ^= 1 << where % 8
        path.write_bytes(damaged)
        assert kept(path, lambda: b"again") == b"again"
        assert kept(path, lambda: pytest.fail("not kept")) == b"again"
    path.write_bytes(whole[:20])
    assert kept(path, lambda: b"content") == b"content"


def test_what_was_kept_for_another_prefix_is_not_used(tmp_path):
    one, other = (tmp_path / name / "prefix.tflite" for name in ("one", "other"))
    kept(one, lambda: b"content")
    shutil.copytree(one.parent, other.parent)
    assert kept(other, lambda: b"its own") == b"its own"
    assert kept(other, lambda: pytest.fail("not kept")) == b"its own"


def test_two_that_convert_at_once_leave_a_good_file(tmp_path):
    path = tmp_path / "prefix.tflite"
    contents = [b"a" * 2**20, b"b" * 2**21]
    both = threading.Barrier(2)

    def convert(content):
        both.wait(timeout=10)
        return content

    with ThreadPoolExecutor(2) as threads:
        found = threads.map(lambda content: kept(path, lambda: convert(content)), contents)
        assert list(found) == contents
    assert kept(path, lambda: pytest.fail("damaged")) in contents
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.usefixtures("litert_is_fast")
def test_a_damaged_file_is_converted_again(prefix, pixels, tmp_path, lines):
    expected = engines.choose(prefix, pixels, tmp_path)(pixels)[0]
    path = tmp_path / "prefix.tflite"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    engine = engines.choose(prefix, pixels, tmp_path)
    assert engine.name == "LiteRT"
    assert "damaged" in lines.text
    np.testing.assert_array_equal(engine(pixels)[0], expected)


def test_a_full_disk_does_not_matter(prefix, pixels, tmp_path, lines):
    (tmp_path / "file").write_text("")
    engine = engines.choose(prefix, pixels, tmp_path / "file" / "folder")
    np.testing.assert_allclose(engine(pixels)[0], TensorFlowEngine(prefix)(pixels)[0], atol=1e-4)
    assert "not kept" in lines.text
    assert "not remembered" in lines.text


def wrong_channels(self, pixels):
    return [output[..., ::-1] for output in TensorFlowEngine(self.prefix)(pixels)]


def not_finite(self, pixels):
    return [np.full_like(output, np.nan) for output in TensorFlowEngine(self.prefix)(pixels)]


@pytest.mark.parametrize("fault", [wrong_channels, not_finite])
def test_an_engine_that_differs_gives_way(prefix, pixels, tmp_path, monkeypatch, lines, fault):
    monkeypatch.setattr(LiteRTEngine, "prefix", prefix, raising=False)
    monkeypatch.setattr(LiteRTEngine, "__call__", fault)
    assert engines.choose(prefix, pixels, tmp_path).name == "TensorFlow"
    assert "LiteRT differs" in lines.text


@pytest.mark.usefixtures("litert_is_fast")
def test_a_remembered_engine_is_still_checked(prefix, pixels, tmp_path, monkeypatch):
    assert engines.choose(prefix, pixels, tmp_path).name == "LiteRT"
    monkeypatch.setattr(LiteRTEngine, "prefix", prefix, raising=False)
    monkeypatch.setattr(LiteRTEngine, "__call__", wrong_channels)
    assert engines.choose(prefix, pixels, tmp_path).name == "TensorFlow"


def test_without_the_package_it_is_tensorflow(prefix, pixels, tmp_path, monkeypatch, lines):
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    monkeypatch.setitem(sys.modules, "openvino", None)
    both = {"LiteRT": LiteRTEngine, "OpenVINO": OpenVINOEngine}
    monkeypatch.setattr(selection, "CONVERTING", both)
    assert engines.choose(prefix, pixels, tmp_path).name == "TensorFlow"
    assert "ai_edge_litert" in lines.text
    assert "openvino" not in lines.text


def test_what_does_not_convert_runs_in_tensorflow(prefix, pixels, tmp_path, monkeypatch, lines):
    def fail(_):
        raise RuntimeError("no such operation\nat line 1")

    monkeypatch.setattr(litert, "_convert", fail)
    for _ in range(2):
        lines.clear()
        assert engines.choose(prefix, pixels, tmp_path).name == "TensorFlow"
        assert lines.messages == ["The frozen part runs in TensorFlow; LiteRT: no such operation"]


def test_an_engine_slower_than_tensorflow_is_not_taken(
    prefix, pixels, tmp_path, monkeypatch, lines
):
    wait_before(monkeypatch, LiteRTEngine, 0.3)
    assert engines.choose(prefix, pixels, tmp_path).name == "TensorFlow"
    assert "LiteRT takes" in lines.text


def test_the_winner_is_remembered_until_the_machine_changes(prefix, pixels, tmp_path, monkeypatch):
    with monkeypatch.context() as slow:
        wait_before(slow, LiteRTEngine, 0.3)
        engines.choose(prefix, pixels, tmp_path)
    wait_before(monkeypatch, TensorFlowEngine, 0.3)
    assert engines.choose(prefix, pixels, tmp_path).name == "TensorFlow"
    monkeypatch.setattr(selection.tf, "__version__", "3.0")
    assert engines.choose(prefix, pixels, tmp_path).name != "TensorFlow"


@pytest.mark.usefixtures("litert_is_fast")
def test_a_damaged_choice_is_made_again(prefix, pixels, tmp_path):
    path = tmp_path / selection.CHOICE
    for content in ("", "[]", "{", '{"engine": "LiteRT"}'):
        path.write_text(content)
        assert engines.choose(prefix, pixels, tmp_path).name == "LiteRT"
        assert json.loads(path.read_text())["engine"] == "LiteRT"


def test_what_does_not_convert_for_litert_is_one_line(tmp_path, capfd):
    tokens = keras.Input((4, 8), dtype="int32", name="tokens")
    wide = keras.ops.cast(tokens, "bfloat16")
    model = keras.Model(tokens, keras.ops.matmul(wide, keras.ops.transpose(wide, (0, 2, 1))))
    with pytest.raises(RuntimeError, match="it does not convert"):
        LiteRTEngine(model, tmp_path)
    assert "error" not in capfd.readouterr().err


def test_a_tensor_that_is_nan_is_no_agreement_wherever_it_stands():
    good, bad = np.ones(3, "float32"), np.array([1, np.nan, 1], "float32")
    for found in ([bad, good], [good, bad]):
        assert np.isnan(selection._difference(found, [good, good]))
    assert selection._difference([good, good + 0.25], [good, good]) == 0.25


def test_what_is_cleared_while_it_is_read_is_used(tmp_path, monkeypatch):
    """Another process may remove the folder when this one has read the file."""
    kept(tmp_path / "made", lambda: b"converted")

    def gone(path):
        raise FileNotFoundError(path)

    monkeypatch.setattr("os.utime", gone)
    assert kept(tmp_path / "made", lambda: b"another") == b"converted"


@pytest.mark.parametrize("kind", INSTALLED)
def test_training_and_validation_may_ask_at_the_same_time(prefix, pixels, tmp_path, kind):
    engine = kind(prefix, tmp_path)
    given = [np.repeat(pixels[k : k + 1], 8, axis=0) for k in range(4)]
    expected = [engine(some) for some in given]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda n: engine(given[n % 4]), range(80)))
    for n, outputs in enumerate(found):
        for output, right in zip(outputs, expected[n % 4], strict=True):
            np.testing.assert_array_equal(output, right)
