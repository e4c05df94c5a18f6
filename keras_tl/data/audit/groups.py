"""Near-duplicates in groups that stay together, none of them larger than a split can bear."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

# A group may hold a twentieth of the images, within these bounds.
SHARE, LEAST_LIMIT, LARGEST_LIMIT = 20, 10, 100


@dataclass(frozen=True)
class NearGroups:
    """Which images must not be divided.

    Attributes:
        names: Object `[images]`: the id of the group's leader, "" where an image is on its own.
        too_large: Indices of each group over the limit; its images are not kept together.
        limit: How many images a group may have.
    """

    names: np.ndarray
    too_large: tuple[tuple[int, ...], ...]
    limit: int


def size_limit(images: int) -> int:
    """How many images may be kept together for being alike."""
    return max(LEAST_LIMIT, min(LARGEST_LIMIT, images // SHARE))


def bounded_groups(
    ids: np.ndarray, hashes: np.ndarray, first: np.ndarray, second: np.ndarray
) -> NearGroups:
    """Groups near-duplicates around leaders.

    An image joins a group only if it is near the group's leader (Hartigan, "Clustering
    Algorithms", 1975, chapter 3), so that a chain of slightly different images does not become
    one group, as with single linkage. Those with the most near-duplicates lead; of equals the
    first by id. Files that are equal count as one image, with all of them in its group.

    Args:
        ids: Names of the images, object `[images]`.
        hashes: SHA-256 of each image's content, object `[images]`.
        first: int64 `[pairs]`, one index of each pair of near-duplicates.
        second: int64 `[pairs]`, the other.

    Returns:
        The groups.
    """
    copies: dict[str, list[int]] = defaultdict(list)
    for i, key in enumerate(hashes):
        copies[key or str(i)].append(i)
    near: dict[str, set[str]] = defaultdict(set)
    keys = [key or str(i) for i, key in enumerate(hashes)]
    for i, j in zip(first, second, strict=True):
        if keys[i] != keys[j]:
            near[keys[i]].add(keys[j])
            near[keys[j]].add(keys[i])
    name_of = {key: min(str(ids[i]) for i in copies[key]) for key in near}
    limit = size_limit(len(ids))
    names = np.full(len(ids), "", dtype=object)
    too_large: list[tuple[int, ...]] = []
    taken: set[str] = set()
    for leader in sorted(near, key=lambda key: (-len(near[key]), name_of[key])):
        if leader in taken:
            continue
        group = [leader, *sorted(near[leader] - taken, key=name_of.__getitem__)]
        taken.update(group)
        members = [i for key in group for i in copies[key]]
        if len(members) > limit:
            too_large.append(tuple(members))
        elif len(group) > 1:
            names[members] = name_of[leader]
    return NearGroups(names, tuple(too_large), limit)
