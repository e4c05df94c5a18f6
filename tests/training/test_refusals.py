"""What a training refuses in one line, before anything of it is computed."""

import keras
import numpy as np
import pytest

from keras_tl import freezing
from keras_tl.data.arrays import from_arrays
from keras_tl.data.image_input import ImageInput
from keras_tl.data.pipeline import Samples
from keras_tl.errors import InputError
from keras_tl.training.checks import check_fit
from keras_tl.training.fit import run_phases
from keras_tl.training.lr_finder import find_learning_rate
from keras_tl.training.phases import Phase

PHASE = Phase(freezing.All(), 1, 1e-3, name="head")


def samples(images, labels, size=16, **options):
    return Samples(from_arrays(images, labels, **options), ImageInput(size=size))


def train(model, data, val=None, **options):
    return run_phases(model, [PHASE], data, val, **{"verbose": 0, **options})


def find(model, data, **options):
    return find_learning_rate(model, PHASE, data, **options)


@pytest.fixture
def data(three_colors):
    return samples(*three_colors)


@pytest.fixture
def no_pass(monkeypatch):
    """Reading a pixel fails."""
    monkeypatch.setattr(Samples, "images", None)
    monkeypatch.setattr(Samples, "batches", None)


@pytest.mark.parametrize("start", [train, find])
def test_another_task_than_the_data_have_is_refused(tiny_model, three_colors, no_pass, start):
    images, labels = three_colors
    several = samples(images, [[str(label)] for label in labels])
    with pytest.raises(InputError, match=r"task='multi-label', as the data are.+'single-label'"):
        start(tiny_model, several)
    values = samples(images, labels * 1.0, task="regression")
    with pytest.raises(InputError, match="task='regression', as the data are"):
        start(tiny_model, values)


def test_validation_has_the_task_too(tiny_model, three_colors, data, no_pass):
    values = samples(three_colors[0], three_colors[1] * 1.0, task="regression")
    with pytest.raises(InputError, match="task='regression', as the data are"):
        train(tiny_model, data, values)


@pytest.mark.parametrize("start", [train, find])
@pytest.mark.parametrize("store", [True, False])
def test_images_of_another_size_than_the_model_has_are_refused(
    tiny_model, three_colors, no_pass, start, store
):
    large = samples(*three_colors, size=24)
    said = r"images of 16 pixels for this model, received 24\. Give prepare image_size=16, or build"
    with pytest.raises(InputError, match=said):
        start(tiny_model, large, feature_store=store)


def test_a_model_of_any_size_takes_any_images(three_colors):
    inputs = keras.Input((None, None, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(inputs)
    outputs = keras.layers.Dense(3, "softmax", name="head_predictions")(pooled)
    check_fit(keras.Model(inputs, outputs), samples(*three_colors), samples(*three_colors, size=24))


@pytest.mark.parametrize("start", [train, find])
def test_a_model_of_another_number_of_outputs_is_refused(tiny_model, three_colors, no_pass, start):
    four = samples(three_colors[0], np.arange(60) % 4)
    with pytest.raises(InputError, match=r"4 outputs.+a model of 3\. Build it with outputs=4"):
        start(tiny_model, four)
