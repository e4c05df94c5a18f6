"""The fourteen operations of RandAugment, and a few of them drawn for each view.

Images are float32 `[height, width, 3]` that hold whole numbers in 0..255; so are the results.
What PIL's `ImageOps` and `ImageEnhance` do to such an image is done here with graph operations;
where PIL fills with black, edges are mirrored, as in all other augmentation.

Reference: Cubuk et al., "RandAugment: Practical Automated Data Augmentation with a Reduced Search
Space", NeurIPS 2020; Müller and Hutter, "TrivialAugment: Tuning-free Yet State-of-the-Art Data
Augmentation", ICCV 2021.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from keras_tl.data.warping import about_centre, affine, warp

LEVELS = 256
# PIL's filter SMOOTH, of which "sharpness" is the opposite.
_SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32)


def solarize(image: tf.Tensor, threshold: tf.Tensor) -> tf.Tensor:
    """Inverts values from `threshold` on; from 0 on, that is the negative."""
    return tf.where(image >= threshold, 255 - image, image)


def posterize(image: tf.Tensor, bits: tf.Tensor) -> tf.Tensor:
    """Keeps the upper `bits` (1..8, rounded) of 8 bits."""
    step = 2.0 ** (8 - tf.round(bits))
    return tf.floor(image / step) * step


def autocontrast(image: tf.Tensor) -> tf.Tensor:
    """Stretches each channel to 0..255; a channel of one value stays."""
    values = tf.cast(image, tf.int32)
    low, high = tf.reduce_min(values, (0, 1)), tf.reduce_max(values, (0, 1))
    stretched = (values - low) * 255 // tf.maximum(high - low, 1)
    return tf.cast(tf.where(high > low, stretched, values), tf.float32)


def equalize(image: tf.Tensor) -> tf.Tensor:
    """Spreads each channel's values so that all are about equally frequent, as PIL does."""
    values = tf.cast(image, tf.int32)
    slots = tf.reshape(values + LEVELS * tf.range(3), (-1,))
    counts = tf.reshape(tf.math.bincount(slots, minlength=3 * LEVELS), (3, LEVELS))
    last = tf.gather(counts, tf.reduce_max(values, (0, 1)), axis=1, batch_dims=1)
    step = (tf.reduce_sum(counts, axis=1) - last)[:, None] // 255
    below = tf.cumsum(counts, axis=1, exclusive=True)
    spread = tf.minimum((below + step // 2) // tf.maximum(step, 1), 255)
    table = tf.where(step > 0, spread, tf.range(LEVELS))
    looked_up = tf.gather(tf.reshape(table, (-1,)), values + LEVELS * tf.range(3))
    return tf.cast(looked_up, tf.float32)


def colour(image: tf.Tensor, change: tf.Tensor) -> tf.Tensor:
    """Multiplies the distance from grey by 1 + change: -1 is grey."""
    return _blend(_grey(image), image, 1 + change)


def contrast(image: tf.Tensor, change: tf.Tensor) -> tf.Tensor:
    """Multiplies the distance from the mean grey by 1 + change: -1 is one grey."""
    # A mean of integers is exact, so that it does not depend on the order of summing.
    grey = tf.cast(_grey(image), tf.int64)
    mean = tf.round(tf.reduce_sum(grey) / tf.size(grey, tf.int64))
    return _blend(tf.cast(mean, tf.float32), image, 1 + change)


def brightness(image: tf.Tensor, change: tf.Tensor) -> tf.Tensor:
    """Multiplies by 1 + change: -1 is black."""
    return _blend(tf.constant(0.0), image, 1 + change)


def sharpness(image: tf.Tensor, change: tf.Tensor) -> tf.Tensor:
    """Multiplies the distance from a smoothed image by 1 + change: -1 is the smoothed one.

    At the edge nothing changes.
    """
    kernel = tf.constant(np.repeat(_SMOOTH[..., None, None], 3, axis=2))
    total = tf.nn.depthwise_conv2d(image[None], kernel, (1, 1, 1, 1), "VALID")[0]
    smooth = tf.round(total / _SMOOTH.sum())
    inside = _blend(smooth, image[1:-1, 1:-1], 1 + change)
    rows = tf.concat([image[:1, 1:-1], inside, image[-1:, 1:-1]], axis=0)
    return tf.concat([image[:, :1], rows, image[:, -1:]], axis=1)


def shear_x(image: tf.Tensor, level: tf.Tensor) -> tf.Tensor:
    """Moves each row to the left by `level` times its distance below the centre."""
    return _moved(image, (1.0, level, 0.0, 1.0))


def shear_y(image: tf.Tensor, level: tf.Tensor) -> tf.Tensor:
    """Moves each column up by `level` times its distance to the right of the centre."""
    return _moved(image, (1.0, 0.0, level, 1.0))


def translate_x(image: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    """Moves the content to the left by a share of the width."""
    return _moved(image, (1.0, 0.0, 0.0, 1.0), shift_x=share)


def translate_y(image: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    """Moves the content up by a share of the height."""
    return _moved(image, (1.0, 0.0, 0.0, 1.0), shift_y=share)


def rotate(image: tf.Tensor, degrees: tf.Tensor) -> tf.Tensor:
    """Turns the content counter-clockwise about the centre."""
    matrix = affine(
        _size(image),
        scale_x=tf.constant(1.0),
        scale_y=tf.constant(1.0),
        angle=degrees * np.deg2rad(1),
        shift_x=tf.constant(0.0),
        shift_y=tf.constant(0.0),
    )
    return _whole(warp(image, matrix))


def _moved(
    image: tf.Tensor,
    matrix: tuple[float | tf.Tensor, ...],
    shift_x: float | tf.Tensor = 0.0,
    shift_y: float | tf.Tensor = 0.0,
) -> tf.Tensor:
    size = _size(image)
    a, b, c, d = (tf.convert_to_tensor(value, tf.float32) for value in matrix)
    return _whole(warp(image, about_centre(size, (a, b, c, d), (shift_x * size, shift_y * size))))


def _size(image: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.shape(image)[0], tf.float32)


def _grey(image: tf.Tensor) -> tf.Tensor:
    return tf.round(tf.image.rgb_to_grayscale(image))


def _blend(start: tf.Tensor, image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    return _whole(start + factor * (image - start))


def _whole(image: tf.Tensor) -> tf.Tensor:
    return tf.clip_by_value(tf.round(image), 0.0, 255.0)


@dataclass(frozen=True)
class Operation:
    """One row of the table below.

    Attributes:
        apply: Image and level in, image out.
        start: The level of magnitude 0.
        end: The level of magnitude 1, in RandAugment.
        wide_end: The same in TrivialAugment, whose "wide" space goes further.
        signed: Whether the level's sign is drawn too.
    """

    apply: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    start: float = 0.0
    end: float = 0.0
    wide_end: float = 0.0
    signed: bool = False


OPERATIONS = {
    "identity": Operation(lambda image, level: image),
    "autocontrast": Operation(lambda image, level: autocontrast(image)),
    "equalize": Operation(lambda image, level: equalize(image)),
    "rotate": Operation(rotate, 0.0, 30.0, 135.0, signed=True),
    "solarize": Operation(solarize, 256.0, 0.0, 0.0),
    "posterize": Operation(posterize, 8.0, 4.0, 2.0),
    "colour": Operation(colour, 0.0, 0.9, 0.99, signed=True),
    "contrast": Operation(contrast, 0.0, 0.9, 0.99, signed=True),
    "brightness": Operation(brightness, 0.0, 0.9, 0.99, signed=True),
    "sharpness": Operation(sharpness, 0.0, 0.9, 0.99, signed=True),
    "shear-x": Operation(shear_x, 0.0, 0.3, 0.99, signed=True),
    "shear-y": Operation(shear_y, 0.0, 0.3, 0.99, signed=True),
    # The papers' 150 of 331 pixels, and 32 of 224.
    "translate-x": Operation(translate_x, 0.0, 150 / 331, 32 / 224, signed=True),
    "translate-y": Operation(translate_y, 0.0, 150 / 331, 32 / 224, signed=True),
}


def apply_drawn(image: tf.Tensor, magnitude: float | None, draws: tf.Tensor) -> tf.Tensor:
    """Applies drawn operations to an image, one after the other.

    Args:
        image: float32 `[size, size, 3]` of whole numbers in 0..255.
        magnitude: How strong all of them are, in [0, 1] (RandAugment's M of 30 is M / 30); None
            draws the magnitude of each, from the wider space (TrivialAugment).
        draws: float32 `[operations, 3]`, uniform in [0, 1): which, how strong, which sign.

    Returns:
        An image of the same kind.
    """
    rows = list(OPERATIONS.values())
    for which, strength, side in (tf.unstack(row) for row in tf.unstack(draws)):
        share = strength if magnitude is None else tf.constant(magnitude, tf.float32)
        sign = tf.where(side < 0.5, -1.0, 1.0)
        branches = [
            lambda row=row, image=image, share=share, sign=sign: row.apply(
                image, _level(row, share, sign, wide=magnitude is None)
            )
            for row in rows
        ]
        index = tf.cast(which * len(rows), tf.int32)
        image = tf.ensure_shape(tf.switch_case(index, branches), image.shape)
    return image


def _level(row: Operation, share: tf.Tensor, sign: tf.Tensor, *, wide: bool) -> tf.Tensor:
    level = row.start + share * ((row.wide_end if wide else row.end) - row.start)
    return sign * level if row.signed else level
