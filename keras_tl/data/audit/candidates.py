"""Which pairs of images are worth a close look.

Few images are all compared with each other. That cost grows with the square of their number n, so
each of many images is only compared with those in its neighbourhood, at a cost that grows with n
times its root: an inverted file (Jégou, Douze and Schmid,
"Product Quantization for Nearest Neighbor Search", IEEE TPAMI 33, 2011), made several times over.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from threadpoolctl import threadpool_limits

# Least similarity of the rough signatures of a pair that is compared closely.
LEAST = 0.6
# Most candidates of each image: the most similar ones.
MOST = 20
# Up to this many images are all compared with each other.
ALL_PAIRS = 30_000
# Cells that each query looks into, of about sqrt(n), and how often cells are made anew, around
# other images. Of 200,000 images with independent signatures 92 % of the pairs of
# similarity 0.7 share a cell that is looked into, 98.5 % of those of 0.8, 99.9 % of those of 0.9;
# a pair's several queries, from both sides, raise these shares further.
PROBES, TABLES = 12, 3
# Images whose queries are held at once.
ROWS, BLOCK = 512, 2048

# From a range of images to the signatures that are compared with those of other, whole images:
# float32 `[queries, images, numbers]`.
Queries: TypeAlias = Callable[[int, int], np.ndarray]


@dataclass(frozen=True)
class Candidates:
    """Pairs that may show one picture.

    Attributes:
        whole: int64 `[pairs]`, the image whose query it was.
        crop: int64 `[pairs]`, the image that was found by it.
        query: int64 `[pairs]`, the number of the query that is most similar.
        score: Float32 `[pairs]`, its similarity.
    """

    whole: np.ndarray
    crop: np.ndarray
    query: np.ndarray
    score: np.ndarray


def candidates(of_whole: np.ndarray, queries: Queries) -> Candidates:
    """Finds, for each image, the other whole images that one of its queries is similar to.

    Args:
        of_whole: Signatures of the images, float32 `[images, numbers]`, of length 1.
        queries: Gives the signatures of images' variants.

    Returns:
        Up to `MOST` for each image, of a similarity of at least `LEAST`. Among more than
        `ALL_PAIRS` images some pairs are missed, the more similar the less likely.
    """
    if len(of_whole) <= ALL_PAIRS:
        found = list(compared_with_all(of_whole, queries))
    else:
        # The products are small: two threads would mostly wait for each other.
        with threadpool_limits(1):
            found = list(compared_in_cells(of_whole, queries))
    parts = zip(*found, strict=True)
    return Candidates(*(np.concatenate(part) for part in parts))


def compared_with_all(of_whole: np.ndarray, queries: Queries) -> Iterator[tuple[np.ndarray, ...]]:
    """Compares each image with each, as products of matrices, some rows at a time."""
    count = len(of_whole)
    for at in range(0, count, ROWS):
        end = min(at + ROWS, count)
        asked = queries(at, end)
        best = asked[0] @ of_whole.T
        for query in asked[1:]:
            np.maximum(best, query @ of_whole.T, out=best)
        best[np.arange(end - at), np.arange(at, end)] = -1
        row, column = np.nonzero(best >= LEAST)
        kept = _order(row, column, best[row, column], MOST)
        row, column = row[kept], column[kept]
        # Computed again, for the candidates alone, to learn which query it was.
        scores = np.stack([(query[row] * of_whole[column]).sum(axis=1) for query in asked])
        yield row + at, column, scores.argmax(axis=0), scores.max(axis=0)


def compared_in_cells(of_whole: np.ndarray, queries: Queries) -> Iterator[tuple[np.ndarray, ...]]:
    """Compares each image with those in the cells next to its queries."""
    tables = [_Cells(of_whole, seed) for seed in range(TABLES)]
    for at in range(0, len(of_whole), BLOCK):
        end = min(at + BLOCK, len(of_whole))
        asked = queries(at, end)
        together = asked.reshape(-1, asked.shape[-1])
        parts = [_of_images(*table.find(together), at, end - at) for table in tables]
        # Several tables may find the same pair.
        yield _each_once(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def _of_images(
    place: np.ndarray, column: np.ndarray, score: np.ndarray, at: int, images: int
) -> tuple[np.ndarray, ...]:
    """Turns finds by query into finds by image: each pair once, no image with itself."""
    query, row = np.divmod(place, images)
    other = row + at != column
    return _each_once(*(values[other] for values in (row + at, column, query, score)))


def _each_once(
    row: np.ndarray, column: np.ndarray, query: np.ndarray, score: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Keeps each pair's most similar find, and each image's most similar pairs."""
    found = (row, column, query, score)
    order = np.lexsort((query, -score, column, row))
    row, column, query, score = (values[order] for values in found)
    first = np.ones(len(row), bool)
    first[1:] = (np.diff(row) != 0) | (np.diff(column) != 0)
    row, column, query, score = (values[first] for values in (row, column, query, score))
    kept = _order(row, column, score, MOST)
    return row[kept], column[kept], query[kept], score[kept]


class _Cells:
    """Images in cells, each around one of them that was drawn at random."""

    def __init__(self, of_whole: np.ndarray, seed: int):
        count = len(of_whole)
        drawn = np.random.default_rng(seed).choice(count, round(math.sqrt(count)), replace=False)
        self._of_whole, self._centres = of_whole, of_whole[drawn]
        cell = np.concatenate([of_cells.argmax(axis=1) for of_cells in self._near(of_whole)])
        self._order = np.argsort(cell, kind="stable")
        self._starts = np.searchsorted(cell[self._order], np.arange(len(drawn) + 1))

    def find(self, asked: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Queries, the images that they are similar to, and how similar they are."""
        probes = min(PROBES, len(self._centres))
        nearest = [
            np.argpartition(-of_cells, probes - 1, axis=1)[:, :probes]
            for of_cells in self._near(asked)
        ]
        cells = np.concatenate(nearest).ravel()
        places = np.argsort(cells, kind="stable")
        bounds = np.searchsorted(cells[places], np.arange(len(self._centres) + 1))
        found = []
        for cell in range(len(self._centres)):
            here = places[bounds[cell] : bounds[cell + 1]] // probes
            images = self._order[self._starts[cell] : self._starts[cell + 1]]
            similar = asked[here] @ self._of_whole[images].T
            row, column = np.nonzero(similar >= LEAST)
            score = similar[row, column]
            # If all are alike there would be millions. One of them may be the image itself.
            kept = _order(row, column, score, MOST + 1)
            found.append((here[row[kept]], images[column[kept]], score[kept]))
        place, image, score = (np.concatenate(part) for part in zip(*found, strict=True))
        return place, image, score

    def _near(self, asked: np.ndarray) -> Iterator[np.ndarray]:
        """How near signatures are to the cells' centres, some rows at a time."""
        for at in range(0, len(asked), BLOCK):
            yield asked[at : at + BLOCK] @ self._centres.T


def _order(row: np.ndarray, column: np.ndarray, score: np.ndarray, most: int) -> np.ndarray:
    """Places of the most similar of each row, row by row, the most similar first."""
    order = np.lexsort((column, -score, row))
    # The rank is the place within the row.
    rank = np.arange(len(row)) - np.searchsorted(row[order], row[order])
    return order[rank < most]
