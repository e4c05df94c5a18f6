"""Train, val and test: stratified, seeded, with duplicates and groups kept together."""

import logging
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from keras_tl.data.audit.groups import NearGroups
from keras_tl.data.labels import first_few
from keras_tl.data.source import SPLITS, Source
from keras_tl.data.stratify import quotas, strata
from keras_tl.errors import InputError, did_you_mean
from keras_tl.files import atomic_file, csv_writer

log = logging.getLogger("keras_tl")

# As Hugging Face's `datasets` reads names of files and folders.
SPLIT_ALIASES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}


def parse_split(name: str) -> str:
    """Reads the name of a split as users write it.

    Args:
        name: One of `SPLIT_ALIASES` in any case, or "".

    Returns:
        "train", "val", "test", or "" for what is to be assigned.

    Raises:
        InputError: It is another name.
    """
    plain = name.strip().lower()
    if plain and plain not in SPLIT_ALIASES:
        hint = did_you_mean(plain, SPLIT_ALIASES, f"Use one of {', '.join(SPLITS)}.")
        raise InputError("a split's name", repr(name), hint)
    return SPLIT_ALIASES.get(plain, "")


def assign_splits(
    source: Source,
    *,
    val_fraction: float = 0.15,
    test_fraction: float = 0.15,
    seed: int = 0,
    near: NearGroups | None = None,
) -> Source:
    """Assigns every item to train, val or test.

    What the user gave stays: given val and test splits neither lose nor gain items, except that
    unassigned exact duplicates and group members of their items join them. Items without a split go
    to train and to those of val and test that were not given. If every item has a split but val is
    missing, val is carved out of the given train split; this is logged, and `given_splits` loses
    "train". A missing test split is then not made up. A given split whose items were all left out
    counts as not given; this is logged too.

    The items to assign are stratified: by class, by combination of labels (rare ones by their
    rarest label), or by quantile of the targets. Items that share a group, a SHA-256 or one of
    `near.keys` form one unit, which is never divided; so do near-duplicates, unless they and all
    that groups tie to them exceed `near.limit`: then they count as not near.
    Large units are placed first, each where it brings shares and strata closest to what is wanted
    (after the idea of scikit-learn's StratifiedGroupKFold); single items then fill the rest
    exactly: each class is within one item of its share. A class of two items has one in test, of
    three or more one in val too, and each class with an item to assign has one in train. The
    result depends on ids, labels and seed, not on the items' order.

    Args:
        source: The items, `hashes` filled in where duplicates are to be kept together.
        val_fraction: Share of the items to assign that goes to val, in [0, 1).
        test_fraction: The same for test; both together stay below 1.
        seed: Any int; the same seed gives the same splits.
        near: Near-duplicates among the items, in their order; None knows of none.

    Returns:
        The source with every split assigned.

    Raises:
        InputError: The fractions are out of range, or nothing is left to train on.
    """
    _check_fractions(val_fraction, test_fraction)
    pool, splits, given = _what_to_assign(source, val_fraction)
    fractions = (
        0.0 if "val" in given else val_fraction,
        0.0 if "test" in given or (splits != "").all() else test_fraction,
    )
    if pool.any():
        units = _units(source, near)
        splits = _assign(source, units, pool, np.where(pool, "", splits), fractions, seed)
    if not (splits == "train").any():
        raise InputError("items to train on", "a train split without any", "Add some to train.")
    assigned = replace(source, splits=splits.astype(object), given_splits=given)
    _report(assigned, fractions, is_audited=near is not None)
    return assigned


def kept_together(source: Source, near: NearGroups | None = None) -> np.ndarray:
    """Numbers the sets of items that no division may part: int64 `[items]`.

    Equal items belong together, those of a group, and near-duplicates; so do those that are tied
    to each other by way of others.

    Args:
        source: The items.
        near: Its near-duplicates.
    """
    numbers = np.zeros(len(source), np.int64)
    for number, unit in enumerate(_units(source, near)):
        numbers[unit] = number
    return numbers


