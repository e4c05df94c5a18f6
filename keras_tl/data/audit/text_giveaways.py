"""Phrases that give the label away, and lines that many texts open or close with.

A model that learns these scores well on such data, and poorly on any other: the names of sources,
datelines, signatures. Whether that is what it should learn, only the user can say.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from keras_tl.data.audit.findings import Finding
from keras_tl.data.audit.text_words import WORD, Words, plain, read_words
from keras_tl.data.source import Source

# A phrase is a giveaway if at least PRECISION of the texts with it are of one class (lower end of
# the 95 % interval: SURE), texts of other classes hold it at most FEWER_OTHERS as often as chance
# would give, and at least RECALL of the class's texts hold it.
PRECISION, SURE, FEWER_OTHERS, RECALL = 0.95, 0.9, 0.1, 0.2
# With fewer texts even a precision of 1 has a lower end below SURE.
LEAST_TEXTS = 35
# Phrases of one class whose texts overlap by more than SAME_TEXTS (Jaccard) count as one; at most
# MOST are named.
SAME_TEXTS, MOST = 0.8, 20
# A line is boilerplate if SHARE of the texts, and at least LEAST_LINES, open or close with it.
SHARE, LEAST_LINES = 0.05, 10
# Words looked at on each end of a text of one line, if it has at least twice as many.
EDGE_WORDS = 6
# Most texts named as examples.
EXAMPLES = 20
_Z = 1.96


@dataclass(frozen=True)
class Giveaway:
    """A phrase that nearly decides the label alone.

    Attributes:
        phrase: The words, as they stand in a text.
        class_name: The class.
        texts: How many texts hold it.
        precision: The share of these that are of the class.
        recall: The share of the class's texts that hold it.
        examples: Indices of some texts that hold it.
    """

    phrase: str
    class_name: str
    texts: int
    precision: float
    recall: float
    examples: tuple[int, ...]


def giveaways(source: Source, words: Words | None = None) -> list[Giveaway]:
    """Finds words, and pairs of them, that nearly decide the label alone.

    Args:
        source: Texts with classes.
        words: Their words, where they are known already.

    Returns:
        The phrases, the best first; only one of those that stand in the same texts.
    """
    if source.task == "regression" or len(source.class_names) < 2:
        return []
    words = words or read_words(source.items)
    by_class = _of_classes(source)
    phrases, labels, precision, recall = _deciding(words, by_class)
    held = words.held[:, phrases].tocsc()
    found: list[Giveaway] = []
    named: list[tuple[int, set[int]]] = []
    for i, c in enumerate(labels.tolist()):
        holding = _rows(held, i)
        if any(c == other and _overlap(holding, known) > SAME_TEXTS for other, known in named):
            continue
        named.append((c, set(holding.tolist())))
        examples = holding[np.isin(holding, _rows(by_class, c))]
        found.append(
            Giveaway(
                _as_written(words.phrase(int(phrases[i])), source.items[examples[0]]),
                source.class_names[c],
                len(holding),
                float(precision[i]),
                float(recall[i]),
                tuple(examples[:EXAMPLES].tolist()),
            )
        )
        if len(found) == MOST:
            break
    return found


def _deciding(words: Words, by_class: sparse.csc_matrix) -> tuple[np.ndarray, ...]:
    """Phrases that nearly decide a class, with class, precision and recall, the best first."""
    texts = np.bincount(words.held.indices, minlength=words.held.shape[1])
    frequent = np.flatnonzero(texts >= LEAST_TEXTS)
    # Most phrases and classes never meet: only those that do are looked at.
    met = words.held[:, frequent].T.tocsr().astype(np.float64) @ by_class
    met.sort_indices()
    row, label = met.nonzero()
    phrase, sizes = frequent[row], np.diff(by_class.indptr)
    precision, recall = met.data / texts[phrase], met.data / sizes[label]
    needed = np.maximum(PRECISION, 1 - FEWER_OTHERS * (1 - sizes[label] / by_class.shape[0]))
    is_sure = _lower_bound(precision, texts[phrase]) >= SURE
    decides = np.flatnonzero(is_sure & (precision >= needed) & (recall >= RECALL))
    score = 2 / (1 / precision[decides] + 1 / recall[decides])
    # Of equals the longer phrase says more.
    is_pair = words.phrases[phrase[decides], 0] >= 0
    best = decides[np.lexsort((~is_pair, -score.round(3)))]
    return phrase[best], label[best], precision[best], recall[best]


def _rows(matrix: sparse.csc_matrix, column: int) -> np.ndarray:
    """The rows in which a column is not zero."""
    return matrix.indices[matrix.indptr[column] : matrix.indptr[column + 1]]


def _of_classes(source: Source) -> sparse.csc_matrix:
    """Ones where a text is of a class: float64 `[texts, classes]`."""
    if source.task == "multi-label":
        return sparse.csc_matrix(source.labels, dtype=np.float64)
    places = (np.arange(len(source)), source.labels)
    shape = (len(source), len(source.class_names))
    return sparse.csc_matrix((np.ones(len(source)), places), shape)


def phrases_to_take_out(source: Source) -> list[str]:
    """Finds what nearly decides the label alone, and then what does without these phrases.

    `giveaways` names only one of several phrases in the same texts; without it the next one shows.

    Args:
        source: Texts with classes.

    Returns:
        The phrases, for `without_phrases`.
    """
    phrases: list[str] = []
    while found := [each.phrase for each in giveaways(without_phrases(source, phrases))]:
        if set(found) <= set(phrases):  # from the end of a title to the beginning of its text
            break
        phrases += found
    return phrases


def without_phrases(source: Source, phrases: Sequence[str]) -> Source:
    """The same texts without some phrases, whatever their case and the signs between their words.

    Args:
        source: Texts.
        phrases: Words, or several in a row; their signs do not count.

    Returns:
        A source of as many texts, of which some may be empty.
    """
    told = {tuple(WORD.findall(plain(phrase))) for phrase in phrases}
    items = [tuple(_cut(text, told) for text in item) for item in source.items]
    return replace(source, items=items, hashes=np.full(len(items), "", object))


def findings_on_giveaways(source: Source, words: Words | None = None) -> list[Finding]:
    """Says which words and phrases nearly decide the label alone.

    Args:
        source: Texts with classes.
        words: Their words, where they are known already.

    Returns:
        One finding with a set of examples for each phrase, or none.
    """
    found = giveaways(source, words)
    if not found:
        return []
    noun, verb = ("phrase", "decides") if len(found) == 1 else ("phrases", "decide")
    named = [f"{entry.phrase!r} ({entry.class_name})" for entry in found[:3]]
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    text = (
        f"{len(found)} {noun} nearly {verb} the label alone: {', '.join(named)}{more}. Is that "
        "what a model should learn? If not, take them out of the texts."
    )
    return [
        Finding(
            "giveaways",
            "warning",
            text,
            tuple(tuple(str(source.ids[i]) for i in entry.examples) for entry in found),
            tuple(
                f"{entry.phrase!r}: {entry.precision:.1%} of {entry.texts:,} texts with it are "
                f"{entry.class_name}, and {entry.recall:.1%} of all {entry.class_name} have it"
                for entry in found
            ),
        )
    ]


def findings_on_boilerplate(source: Source, words: Words) -> Iterator[Finding]:
    """Says which lines many texts open or close with; of equal texts one is counted.

    Args:
        source: The texts.
        words: Their words.

    Yields:
        What was found.
    """
    _, first_of = np.unique(words.keys.astype(str), return_index=True)
    edges: dict[tuple[str, str], list[int]] = defaultdict(list)
    for i in np.sort(first_of).tolist():
        for edge in _edges(source.items[i]):
            edges[edge].append(i)
    least = max(LEAST_LINES, SHARE * len(first_of))
    counts = Counter({edge: len(texts) for edge, texts in edges.items() if len(texts) >= least})
    if not counts:
        return
    found = counts.most_common(MOST)
    noun, verb = ("line", "opens or closes") if len(counts) == 1 else ("lines", "open or close")
    (how, line), count = found[0]
    yield Finding(
        "boilerplate",
        "note",
        f"{len(counts)} {noun} {verb} many texts, such as {line!r}, which {how} {count:,}: "
        "it takes room of what can be read.",
        tuple(tuple(str(source.ids[i]) for i in edges[edge][:EXAMPLES]) for edge, _ in found),
        tuple(f"{how} {count:,} texts: {line!r}" for (how, line), count in found),
    )


def _lower_bound(share: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Wilson's lower bound (Journal of the American Statistical Association 22, 1927)."""
    middle = share + _Z**2 / (2 * count)
    width = _Z * np.sqrt(share * (1 - share) / count + _Z**2 / (4 * count**2))
    return (middle - width) / (1 + _Z**2 / count)


