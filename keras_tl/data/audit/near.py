"""Near-duplicates: the same picture in other files, whatever was done to it on the way."""

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from keras_tl.data.audit.alignment import WHOLE, align, corner_windows, cut_out
from keras_tl.data.audit.candidates import candidates
from keras_tl.data.audit.looks import Looks
from keras_tl.data.audit.signatures import CLOSE, ROUGH, Whitening, mirrored, moments, spectrum
from keras_tl.data.remembered import found_once

log = logging.getLogger("keras_tl")

# Least similarity of the close signatures of a pair that is one picture: SAME_IN_CROWD for images
# that resemble more than CROWD others, as the cells of a module do, SAME for the rest.
CROWD, SAME_IN_CROWD, SAME = 3, 0.9, 0.7
# Mean difference of Cb and Cr above which colours differ; mean of both below which there are none.
OTHER_COLOURS, COLOURLESS = 20.0, 2.0
# Correlation of Cb and Cr over the picture below which the colours lie elsewhere, and the deviation
# below which there is nothing to correlate. Copies that were brightened, tinted, made paler or
# cropped by a tenth keep 0.68 and more; smooth round things of other colours have 0.3.
OTHER_PLACES, EVEN = 0.5, 2.0
# An image whose grey values deviate by less shows nothing.
BLANK = 2.0
CHUNK = 2000
# Raise VERSION when other pairs would be found. The most data sets whose pairs are remembered.
VERSION, MOST_REMEMBERED = 3, 100
_PAIR = np.dtype([("first", "<i8"), ("second", "<i8"), ("similarity", "<f4"), ("mirrored", "?")])


@dataclass(frozen=True)
class Pairs:
    """Pairs of images that show one picture.

    Attributes:
        first: int64 `[pairs]`, indices of images.
        second: int64 `[pairs]`, indices of images, each larger than `first`.
        similarity: Float32 `[pairs]`, up to 1.
        is_mirrored: Bool `[pairs]`, whether one is the mirror image of the other.
    """

    first: np.ndarray
    second: np.ndarray
    similarity: np.ndarray
    is_mirrored: np.ndarray

    def __len__(self) -> int:
        return len(self.first)

    def to_bytes(self) -> bytes:
        """The pairs as they are remembered."""
        rows = np.zeros(len(self), _PAIR)
        for name, values in zip(_PAIR.names or (), vars(self).values(), strict=True):
            rows[name] = values
        return rows.tobytes()

    @classmethod
    def from_bytes(cls, content: bytes) -> "Pairs":
        """Reads what `to_bytes` wrote."""
        rows = np.frombuffer(content, _PAIR)
        return cls(*(rows[name].copy() for name in _PAIR.names or ()))


def remembered_duplicates(looks: Looks, hashes: np.ndarray) -> Pairs:
    """As `near_duplicates`, but remembers the pairs of the same images in the same order."""
    contents = json.dumps([VERSION, *hashes, *looks.pixel_hashes])
    key = hashlib.sha256(contents.encode()).digest()
    how = {"most": MOST_REMEMBERED}
    return Pairs.from_bytes(
        found_once("pairs", key, lambda: near_duplicates(looks, hashes).to_bytes(), **how)
    )


def near_duplicates(looks: Looks, hashes: np.ndarray) -> Pairs:
    """Compares every image with every other.

    It finds copies that were re-encoded, resized, made brighter or darker, cropped by up to about a
    tenth, or mirrored, but not those that were rotated or painted over. Images that show nothing
    are left out. Whitened signatures (see `Whitening`) of the lower frequencies, of the whole
    picture and of some crops of it, give candidates; these are laid over each other and compared
    closely. Up to 30,000 images are all compared in the first step, as products of matrices, in a
    few seconds for 20,000; more images only with their neighbours (see
    `keras_tl.data.audit.candidates`), which misses some pairs that are hardly alike.

    Args:
        looks: What the images look like.
        hashes: SHA-256 of each image's content, object `[images]`: of equal files the first
            stands for all.

    Returns:
        The pairs, without those of equal files.
    """
    _, first_of = np.unique(hashes.astype(str), return_index=True)
    chosen = np.sort(first_of)
    chosen = chosen[looks.deviation[chosen] >= BLANK]
    if len(chosen) < 2:
        nothing = np.zeros(0, np.int64)
        return Pairs(nothing, nothing, np.zeros(0, np.float32), np.zeros(0, bool))
    pairs = _compare(looks, chosen)
    return Pairs(chosen[pairs.first], chosen[pairs.second], pairs.similarity, pairs.is_mirrored)


