"""What the data decide about a run, before anything of it is done."""

import numpy as np
import pytest

from keras_tl import job
from keras_tl.config import TrainConfig
from keras_tl.data.arrays import from_arrays
from keras_tl.errors import InputError


@pytest.mark.parametrize("asked", [{"label_smoothing": 0.1}, {"class_weights": True}])
def test_what_a_regression_has_no_use_for_is_refused_before_the_run_begins(tmp_path, asked):
    """A run that had begun would keep its settings, and refuse the ones that are right."""
    images = np.random.default_rng(0).integers(0, 255, (40, 16, 16, 3)).astype("uint8")
    source = from_arrays(images, images.mean((1, 2, 3)), task="regression")
    config = TrainConfig("arrays", str(tmp_path / "run"), backbone="TinyNet", **asked)
    with pytest.raises(InputError, match="for classes"):
        job.train(config, source=source, verbose=0)
    assert not (tmp_path / "run").exists()
