"""Stored outputs of a frozen prefix, as training reads them; and how linear layers see them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Features:
    """Rows of an entry in a given order, read from disk as they are asked for.

    Attributes:
        shards: For each shard its tensors, memory-mapped `[rows, ...]`.
        where: int64 `[items, 2]`: the shard and the row in it of each item.
    """

    shards: list[list[np.ndarray]]
    where: np.ndarray

    def __len__(self) -> int:
        return len(self.where)

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Shape of each tensor of one item."""
        return [array.shape[1:] for array in self.shards[0]] if self.shards else []

    @property
    def dtypes(self) -> list[np.dtype]:
        """The narrowest dtype of each tensor that holds what all shards have."""
        return [
            np.result_type(*{array.dtype for array in arrays})
            for arrays in zip(*self.shards, strict=True)
        ]

    def gather(
        self, indices: np.ndarray, dtypes: Sequence[np.dtype] | None = None
    ) -> list[np.ndarray]:
        """Reads the items at `indices` (int64 `[k]`): `[k, ...]` for each tensor.

        Args:
            indices: Which items, in which order.
            dtypes: What each tensor is given as; by default float32.
        """
        kinds = dtypes or [np.dtype(np.float32)] * len(self.shapes)
        out = [
            np.empty((len(indices), *shape), kind)
            for shape, kind in zip(self.shapes, kinds, strict=True)
        ]
        shards, rows = self.where[indices].T
        for shard in np.unique(shards):
            here = np.flatnonzero(shards == shard)
            for target, array in zip(out, self.shards[shard], strict=True):
                target[here] = array[rows[here]]
        return out


def scaling(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Standardises features for a linear layer: each gets a mean of 0 and a deviation of 1.

    Features that are mostly 0, such as word counts, are neither shifted nor scaled one by one:
    their deviation says how rare they are, and the rarest would count most. They share one scale;
    together they weigh as much as the same number of others, and at most as much as all others.

    Args:
        features: Float `[items, features]`.

    Returns:
        What to subtract from each feature, and then to multiply it by, float32 `[features]`; the
        factor is 0 for one that does not vary.
    """
    mean = features.mean(axis=0, dtype=np.float64).astype(np.float32)
    deviation = features.std(axis=0, dtype=np.float64).astype(np.float32)
    varies = deviation > 1e-6 * np.maximum(np.abs(mean), 1e-30)
    scale = np.where(varies, 1 / np.where(varies, deviation, 1), 0).astype(np.float32)
    rare = varies & (np.count_nonzero(features, axis=0) < len(features) / 2)
    if rare.any():
        weight = np.count_nonzero(rare)
        weight = min(weight, np.count_nonzero(varies & ~rare) or weight)
        squares = (features[:, rare].astype(np.float64) ** 2).sum(axis=1).mean()
        scale[rare] = np.sqrt(weight / squares)
    return np.where(rare, np.float32(0), mean), scale
