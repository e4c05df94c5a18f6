"""What images and texts that are ready to train on have in common."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

from keras_tl.data.audit.findings import Audit
from keras_tl.data.audit.judging import Seen
from keras_tl.data.audit.text_judging import SeenTexts
from keras_tl.data.checks import warn_of_untrained_classes
from keras_tl.data.pipeline import Samples
from keras_tl.data.source import SPLITS, Source
from keras_tl.data.splits import assign_splits


def divide(
    source: Source,
    seen: Seen | SeenTexts | None,
    judge: Callable[[Source, Any], Audit],
    *,
    seed: int,
    strict: bool,
    **shares: float,
) -> tuple[Source, Audit | None]:
    """Makes the splits that a source lacks, and logs what is wrong with it.

    Args:
        source: Inspected items.
        seen: What was seen of them, near-duplicates among it; None where they were not looked
            through.
        judge: Judges the divided source by that.
        seed: Decides the splits.
        strict: Whether to refuse data in which something serious is found.
        **shares: See `assign_splits`.

    Raises:
        InputError: See `assign_splits`.
        AuditError: It is strict, and something serious was found.
    """
    source = assign_splits(source, near=seen.groups if seen else None, seed=seed, **shares)
    if seen is None:
        warn_of_untrained_classes(source)
        return source, None
    found = judge(source, seen)
    found.log()
    if strict:
        found.refuse_serious()
    return source, found


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
        """The most windows that a text is cut into; 1 for images."""
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
