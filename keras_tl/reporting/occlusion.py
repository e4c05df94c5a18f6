"""Which words of a text decided: what becomes of the answer without them.

Li, Monroe and Jurafsky, "Understanding Neural Networks through Representation Erasure",
arXiv:1612.08220, 2016; for images it is Zeiler and Fergus, "Visualizing and Understanding
Convolutional Networks", ECCV 2014.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

Item: TypeAlias = tuple[str, ...]
# Of items, float `[items, outputs]`.
Answer: TypeAlias = Callable[[Sequence[Item]], np.ndarray]
# What is taken for a word; scripts without blanks are cut into pieces of this length.
WORD = re.compile(r"\S{1,24}")
# A text is taken apart into so many stretches at most; of so many of them the words are tried.
STRETCHES, REFINED = 16, 2
# A stretch of more words is left whole: only a module that reads all of a long text has some.
MOST_WORDS = 256
# Each try is a copy of a text; so many are there at once.
AT_ONCE = 32
# A stretch is left whole where no word of it has this share of its effect.
LEAST_SHARE = 0.3
# Probabilities are kept away from 0 and 1 by this.
EPSILON = 1e-6


@dataclass(frozen=True)
class Stretch:
    """Some words of an item, one after the other.

    Attributes:
        place: In which of the item's texts they are.
        start: Where they start in it.
        end: Where they end.
        effect: What is missing from the output's score where they are left out.
    """

    place: int
    start: int
    end: int
    effect: float = 0.0


def log_odds(probabilities: np.ndarray) -> np.ndarray:
    """ln(p / (1 - p)): a change counts near 0 and 1 as it does between them."""
    p = np.clip(np.asarray(probabilities, np.float64), EPSILON, 1 - EPSILON)
    return np.log(p / (1 - p))


def occlude(answer: Answer, items: Sequence[Item], outputs: np.ndarray) -> list[list[Stretch]]:
    """Leaves each stretch of each item out in turn; of the strongest then each word.

    Args:
        answer: Scores of items, whose differences mean something: log-odds, or values.
        items: One or two texts each; as much of them as the model reads, else what is left out
            makes room for what it has not read.
        outputs: int `[items]`, which output's score is explained.

    Returns:
        Of each item its stretches in order; words between blanks are in exactly one of them.
    """
    outputs = np.asarray(outputs)
    scores = answer(items)[np.arange(len(items)), outputs]
    coarse = _effects(answer, items, outputs, scores, [_stretches(item) for item in items])
    strongest = [_refinable(item, found) for item, found in zip(items, coarse, strict=True)]
    words = [
        [word for stretch in chosen for word in _words(item, stretch)]
        for item, chosen in zip(items, strongest, strict=True)
    ]
    fine = _effects(answer, items, outputs, scores, words)
    return [_merged(*parts) for parts in zip(coarse, strongest, fine, strict=True)]


def read_part(
    tokenize: Callable[[Sequence[Item]], np.ndarray], items: Sequence[Item]
) -> list[Item]:
    """Cuts items after the last word that a model reads.

    Args:
        tokenize: Tokens of items, int `[items, ...]`.
        items: One or two texts each.

    Returns:
        The shortest beginnings of their texts, whole words each, that have the same tokens.
    """
    found, whole = list(items), tokenize(items)
    for place in range(len(items[0])):
        ends = [[0, *(word.end() for word in WORD.finditer(item[place]))] for item in items]
        low = np.zeros(len(items), np.int64)
        high = np.array([len(each) - 1 for each in ends])
        while (low < high).any():
            middle = (low + high) // 2
            tried = [
                _with(item, place, item[place][: ends[i][middle[i]]])
                for i, item in enumerate(found)
            ]
            tokens = tokenize(tried)
            same = (tokens == whole).reshape(len(items), -1).all(axis=1)
            high, low = np.where(same, middle, high), np.where(same, low, middle + 1)
        found = [
            _with(item, place, item[place][: ends[i][high[i]]]) for i, item in enumerate(found)
        ]
    return found


def _effects(
    answer: Answer,
    items: Sequence[Item],
    outputs: np.ndarray,
    scores: np.ndarray,
    stretches: list[list[Stretch]],
) -> list[list[Stretch]]:
    """The stretches of each item with their effects."""
    owner = np.repeat(np.arange(len(items)), [len(each) for each in stretches])
    if not len(owner):
        return stretches
    flat = [stretch for each in stretches for stretch in each]
    answers = []
    for first in range(0, len(flat), AT_ONCE):
        some = range(first, min(first + AT_ONCE, len(flat)))
        answers.append(answer([_without(items[owner[i]], flat[i]) for i in some]))
    missing = scores[owner] - np.concatenate(answers)[np.arange(len(flat)), outputs[owner]]
    known = iter([replace(s, effect=float(m)) for s, m in zip(flat, missing, strict=True)])
    return [[next(known) for _ in each] for each in stretches]


def _stretches(item: Item) -> list[Stretch]:
    """An item's words in about equal stretches, none of them in two texts."""
    words = [[word.span() for word in WORD.finditer(text)] for text in item]
    length = max(-(-sum(map(len, words)) // STRETCHES), 1)
    return [
        Stretch(place, spans[first][0], spans[min(first + length, len(spans)) - 1][1])
        for place, spans in enumerate(words)
        for first in range(0, len(spans), length)
    ]


def _words(item: Item, stretch: Stretch) -> list[Stretch]:
    found = WORD.finditer(item[stretch.place], stretch.start, stretch.end)
    return [Stretch(stretch.place, *word.span()) for word in found]


def _refinable(item: Item, stretches: list[Stretch]) -> list[Stretch]:
    """The strongest stretches of several words."""
    several = [each for each in stretches if 1 < len(_words(item, each)) <= MOST_WORDS]
    return sorted(several, key=lambda each: -abs(each.effect))[:REFINED]


def _merged(coarse: list[Stretch], refined: list[Stretch], words: list[Stretch]) -> list[Stretch]:
    """The stretches, where their words say more in place of them the words."""
    found = []
    for each in coarse:
        inside = [w for w in words if w.place == each.place and each.start <= w.start < each.end]
        strongest = max((abs(word.effect) for word in inside), default=0.0)
        say_more = each in refined and strongest >= LEAST_SHARE * abs(each.effect)
        found += inside if say_more else [each]
    return found


def _without(item: Item, stretch: Stretch) -> Item:
    text = item[stretch.place]
    left, right = text[: stretch.start].rstrip(), text[stretch.end :].lstrip()
    return _with(item, stretch.place, f"{left} {right}".strip())


def _with(item: Item, place: int, text: str) -> Item:
    return (*item[:place], text, *item[place + 1 :])
