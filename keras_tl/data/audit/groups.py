"""Near-duplicates in groups that stay together, none of them larger than a split can bear."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

# A group may hold a twentieth of the images, within these bounds.
SHARE, LEAST_LIMIT, LARGEST_LIMIT = 20, 10, 100
# Least share of near-duplicates among the pairs between two groups that become one.
LINKED = 0.5


@dataclass(frozen=True)
class NearGroups:
    """Which images must not be divided.

    Attributes:
        names: Object `[images]`: the first id of the group, "" where an image is on its own.
        too_large: Indices of the images of each group that would have exceeded the limit, so that
            only parts of it were made.
        limit: How many images a group may have.
        keys: Object `[images]`, what equal images share: no limit parts these. None: not known.
    """

    names: np.ndarray
    too_large: tuple[tuple[int, ...], ...]
    limit: int
    keys: np.ndarray | None = None


def size_limit(images: int) -> int:
    """How many images may be kept together for being alike."""
    return max(LEAST_LIMIT, min(LARGEST_LIMIT, images // SHARE))


def bounded_groups(
    ids: np.ndarray,
    keys: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    similarity: np.ndarray,
) -> NearGroups:
    """Groups near-duplicates, the most similar first.

    Two groups become one where at least half of the pairs between them are near-duplicates: average
    linkage (Sokal and Michener, "A statistical method for evaluating systematic relationships",
    University of Kansas Science Bulletin 38, 1958) of being near or not. So, unlike with single
    linkage, neither a chain of slightly different images nor all images that resemble one become
    one group, and a copy stays with its original, whatever else that resembles. Equal pictures
    count as one, with all of them in its group.

    Args:
        ids: Names of the images, object `[images]`.
        keys: What equal pictures share, object `[images]`.
        first: int64 `[pairs]`, one index of each pair of near-duplicates.
        second: int64 `[pairs]`, the other.
        similarity: Float `[pairs]`.

    Returns:
        The groups.
    """
    copies: dict[str, list[int]] = defaultdict(list)
    for i, key in enumerate(keys):
        copies[key].append(i)
    name_of = {key: min(str(ids[i]) for i in items) for key, items in copies.items()}
    pairs = {
        (-round(float(like), 3), *sorted((keys[i], keys[j]), key=name_of.__getitem__))
        for i, j, like in zip(first.tolist(), second.tolist(), similarity, strict=True)
        if keys[i] != keys[j]
    }
    in_order = sorted(pairs, key=lambda pair: (pair[0], name_of[pair[1]], name_of[pair[2]]))
    sizes = {key: len(items) for key, items in copies.items()}
    limit = size_limit(len(ids))
    groups, refused = _linked([pair[1:] for pair in in_order], sizes, limit)
    names = np.full(len(ids), "", dtype=object)
    for group in groups:
        items = [i for key in group for i in copies[key]]
        # Only a group of equal images may be over the limit.
        if len(items) > 1:
            names[items] = min(name_of[key] for key in group)
    too_large = [tuple(sorted(i for key in alike for i in copies[key])) for alike in refused]
    return NearGroups(names, tuple(sorted(too_large)), limit, keys)


def _linked(
    pairs: list[tuple[str, ...]], sizes: dict[str, int], limit: int
) -> tuple[list[list[str]], list[set[str]]]:
    """Joins pairs in their order; returns groups, and those that would have exceeded the limit."""
    near: dict[str, set[str]] = defaultdict(set)
    for one, other in pairs:
        near[one].add(other)
        near[other].add(one)
    group_of = {key: [key] for key in sizes}
    refused: list[set[str]] = []
    # Two groups are compared only once, until one of them has grown.
    asked: set[tuple[int, ...]] = set()
    for one, other in pairs:
        here, there = group_of[one], group_of[other]
        question = (id(here), len(here), id(there), len(there))
        if here is there or question in asked:
            continue
        asked.add(question)
        links = sum(len(near[key].intersection(there)) for key in here)
        if links < LINKED * len(here) * len(there):
            continue
        if sum(sizes[key] for key in (*here, *there)) > limit:
            refused = _with(refused, {*here, *there})
            continue
        here += there
        for key in there:
            group_of[key] = here
    return list({id(group): group for group in group_of.values()}.values()), refused


def _with(sets: list[set[str]], more: set[str]) -> list[set[str]]:
    """Adds a set, merged with those that it overlaps."""
    apart = [known for known in sets if not known & more]
    return [*apart, more.union(*(known for known in sets if known & more))]
