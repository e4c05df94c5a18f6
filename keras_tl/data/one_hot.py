"""One-hot rows that are made on demand."""

from typing import Any

import numpy as np

# Larger targets are made on demand: 10,000 classes of 100,000 items would take 4 GB.
MOST_HELD = 2**24


class OneHotRows:
    """A float32 array `[items, classes]` of one-hot rows that stores only the class indices.

    It supports what training needs of targets: the shape, rows by their indices, the classes by
    `argmax(axis=1)`; as an argument of NumPy it becomes the whole array.

    Args:
        labels: int64 `[items]`, in 0..classes-1.
        classes: How many there are.
    """

    dtype = np.dtype(np.float32)
    ndim = 2

    def __init__(self, labels: np.ndarray, classes: int):
        self.labels = labels
        self.shape = (len(labels), classes)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: Any) -> np.ndarray:
        labels = np.asarray(self.labels[rows])
        made = np.zeros((*labels.shape, self.shape[1]), np.float32)
        np.put_along_axis(made, labels[..., None], 1.0, axis=-1)
        return made

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:] if dtype is None else self[:].astype(dtype)

    def argmax(self, axis: int) -> np.ndarray:
        """The classes: int64 `[items]`."""
        if axis not in (1, -1):
            raise ValueError(f"expected axis 1, received {axis}")
        return self.labels


def one_hot(labels: np.ndarray, classes: int) -> Any:
    """One-hot rows, float32 `[items, classes]`; an array where it is small.

    Args:
        labels: int64 `[items]`.
        classes: How many there are.

    Returns:
        An array of up to `MOST_HELD` numbers, or `OneHotRows`.
    """
    rows = OneHotRows(labels, classes)
    return rows if len(labels) * classes > MOST_HELD else rows[:]