def _overlap(holding: np.ndarray, known: set[int]) -> float:
    """The Jaccard index of two sets of texts."""
    common = len(known.intersection(holding.tolist()))
    return common / (len(holding) + len(known) - common)


def _cut(text: str, phrases: set[tuple[str, ...]]) -> str:
    """A text without some phrases, the longest first, with words compared as in `read_words`."""
    as_compared = unicodedata.normalize("NFKC", text)
    found = list(WORD.finditer(as_compared))
    words = tuple(plain(match[0]) for match in found)
    lengths = sorted({len(phrase) for phrase in phrases}, reverse=True)
    kept, end, i = [], 0, 0
    while i < len(words):
        held = next((words[i : i + n] for n in lengths if words[i : i + n] in phrases), ())
        if held:
            kept.append(as_compared[end : found[i].start()])
            end = found[i + len(held) - 1].end()
        i += len(held) or 1
    return " ".join([*kept, as_compared[end:]]) if kept else text


def _as_written(phrase: list[str], item: tuple[str, ...]) -> str:
    """The phrase with the case and the signs that it has in a text."""
    text = "\n".join(item)
    pattern = r"\W+".join(map(re.escape, phrase))
    match = re.search(pattern, text, re.IGNORECASE) or re.search(pattern, plain(text))
    return " ".join(match[0].split()) if match else " ".join(phrase)


def _edges(item: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """How a text opens and closes: whole lines, or some words of a text of one line."""
    lines = [" ".join(line.split()) for line in "\n".join(item).splitlines() if line.strip()]
    if len(lines) == 1:
        words = lines[0].split()
        if len(words) < 2 * EDGE_WORDS:
            return
        lines = [" ".join(words[:EDGE_WORDS]), " ".join(words[-EDGE_WORDS:])]
    if lines:
        yield "opens", lines[0]
        yield "closes", lines[-1]
