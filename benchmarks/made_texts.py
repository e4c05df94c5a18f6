"""Texts that are made: words as frequent as those of a language, with names, and altered copies."""

from collections.abc import Callable

import numpy as np

WORDS = 40_000
SYLLABLES = [a + b for a in "bdfgklmnprst" for b in "aeiou"]
NAMES = ["Ada", "Bela", "Carl", "Dora", "Emil", "Fay", "Gus", "Hal", "Ida", "Jon"]


def word(number: int) -> str:
    """A word for each number, the shorter the more frequent it is."""
    number += len(SYLLABLES)
    return SYLLABLES[number % len(SYLLABLES)] + (
        word(number // len(SYLLABLES) - len(SYLLABLES)) if number >= len(SYLLABLES) ** 2 else ""
    )


def texts(count: int, seed: int, words: int = 150) -> list[str]:
    """Letters of about so many words each, drawn by Zipf's law, with a greeting and a footer."""
    rng = np.random.default_rng(seed)
    frequency = 1 / np.arange(1, WORDS + 1)
    vocabulary = [f"{word(i)}{'' if i < 60 else i}" for i in range(WORDS)]
    found = []
    for length in rng.lognormal(np.log(words), 0.7, count).astype(int) + 8:
        drawn = rng.choice(WORDS, length, p=frequency / frequency.sum())
        lines = [
            " ".join(vocabulary[i] for i in drawn[at : at + 12]) for at in range(0, length, 12)
        ]
        name = rng.choice(NAMES)
        found.append(
            f"Dear {name},\n" + ".\n".join(lines) + f".\n{name}\n\nto leave this list write"
        )
    return found


def _replaced(text: str, share: float, rng: np.random.Generator) -> str:
    words = text.split(" ")
    for i in rng.choice(len(words), max(1, round(share * len(words))), replace=False):
        words[i] = f"other{rng.integers(10**6)}"
    return " ".join(words)


def _renamed(text: str, rng: np.random.Generator) -> str:
    old = text.split()[1].rstrip(",")
    return text.replace(old, f"{rng.choice(NAMES)} {word(int(rng.integers(3000)))}")


WAYS: dict[str, Callable[[str, np.random.Generator], str]] = {
    "case and blanks": lambda text, rng: text.upper().replace("\n", "  ").replace(".", " ;"),
    "quoted": lambda text, rng: (
        f"On 3 May {_renamed(text, rng)[:20]} wrote\n> " + text.replace("\n", "\n> ")
    ),
    "another name": _renamed,
    "a tenth of the words changed": lambda text, rng: _replaced(text, 0.1, rng),
    "a tenth cut off": lambda text, rng: text[: round(0.9 * len(text))],
}
