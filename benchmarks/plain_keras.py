"""The same jobs written plainly in Keras, as its guides write them: what keras_tl is timed against.

`image_dataset_from_directory`, random layers in the model, `keras.applications` with
`trainable = False`, `fit`. Nothing is cached: with augmentation the guides have nothing to cache.
"""

import time
from pathlib import Path
from typing import Any

import keras
from keras import layers

SIZE, BATCH = 224, 32


def read(folder: Path) -> Any:
    """Batches of pixels and class indices: four fifths to train on, one to validate."""
    return keras.utils.image_dataset_from_directory(
        folder,
        image_size=(SIZE, SIZE),
        batch_size=BATCH,
        seed=0,
        validation_split=0.2,
        subset="both",
        verbose=False,
    )


def vehicles(classes: int, augmented: bool) -> keras.Model:
    """VGG16 with its two dense layers kept and frozen, and a new last layer."""
    full = keras.applications.VGG16(weights=None)
    body = keras.Model(full.input, full.get_layer("fc2").output)
    body.trainable = False
    inputs = x = keras.Input((SIZE, SIZE, 3))
    if augmented:
        x = layers.RandomFlip("horizontal")(x)
        x = layers.RandomZoom((-0.4, 0.0))(x)
        x = layers.RandomBrightness(0.1)(x)
    x = keras.applications.vgg16.preprocess_input(x)
    outputs = layers.Dense(classes, "softmax")(body(x, training=False))
    return _compiled(keras.Model(inputs, outputs), keras.optimizers.SGD(0.001, momentum=0.9))


def classifier(
    body: keras.Model, preprocess: Any, classes: int, first_trained: str | None = None
) -> keras.Model:
    """A head on a frozen body, or on one that trains from a layer on."""
    body.trainable = first_trained is not None
    if first_trained is not None:
        names = [layer.name for layer in body.layers]
        for layer in body.layers[: names.index(first_trained)]:
            layer.trainable = False
        for layer in body.layers:
            if isinstance(layer, layers.BatchNormalization):
                layer.trainable = False
    inputs = keras.Input((SIZE, SIZE, 3))
    x = body(preprocess(inputs), training=False)
    x = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(x))
    outputs = layers.Dense(classes, "softmax")(x)
    return _compiled(keras.Model(inputs, outputs), keras.optimizers.AdamW(1e-3))


def seconds_per_epoch(model: keras.Model, folder: Path, share: float, epochs: int = 2) -> float:
    """Wall seconds of an epoch with its validation, the mean of two, after a warm-up.

    Args:
        model: Compiled.
        folder: The images.
        share: The share of the batches that is timed; the time is scaled up by it.
        epochs: How many epochs are timed.
    """
    train, validation = read(folder)
    steps = [max(round(share * len(part)), 1) for part in (train, validation)]
    model.fit(train.take(3), validation_data=validation.take(1), verbose=0)
    started = time.perf_counter()
    for _ in range(epochs):
        model.fit(train.take(steps[0]), verbose=0)
    per_train_step = (time.perf_counter() - started) / epochs / steps[0]
    started = time.perf_counter()
    model.evaluate(validation.take(steps[1]), verbose=0)
    per_validation_step = (time.perf_counter() - started) / steps[1]
    return len(train) * per_train_step + len(validation) * per_validation_step


def _compiled(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> keras.Model:
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model
