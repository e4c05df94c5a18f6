"""From opened data to three splits that are ready to train on."""

import os
from dataclasses import dataclass, replace
from typing import ClassVar

from keras_tl.data import augment as augmentations
from keras_tl.data.audit.findings import Audit
from keras_tl.data.audit.judging import Seen, judge, look_through
from keras_tl.data.image_input import ImageInput
from keras_tl.data.inspection import inspect
from keras_tl.data.open import as_source
from keras_tl.data.pipeline import Samples
from keras_tl.data.prepared import Prepared, divide
from keras_tl.data.source import Source


@dataclass(frozen=True)
class ImageData(Prepared):
    """Images, inspected and divided.

    Attributes:
        source: All images that can be read, and what was passed over.
        image_input: How they are decoded and resized.
        augmentation: How training images are varied.
        seen: What was seen of all images; None where they were not looked through.
        audit: What is, or might be, wrong with them, judged by `seen`; None likewise.
    """

    source: Source
    image_input: ImageInput
    augmentation: augmentations.Augmentation
    seen: Seen | None = None
    audit: Audit | None = None
    nouns: ClassVar[str] = "images"

    @property
    def input_size(self) -> int:
        """Height and width, in pixels."""
        return self.image_input.size

    def samples(self, split: str) -> Samples:
        """The images of one split, "train", "val" or "test"."""
        return Samples(self.source.split(split), self.image_input, self.augmentation)


def prepare(
    data: str | os.PathLike[str] | Source,
    *,
    image_size: int = 224,
    resize: str = "squash",
    augment: str | augmentations.Augmentation = "light",
    views: int | None = None,
    val_fraction: float = 0.15,
    test_fraction: float = 0.15,
    seed: int = 0,
    max_bad_fraction: float = 0.1,
    audit: bool = True,
    strict: bool = False,
) -> ImageData:
    """Opens images, leaves out those that cannot be read, looks them through, divides them.

    Args:
        data: A folder of class folders, a CSV file, "tfds:NAME", or an opened source.
        image_size: Height and width of the model's input, in pixels.
        resize: See `ImageInput`.
        augment: A name in `keras_tl.data.augment`, or an `Augmentation` of your own.
        views: How many views of each image to use if their number is unlimited; None is the
            augmentation's own number.
        val_fraction: See `assign_splits`.
        test_fraction: See `assign_splits`.
        seed: Decides the splits.
        max_bad_fraction: See `inspect`.
        audit: Whether to look through the images, see `look_through`: near-duplicates then stay
            on one side of a split that is made here, and findings are logged.
        strict: Whether to refuse data in which something serious is found.

    Returns:
        The splits.

    Raises:
        InputError: The data cannot be used.
        AuditError: It is strict, and something serious was found.
    """
    image_input = ImageInput(size=image_size, resize=resize)
    augmentation = augmentations.get(augment) if isinstance(augment, str) else augment
    if views is not None:
        augmentation = replace(augmentation, cycle=views)
    source = inspect(as_source(data), image_input, max_bad_fraction=max_bad_fraction)
    seen = look_through(source, image_input) if audit or strict else None
    shares = {"val_fraction": val_fraction, "test_fraction": test_fraction}
    source, found = divide(source, seen, judge, seed=seed, strict=strict, **shares)
    return ImageData(source, image_input, augmentation, seen, found)
