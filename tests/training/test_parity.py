"""With the store and without it: the same losses at every step, dropout and augmentation on."""

import keras
import numpy as np
import pytest

from keras_tl import freezing
from keras_tl.builders.image import build_image_model
from keras_tl.data import augment
from keras_tl.data.arrays import from_arrays
from keras_tl.data.image_input import ImageInput
from keras_tl.data.pipeline import Samples
from keras_tl.engines import TensorFlowEngine
from keras_tl.evaluation.predictions import predict, predict_images
from keras_tl.feature_cache import FeatureStore
from keras_tl.training.fit import run_phases
from keras_tl.training.phases import Phase

TOLERANCE = 1e-5
STEPS = 50


class StepLosses(keras.callbacks.Callback):
    """The loss of each step, out of the epoch's running mean."""

    def __init__(self, losses):
        super().__init__()
        self.losses = losses

    def on_epoch_begin(self, epoch, logs=None):
        self.total = 0.0

    def on_train_batch_end(self, batch, logs=None):
        total = logs["loss"] * (batch + 1)
        self.losses.append(total - self.total)
        self.total = total


def plan(epochs):
    return [
        Phase(freezing.All(), epochs, 3e-3, name="head"),
        Phase(freezing.AllButLast(1), epochs, 1e-3, name="last block"),
    ]


def two_phases(data, store, *, backbone="TinyNet", epochs=4, further=lambda _: [], before=None):
    """Builds a model anew and trains it: its losses at each step, and the model."""
    keras.utils.set_random_seed(5)
    size = data["train"].input_spec.size
    weights = None if backbone == "TinyNet" else "imagenet"
    model = build_image_model(backbone, outputs=3, weights=weights, image_size=size, dropout=0.3)
    if before:
        before(model)
    losses = []
    run_phases(
        model,
        plan(epochs),
        data["train"],
        data["val"],
        batch_size=8,
        seed=3,
        feature_store=store,
        engine="tensorflow",
        each_step=True,
        callbacks=lambda phase: [StepLosses(losses), *further(phase)],
        verbose=0,
    )
    return np.array(losses), model


def samples(images, labels, size, augmentation="light"):
    input_ = ImageInput(size=size)
    train = Samples(from_arrays(images[:-12], labels[:-12]), input_, augment.get(augmentation))
    val = Samples(from_arrays(images[-12:], labels[-12:]), input_)
    return {"train": train, "val": val}


@pytest.fixture(scope="module")
def small(three_colors):
    images, labels = three_colors
    images = np.concatenate([images, images[:, ::-1]])[:76]
    return samples(images, np.concatenate([labels, labels])[:76], 16)


@pytest.fixture(scope="module")
def plain(small):
    """Losses and model of a run without a store."""
    losses, model = two_phases(small, False)
    assert len(losses) >= STEPS
    return losses, model


def assert_same(cached, plain, data, store):
    """That two runs of `two_phases` agree, as far as they promise to."""
    (losses, model), (want, whole) = cached, plain
    assert store.stored() and len(losses) == len(want) and np.ptp(losses) > 0.1
    np.testing.assert_allclose(losses[:STEPS], want[:STEPS], rtol=0, atol=TOLERANCE)
    found = predict_images(model, data["val"], store, engine="tensorflow").argmax(axis=1)
    np.testing.assert_array_equal(found, predict(whole, data["val"].batches(8)).argmax(axis=1))


def differs(losses, plain):
    return np.abs(losses - plain[0])[:STEPS].max() > 10 * TOLERANCE


@pytest.mark.slow
def test_every_step_has_the_same_loss_with_the_store(small, plain, tmp_path):
    store = FeatureStore(tmp_path, dtype="float32")
    assert_same(two_phases(small, store), plain, small, store)


def swap_channels(monkeypatch):
    run = TensorFlowEngine.__call__
    monkeypatch.setattr(
        TensorFlowEngine, "__call__", lambda self, pixels: run(self, pixels[..., ::-1])
    )


def forget_the_view(monkeypatch):
    monkeypatch.setattr(Samples, "fingerprint", lambda self, view: {})


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault", [swap_channels, pytest.param(forget_the_view, marks=pytest.mark.slow)]
)
def test_a_fault_in_the_store_would_be_seen(small, plain, tmp_path, monkeypatch, fault):
    fault(monkeypatch)
    assert differs(two_phases(small, FeatureStore(tmp_path, dtype="float32"))[0], plain)


@pytest.mark.slow
def test_statistics_that_drift_would_be_seen(small, plain):
    """They are put back after each epoch, before the guard looks."""
    models = []

    def drifting(_):
        statistics = models[0].get_layer("stem_bn").moving_mean
        step = np.full(8, 1e-3, np.float32)
        return [
            keras.callbacks.LambdaCallback(
                on_epoch_begin=lambda epoch, logs: epoch and statistics.assign_add(step),
                on_epoch_end=lambda epoch, logs: epoch and statistics.assign_sub(step),
            )
        ]

    assert differs(two_phases(small, False, further=drifting, before=models.append)[0], plain)


@pytest.mark.slow
def test_dropout_that_draws_once_more_would_be_seen(small, plain):
    def draw(model):
        model.get_layer("head_dropout").seed_generator.next()

    assert differs(two_phases(small, False, before=draw)[0], plain)


@pytest.mark.slow
def test_every_step_has_the_same_loss_with_real_weights(tmp_path):
    random = np.random.default_rng(4)
    labels = np.arange(112) % 3
    noise = random.normal(0, 60, (112, 8, 8, 3)).repeat(8, axis=1).repeat(8, axis=2)
    colors = np.array([[150, 110, 110], [110, 150, 110], [110, 110, 150]])[labels]
    images = np.clip(colors[:, None, None] + noise, 0, 255).astype(np.uint8)
    data = samples(images, labels, 64)
    store = FeatureStore(tmp_path, dtype="float32")
    options = {"backbone": "EfficientNetLite0", "epochs": 3}
    cached, plain = two_phases(data, store, **options), two_phases(data, False, **options)
    print(f"largest difference in {STEPS} steps {np.abs(cached[0] - plain[0])[:STEPS].max():.1e}")
    assert_same(cached, plain, data, store)
