"""The corpus itself: how large it is, and that each of its inputs has a name of its own."""

from collections import Counter

from robustness import test_odd_files as odd_files
from robustness.corpus import archives, configs, models, modules, pictures, runs, tables

LEAST = 500


def ids():
    cases = (
        *pictures.CASES,
        *tables.CASES,
        *tables.TEXT_CASES,
        *configs.CASES,
        *models.CASES,
        *models.ENCODERS,
        *runs.CASES,
        *modules.FOLDERS,
        *archives.ARCHIVES,
    )
    odd = [f"file: {name}" for name in (*odd_files.NAMES, *odd_files.KINDS)]
    return [case.id for case in cases] + [
        *pictures.TURNED,
        *models.CODE,
        *models.LARGE,
        *archives.BOMBS,
        *odd,
    ]


def test_there_are_more_than_five_hundred_of_them():
    found = ids()
    assert len(found) >= LEAST
    assert [name for name, count in Counter(found).items() if count > 1] == []


def test_images_are_different_files():
    contents = Counter(case.content for case in pictures.CASES)
    # A bit flipped twice is what it was; few are.
    assert len(contents) >= 0.9 * len(pictures.CASES)


def test_the_same_corpus_is_made_each_time():
    assert [case.content for case in pictures.damaged()] == [
        case.content for case in pictures.CASES[: len(list(pictures.damaged()))]
    ]
