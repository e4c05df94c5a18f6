"""What the data decide about a run, before anything of it is done."""

import random

import keras
import numpy as np
import pytest
from tensorflow.python.framework.config import disable_op_determinism

from keras_tl import job
from keras_tl.config import TrainConfig
from keras_tl.data.arrays import from_arrays
from keras_tl.errors import InputError
from keras_tl.preparing import keras_settings, prepare_data


@pytest.mark.parametrize("asked", [{"label_smoothing": 0.1}, {"class_weights": True}])
def test_what_a_regression_has_no_use_for_is_refused_before_the_run_begins(tmp_path, asked):
    """A run that had begun would keep its settings, and refuse the ones that are right."""
    images = np.random.default_rng(0).integers(0, 255, (40, 16, 16, 3)).astype("uint8")
    source = from_arrays(images, images.mean((1, 2, 3)), task="regression")
    config = TrainConfig("arrays", str(tmp_path / "run"), backbone="TinyNet", **asked)
    with pytest.raises(InputError, match="for classes"):
        job.train(config, source=source, verbose=0)
    assert not (tmp_path / "run").exists()


def test_weights_that_are_not_there_are_refused_before_the_data_are_read():
    for weights, fix in (("imagnet", "Did you mean imagenet"), ("mine.keras", "Check the path")):
        with pytest.raises(InputError, match=f"a file with weights.*{fix}"):
            prepare_data(TrainConfig("no/such/data", "run", weights=weights))


def test_keras_computes_as_a_configuration_says_until_it_is_done():
    before = keras.config.dtype_policy().name
    config = TrainConfig("-", "-", precision="mixed_bfloat16", seed=7)
    drawn = []
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), keras_settings(config):
            assert keras.config.dtype_policy().name == "mixed_bfloat16"
            drawn.append(np.random.random())
            raise ZeroDivisionError
        assert keras.config.dtype_policy().name == before == "float32"
    assert drawn[0] == drawn[1]


def test_the_draws_of_a_notebook_go_on_after_a_run():
    """A search that trains in a loop would draw the same settings again and again."""
    random.seed(1)
    np.random.seed(1)
    alone = [(random.random(), np.random.random()) for _ in range(3)]
    random.seed(1)
    np.random.seed(1)
    drawn = []
    for _ in range(3):
        with keras_settings(TrainConfig("-", "-", seed=7)):
            random.random(), np.random.random()
        drawn.append((random.random(), np.random.random()))
    assert drawn == alone


def test_a_run_without_determinism_is_told_that_it_is_on(caplog):
    plain, asked = TrainConfig("-", "-"), TrainConfig("-", "-", deterministic=True)
    try:
        job._set_determinism(plain)
        job._set_determinism(asked)
        job._set_determinism(asked)
        assert not caplog.messages
        job._set_determinism(plain)
        assert "a process without determinism" in caplog.text
    finally:
        disable_op_determinism()


def test_a_run_asks_whether_determinism_is_on(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(job, "is_op_determinism_enabled", lambda: True)
    (tmp_path / "data").mkdir()
    with pytest.raises(InputError):
        job.train(TrainConfig(str(tmp_path / "data"), str(tmp_path / "run")), verbose=0)
    assert "a process without determinism" in caplog.text
