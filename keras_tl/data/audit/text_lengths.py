"""Findings on how long texts are, and on how much of them a model will not see."""

from collections.abc import Iterator

import numpy as np

from keras_tl.data.audit.findings import Finding
from keras_tl.data.source import Source
from keras_tl.data.text_input import LARGEST_WINDOWS, OWN_TOKENS, Reading, TextInput

# Texts of fewer words say little; a larger share of them should be looked at.
SHORT, MANY_SHORT = 3, 0.05
# A larger share of cut texts should be looked at.
MANY_CUT = 0.1
# Share of the texts that should be read whole.
WHOLE = 0.8
# Most characters shown of a short text.
MOST_SHOWN = 40


def findings_on_lengths(
    source: Source, words: np.ndarray, tokens: np.ndarray | None, text_input: TextInput
) -> Iterator[Finding]:
    """Says how long texts are, which are very short, and how many are cut.

    Args:
        source: The texts.
        words: int64 `[texts]`, how many words each has.
        tokens: See `TextInput.reading`; None where that is not known.
        text_input: How many tokens a model reads.

    Yields:
        What was found.
    """
    yield Finding("lengths", "note", f"Texts have {_spread(words)} words.")
    short = np.flatnonzero(words < SHORT)
    if len(short):
        noun = "text has" if len(short) == 1 else "texts have"
        yield Finding(
            "very-short",
            "warning" if len(short) > MANY_SHORT * len(source) else "note",
            f"{len(short):,} {noun} fewer than {SHORT} words.",
            tuple((str(source.ids[i]),) for i in short),
            tuple(_shown(source.items[i]) for i in short),
        )
    if tokens is not None:
        yield from _cut(source, text_input.reading(tokens), text_input)


def _cut(source: Source, reading: Reading, text_input: TextInput) -> Iterator[Finding]:
    tokens = reading.written
    cut = np.flatnonzero(reading.read < tokens)
    if not len(cut):
        return
    share = len(cut) / len(source)
    windows = text_input.windows
    held = f"{text_input.max_tokens} tokens" + (f" in {windows} windows" if windows > 1 else "")
    unread = 1 - reading.read.sum() / tokens.sum()
    counted = ", though its words are counted" if text_input.bag_of_words else ""
    longest = cut[np.argsort(-tokens[cut], kind="stable")]
    yield Finding(
        "truncated",
        "warning" if share > MANY_CUT else "note",
        f"{share:.1%} of the texts are longer than {held} and are cut: {unread:.1%} of all that "
        f"is written is not read{counted}. Texts have {_spread(tokens)} tokens"
        f"{_more(reading, text_input)}.",
        tuple((str(source.ids[i]),) for i in longest),
        tuple(f"{tokens[i]:,} tokens" for i in longest),
    )


def _more(reading: Reading, text_input: TextInput) -> str:
    """How many windows would read most texts whole; "" if these do already, or none would."""
    room = text_input.room // text_input.windows
    hopeless = reading.readable < reading.written
    needed = np.where(hopeless, LARGEST_WINDOWS + 1, reading.windows)
    windows = int(np.quantile(needed, WHOLE, method="higher"))
    if not text_input.windows < windows <= LARGEST_WINDOWS:
        return ""
    whole = reading.is_whole(windows).mean()
    longer = windows * room + OWN_TOKENS + text_input.texts - 1
    return f"; --windows {windows} (or --max-tokens {longer}) would read {whole:.0%} of them whole"


def _spread(lengths: np.ndarray) -> str:
    low, quarter, half, three, high = np.quantile(lengths, (0, 0.25, 0.5, 0.75, 1))
    middle = f"median {half:,.0f}, half of them {quarter:,.0f} to {three:,.0f}"
    return f"{low:,.0f} to {high:,.0f} ({middle})"


def _shown(item: tuple[str, ...]) -> str:
    text = " / ".join(" ".join(part.split()) for part in item)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."
