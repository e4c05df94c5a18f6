"""Findings on files that are passed over, and on classes."""

from collections.abc import Iterator

import numpy as np

from keras_tl.data.audit.findings import Finding
from keras_tl.data.labels import class_counts, first_few
from keras_tl.data.source import SPLITS, Source

# Classes are out of balance if one has more than this many times the images of another.
UNBALANCED = 10
# With fewer images, little can be learned or said of a class.
FEW_IMAGES = 10


def findings_on_files(source: Source, noun: str = "image") -> Iterator[Finding]:
    """Says what was passed over, and why.

    Args:
        source: The items, with what was passed over.
        noun: What an item is, "image" or "text".

    Yields:
        What was found. A row without a text is a warning only: tables often have one.
    """
    unread = ("serious", "cannot be read as an image")
    if noun == "text":
        unread = ("warning", "cannot be read")
    for bad, kind, severity, what in (
        (True, "unreadable", *unread),
        (False, "foreign", "note", "not looked at"),
    ):
        skipped = [entry for entry in source.skipped if entry.bad == bad]
        if skipped:
            one = "text" if bad and noun == "text" else "file"
            verb = "" if bad else ("is " if len(skipped) == 1 else "are ")
            yield Finding(
                kind,
                severity,
                f"{len(skipped):,} {one}{'' if len(skipped) == 1 else 's'} {verb}{what}.",
                tuple((entry.id,) for entry in skipped),
                tuple(entry.reason for entry in skipped),
            )


def findings_on_classes(source: Source, noun: str = "image") -> Iterator[Finding]:
    """Says which classes have few images, and which training will not see.

    Args:
        source: The images, with their splits where these are known.
        noun: What an item is.

    Yields:
        What was found.
    """
    if source.task == "regression" or not source.class_names:
        return
    counts = class_counts(source.labels, source.class_names)
    names = np.array(source.class_names, dtype=object)
    present = counts[counts > 0]
    if len(present) > 1 and present.max() > UNBALANCED * present.min():
        most, least = names[counts.argmax()], names[counts == present.min()][0]
        yield Finding(
            "imbalance",
            "warning",
            f"The largest class ({most}) has {present.max():,} {noun}s, the smallest ({least}) "
            f"{present.min():,}: consider --class-weights, and look at figures of each class.",
        )
    few = [f"{names[c]} ({counts[c]})" for c in np.argsort(counts) if counts[c] < FEW_IMAGES]
    if few:
        verb = "class has" if len(few) == 1 else "classes have"
        text = f"{len(few):,} {verb} fewer than {FEW_IMAGES} {noun}s: {first_few(few)}."
        yield Finding(f"few-{noun}s", "warning", text)
    yield from _unseen(source, names)


def _unseen(source: Source, names: np.ndarray) -> Iterator[Finding]:
    by_split = {name: source.occurring(name) for name in SPLITS}
    measured = by_split["val"] | by_split["test"]
    unseen = names[measured & ~by_split["train"]]
    if len(unseen) and (source.splits == "train").any():
        noun = "class is" if len(unseen) == 1 else "classes are"
        named = first_few(list(unseen))
        text = f"{len(unseen):,} {noun} measured but never trained, so never predicted: {named}."
        yield Finding("never-trained", "serious", text)
