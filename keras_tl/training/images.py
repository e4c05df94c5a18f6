"""Labelled images as training knows them."""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import tensorflow as tf


class Images(Protocol):
    """Labelled images as training knows them; `keras_tl.data.pipeline.Samples` is one."""

    def __len__(self) -> int: ...

    @property
    def keys(self) -> list[str]:
        """SHA-256 of each image's content."""

    @property
    def views(self) -> int:
        """How many views of each image there are; epoch e reads view e modulo this."""

    @property
    def mixes(self) -> bool:
        """Whether views show a part of another image."""

    def row_keys(self, view: int | None) -> list[str]:
        """What tells the images of a view apart: the content of all that each shows."""

    def mixed(self, values: np.ndarray, view: int | None) -> np.ndarray:
        """Targets or weights of the images, `[images, ...]`, as a view mixes them."""

    def fingerprint(self, view: int | None) -> dict[str, Any]:
        """Everything beside the content that decides the pixels of a view."""

    def targets(self) -> np.ndarray:
        """Float32 `[images, outputs]`."""

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """The order of the images in an epoch: int64 `[images]`."""

    def images(self, indices: np.ndarray, view: int | None = None) -> tf.data.Dataset:
        """Pixels of the images at `indices`; a view is augmented, None is not."""

    def batches(
        self,
        batch_size: int,
        *,
        seed: int | None = None,
        epochs: int = 1,
        first_epoch: int = 0,
        first_step: int = 0,
        drop_remainder: bool = False,
        weights: np.ndarray | None = None,
        endless_views: bool = False,
        order: Callable[[int], tuple[np.ndarray, np.ndarray]] | None = None,
        steps: int | None = None,
    ) -> tf.data.Dataset:
        """Batches of pixels and targets, see `Samples.batches`."""
