"""One look at every image: what is needed to compare it with others and to judge it."""

import hashlib
import json
import logging
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, fields, replace

import numpy as np
import tensorflow as tf
from scipy.ndimage import uniform_filter1d

from keras_tl.data.audit.sides import sides_of
from keras_tl.data.image_input import ImageInput
from keras_tl.data.pipeline import Samples
from keras_tl.data.remembered import Remembered
from keras_tl.data.source import Source
from keras_tl.files import scratch_array

log = logging.getLogger("keras_tl")

# Sides in pixels: of the decoded image, of its grey thumbnail, of its colour thumbnail.
SIDE, THUMB, COLOURS = 128, 64, 8
BATCH = 64
# Raise VERSION with every change of what is seen. The most looks that are kept, of 4 KB each.
VERSION, MOST_REMEMBERED = 1, 250_000
# Looks asked for at once.
RECALLED = 1000
SECONDS_BETWEEN_REPORTS = 5.0
# Rec. 601, as JPEG has it: grey, and how much bluer and redder than grey.
_YCC = np.array(
    [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], np.float32
)
# One image's look as it is remembered; `Looks` has the same names.
_LOOK = np.dtype(
    [
        ("thumbs", np.uint8, (THUMB, THUMB)),
        ("colours", np.int8, (COLOURS, COLOURS, 2)),
        ("sides", "<i4", 2),
        ("pixel_hashes", np.uint8, 32),
        ("dark_end", "<f4"),
        ("light_end", "<f4"),
        ("deviation", "<f4"),
        ("blur", "<f4"),
    ]
)


@dataclass(frozen=True)
class Looks:
    """What each image looks like.

    Attributes:
        thumbs: uint8 `[images, 64, 64]`, grey, squashed to a square.
        colours: int8 `[images, 8, 8, 2]`, Cb and Cr, 0 where there is no colour.
        sides: int32 `[images, 2]`, height and width of the file's picture; 0 where not known.
        pixel_hashes: Object `[images]`: equal for files of equal sides that decode to the same
            pixels (at 128 x 128).
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

    What an image looks like is remembered by its content (see `keras_tl.data.remembered`).

    Args:
        source: Images that `inspect` has found good, at least one.
        image_input: How they are decoded; its size and way of resizing do not matter.

    Returns:
        What they look like, in their order.
    """
    small = replace(image_input, size=SIDE, resize="squash", antialias=True)
    keys = _keys(source, small)
    rows = scratch_array((len(source),), _LOOK)
    with closing(Remembered("looks", most=MOST_REMEMBERED)) as remembered:
        unknown = _recalled(remembered, keys, rows)
        done = 0
        for batch in _looked_at(source.take(unknown), small):
            here = unknown[done : done + len(batch)]
            rows[here] = batch
            done += len(batch)
            for i, row in zip(here, batch, strict=True):
                remembered.add(keys[i], row.tobytes())
    hashes = np.array([row.tobytes().hex() for row in rows["pixel_hashes"]], dtype=object)
    small_fields = {field.name: np.array(rows[field.name]) for field in fields(Looks)[1:]}
    return Looks(**{**small_fields, "thumbs": rows["thumbs"], "pixel_hashes": hashes})


def _recalled(remembered: Remembered, keys: list[bytes], rows: np.ndarray) -> np.ndarray:
    """Fills in what is remembered; returns the places of the others, int64."""
    unknown = []
    for at in range(0, len(keys), RECALLED):
        known = remembered.recall(key for key in keys[at : at + RECALLED] if key)
        for i, key in enumerate(keys[at : at + RECALLED], at):
            if key in known:
                rows[i] = np.frombuffer(known[key], _LOOK)[0]
            else:
                unknown.append(i)
    return np.array(unknown, np.int64)


def _keys(source: Source, small: ImageInput) -> list[bytes]:
    """The key each image's look is remembered by; empty if its content is not known."""
    settings = [VERSION, small.decoder_version, tf.version.VERSION]
    texts = [json.dumps([*settings, key]) if key else "" for key in source.hashes]
    return [hashlib.sha256(text.encode()).digest() if text else b"" for text in texts]


def _looked_at(source: Source, small: ImageInput) -> Iterator[np.ndarray]:
    """Looks at images, a batch at a time, and logs progress every few seconds."""
    if not len(source):
        return
    images = Samples(source, small).images(np.arange(len(source)))
    said, done = time.monotonic(), 0
    for batch in images.batch(BATCH).as_numpy_iterator():
        items = source.items[done : done + len(batch)]
        done += len(batch)
        yield _measured(batch, np.array([sides_of(item) for item in items], "<i4"))
        if time.monotonic() - said > SECONDS_BETWEEN_REPORTS:
            said = time.monotonic()
            log.info("Looked at %d of %d images.", done, len(source))


def blur(grey: np.ndarray, width: int = 9) -> np.ndarray:
    """How little an image changes when it is blurred: a blurred one changes least.

    Crete et al., "The Blur Effect: Perception and Estimation with a New No-Reference Perceptual
    Blur Metric", SPIE 6492, 2007; here over both axes together, while they take the more blurred
    axis: an image with edges along one axis only is not blurred.

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


def _measured(batch: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """The looks (`_LOOK`) of pixels `[images, 128, 128, 3]` and the sides of their files."""
    rows = np.zeros(len(batch), _LOOK)
    ycc = batch.astype(np.float32) @ _YCC.T
    grey = ycc[..., 0]
    rows["thumbs"] = np.rint(_averaged(grey, THUMB))
    rows["colours"] = np.clip(np.rint(_averaged(ycc[..., 1:], COLOURS)), -127, 127)
    rows["sides"] = sides
    for row, image in zip(rows, batch, strict=True):
        row["pixel_hashes"] = np.frombuffer(_hash(image, row["sides"]), np.uint8)
    rows["dark_end"], rows["light_end"] = np.quantile(grey, (0.01, 0.99), axis=(1, 2))
    rows["deviation"] = grey.std(axis=(1, 2))
    rows["blur"] = blur(grey)
    return rows


def _hash(pixels: np.ndarray, sides: np.ndarray) -> bytes:
    return hashlib.sha256(sides.tobytes() + pixels.tobytes()).digest()


def _averaged(images: np.ndarray, side: int) -> np.ndarray:
    """Means over squares: `[images, SIDE, SIDE, ...]` to `[images, side, side, ...]`."""
    parts = SIDE // side
    return images.reshape(len(images), side, parts, side, parts, *images.shape[3:]).mean((2, 4))