def write_splits(source: Source, path: str | os.PathLike[str]) -> None:
    """Writes the CSV `id,label,split,group,sha256`, whole or not at all.

    Several labels of an item, or several targets, are joined with "|"; a lone "|" is an item of
    no class.

    Args:
        source: Items with their splits.
        path: The file, replaced where it exists.
    """
    groups = np.full(len(source), "") if source.groups is None else source.groups
    with (
        atomic_file(os.fspath(path)) as aside,
        aside.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv_writer(file)
        writer.writerow(("id", "label", "split", "group", "sha256"))
        for i, row in enumerate(zip(source.splits, groups, source.hashes, strict=True)):
            writer.writerow((source.ids[i], label_text(source, i), *row))


def label_text(source: Source, index: int) -> str:
    """Returns one item's label as a CSV cell that can be read back."""
    label = source.labels[index]
    if source.task == "single-label":
        return source.class_names[label]
    if source.task == "multi-label":
        return "|".join(source.class_names[i] for i in np.flatnonzero(label)) or "|"
    return "|".join(str(value) for value in label)


def _check_fractions(val_fraction: float, test_fraction: float) -> None:
    for name, fraction in (("val", val_fraction), ("test", test_fraction)):
        if not 0 <= fraction < 1:
            raise InputError(
                f"a {name} fraction from 0 to below 1", str(fraction), "Try 0.15, or 0 for none."
            )
    if val_fraction + test_fraction >= 1:
        raise InputError(
            "val and test fractions that leave something to train on",
            f"{val_fraction} and {test_fraction}",
            "Try 0.15 each.",
        )


def _what_to_assign(
    source: Source, val_fraction: float
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Which items to assign (bool `[items]`), all splits so far, and the splits that stay."""
    splits = source.splits.copy()
    there = tuple(name for name in SPLITS if (splits == name).any())
    for name in source.given_splits:
        if name not in there:
            log.warning("The given %s split counts as not given: its items are all left out.", name)
    given = tuple(name for name in source.given_splits if name in there) or there
    unassigned = splits == ""
    carve = "train" in given and "val" not in given and val_fraction > 0
    if unassigned.any() or not carve:
        return unassigned, splits, given
    log.info("No val split was given: %g of the given train split is taken for it.", val_fraction)
    kept = tuple(name for name in given if name != "train")
    return splits == "train", splits, kept


def _assign(
    source: Source,
    units: list[np.ndarray],
    pool: np.ndarray,
    splits: np.ndarray,
    fractions: tuple[float, float],
    seed: int,
) -> np.ndarray:
    """The splits (object `[items]`) with those of the pool (bool `[items]`) filled in."""
    carving = bool((source.splits[pool] == "train").all())
    splits = splits.astype(object)
    free: list[np.ndarray] = []
    for unit in units:
        members = unit[pool[unit]]
        fixed = [name for name in SPLITS if name in splits[unit]]
        if fixed:
            # When val is carved out of train, a duplicate of a given test item stays in train.
            splits[members] = "train" if carving else fixed[0]
        elif len(members):
            free.append(members)
    if free:
        _place(source, free, splits, fractions, np.random.default_rng(seed))
        _train_every_class(source, free, splits)
    return splits


def _units(source: Source, near: NearGroups | None) -> list[np.ndarray]:
    """Items (int64 indices) that must stay together, in an order that depends on ids only."""
    order = sorted(range(len(source)), key=lambda i: source.ids[i])
    parent = list(range(len(source)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for keys in (source.hashes, source.groups, near.keys if near else None):
        first: dict[str, int] = {}
        for i in order:
            if keys is not None and keys[i] != "":
                parent[root(i)] = root(first.setdefault(keys[i], i))
    if near is not None:
        _join_near(near, order, parent, root)
    units: dict[int, list[int]] = defaultdict(list)
    for i in order:
        units[root(i)].append(i)
    return [np.array(unit) for unit in units.values()]


def _join_near(
    near: NearGroups, order: list[int], parent: list[int], root: Callable[[int], int]
) -> None:
    """Joins the units of near-duplicates, where the limit allows it."""
    sizes = Counter(map(root, order))
    alike: dict[str, list[int]] = defaultdict(list)
    for i in order:
        if near.names[i] != "":
            alike[near.names[i]].append(i)
    for members in alike.values():
        roots = list(dict.fromkeys(map(root, members)))
        together = sum(sizes[r] for r in roots)
        if together <= near.limit:
            for r in roots:
                parent[r] = roots[0]
            sizes[roots[0]] = together


def _place(
    source: Source,
    units: list[np.ndarray],
    splits: np.ndarray,
    fractions: tuple[float, float],
    rng: np.random.Generator,
) -> None:
    """Fills in the splits of whole units, so that every stratum gets what it should."""
    items = np.concatenate(units)
    stratum = np.full(len(source), -1)
    stratum[items] = strata(source.labels[items], source.task)
    sizes = np.bincount(stratum[items])
    left = quotas(sizes, *fractions, rng)
    whole = left.sum(axis=0)
    shuffled = [units[i] for i in rng.permutation(len(units))]
    for unit in sorted(shuffled, key=len, reverse=True):
        if len(unit) == 1:
            # Single items come last and fill what their own stratum still lacks, exactly.
            lacking = left[stratum[unit[0]]]
            best = int(lacking.argmax())
            lacking[best] -= 1
        else:
            here, counts = np.unique(stratum[unit], return_counts=True)
            best = int(_gain(here, counts, left, whole, sizes).argmax())
            left[here, best] -= counts
            whole[best] -= len(unit)
        splits[unit] = SPLITS[best]


def _gain(
    here: np.ndarray, counts: np.ndarray, left: np.ndarray, whole: np.ndarray, sizes: np.ndarray
) -> np.ndarray:
    """How much nearer a unit brings each split to its quotas: float64 `[3]`.

    It is half the drop in the mean squared relative deviation of the strata plus that of the
    whole, without the part that is the same for every split.

    Args:
        here: int64 `[n]`, the unit's strata, ascending.
        counts: int64 `[n]`, the unit's items in each of them.
        left: int64 `[strata, 3]`, what each split still lacks.
        whole: int64 `[3]`, the sum of `left`.
        sizes: int64 `[strata]`, all items.
    """
    by_stratum = (counts[:, None] * left[here] / sizes[here, None] ** 2).sum(axis=0) / len(sizes)
    return by_stratum + counts.sum() * whole / sizes.sum() ** 2


def _train_every_class(source: Source, units: list[np.ndarray], splits: np.ndarray) -> None:
    """For each class without a train item, moves its smallest unit into train."""
    if source.task == "regression":
        return
    untrained = ~replace(source, splits=splits).occurring("train")
    if not untrained.any():
        return
    # The smallest unit of each such class, the first of equals.
    holding: dict[int, np.ndarray] = {}
    classes_of = [_classes_of(source, unit) for unit in units]
    for unit, classes in zip(units, classes_of, strict=True):
        for c in classes[untrained[classes]].tolist():
            if c not in holding or len(unit) < len(holding[c]):
                holding[c] = unit
    for c in sorted(holding):
        # An earlier move may have brought this class along.
        if untrained[c]:
            splits[holding[c]] = "train"
            untrained[_classes_of(source, holding[c])] = False


def _classes_of(source: Source, items: np.ndarray) -> np.ndarray:
    """The classes that some of the items have: int64."""
    labels = source.labels[items]
    return np.unique(labels) if labels.ndim == 1 else np.flatnonzero((labels > 0).any(axis=0))


def _divided(source: Source, keys: np.ndarray) -> list[tuple[str, ...]]:
    """The ids of each set of items that share a key and lie in more than one split."""
    together: dict[str, list[int]] = defaultdict(list)
    for i, key in enumerate(keys):
        if key != "":
            together[key].append(i)
    return [
        tuple(source.ids[items])
        for items in together.values()
        if len(set(source.splits[items])) > 1
    ]


def _report(source: Source, fractions: Sequence[float], is_audited: bool) -> None:
    """Logs the splits' sizes; warns of empty ones and, unaudited, of what lies in several."""
    sizes = {name: int((source.splits == name).sum()) for name in SPLITS}
    log.info("Splits: %s.", ", ".join(f"{size} {name}" for name, size in sizes.items()))
    for name, fraction in zip(("val", "test"), fractions, strict=True):
        if fraction and not sizes[name]:
            log.warning("The %s split is empty: there are too few items or groups.", name)
    together = {"exact duplicates": source.hashes, "members of a group": source.groups}
    for what, keys in together.items():
        divided = [] if keys is None or is_audited else _divided(source, keys)
        if divided:
            named = first_few([" = ".join(map(repr, ids)) for ids in divided])
            log.warning(
                "Given splits share %d set%s of %s, so figures are too good: %s.",
                len(divided),
                "" if len(divided) == 1 else "s",
                what,
                named,
            )
