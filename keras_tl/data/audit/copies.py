"""Findings on images that are there more than once."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from keras_tl.data.audit.findings import Finding
from keras_tl.data.audit.groups import NearGroups
from keras_tl.data.audit.looks import Looks
from keras_tl.data.audit.near import Pairs
from keras_tl.data.source import Source
from keras_tl.data.splits import label_text


@dataclass(frozen=True)
class _Set:
    """Images that show one picture, and how that is known."""

    items: tuple[int, ...]
    why: str


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
    exact = list(_equal(source, looks))
    near = list(_near(looks, pairs))
    checks = (_leaks, _two_labels, _in_two_groups, _repeated)
    for check in checks:
        yield from check(source, exact, near)
    if groups.too_large:
        sets = [_Set(items, f"{len(items)} images") for items in groups.too_large]
        yield _finding(
            source,
            "large-group",
            "warning",
            f"{_count(len(sets), 'group')} of near-duplicates with more than {groups.limit} images "
            "may be divided between splits: name groups of your own for them.",
            sets,
        )


def _equal(source: Source, looks: Looks) -> Iterator[_Set]:
    together: dict[str, list[int]] = defaultdict(list)
    for i, key in enumerate(looks.pixel_hashes):
        together[key].append(i)
    for items in together.values():
        if len(items) > 1:
            files = len(set(source.hashes[items]))
            yield _Set(tuple(items), "equal files" if files == 1 else "equal pixels")


def _near(looks: Looks, pairs: Pairs) -> Iterator[_Set]:
    rows = zip(pairs.first, pairs.second, pairs.similarity, pairs.is_mirrored, strict=True)
    for i, j, similarity, is_mirrored in rows:
        if looks.pixel_hashes[i] != looks.pixel_hashes[j]:
            how = "mirrored, " if is_mirrored else ""
            yield _Set((int(i), int(j)), f"{how}similarity {similarity:.2f}")


def _leaks(source: Source, exact: list[_Set], near: list[_Set]) -> Iterator[Finding]:
    crossing = _that_differ(exact, lambda i: source.splits[i])
    if crossing:
        text = f"{_count(len(crossing), 'image')} {_is(crossing)} in more than one split"
        yield _finding(source, "leak", "serious", f"{text}: figures are too good.", crossing)
    crossing = _that_differ(near, lambda i: source.splits[i])
    if crossing:
        pairs = (
            f"{_count(len(crossing), 'pair')} of near-duplicates {_lies(crossing)} in two splits"
        )
        is_given = bool(source.given_splits)
        why = "figures are too good" if is_given else "more of them than may be kept together"
        severity = "serious" if is_given else "warning"
        yield _finding(source, "near-leak", severity, f"{pairs}: {why}.", crossing)


def _two_labels(source: Source, exact: list[_Set], near: list[_Set]) -> Iterator[Finding]:
    if not source.class_names:
        return

    def label(i: int) -> str:
        return label_text(source, i)

    wrong = _that_differ(exact, label)
    if wrong:
        text = f"{_count(len(wrong), 'image')} {_is(wrong)} there under more than one label."
        yield _finding(source, "two-labels", "serious", text, wrong)
    doubtful = _that_differ(near, label)
    # Values that are measured differ between two photographs of one thing, too.
    if doubtful and source.task != "regression":
        text = f"{_count(len(doubtful), 'pair')} of near-duplicates {_has(doubtful)} other labels."
        yield _finding(source, "near-two-labels", "warning", text, doubtful)


def _in_two_groups(source: Source, exact: list[_Set], near: list[_Set]) -> Iterator[Finding]:
    names = source.groups
    if names is None:
        return
    sets = [s for s in [*exact, *near] if all(names[i] != "" for i in s.items)]
    alike = _that_differ(sets, lambda i: names[i])
    if alike:
        text = f"{_count(len(alike), 'image')} {_is(alike)} in more than one group"
        why = "are these groups what must not be divided?"
        yield _finding(source, "groups-alike", "warning", f"{text}: {why}", alike)


def _repeated(source: Source, exact: list[_Set], near: list[_Set]) -> Iterator[Finding]:
    if exact:
        text = f"{_count(len(exact), 'image')} {_is(exact)} there more than once."
        yield _finding(source, "duplicates", "warning", text, exact)
    if near:
        text = f"{_count(len(near), 'pair')} of images {_is(near)} near-duplicates."
        yield _finding(source, "near-duplicates", "note", text, near)


def _that_differ(sets: list[_Set], key: Callable[[int], str]) -> list[_Set]:
    """The sets whose images differ in something that is known of each of them."""
    found = []
    for entry in sets:
        values = [key(i) for i in entry.items]
        if len({value for value in values if value != ""}) > 1:
            found.append(_Set(entry.items, f"{entry.why}: {' / '.join(values)}"))
    return found


def _finding(source: Source, kind: str, severity: str, text: str, sets: list[_Set]) -> Finding:
    ids = tuple(tuple(str(source.ids[i]) for i in entry.items) for entry in sets)
    return Finding(kind, severity, text, ids, tuple(entry.why for entry in sets))


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def _is(sets: list[_Set]) -> str:
    return "is" if len(sets) == 1 else "are"


def _lies(sets: list[_Set]) -> str:
    return "lies" if len(sets) == 1 else "lie"


def _has(sets: list[_Set]) -> str:
    return "has" if len(sets) == 1 else "have"
