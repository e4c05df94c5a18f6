"""Regressions that start at a ridge regression, beside scikit-learn's in the targets' own unit."""

import keras
import numpy as np
import pytest
from sklearn.linear_model import Ridge

from keras_tl import freezing
from keras_tl.builders.image import build_image_model
from keras_tl.data.arrays import from_arrays
from keras_tl.data.augment import Augmentation
from keras_tl.data.image_input import ImageInput
from keras_tl.data.pipeline import Samples
from keras_tl.feature_cache import FeatureStore
from keras_tl.training.fit import run_phases
from keras_tl.training.head_start import PENALTIES, fit_ridge
from keras_tl.training.phases import Phase
from keras_tl.training.schedules import Constant

RANDOM = np.random.default_rng(0)
FEATURES = RANDOM.normal(3, 2, (60, 8)).astype(np.float32)
TARGETS = FEATURES[:, :2] * [1.0, -5.0] + RANDOM.normal(0, 1, (60, 2))


def expected(penalty, weights=None):
    shift, scale = FEATURES.mean(axis=0), FEATURES.std(axis=0)
    length = np.sqrt((((FEATURES - shift) / scale) ** 2).sum(axis=1).mean())
    scaled = (FEATURES - shift) / scale / length
    return Ridge(penalty).fit(scaled, TARGETS, sample_weight=weights).predict(scaled)


@pytest.mark.parametrize("weights", [None, np.arange(60) % 3 + 0.5])
def test_it_is_the_ridge_regression_on_the_features(weights):
    kernel, bias, penalty = fit_ridge(FEATURES, TARGETS, weights=weights)
    assert (kernel.dtype, kernel.shape, bias.shape, penalty) == (np.float32, (8, 2), (2,), 1.0)
    np.testing.assert_allclose(FEATURES @ kernel + bias, expected(1.0, weights), atol=1e-3)


def test_the_penalty_is_chosen_by_other_items():
    one_of_two = np.arange(60) % 2 == 0
    mine, others = (FEATURES[one_of_two], FEATURES[~one_of_two])
    noise = RANDOM.normal(0, 1, (60, 1))
    *_, of_signal = fit_ridge(mine, TARGETS[one_of_two], (others, TARGETS[~one_of_two]))
    *_, of_noise = fit_ridge(mine, noise[one_of_two], (others, noise[~one_of_two]))
    assert of_signal < 1.0 < of_noise
    assert {of_signal, of_noise} < set(PENALTIES)


@pytest.mark.parametrize("targets", [1, 2])
def test_training_begins_there(three_colors, tmp_path, targets):
    images = three_colors[0]
    values = images.mean(axis=(1, 2))[:, :targets].astype(np.float64) * 10 + 500
    unit = {"target_mean": (450.0,) * targets, "target_scale": (700.0, 20.0)[:targets]}
    model = build_image_model(
        "TinyNet", outputs=targets, task="regression", weights=None, image_size=16, **unit
    )
    body = keras.Model(model.input, model.get_layer("head_predictions").input)
    features = body.predict(images.astype(np.float32), verbose=0)
    names = [f"target {i}" for i in range(targets)]
    source = from_arrays(images, values, class_names=names, task="regression")
    data = Samples(source, ImageInput(size=16), Augmentation("none"))
    phase = Phase(freezing.All(), 1, 1e-12, Constant(), "sgd", weight_decay=0, head_start="fitted")
    store = FeatureStore(tmp_path, dtype="float32")
    run_phases(
        model, [phase], data, None, batch_size=8, feature_store=store, verbose=0, task="regression"
    )
    kernel, bias, _ = fit_ridge(features, values)
    found = model.predict(images.astype(np.float32), verbose=0)
    np.testing.assert_allclose(found, features @ kernel + bias, rtol=2e-3)
