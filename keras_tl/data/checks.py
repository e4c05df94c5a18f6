"""Answers, in one line, to what is most often wrong with pixels and splits."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_tl.data.labels import first_few
from keras_tl.data.source import Source
from keras_tl.errors import InputError, sentence

log = logging.getLogger("keras_tl")

# Least and largest value of pixels, what that looks like, and what makes them uint8 again.
SCALES = (
    (0, 1, ", as if scaled to 0..1", "Pass (255 * images).round().astype('uint8')."),
    (-1, 1, ", as if scaled to -1..1", "Pass (127.5 * (images + 1)).round().astype('uint8')."),
    (0, 255, "", "Pass images.round().astype('uint8')."),
    (0, 65535, ", as if of 16 bits", "Pass (images // 257).astype('uint8')."),
    (-np.inf, np.inf, "", "Pass the pixels before anything was done to them."),
)


def other_pixels(images: np.ndarray | Sequence[Any], index: int) -> InputError:
    """The error for pixels that are no uint8.

    The smallest and the largest value of all images of that dtype tell what was done to them.

    Args:
        images: The images.
        index: The first one that is no uint8.

    Returns:
        The error, whose last sentence is the code that makes them uint8 0..255.
    """
    dtype = np.asarray(images[index]).dtype
    alike = [a for a in map(np.asarray, images) if a.dtype == dtype and a.size]
    received = f"{dtype} in image {index}"
    fix = SCALES[-1][-1]
    if alike and dtype.kind in "iuf":
        low, high = min(a.min() for a in alike), max(a.max() for a in alike)
        received += f" (values from {low:.4g} to {high:.4g}"
        guess, fix = next(
            ((guess, fix) for a, b, guess, fix in SCALES if a <= low and high <= b), ("", fix)
        )
        received += f"{guess})"
    return InputError("uint8 pixels from 0 to 255 (the model scales them itself)", received, fix)


def refuse_scaled_pixels(items: Sequence[Any]) -> None:
    """Refuses images all of whose pixels are 0 or 1: scaled, and then made integers.

    Args:
        items: As in a `Source`; only decoded images (uint8 arrays) are looked at, up to the first
            that has a brighter pixel.

    Raises:
        InputError: No pixel of any image is above 1, and some are 1.
    """
    arrays = [item for item in items if isinstance(item, np.ndarray)]
    if not arrays or any(array.max() > 1 for array in arrays):
        return
    if any(array.any() for array in arrays):
        raise InputError(
            "pixels from 0 to 255 (the model scales them itself)",
            f"only zeros and ones in all {len(arrays)} images",
            "Pass the pixels before they were divided by 255; of masks, 255 * images.",
        )


def warn_of_untrained_classes(source: Source) -> None:
    """Says which classes the val or test split holds and the train split does not.

    Args:
        source: Items with their splits.
    """
    if source.task == "regression":
        return
    is_untrained = source.occurring() & ~source.occurring("train")
    untrained = [repr(source.class_names[c]) for c in np.flatnonzero(is_untrained)]
    if untrained:
        log.warning(
            "%s",
            sentence(
                "training items of every class",
                f"none of {first_few(untrained)}, which val or test holds",
                "It can never be predicted: move some of its items to train, or leave it out.",
            ),
        )
