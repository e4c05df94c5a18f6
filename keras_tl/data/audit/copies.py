"""Findings on images, or texts, that are there more than once."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from keras_tl.data.audit.findings import Finding
from keras_tl.data.audit.groups import NearGroups
from keras_tl.data.audit.looks import Looks
from keras_tl.data.audit.near import Pairs
from keras_tl.data.source import Source
from keras_tl.data.splits import label_text


@dataclass(frozen=True)
class Alike:
    """Items that show one picture, or say one thing, and how that is known."""

    items: tuple[int, ...]
    why: str


@dataclass(frozen=True)
class Copies:
    """All that is there more than once.

    Attributes:
        source: The items, with their splits where these are known.
        noun: What an item is.
        exact: Sets of equal ones.
        near: Pairs of near-duplicates.
    """

    source: Source
    noun: str
    exact: list[Alike]
    near: list[Alike]


def findings_on_copies(
    source: Source, looks: Looks, pairs: Pairs, groups: NearGroups
) -> Iterator[Finding]:
    """Says where one picture is in several splits, under several labels, or merely twice.

    Args:
        source: The images, with their splits where these are known.
        looks: What they look like.
        pairs: Their near-duplicates.
        groups: Which of these are kept together.

    Yields:
        What was found.
    """
    exact = list(equal_ones(source, looks.pixel_hashes, "equal files", "equal pixels"))
    near = list(_near(looks, pairs))
    yield from judge_copies(Copies(source, "image", exact, near), groups)


def judge_copies(copies: Copies, groups: NearGroups) -> Iterator[Finding]:
    """Says where what is alike lies in several splits, under several labels, or merely twice.

    Args:
        copies: What is there more than once.
        groups: Which near-duplicates are kept together.

    Yields:
        What was found.
    """
    for check in (_leaks, _divided_groups, _two_labels, _in_two_groups, _repeated):
        yield from check(copies)
    if groups.too_large:
        sets = [Alike(items, f"{len(items)} {copies.noun}s") for items in groups.too_large]
        yield _finding(
            copies,
            "large-group",
            "warning",
            f"{_count(sets, 'group')} of near-duplicates with more than {groups.limit} "
            f"{copies.noun}s may be divided between splits: name groups of your own for them.",
            sets,
        )


def equal_ones(source: Source, keys: np.ndarray, same: str, alike: str) -> Iterator[Alike]:
    """Finds items that share a key.

    Args:
        source: The items, with their hashes.
        keys: What equal items share, object `[items]`.
        same: What to say where their contents are equal.
        alike: What to say where only their keys are.

    Yields:
        Each set of two or more.
    """
    together: dict[str, list[int]] = defaultdict(list)
    for i, key in enumerate(keys):
        together[key].append(i)
    for items in together.values():
        if len(items) > 1:
            contents = len(set(source.hashes[items]))
            yield Alike(tuple(items), same if contents == 1 else alike)


def _near(looks: Looks, pairs: Pairs) -> Iterator[Alike]:
    rows = zip(pairs.first, pairs.second, pairs.similarity, pairs.is_mirrored, strict=True)
    for i, j, similarity, is_mirrored in rows:
        if looks.pixel_hashes[i] != looks.pixel_hashes[j]:
            how = "mirrored, " if is_mirrored else ""
            yield Alike((int(i), int(j)), f"{how}similarity {similarity:.2f}")


def _leaks(copies: Copies) -> Iterator[Finding]:
    splits = copies.source.splits
    crossing = _that_differ(copies.exact, lambda i: splits[i])
    if crossing:
        text = f"{_count(crossing, copies.noun)} {_is(crossing)} in more than one split"
        yield _finding(copies, "leak", "serious", f"{text}: figures are too good.", crossing)
    crossing = _that_differ(copies.near, lambda i: splits[i])
    if crossing:
        pairs = f"{_count(crossing, 'pair')} of near-duplicates {_lies(crossing)} in two splits"
        is_given = bool(copies.source.given_splits)
        why = "figures are too good" if is_given else "more of them than may be kept together"
        severity = "serious" if is_given else "warning"
        yield _finding(copies, "near-leak", severity, f"{pairs}: {why}.", crossing)


def _divided_groups(copies: Copies) -> Iterator[Finding]:
    source = copies.source
    if source.groups is None:
        return
    members: dict[str, list[int]] = defaultdict(list)
    for i in np.flatnonzero(source.groups != "").tolist():
        members[source.groups[i]].append(i)
    sets = [Alike(tuple(items), f"group {name}") for name, items in members.items()]
    if crossing := _that_differ(sets, lambda i: source.splits[i]):
        text = f"{_count(crossing, 'group')} {_is(crossing)} in more than one split"
        yield _finding(copies, "group-leak", "serious", f"{text}: figures are too good.", crossing)


def _two_labels(copies: Copies) -> Iterator[Finding]:
    source = copies.source
    if not source.class_names:
        return

    def label(i: int) -> str:
        return label_text(source, i)

    wrong = _that_differ(copies.exact, label)
    if wrong:
        text = f"{_count(wrong, copies.noun)} {_has(wrong)} more than one label."
        yield _finding(copies, "two-labels", "serious", text, wrong)
    doubtful = _that_differ(copies.near, label)
    # Measured values differ even between two photographs of the same thing.
    if doubtful and source.task != "regression":
        text = f"{_count(doubtful, 'pair')} of near-duplicates {_has(doubtful)} different labels."
        yield _finding(copies, "near-two-labels", "warning", text, doubtful)


def _in_two_groups(copies: Copies) -> Iterator[Finding]:
    names = copies.source.groups
    if names is None:
        return
    sets = [s for s in [*copies.exact, *copies.near] if all(names[i] != "" for i in s.items)]
    alike = _that_differ(sets, lambda i: names[i])
    if alike:
        text = f"{_count(alike, copies.noun)} {_is(alike)} in more than one group"
        why = "are these groups what must not be divided?"
        yield _finding(copies, "groups-alike", "warning", f"{text}: {why}", alike)


def _repeated(copies: Copies) -> Iterator[Finding]:
    exact, near = copies.exact, copies.near
    if exact:
        text = f"{_count(exact, copies.noun)} {_occurs(exact)} more than once."
        yield _finding(copies, "duplicates", "warning", text, exact)
    if near:
        text = f"{_count(near, 'pair')} of {copies.noun}s {_is(near)} near-duplicates."
        yield _finding(copies, "near-duplicates", "note", text, near)


def _that_differ(sets: Iterable[Alike], key: Callable[[int], str]) -> list[Alike]:
    """The sets whose items have different values of `key`, not counting "" (unknown)."""
    found = []
    for entry in sets:
        values = [key(i) for i in entry.items]
        if len({value for value in values if value != ""}) > 1:
            # A pair shows both values in order, a larger set each value once.
            shown = values if len(values) == 2 else dict.fromkeys(values)
            found.append(Alike(entry.items, f"{entry.why}: {' / '.join(shown)}"))
    return found


def _finding(copies: Copies, kind: str, severity: str, text: str, sets: list[Alike]) -> Finding:
    ids = tuple(tuple(str(copies.source.ids[i]) for i in entry.items) for entry in sets)
    return Finding(kind, severity, text, ids, tuple(entry.why for entry in sets))


def _count(sets: list[Alike], noun: str) -> str:
    return f"{len(sets):,} {noun}" + ("" if len(sets) == 1 else "s")


def _is(sets: list[Alike]) -> str:
    return "is" if len(sets) == 1 else "are"


def _occurs(sets: list[Alike]) -> str:
    return "occurs" if len(sets) == 1 else "occur"


def _lies(sets: list[Alike]) -> str:
    return "lies" if len(sets) == 1 else "lie"


def _has(sets: list[Alike]) -> str:
    return "has" if len(sets) == 1 else "have"
