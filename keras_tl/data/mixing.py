"""Two images as one: cutmix, which belongs to an image's view."""

import hashlib
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

# Places of each image on the circle below: the more, the more evenly partners are chosen.
PLACES = 16


@dataclass(frozen=True)
class CutMix:
    """Which image a box is pasted from, and where to.

    Attributes:
        partners: int64 `[k]`: the image that the box shows.
        boxes: int32 `[k, 4]`: top, left, bottom and right, the last two not included; where
            bottom is top, nothing is pasted.
    """

    partners: np.ndarray
    boxes: np.ndarray

    @property
    def areas(self) -> np.ndarray:
        """Pixels that are pasted over: int64 `[k]`."""
        top, left, bottom, right = self.boxes.astype(np.int64).T
        return (bottom - top) * (right - left)


class Circle:
    """A circle on which every image has `PLACES` places; equal images have the same ones.

    Args:
        seeds: All images' numbers from `augment.image_seeds`: int64 `[images]`.
    """

    def __init__(self, seeds: np.ndarray):
        self.seeds = seeds
        images, self._first = np.unique(seeds, return_index=True)
        hashes = [hashlib.shake_128(image.tobytes()).digest(8 * PLACES) for image in images]
        self._places = np.frombuffer(b"".join(hashes), "<u8")
        self._order = np.argsort(self._places, kind="stable")

    def next_to(self, points: np.ndarray) -> np.ndarray:
        """The image of the first place at or after each point (uint64 `[k]`): int64 `[k]`."""
        found = np.searchsorted(self._places, points, sorter=self._order) % len(self._order)
        return self._first[self._order[found] // PLACES]


def draw_cutmix(
    circle: Circle,
    indices: np.ndarray,
    views: np.ndarray,
    *,
    probability: float,
    settings: int,
    size: int,
) -> CutMix:
    """Draws partner and box of views, each a hash of image, view and settings.

    A box covers 1 - u of the area before it is cut off at the edges, u uniform in [0, 1); its
    centre is anywhere (Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers
    with Localizable Features", ICCV 2019, with their alpha of 1). The partner is the image that
    comes next after a drawn point of the circle (consistent hashing, Karger et al., STOC 1997): so
    an image that is added or removed changes the partners of few others, and what is stored of the
    rest stays valid.

    Args:
        circle: All images.
        indices: Which images: int64 `[k]`.
        views: In which views: int64 `[k]`.
        probability: Share of the views that get a box.
        settings: The augmentation's fingerprint.
        size: Height and width of the images.

    Returns:
        Partners and boxes.
    """
    pairs = zip(circle.seeds[indices].tolist(), views.tolist(), strict=True)
    digests = [
        hashlib.blake2b(f"{settings} {seed} {view}".encode(), digest_size=40).digest()
        for seed, view in pairs
    ]
    numbers = np.frombuffer(b"".join(digests), "<u8").reshape(-1, 5)
    whether, keep, middle_y, middle_x = (numbers[:, 1:] / 2.0**64).T
    side = np.where(whether < probability, (size * np.sqrt(1 - keep)).astype(np.int64), 0)
    middle = np.stack([middle_y, middle_x], axis=1) * size
    first = middle.astype(np.int64) - side[:, None] // 2
    ends = np.concatenate([first, first + side[:, None]], axis=1)
    return CutMix(circle.next_to(numbers[:, 0]), np.clip(ends, 0, size).astype(np.int32))


def paste(image: tf.Tensor, other: tf.Tensor, box: tf.Tensor) -> tf.Tensor:
    """Shows `other` within a box, and `image` around it.

    Args:
        image: `[size, size, 3]`.
        other: The same.
        box: int32 `[4]`, see `CutMix`.
    """
    rows, columns = (tf.range(tf.shape(image)[axis]) for axis in (0, 1))
    inside_rows = (rows >= box[0]) & (rows < box[2])
    inside_columns = (columns >= box[1]) & (columns < box[3])
    return tf.where((inside_rows[:, None] & inside_columns)[..., None], other, image)
