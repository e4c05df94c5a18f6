"""Texts as sets of their words and of their pairs of neighbouring words."""

import hashlib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
from scipy import sparse

# They choose how the character before them is drawn.
_VARIANTS = "".join(map(chr, (*range(0x180B, 0x180E), *range(0xFE00, 0xFE10))))
# Marks that belong to the letter before them, such as vowels in Devanagari; for Python's `\w` they
# are no part of a word.
MARKS = "".join(
    character
    for character in map(chr, range(0x300, 0x1F000))
    if unicodedata.category(character) in ("Mn", "Mc") and character not in _VARIANTS
)
# Most characters come before all marks and all of `_ALONE`: to see that first is five times as fast
# as to look for each of them among hundreds of ranges.
ABOVE_LATIN = "(?![\\0-\u02ff])"
# Scripts without blanks between words, and pictographs: each of their characters is a word, with
# its marks. Thai, Lao, Burmese, Khmer; kana, Chinese characters.
_ALONE = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
)
_LETTER = f"[^\\W_{_ALONE}]"
WORD = re.compile(
    f"{ABOVE_LATIN}(?:(?=\\w)[{_ALONE}]|[\u2600-\u27bf\U0001f000-\U0001faff])[{MARKS}]*"
    f"|{_LETTER}+(?:{ABOVE_LATIN}[{MARKS}]+{_LETTER}*)*"
)
# Texts of fewer words are equal only if their characters are: ":)" is not ":(".
FEW_WORDS = 3
_SHIFT = 32


@dataclass(frozen=True)
class Words:
    """What texts consist of.

    Attributes:
        vocabulary: The words that occur, as compared: without case, compatible characters
            (full width, ligatures) as one.
        counts: int64 `[texts]`, how many words each text has.
        keys: Object `[texts]`, equal for texts that are equal but for case, blanks and
            punctuation.
        phrases: int64 `[phrases, 2]`, indices into the vocabulary: -1 and a word, or a word and
            the one that follows.
        held: Sparse uint8 `[texts, phrases]`, 1 where a text holds a phrase.
    """

    vocabulary: list[str]
    counts: np.ndarray
    keys: np.ndarray
    phrases: np.ndarray
    held: sparse.csr_matrix

    def phrase(self, index: int) -> list[str]:
        """The words of a phrase."""
        return [self.vocabulary[word] for word in self.phrases[index] if word >= 0]


def read_words(items: Sequence[tuple[str, ...]]) -> Words:
    """Takes texts apart.

    Args:
        items: Texts, or pairs of them, which are read one after the other.

    Returns:
        Their words.
    """
    # A new word gets the next number.
    index: dict[str, int] = defaultdict(count().__next__)
    counts = np.zeros(len(items), np.int64)
    keys = np.empty(len(items), dtype=object)
    codes = []
    for i, item in enumerate(items):
        text = plain("\n".join(item))
        words = WORD.findall(text)
        numbers = np.fromiter(map(index.__getitem__, words), np.int64, len(words))
        counts[i] = len(words)
        keys[i] = _key(words if len(words) >= FEW_WORDS else text.split())
        codes.append(np.unique(np.concatenate((numbers, _pairs(numbers)))))
    lengths = [len(row) for row in codes]
    known, columns = np.unique(np.concatenate([*codes, [0]])[:-1], return_inverse=True)
    starts = np.concatenate(([0], np.cumsum(lengths)))
    held = sparse.csr_matrix(
        (np.ones(len(columns), np.uint8), columns.astype(np.int32), starts),
        shape=(len(items), len(known)),
    )
    phrases = np.stack(((known >> _SHIFT) - 1, known & (2**_SHIFT - 1)), axis=1)
    return Words(list(index), counts, keys, phrases, held)


def plain(text: str) -> str:
    """A text as it is compared: compatible characters as one, without case."""
    return unicodedata.normalize("NFKC", text).casefold()


def _pairs(numbers: np.ndarray) -> np.ndarray:
    """A code for each pair of neighbours; a word's own number is its code."""
    return ((numbers[:-1] + 1) << _SHIFT) + numbers[1:]


def _key(words: Sequence[str]) -> str:
    return hashlib.sha256(" ".join(words).encode()).hexdigest()
