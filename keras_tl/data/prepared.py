"""What images and texts that are ready to train on have in common."""

from abc import ABC, abstractmethod
from typing import ClassVar

from keras_tl.data.pipeline import Samples
from keras_tl.data.source import SPLITS, Source


class Prepared(ABC):
    """A source that is inspected and divided, as images or texts with their own settings.

    Attributes:
        source: All items that can be used, and what was passed over.
        nouns: What the items are called, "images" or "texts".
    """

    source: Source
    nouns: ClassVar[str]

    @property
    @abstractmethod
    def input_size(self) -> int:
        """Height and width of images, in pixels; of texts, how many tokens are read."""

    @property
    def windows(self) -> int:
        """Into how many windows a text is cut at most; 1 for images."""
        return 1

    @abstractmethod
    def samples(self, split: str) -> Samples:
        """The items of one split, "train", "val" or "test"."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes, in the order of the model's outputs."""
        return self.source.class_names

    @property
    def task(self) -> str:
        """A name in `keras_tl.tasks`."""
        return self.source.task

    @property
    def train(self) -> Samples:
        """The items to learn from."""
        return self.samples("train")

    @property
    def val(self) -> Samples:
        """The items that choose the best epoch; may be empty."""
        return self.samples("val")

    @property
    def test(self) -> Samples:
        """The items that the final figures are measured on; may be empty."""
        return self.samples("test")

    @property
    def counts(self) -> dict[str, int]:
        """How many items each split has."""
        return {name: int((self.source.splits == name).sum()) for name in SPLITS}
