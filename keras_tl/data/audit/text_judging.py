"""The audit of texts as a whole: looking once, then judging what was seen."""

import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from keras_tl.data.audit.balance import findings_on_classes, findings_on_files
from keras_tl.data.audit.copies import Alike, Copies, equal_ones, judge_copies
from keras_tl.data.audit.findings import Audit, Finding
from keras_tl.data.audit.groups import NearGroups, bounded_groups
from keras_tl.data.audit.judging import audit_of
from keras_tl.data.audit.near import Pairs
from keras_tl.data.audit.text_giveaways import findings_on_boilerplate, findings_on_giveaways
from keras_tl.data.audit.text_languages import findings_on_languages, languages
from keras_tl.data.audit.text_lengths import findings_on_lengths
from keras_tl.data.audit.text_memory import words_and_pairs
from keras_tl.data.audit.text_words import Words
from keras_tl.data.source import Source
from keras_tl.data.text_input import TextInput
from keras_tl.data.texts import inspect_texts

log = logging.getLogger("keras_tl")

# Number of tokens of each text before anything is cut, not counting the encoder's own ([CLS],
# [SEP]): int64 `[texts]`.
CountTokens = Callable[[list[tuple[str, ...]]], np.ndarray]


@dataclass(frozen=True)
class SeenTexts:
    """What was seen of a data set's texts.

    Attributes:
        words: What they consist of.
        pairs: Near-duplicates.
        groups: Which near-duplicates splits should keep together.
        languages: Object `[texts]`, see `languages`.
        tokens: As `TextInput.reading` takes them; None if they were not counted.
        seconds: How long that took.
    """

    words: Words
    pairs: Pairs
    groups: NearGroups
    languages: np.ndarray
    tokens: np.ndarray | None
    seconds: float


def look_through_texts(source: Source, count_tokens: CountTokens | None = None) -> SeenTexts:
    """Reads every text, and compares each with each.

    Args:
        source: Texts with their hashes, see `inspect_texts`.
        count_tokens: Counts the tokens of texts; called on another thread.

    Returns:
        What was seen. `assign_splits` takes its `groups`.
    """
    started = time.monotonic()
    # TensorFlow counts without holding the GIL.
    with ThreadPoolExecutor(1) as beside:
        counting = None if count_tokens is None else beside.submit(count_tokens, source.items)
        words, pairs = words_and_pairs(source.items)
        groups = bounded_groups(source.ids, words.keys, pairs.first, pairs.second, pairs.similarity)
        found = languages(source.items, words)
        tokens = None if counting is None else np.asarray(counting.result())
    seconds = time.monotonic() - started
    told = "Looked at %d texts in %.0f s: %d pairs of near-duplicates."
    log.info(told, len(source), seconds, len(pairs))
    return SeenTexts(words, pairs, groups, found, tokens, seconds)


def judge_texts(source: Source, seen: SeenTexts, text_input: TextInput | None = None) -> Audit:
    """Makes findings of what was seen.

    Args:
        source: The texts that were looked at, in the same order; with splits where there are
            some.
        seen: What was seen of them.
        text_input: How many tokens a model reads; None is the default.

    Returns:
        The audit.
    """
    exact = list(equal_ones(source, seen.words.keys, "equal texts", "equal words"))
    copies = Copies(source, "text", exact, list(_near(seen)))
    findings: list[Finding] = [
        *findings_on_files(source, "text"),
        *judge_copies(copies, seen.groups),
        *findings_on_classes(source, "text"),
        *findings_on_giveaways(source, seen.words),
        *findings_on_lengths(source, seen.words.counts, seen.tokens, text_input or TextInput()),
        *findings_on_boilerplate(source, seen.words),
        *findings_on_languages(source, seen.languages),
    ]
    return audit_of(source, findings, "text")


def audit_texts(
    source: Source,
    count_tokens: CountTokens | None = None,
    text_input: TextInput | None = None,
) -> Audit:
    """Looks at texts and says what is wrong with them, or might be.

    Splits that the data has stay as they are, and what crosses them is found; none are made.

    Args:
        source: The texts.
        count_tokens: Counts the tokens of texts; None says nothing of what is cut.
        text_input: How many tokens a model reads; None is the default.

    Returns:
        The audit.
    """
    source = inspect_texts(source, max_bad_fraction=1.0)
    return judge_texts(source, look_through_texts(source, count_tokens), text_input)


def _near(seen: SeenTexts) -> Iterator[Alike]:
    rows = zip(seen.pairs.first, seen.pairs.second, seen.pairs.similarity, strict=True)
    for i, j, similarity in rows:
        yield Alike((int(i), int(j)), f"similarity {similarity:.2f}")
