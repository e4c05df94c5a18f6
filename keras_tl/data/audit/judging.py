"""The audit as a whole: looking once, then judging what was seen."""

import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keras_tl.data.audit.appearance import findings_on_appearance
from keras_tl.data.audit.balance import findings_on_classes, findings_on_files
from keras_tl.data.audit.copies import findings_on_copies
from keras_tl.data.audit.findings import Audit, Finding, in_order
from keras_tl.data.audit.groups import NearGroups, bounded_groups
from keras_tl.data.audit.looks import Looks, look
from keras_tl.data.audit.near import Pairs, remembered_duplicates
from keras_tl.data.image_input import ImageInput
from keras_tl.data.labels import class_counts
from keras_tl.data.source import SPLITS, Source

log = logging.getLogger("keras_tl")

# If an image has more near-duplicates, unlike each other, they are chance; see `without_hubs`.
MANY_ALIKE = 8


@dataclass(frozen=True)
class Seen:
    """What was seen of a data set's images.

    Attributes:
        looks: What each looks like.
        pairs: Near-duplicates.
        groups: Groups of near-duplicates that a split must not divide.
        size: Height and width of the model's input, in pixels.
        seconds: How long that took.
    """

    looks: Looks
    pairs: Pairs
    groups: NearGroups
    size: int
    seconds: float


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
    pairs = remembered_duplicates(looks, source.hashes)
    groups = bounded_groups(
        source.ids, looks.pixel_hashes, pairs.first, pairs.second, pairs.similarity
    )
    pairs = without_hubs(pairs, groups)
    seconds = time.monotonic() - started
    log.info(
        "Looked at %d images in %.0f s: %d pairs of near-duplicates.",
        len(source),
        seconds,
        len(pairs),
    )
    return Seen(looks, pairs, groups, image_input.size, seconds)


def without_hubs(pairs: Pairs, groups: NearGroups) -> Pairs:
    """Leaves out pairs of an image that is like many, none of which are like each other.

    A strongly altered image may resemble anything a little. Its true matches are in its group.

    Args:
        pairs: Near-duplicates.
        groups: The groups made of them.

    Returns:
        The pairs that are in one group, or in one that would have been too large, or whose images
        are like few others.
    """
    like = np.bincount(np.concatenate((pairs.first, pairs.second)), minlength=len(groups.names))
    apart = groups.names[pairs.first] != groups.names[pairs.second]
    apart |= groups.names[pairs.first] == ""
    large = np.zeros(len(groups.names), bool)
    large[[i for items in groups.too_large for i in items]] = True
    is_hub = np.maximum(like[pairs.first], like[pairs.second]) > MANY_ALIKE
    kept = ~(apart & is_hub & ~large[pairs.first])
    return Pairs(**{name: values[kept] for name, values in vars(pairs).items()})


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
    return audit_of(source, findings)


def audit_of(source: Source, findings: Sequence[Finding], noun: str = "image") -> Audit:
    """Puts findings together with how many items there are.

    Args:
        source: The items, with splits where there are some.
        findings: What was found.
        noun: What an item is.

    Returns:
        The audit.
    """
    splits = Counter(str(name) for name in source.splits)
    items = {name: splits[name] for name in (*SPLITS, "") if splits[name]}
    classes: dict[str, int] = {}
    if source.task != "regression" and source.class_names:
        counts = class_counts(source.labels, source.class_names)
        classes = {name: int(n) for name, n in zip(source.class_names, counts, strict=True)}
    return Audit(items, classes, in_order(findings), noun)
