"""Keras' own callbacks in a phase."""

import csv

import keras
import numpy as np

from keras_tl import freezing
from keras_tl.data.arrays import from_arrays
from keras_tl.data.image_input import ImageInput
from keras_tl.data.pipeline import Samples
from keras_tl.training.fit import run_phases
from keras_tl.training.phases import Phase
from keras_tl.training.schedules import Constant


def test_they_work_unchanged(tiny_model, three_colors, tmp_path):
    images, labels = three_colors
    train = Samples(from_arrays(images[:40], labels[:40]), ImageInput(size=16))
    val = Samples(from_arrays(images[40:], labels[40:]), ImageInput(size=16))
    steps, epochs = [], []
    own = [
        # A loss does not fall by 100: the rate halves after the second epoch and each one then.
        keras.callbacks.ReduceLROnPlateau("val_loss", 0.5, patience=1, min_delta=100.0),
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
        keras.callbacks.ModelCheckpoint(tmp_path / "best.keras", save_best_only=True),
        keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs: steps.append(batch),
            on_epoch_end=lambda epoch, logs: epochs.append(logs["val_loss"]),
        ),
        # Four epochs without a gain of 100, after the first one.
        keras.callbacks.EarlyStopping("val_loss", patience=4, min_delta=100.0),
    ]
    found = run_phases(
        tiny_model,
        [Phase(freezing.All(), 9, 0.01, Constant(), weight_decay=0.0)],
        train,
        val,
        batch_size=8,
        feature_store=False,
        each_step=True,
        callbacks=lambda phase: own,
        verbose=0,
    )
    assert len(epochs) == len(found.history) == 5
    assert steps == [*range(5)] * 5
    rates = [row["learning_rate"] for row in found.history]
    np.testing.assert_allclose(rates, [0.01, 0.01, 0.005, 0.0025, 0.00125], rtol=1e-6)
    rows = list(csv.DictReader((tmp_path / "log.csv").open()))
    np.testing.assert_allclose([float(row["val_loss"]) for row in rows], epochs)
    saved = keras.models.load_model(tmp_path / "best.keras")
    # The whole model, with the weights of the best epoch, as the phase ends with.
    np.testing.assert_allclose(saved(images[:4]), tiny_model(images[:4]), atol=1e-6)
