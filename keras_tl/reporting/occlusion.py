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
# A text is cut into STRETCHES at most; then, ROUNDS times, the REFINED strongest of the newest
# parts into PIECES each at most. That tells the words of a text of 1,000 apart.
STRETCHES, REFINED, PIECES, ROUNDS = 16, 2, 8, 2
# Each try is a copy of a text. Copies at once: AT_ONCE, or more of texts so short that all together
# have CHARACTERS_AT_ONCE at most.
AT_ONCE, CHARACTERS_AT_ONCE = 32, 2**22
# A stretch is left whole where no part of it has this share of its effect.
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
    """Leaves each stretch of each item out in turn; of the strongest then each part.

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
    found = _effects(answer, items, outputs, scores, [_stretches(item) for item in items])
    newest = found
    for _ in range(ROUNDS):
        strongest = [_refinable(item, each) for item, each in zip(items, newest, strict=True)]
        pieces = [
            [piece for stretch in chosen for piece in _pieces(item, stretch)]
            for item, chosen in zip(items, strongest, strict=True)
        ]
        fine = _effects(answer, items, outputs, scores, pieces)
        found = [_merged(*parts) for parts in zip(found, strongest, fine, strict=True)]
        newest = [
            [piece for piece in parts if piece in whole]
            for parts, whole in zip(fine, found, strict=True)
        ]
    return found


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
    longest = max(sum(map(len, item)) for item in items)
    at_once = max(CHARACTERS_AT_ONCE // max(longest, 1), AT_ONCE)
    for first in range(0, len(flat), at_once):
        some = range(first, min(first + at_once, len(flat)))
        answers.append(answer([_without(items[owner[i]], flat[i]) for i in some]))
    missing = scores[owner] - np.concatenate(answers)[np.arange(len(flat)), outputs[owner]]
    known = iter([replace(s, effect=float(m)) for s, m in zip(flat, missing, strict=True)])
    return [[next(known) for _ in each] for each in stretches]


def _stretches(item: Item) -> list[Stretch]:
    """An item's words in about equal stretches, none of them in two texts."""
    words = [_words(item, Stretch(place, 0, len(text))) for place, text in enumerate(item)]
    length = -(-sum(map(len, words)) // STRETCHES)
    return [stretch for each in words for stretch in _joined(each, length)]


def _pieces(item: Item, stretch: Stretch) -> list[Stretch]:
    """The words of a stretch; of a long one, about equal parts of it."""
    words = _words(item, stretch)
    return _joined(words, -(-len(words) // PIECES))


def _words(item: Item, stretch: Stretch) -> list[Stretch]:
    found = WORD.finditer(item[stretch.place], stretch.start, stretch.end)
    return [Stretch(stretch.place, *word.span()) for word in found]


def _joined(words: list[Stretch], length: int) -> list[Stretch]:
    """Stretches of so many words each, one after the other."""
    parts = [words[at : at + length] for at in range(0, len(words), max(length, 1))]
    return [Stretch(part[0].place, part[0].start, part[-1].end) for part in parts]


def _refinable(item: Item, stretches: list[Stretch]) -> list[Stretch]:
    """The strongest stretches of several words."""
    several = [each for each in stretches if len(_words(item, each)) > 1]
    return sorted(several, key=lambda each: -abs(each.effect))[:REFINED]


def _merged(coarse: list[Stretch], refined: list[Stretch], fine: list[Stretch]) -> list[Stretch]:
    """The stretches; where a stretch's parts say more, the parts in its place."""
    found = []
    for each in coarse:
        inside = [p for p in fine if p.place == each.place and each.start <= p.start < each.end]
        strongest = max((abs(part.effect) for part in inside), default=0.0)
        say_more = each in refined and strongest >= LEAST_SHARE * abs(each.effect)
        found += inside if say_more else [each]
    return found


def _without(item: Item, stretch: Stretch) -> Item:
    text = item[stretch.place]
    left, right = text[: stretch.start].rstrip(), text[stretch.end :].lstrip()
    return _with(item, stretch.place, f"{left} {right}".strip())


def _with(item: Item, place: int, text: str) -> Item:
    return (*item[:place], text, *item[place + 1 :])
