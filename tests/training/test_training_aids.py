"""Mixup, cutmix and balanced sampling: the same losses at every step with the store as without."""

import keras
import numpy as np
import pytest

from keras_tl import freezing
from keras_tl.builders.image import build_image_model
from keras_tl.data import augment
from keras_tl.data.arrays import from_arrays
from keras_tl.data.image_input import ImageInput
from keras_tl.data.pipeline import Samples
from keras_tl.feature_cache import FeatureStore
from keras_tl.training import fit
from keras_tl.training.phases import Phase

TOLERANCE = 1e-5
AIDS = [
    pytest.param({"mixup": 0.4}, marks=pytest.mark.slow),
    pytest.param({"cutmix": 0.7}, marks=pytest.mark.slow),
    {"mixup": 0.4, "cutmix": 0.7, "sampling": "balanced", "focal_gamma": 2.0},
]


@pytest.fixture(scope="module")
def images(three_colors):
    """Of the three colours, 20, 12 and 4 images."""
    pixels, labels = three_colors
    kept = np.concatenate([np.flatnonzero(labels == c)[:n] for c, n in enumerate((20, 12, 4))])
    return pixels[kept], labels[kept]


def losses(images, store, cutmix=0.0, **aids):
    """Trains the last block, and gives the losses of each epoch."""
    keras.utils.set_random_seed(5)
    model = build_image_model("TinyNet", outputs=3, weights=None, image_size=16, dropout=0.3)
    augmentation = augment.Augmentation("mine", horizontal_flip=True, cutmix=cutmix)
    train = Samples(from_arrays(*images), ImageInput(size=16), augmentation)
    result = fit.run_phases(
        model,
        [Phase(freezing.AllButLast(1), 3, 1e-3, **aids)],
        train,
        train,
        batch_size=8,
        seed=3,
        class_weights=[0.5, 1.0, 2.0],
        feature_store=store,
        engine="tensorflow",
        verbose=0,
    )
    return np.array([(row["loss"], row["val_loss"]) for row in result.history])


@pytest.fixture(scope="module")
def plain(images):
    """Losses without a store, each computed once."""
    found = {}

    def losses_of(**aids):
        key = tuple(aids.items())
        if key not in found:
            found[key] = losses(images, False, **aids)
        return found[key]

    return losses_of


def differ(some, others):
    return np.abs(some - others).max() > 10 * TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("aids", AIDS, ids=lambda aids: " ".join(aids))
def test_the_store_changes_nothing(images, plain, tmp_path, aids):
    cached = losses(images, FeatureStore(tmp_path, dtype="float32"), **aids)
    np.testing.assert_allclose(cached, plain(**aids), rtol=0, atol=TOLERANCE)
    assert differ(cached, plain())


@pytest.mark.slow
def test_mixing_other_samples_would_be_seen(images, plain, monkeypatch):
    """The twin: without a store, inputs come in another order than their targets."""
    run, expected = fit.run_in_batches, plain(mixup=0.4)

    def reversed_inputs(prefix, batches):
        return run(prefix, batches.map(lambda x, *rest: (x[::-1], *rest)))

    monkeypatch.setattr(fit, "run_in_batches", reversed_inputs)
    assert differ(losses(images, False, mixup=0.4), expected)


@pytest.mark.slow
def test_partners_that_changed_are_computed_anew(images, plain, tmp_path, monkeypatch):
    """And the twin: rows that are told apart by the image alone are stale."""
    store = FeatureStore(tmp_path, dtype="float32")
    losses(tuple(part[6:] for part in images), store, cutmix=0.7)
    cached = losses(images, store, cutmix=0.7)
    np.testing.assert_allclose(cached, plain(cutmix=0.7), rtol=0, atol=TOLERANCE)

    monkeypatch.setattr(Samples, "row_keys", lambda self, view: self.keys)
    stale = FeatureStore(tmp_path / "stale", dtype="float32")
    losses(tuple(part[6:] for part in images), stale, cutmix=0.7)
    assert differ(losses(images, stale, cutmix=0.7), plain(cutmix=0.7))


@pytest.mark.slow
def test_where_nothing_is_frozen_pixels_are_mixed(tiny_model, images, caplog):
    train = Samples(from_arrays(*images), ImageInput(size=16))
    phase = Phase(freezing.Nothing(), 1, 1e-3, mixup=0.4)
    with caplog.at_level("INFO", "keras_tl"):
        fit.run_phases(tiny_model, [phase], train, batch_size=8, feature_store=False, verbose=0)
    assert "Mixup acts on pixels" in caplog.text
