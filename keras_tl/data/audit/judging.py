"""The audit as a whole: looking once, then judging what was seen."""

import logging
import time
from collections import Counter
from dataclasses import dataclass

import numpy as np

from keras_tl.data.audit.appearance import findings_on_appearance
from keras_tl.data.audit.balance import findings_on_classes, findings_on_files
from keras_tl.data.audit.copies import findings_on_copies
from keras_tl.data.audit.findings import Audit, in_order
from keras_tl.data.audit.groups import NearGroups, bounded_groups
from keras_tl.data.audit.looks import Looks, look
from keras_tl.data.audit.near import Pairs, near_duplicates
from keras_tl.data.image_input import ImageInput
from keras_tl.data.labels import class_counts
from keras_tl.data.source import SPLITS, Source

LOG = logging.getLogger("keras_tl")


@dataclass(frozen=True)
class Seen:
    """What was seen of a data set's images.

    Attributes:
        looks: What each looks like.
        pairs: Near-duplicates.
        groups: Which of these splits should keep together.
        size: Height and width of the model's input, in pixels.
    """

    looks: Looks
    pairs: Pairs
    groups: NearGroups
    size: int


def look_through(source: Source, image_input: ImageInput) -> Seen:
    """Looks at every image, and compares each with each.

    Args:
        source: Images as `inspect` returns them: readable, with their hashes.
        image_input: How they are decoded, and the model's size.

    Returns:
        What was seen. `assign_splits` takes its `groups`.
    """
    started = time.monotonic()
    looks = look(source, image_input)
    pairs = near_duplicates(looks, source.hashes)
    first, second = _equal_pixels(looks)
    groups = bounded_groups(
        source.ids,
        source.hashes,
        np.concatenate((pairs.first, first)),
        np.concatenate((pairs.second, second)),
    )
    LOG.info(
        "Looked at %d images in %.0f s: %d pairs of near-duplicates.",
        len(source),
        time.monotonic() - started,
        len(pairs),
    )
    return Seen(looks, pairs, groups, image_input.size)


def _equal_pixels(looks: Looks) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of the first image with certain pixels and each other one: blank ones are pairs too."""
    _, first_of, which = np.unique(
        looks.pixel_hashes.astype(str), return_index=True, return_inverse=True
    )
    first = first_of[which]
    others = np.flatnonzero(first != np.arange(len(looks)))
    return first[others], others


def judge(source: Source, seen: Seen) -> Audit:
    """Makes findings of what was seen.

    Args:
        source: The images that were looked at, in the same order; with splits where there are
            some.
        seen: What was seen of them.

    Returns:
        The audit.
    """
    findings = [
        *findings_on_files(source),
        *findings_on_copies(source, seen.looks, seen.pairs, seen.groups),
        *findings_on_classes(source),
        *findings_on_appearance(source, seen.looks, seen.size),
    ]
    splits = Counter(str(name) for name in source.splits)
    images = {name: splits[name] for name in (*SPLITS, "") if splits[name]}
    classes: dict[str, int] = {}
    if source.task != "regression" and source.class_names:
        counts = class_counts(source.labels, source.class_names)
        classes = {name: int(n) for name, n in zip(source.class_names, counts, strict=True)}
    return Audit(images, classes, in_order(findings))
