"""Small models that tell colours apart, images of these colours, and their descriptions."""

import keras
import numpy as np

from keras_tl.data.image_input import ImageInput
from keras_tl.data.pipeline import Samples
from keras_tl.data.source import Source
from keras_tl.model_info import ModelInfo

SIZE = 16
NAMES = ("red", "gröön")


def model(task="single-label"):
    """Conv, BatchNorm, pooling; the second output rises with green, the first with red."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((SIZE, SIZE, 3), name="pixels")
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    x = keras.layers.Conv2D(3, 3, padding="same", name="conv")(x)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    x = keras.layers.GlobalAveragePooling2D()(x)
    activation = {"single-label": "softmax", "multi-label": "sigmoid"}.get(task)
    built = keras.Model(inputs, keras.layers.Dense(2, activation=activation, name="out")(x))
    kernel = np.zeros((3, 3, 3, 3), np.float32)
    kernel[1, 1] = np.eye(3)
    built.get_layer("conv").set_weights([kernel, np.full(3, 0.5, np.float32)])
    weights = np.array([[3, -3], [-3, 3], [0.5, 0]], np.float32)
    built.get_layer("out").set_weights([weights, np.array([0.1, -0.1], np.float32)])
    return built


def info(task="single-label", thresholds=()):
    return ModelInfo(ImageInput(size=SIZE), NAMES, task, thresholds=thresholds)


def samples(count=40, seed=0, task="single-label"):
    """Noisy red and green images, as decoded pixels."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    colors = np.array([[190, 60, 90], [60, 190, 90]])[labels][:, None, None]
    images = np.clip(colors + random.normal(0, 50, (count, 20, 24, 3)), 0, 255).astype(np.uint8)
    ids = np.array([f"{i}.png" for i in range(count)], dtype=object)
    targets = labels
    if task != "single-label":
        targets = np.eye(2, dtype=np.float32)[labels] * (1 if task == "multi-label" else 4)
    source = Source(ids, list(images), targets, NAMES, task)
    return Samples(source, ImageInput(size=SIZE))
