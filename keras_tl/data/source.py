"""Labelled items of one data set, wherever they come from."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from keras_tl.errors import InputError

SPLITS = ("train", "val", "test")


def content_hash(item: str | bytes | np.ndarray | tuple[str, ...]) -> str:
    """Returns the SHA-256 of an item's content, whatever its name.

    Args:
        item: A file's path, encoded bytes, decoded pixels (whose shape counts too), or texts.
    """
    if isinstance(item, np.ndarray):
        content = str(item.shape).encode() + np.ascontiguousarray(item).tobytes()
    elif isinstance(item, tuple):
        # JSON's quotes keep ("ab", "c") and ("a", "bc") apart.
        content = json.dumps(item).encode()
    else:
        content = Path(item).read_bytes() if isinstance(item, str) else item
    return hashlib.sha256(content).hexdigest()


@dataclass(frozen=True)
class Skipped:
    """An item that was passed over, and why.

    Attributes:
        id: The item's id, or the file's path relative to the data folder.
        reason: Why, in a few words ("empty file", "not an image file").
        bad: True where it should have been an item (a corrupt photograph); False where it is
            merely foreign or hidden (a `.txt` beside photographs).
    """

    id: str
    reason: str
    bad: bool = True


@dataclass(frozen=True)
class Source:
    """Items with their labels, in a fixed order.

    Attributes:
        ids: Unique, stable, readable names, one for each item (a path relative to the data).
        items: What to read, one for each id: file paths (`str`), encoded images (`bytes`),
            decoded images (uint8 arrays `[height, width, 1, 3 or 4]`), or texts (tuples of one
            `str`, or of two for pairs, so that no text is taken for a path).
        labels: int64 `[items]`, class indices, for "single-label"; float32
            `[items, classes]` of zeros and ones for "multi-label"; float32
            `[items, targets]` for "regression".
        class_names: The classes, in the order of the label indices; for a regression the names
            of the targets.
        task: A name in `keras_tl.tasks`.
        groups: One group name for each item (a patient, a module), or None. A group is never
            divided between splits.
        splits: "train", "val" or "test" for each item; "" where it is not yet assigned.
        given_splits: The names of the splits that the user gave; these are never altered.
        hashes: SHA-256 of each item's content, filled in by `inspect`; "" before.
        skipped: What was passed over.
    """

    ids: np.ndarray
    items: list[Any]
    labels: np.ndarray
    class_names: tuple[str, ...]
    task: str = "single-label"
    groups: np.ndarray | None = None
    splits: np.ndarray = field(default_factory=lambda: np.array([], dtype=object))
    given_splits: tuple[str, ...] = ()
    hashes: np.ndarray = field(default_factory=lambda: np.array([], dtype=object))
    skipped: tuple[Skipped, ...] = ()

    def __post_init__(self) -> None:
        for name in ("splits", "hashes"):
            if len(getattr(self, name)) == 0:
                object.__setattr__(self, name, np.full(len(self.ids), "", dtype=object))

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def texts(self) -> int:
        """How many texts an item has: 1, or 2 of a pair; 0 where items are images."""
        return len(self.items[0]) if self.items and isinstance(self.items[0], tuple) else 0

    def take(self, indices: np.ndarray) -> "Source":
        """Returns the items at `indices` (int64 `[k]`), in that order."""
        return replace(
            self,
            ids=self.ids[indices],
            items=[self.items[i] for i in indices],
            labels=self.labels[indices],
            groups=None if self.groups is None else self.groups[indices],
            splits=self.splits[indices],
            hashes=self.hashes[indices],
        )

    def split(self, name: str) -> "Source":
        """Returns the items of one split ("train", "val" or "test")."""
        return self.take(np.flatnonzero(self.splits == name))

    @classmethod
    def joined(cls, sources: Sequence["Source"]) -> "Source":
        """Returns the items of several sources as one, in their order.

        Args:
            sources: At least one; of one task, with the same classes. Where some have groups, an
                item of another is on its own. What parts of one source passed over counts once.

        Raises:
            InputError: Tasks or classes differ.
        """
        if len({(source.task, source.class_names) for source in sources}) != 1:
            received = "; ".join(f"{s.task} of {', '.join(s.class_names)}" for s in sources)
            raise InputError("sources of one task and the same classes", received, "Align them.")
        grouped = any(source.groups is not None for source in sources)
        given = {name for source in sources for name in source.given_splits}
        # Parts hold the very tuple of the whole, see `take`.
        skipped = {id(source.skipped): source.skipped for source in sources}

        def together(name: str) -> np.ndarray:
            return np.concatenate([getattr(source, name) for source in sources])

        return cls(
            ids=together("ids"),
            items=[item for source in sources for item in source.items],
            labels=together("labels"),
            class_names=sources[0].class_names,
            task=sources[0].task,
            groups=np.concatenate([source._groups() for source in sources]) if grouped else None,
            splits=together("splits"),
            given_splits=tuple(name for name in SPLITS if name in given),
            hashes=together("hashes"),
            skipped=tuple(each for part in skipped.values() for each in part),
        )

    def _groups(self) -> np.ndarray:
        return np.full(len(self), "", dtype=object) if self.groups is None else self.groups

    def occurring(self, split: str | None = None) -> np.ndarray:
        """Which classes some item has: bool `[classes]`.

        Args:
            split: Only items of that split count.
        """
        labels = self.labels if split is None else self.labels[self.splits == split]
        if self.task == "single-label":
            return np.bincount(labels, minlength=len(self.class_names)) > 0
        return np.asarray((labels > 0).any(axis=0))

    def targets(self) -> np.ndarray:
        """Labels as a model is trained on them: float32 `[items, outputs]`, one-hot classes."""
        if self.task == "single-label":
            one_hot = np.zeros((len(self), len(self.class_names)), np.float32)
            one_hot[np.arange(len(self)), self.labels] = 1.0
            return one_hot
        return self.labels.astype(np.float32)
