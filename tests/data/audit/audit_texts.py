"""Texts that are made for tests of the audit."""

import numpy as np

NAMES = ("Ada", "Bela", "Carl", "Dora", "Emil")


def letters(count, seed=0, words=60):
    """Letters whose words are drawn by Zipf's law; each begins with a greeting."""
    rng = np.random.default_rng(seed)
    frequency = 1 / np.arange(1, 5001)
    frequency /= frequency.sum()
    found = []
    for i in range(count):
        drawn = " ".join(f"w{k}" for k in rng.choice(5000, words, p=frequency))
        found.append(f"Dear {NAMES[i % 5]},\n{drawn}.\nYours")
    return found


def edited(text, number):
    """A text lightly edited, in one of three ways."""
    if number % 3 == 0:
        return text.upper().replace("\n", "  ").replace(".", " !")
    if number % 3 == 1:
        return "On 3 May 2002 somebody wrote:\n> " + text.replace("\n", "\n> ")
    return text.replace(text.split()[1], "Zacharias,")
