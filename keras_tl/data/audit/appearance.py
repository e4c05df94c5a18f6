"""Findings on single images: what is blank, dark, blurred, small or of an odd shape."""

from collections.abc import Iterator

import numpy as np

from keras_tl.data.audit.findings import Finding
from keras_tl.data.audit.looks import Looks
from keras_tl.data.audit.near import BLANK
from keras_tl.data.source import Source

# An image is dark where all but 1 % of its pixels are below the first, light where they are above
# the second grey value.
DARK, LIGHT = 50.0, 225.0
# An image is blurred if its `blur` is above BLURRED and more than DEVIATIONS deviations above the
# data set's median, since what is smooth by nature (or enlarged) is not blurred.
BLURRED, DEVIATIONS = 0.6, 4.0
# If SCALED of the images have nothing lighter than LIGHTEST of 255, these were scaled to 0..1 and
# saved.
SCALED, LIGHTEST = 0.5, 1.0
# An image is small if it would have to be enlarged by more than this.
ENLARGED = 2.0
# A shape is odd if one side is more than ODD_RATIO times the other, and the ratio of the sides
# differs from the data set's median by more than ODD_BESIDE_MEDIAN times.
ODD_RATIO, ODD_BESIDE_MEDIAN = 2.5, 2.0
# Standard deviation of normally distributed values over their median absolute deviation.
_NORMAL = 1.4826


def findings_on_appearance(source: Source, looks: Looks, size: int) -> Iterator[Finding]:
    """Says which images show little, or not what a model should see.

    Args:
        source: The images.
        looks: What they look like.
        size: Height and width of the model's input, in pixels.

    Yields:
        What was found.
    """
    blank = looks.deviation < BLANK
    dark, light = looks.light_end < DARK, looks.dark_end > LIGHT
    rows = (
        ("blank", "warning", blank, looks.deviation, "of one colour", "deviation {:.1f}"),
        ("dark", "note", dark & ~blank, looks.light_end, "very dark", "lightest {:.0f} of 255"),
        ("light", "note", light & ~blank, -looks.dark_end, "very light", "darkest {:.0f} of 255"),
        (
            "blurred",
            "note",
            _blurred(looks.blur, blank) & ~blank,
            -looks.blur,
            "blurred, compared with the others",
            "blur {:.2f} of 1",
        ),
    )
    for kind, severity, chosen, order, what, why in rows:
        indices = np.flatnonzero(chosen)
        indices = indices[np.argsort(order[indices], kind="stable")]
        reasons = [why.format(abs(order[i])) for i in indices]
        yield from _finding(source, kind, severity, indices, what, reasons)
    yield from _scaled(source, looks)
    yield from _sizes(source, looks, size)


def _scaled(source: Source, looks: Looks) -> Iterator[Finding]:
    """Files of zeros and ones, which are black to a model of pixels in 0..255."""
    scaled = np.flatnonzero(looks.light_end <= LIGHTEST)
    if len(scaled) < SCALED * len(looks) or not (looks.light_end[scaled] > 0).any():
        return
    sets = tuple((str(source.ids[i]),) for i in scaled)
    text = (
        f"{len(scaled):,} of {len(looks):,} images have no pixel above 1 of 255, as if they were "
        "divided by 255 and saved: a model sees black. Save them in 0..255."
    )
    why = tuple(f"lightest {looks.light_end[i]:.1f} of 255" for i in scaled)
    yield Finding("scaled", "serious", text, sets, why)


def _blurred(blur: np.ndarray, blank: np.ndarray) -> np.ndarray:
    seen = blur[~blank]
    if not len(seen):
        return blank
    middle = np.median(seen)
    spread = _NORMAL * np.median(np.abs(seen - middle))
    return blur > max(BLURRED, middle + DEVIATIONS * spread)


def _sizes(source: Source, looks: Looks, size: int) -> Iterator[Finding]:
    sides = looks.sides.astype(np.float64)
    known = sides.min(axis=1) > 0
    shorter = sides.min(axis=1)
    small = np.flatnonzero(known & (shorter * ENLARGED < size))
    small = small[np.argsort(shorter[small], kind="stable")]
    what = f"less than half as large as the {size} pixels that the model gets"
    reasons = [_size(looks.sides[i]) for i in small]
    yield from _finding(source, "small", "note", small, what, reasons)
    if not known.any():
        return
    # By its logarithm a tall image is as odd as a wide one.
    ratio = np.zeros(len(sides))
    ratio[known] = np.log(sides[known, 1] / sides[known, 0])
    beside = np.abs(ratio - np.median(ratio[known]))
    is_odd = (np.abs(ratio) > np.log(ODD_RATIO)) & (beside > np.log(ODD_BESIDE_MEDIAN))
    odd = np.flatnonzero(known & is_odd)
    odd = odd[np.argsort(-beside[odd], kind="stable")]
    reasons = [_size(looks.sides[i]) for i in odd]
    yield from _finding(source, "odd-shape", "note", odd, "of an odd shape", reasons)


def _size(sides: np.ndarray) -> str:
    return f"{sides[1]} x {sides[0]} pixels"


def _finding(
    source: Source, kind: str, severity: str, indices: np.ndarray, what: str, why: list[str]
) -> Iterator[Finding]:
    if len(indices):
        noun = "image is" if len(indices) == 1 else "images are"
        sets = tuple((str(source.ids[i]),) for i in indices)
        yield Finding(kind, severity, f"{len(indices):,} {noun} {what}.", sets, tuple(why))
