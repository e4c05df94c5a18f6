"""What images say without transfer: a small convolutional network from random weights."""

from dataclasses import replace
from math import ceil, log2
from typing import Any

import keras
import numpy as np

from keras_tl import freezing
from keras_tl.data.image_input import ImageInput
from keras_tl.data.pipeline import Samples
from keras_tl.data.targets import target_unit
from keras_tl.evaluation.baseline import Baseline
from keras_tl.evaluation.predictions import predict_images
from keras_tl.heads import add_head
from keras_tl.training.fit import run_phases
from keras_tl.training.phases import Phase

# Larger images are read at this size: from few images details are not learned, and a
# convolution's cost goes with the pixels.
LARGEST_SIZE = 128
# Channels of the last block; each block before it has half as many.
LAST_WIDTH = 128
# About so many steps, in an allowed number of epochs.
STEPS, LEAST_EPOCHS, MOST_EPOCHS = 2_500, 8, 40
LEARNING_RATE, WEIGHT_DECAY, DROPOUT = 2e-3, 1e-3, 0.3


def image_baseline(
    train: Samples,
    val: Samples,
    measured: Samples,
    image_input: ImageInput,
    *,
    task: str = "single-label",
    batch_size: int = 32,
    seed: int = 0,
    verbose: int = 1,
) -> Baseline:
    """Trains a small network on the images that a model was trained on, and predicts others.

    Images are augmented as for the model. Without pretrained weights the network has to learn
    edges first, so it gets more steps than a new head does.

    Args:
        train: The images to learn from.
        val: Those that choose the epoch; may be empty.
        measured: Those to predict.
        image_input: How the model sees them.
        task: "single-label", "multi-label" or "regression".
        batch_size: Images in a batch.
        seed: Decides initial weights, dropout and the order of images.
        verbose: As in Keras' `fit`: 0 is silent, 1 shows bars, 2 a line an epoch.

    Returns:
        The outputs for `measured`, and what the network was.
    """
    size = min(image_input.size, LARGEST_SIZE)
    seen = replace(image_input, size=size)
    train, val, measured = (replace(each, input_spec=seen) for each in (train, val, measured))
    keras.utils.set_random_seed(seed)
    model = small_network(size, train.targets(), task)
    policy = freezing.Nothing(batch_norm="trained")
    epochs = min(max(ceil(STEPS * batch_size / len(train)), LEAST_EPOCHS), MOST_EPOCHS)
    settings: dict[str, Any] = {"weight_decay": WEIGHT_DECAY, "name": "baseline"}
    phase = Phase(policy, epochs, LEARNING_RATE, **settings)
    how: dict[str, Any] = {"task": task, "batch_size": batch_size, "seed": seed}
    run_phases(model, [phase], train, val, **how, feature_store=False, verbose=verbose)
    outputs = predict_images(model, measured)
    facts = {"image_size": size, "parameters": model.count_params(), "epochs": epochs}
    return Baseline("A small network trained from scratch", outputs, facts)


def small_network(size: int, targets: np.ndarray, task: str) -> keras.Model:
    """Builds convolutions of 3 x 3 pixels, normalised, each followed by a halving of the size.

    Args:
        size: Height and width of the images in pixels.
        targets: The training targets, float32 `[images, outputs]`; a regression's unit is theirs.
        task: A name in `keras_tl.tasks`.

    Returns:
        A model from RGB pixels `[batch, size, size, 3]` in 0..255 to float32 `[batch, outputs]`,
        of two to four blocks.
    """
    pixels = keras.Input((size, size, 3), name="pixels")
    x = keras.layers.Rescaling(1 / 127.5, -1.0, name="preprocessing")(pixels)
    blocks = min(max(round(log2(size / 8)), 2), 4)
    for block in range(blocks):
        name, width = f"block_{block}", LAST_WIDTH >> (blocks - 1 - block)
        options: dict[str, Any] = {"padding": "same", "use_bias": False, "name": f"{name}_conv"}
        x = keras.layers.Conv2D(width, 3, **options)(x)
        x = keras.layers.BatchNormalization(name=f"{name}_bn")(x)
        x = keras.layers.ReLU(name=f"{name}_relu")(x)
        x = keras.layers.MaxPooling2D(padding="same", name=f"{name}_halve")(x)
    unit = {}
    if task == "regression":
        mean, scale = target_unit(targets)
        unit = {"target_mean": mean.tolist(), "target_scale": scale.tolist()}
    body = keras.Model(pixels, x, name="small_network")
    return add_head(body, targets.shape[1], task=task, dropout=DROPOUT, **unit)
