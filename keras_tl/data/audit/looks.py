"""One look at every image: what is needed to compare it with others and to judge it."""

import hashlib
import logging
import time
from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import uniform_filter1d

from keras_tl.data.audit.sides import sides_of
from keras_tl.data.image_input import ImageInput
from keras_tl.data.pipeline import Samples
from keras_tl.data.source import Source

LOG = logging.getLogger("keras_tl")

# Sides in pixels: of what is looked at, of the grey thumbnail, of the colours' thumbnail.
SIDE, THUMB, COLOURS = 128, 64, 8
BATCH = 64
SECONDS_BETWEEN_REPORTS = 5.0
# Rec. 601, as JPEG has it: grey, and how much bluer and redder than grey.
_YCC = np.array(
    [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], np.float32
)


@dataclass(frozen=True)
class Looks:
    """What each image looks like.

    Attributes:
        thumbs: uint8 `[images, 64, 64]`, grey, squashed to a square.
        colours: int8 `[images, 8, 8, 2]`, Cb and Cr, 0 where there is no colour.
        sides: int64 `[images, 2]`, height and width of the file's picture; 0 where not known.
        pixel_hashes: What two files share that decode to the same pixels (at 128 x 128).
        dark_end: float32 `[images]`, the grey value that 1 % of the pixels are below, 0..255.
        light_end: float32 `[images]`, the one that 1 % are above.
        deviation: float32 `[images]`, of the grey values.
        blur: float32 `[images]`, 0..1, see `blur`.
    """

    thumbs: np.ndarray
    colours: np.ndarray
    sides: np.ndarray
    pixel_hashes: np.ndarray
    dark_end: np.ndarray
    light_end: np.ndarray
    deviation: np.ndarray
    blur: np.ndarray

    def __len__(self) -> int:
        return len(self.thumbs)


def look(source: Source, image_input: ImageInput) -> Looks:
    """Decodes every image once, small, and keeps about 4 KB of each.

    Args:
        source: Images that `inspect` has found good, at least one.
        image_input: How they are decoded; its size and way of resizing do not matter.

    Returns:
        What they look like, in their order.
    """
    small = replace(image_input, size=SIDE, resize="squash", antialias=True)
    images = Samples(source, small).images(np.arange(len(source)))
    sides = np.array([sides_of(item) for item in source.items], np.int64).reshape(-1, 2)
    rows: list[tuple[np.ndarray, ...]] = []
    said, done = time.monotonic(), 0
    for batch in images.batch(BATCH).as_numpy_iterator():
        rows.append(_measures(batch, sides[done : done + len(batch)]))
        done += len(batch)
        if time.monotonic() - said > SECONDS_BETWEEN_REPORTS:
            said = time.monotonic()
            LOG.info("Looked at %d of %d images.", done, len(source))
    thumbs, colours, hashes, dark, light, deviation, blurs = map(
        np.concatenate, zip(*rows, strict=True)
    )
    return Looks(thumbs, colours, sides, hashes, dark, light, deviation, blurs)


def blur(grey: np.ndarray, width: int = 9) -> np.ndarray:
    """How little an image changes when it is blurred: a blurred one changes least.

    Crete et al., "The Blur Effect: Perception and Estimation with a New No-Reference Perceptual
    Blur Metric", SPIE 6492, 2007; here of both axes together, where they take the more blurred
    one, since what has edges along one axis only is not blurred.

    Args:
        grey: Float32 `[images, height, width]`.
        width: Of the averaging filter, in pixels.

    Returns:
        Float32 `[images]`: 0 for the sharpest, 1 for an image without any edge.
    """
    total, lost = np.zeros(len(grey)), np.zeros(len(grey))
    for axis in (1, 2):
        change = np.abs(np.diff(grey, axis=axis))
        blurred = np.abs(np.diff(uniform_filter1d(grey, width, axis, mode="nearest"), axis=axis))
        total += change.sum(axis=(1, 2))
        lost += np.maximum(change - blurred, 0).sum(axis=(1, 2))
    return np.where(total > 0, 1 - lost / np.maximum(total, 1e-6), 1).astype(np.float32)


def _measures(batch: np.ndarray, sides: np.ndarray) -> tuple[np.ndarray, ...]:
    ycc = batch.astype(np.float32) @ _YCC.T
    grey = ycc[..., 0]
    hashes = [_hash(image, pair) for image, pair in zip(batch, sides, strict=True)]
    dark, light = np.quantile(grey, (0.01, 0.99), axis=(1, 2)).astype(np.float32)
    return (
        np.rint(_averaged(grey, THUMB)).astype(np.uint8),
        np.clip(np.rint(_averaged(ycc[..., 1:], COLOURS)), -127, 127).astype(np.int8),
        np.array(hashes, dtype=object),
        dark,
        light,
        grey.std(axis=(1, 2)),
        blur(grey),
    )


def _hash(pixels: np.ndarray, sides: np.ndarray) -> str:
    return hashlib.sha256(sides.tobytes() + pixels.tobytes()).hexdigest()


def _averaged(images: np.ndarray, side: int) -> np.ndarray:
    """Means over squares: `[images, SIDE, SIDE, ...]` to `[images, side, side, ...]`."""
    parts = SIDE // side
    return images.reshape(len(images), side, parts, side, parts, *images.shape[3:]).mean((2, 4))