def _compare(looks: Looks, chosen: np.ndarray) -> Pairs:
    """Compares the chosen images; the pairs are places in `chosen`."""

    def thumbs(places: slice | np.ndarray) -> np.ndarray:
        return looks.thumbs[chosen[places]]

    seen = moments(_waves(thumbs, 0, len(chosen), WHOLE))
    rough, close = Whitening(seen, ROUGH), Whitening(seen, CLOSE)
    windows = corner_windows()

    def queries(start: int, end: int) -> np.ndarray:
        wholes = list(_waves(thumbs, start, end, WHOLE))
        crops = [_signatures(rough, _waves(thumbs, start, end, window)) for window in windows[1:]]
        flipped = _signatures(rough, map(mirrored, wholes))
        return np.stack([_signatures(rough, wholes), *crops, flipped])

    found = candidates(_signatures(rough, _waves(thumbs, 0, len(chosen), WHOLE)), queries)
    whole, crop, start = _each_once(found.whole, found.crop, found.query, found.score)
    similarity = np.zeros(len(whole), np.float32)
    is_mirrored = start == len(windows)
    windows = np.concatenate((windows, WHOLE[None]))[start]
    for at in range(0, len(whole), CHUNK):
        chunk = slice(at, at + CHUNK)
        pictures, crops = thumbs(whole[chunk]), thumbs(crop[chunk])
        flip = is_mirrored[chunk]
        pictures[flip] = pictures[flip, :, ::-1]
        similarity[chunk] = _similarity(pictures, crops, windows[chunk], close)
    pairs = whole, crop, is_mirrored
    alike = (similarity >= _least(whole, crop)) & _same_colours(looks.colours, chosen, *pairs)
    order = np.argsort(-similarity[alike], kind="stable")
    whole, crop = whole[alike][order], crop[alike][order]
    return Pairs(
        np.minimum(whole, crop),
        np.maximum(whole, crop),
        np.minimum(similarity[alike][order], 1.0),
        is_mirrored[alike][order],
    )


def _waves(
    thumbs: Callable[[slice], np.ndarray], start: int, end: int, window: np.ndarray
) -> Iterator[np.ndarray]:
    """Spectra of one window of the images in a range, some at a time."""
    for at in range(start, end, CHUNK):
        yield spectrum(cut_out(thumbs(slice(at, min(at + CHUNK, end))), window))


def _signatures(whitening: Whitening, waves: Iterable[np.ndarray]) -> np.ndarray:
    return np.concatenate([whitening(part) for part in waves])


def _each_once(
    whole: np.ndarray, crop: np.ndarray, start: np.ndarray, score: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Keeps the more similar side of a pair that was found from both."""
    low, high = np.minimum(whole, crop), np.maximum(whole, crop)
    order = np.lexsort((-score, high, low))
    is_first = np.ones(len(order), bool)
    same = (np.diff(low[order]) == 0) & (np.diff(high[order]) == 0)
    is_first[1:] = ~same
    kept = order[is_first]
    return whole[kept], crop[kept], start[kept]


def _least(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The least similarity at which each candidate is one picture: float64 `[pairs]`."""
    like = np.bincount(np.concatenate((first, second)))
    is_crowded = np.maximum(like[first], like[second]) > CROWD
    return np.where(is_crowded, SAME_IN_CROWD, SAME)


def _similarity(
    wholes: np.ndarray,
    crops: np.ndarray,
    windows: np.ndarray,
    close: Whitening,
) -> np.ndarray:
    """The close similarity at the first window or at the aligned one, whichever is better."""
    signatures = close(spectrum(cut_out(crops, WHOLE)))
    aligned = align(wholes, crops, windows)
    places = (windows, aligned)
    return np.max(
        [(close(spectrum(cut_out(wholes, at))) * signatures).sum(axis=1) for at in places], axis=0
    )


def _same_colours(
    colours: np.ndarray,
    chosen: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    flipped: np.ndarray,
) -> np.ndarray:
    """Whether colours are alike, or one of two images has none: bool `[pairs]`."""
    alike = np.zeros(len(first), bool)
    for at in range(0, len(first), CHUNK):
        chunk = slice(at, at + CHUNK)
        one, other = (colours[chosen[side[chunk]]].astype(np.float32) for side in (first, second))
        strengths = [np.abs(side).mean(axis=(1, 2, 3)) for side in (one, other)]
        one[flipped[chunk]] = one[flipped[chunk], :, ::-1]
        difference = np.abs(one - other).mean(axis=(1, 2, 3))
        same = (difference < OTHER_COLOURS) & _in_same_places(one, other)
        alike[chunk] = same | (np.minimum(*strengths) < COLOURLESS)
    return alike


def _in_same_places(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Whether two pictures' colours vary together, or those of one hardly vary: bool `[pairs]`."""
    one, other = (side - side.mean(axis=(1, 2), keepdims=True) for side in (one, other))
    spreads = [np.sqrt((side**2).mean(axis=(1, 2, 3))) for side in (one, other)]
    together = (one * other).mean(axis=(1, 2, 3))
    return (together >= OTHER_PLACES * spreads[0] * spreads[1]) | (np.minimum(*spreads) < EVEN)
