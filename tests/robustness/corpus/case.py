"""What all of the corpus is made of: a case, and the ways a good file is damaged."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

READ, REFUSED, EITHER = "read", "refused", "either"


@dataclass(frozen=True)
class Case:
    """One broken or strange input.

    Attributes:
        id: What it is.
        content: The file.
        ends: How it must end: "read", "refused", or "either" where chance decides which bits are
            damaged (a flipped bit of a pixel is another pixel).
        name: The file's name.
        said: What the reason or the line must say.
    """

    id: str
    content: bytes
    ends: str = REFUSED
    name: str = ""
    said: str = ""


def cuts(content: bytes, count: int, least: int = 1) -> Iterator[tuple[str, bytes]]:
    """The file cut off at `count` places, the first after `least` bytes, the last in its middle."""
    for length in np.unique(np.geomspace(least, len(content) // 2, count).astype(int)):
        yield f"cut to {length} of {len(content)} bytes", content[:length]


def flips(
    content: bytes, count: int, first: int = 0, last: int | None = None
) -> Iterator[tuple[str, bytes]]:
    """The file with one to four bits flipped in a stretch of it, `count` times by seed."""
    end = min(len(content), last or len(content))
    for seed in range(count):
        random = np.random.default_rng(seed)
        flipped = bytearray(content)
        for place in random.integers(first, end, random.integers(1, 5)):
            flipped[place] ^= 1 << random.integers(8)
        yield f"bits flipped, seed {seed}", bytes(flipped)
