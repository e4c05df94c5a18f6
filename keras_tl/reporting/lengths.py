"""How long the texts are, how much of them the model reads, and how good it is by that."""

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from keras_tl.evaluation.wilson import wilson
from keras_tl.model_info import ModelInfo
from keras_tl.reporting.album import Album
from keras_tl.reporting.blocks import Block, Cell, Section, Table, Text, number, percent
from keras_tl.reporting.facts import Facts, Outcome
from keras_tl.reporting.occlusion import Item

if TYPE_CHECKING:
    import keras

TITLE = "Length"
# A text of more words than one of these and at most the next is in a row with others like it.
EDGES = (-1, 10, 25, 50, 100, 200, 400, 800, 1_600, 10**9)


def lengths(facts: Facts, album: Album, *, model: "keras.Model | None" = None) -> Section:
    """How good the model is on short and long texts, and how many of these are cut.

    Args:
        facts: The run.
        album: Its texts.
        model: Its model; without one it is not known which texts are cut.

    Returns:
        The section.
    """
    outcome, info = facts.outcome, facts.info
    if outcome is None or info is None or not len(outcome):
        return Section(TITLE, (Text("The run lists no predictions.", "quiet"),))
    items, trouble = album.find(list(outcome.ids))
    rows = np.array([i for i, name in enumerate(outcome.ids) if name in items], np.int64)
    if not len(rows):
        return Section(TITLE, (Text(trouble, "quiet"),))
    measured = [items[outcome.ids[i]] for i in rows]
    words = np.array([sum(len(text.split()) for text in item) for item in measured])
    cut = None if model is None else cut_off(model, measured, info)
    blocks: list[Block] = [Text(trouble, "quiet")] if trouble else []
    if cut is not None and info.text_input:
        blocks.append(Text(_reading(info, float(cut.mean()))))
    return Section(TITLE, (*blocks, _table(facts, outcome, rows, words, cut)))


def cut_off(model: "keras.Model", items: list[Item], info: ModelInfo) -> np.ndarray | None:
    """Which texts have more tokens than the model reads.

    Args:
        model: Strings in.
        items: The texts.
        info: What the model takes.

    Returns:
        Bool `[items]`; None where the model has no layer that counts tokens.
    """
    from keras_tl.backbones.host import tokenize_of

    tokenize = tokenize_of(model)
    if info.text_input is None or tokenize is None or not tokenize.counts:
        return None
    reading = info.text_input.reading(tokenize.count(items))
    return reading.read < reading.written


def tokens_text(info: ModelInfo) -> str:
    """How much a model reads, in words; "" for a model of images."""
    if (seen := info.text_input) is None:
        return ""
    one = f"up to {seen.max_tokens:,} tokens"
    of = "a pair of texts" if seen.texts > 1 else "a text"
    ends = ", of long ones from both ends" if seen.truncate == "head-tail" else ""
    windows = f", in up to {seen.windows} windows" if seen.windows > 1 else ""
    tags = ", without HTML tags" if seen.markup == "drop" else ""
    words = ", and which words are in it anywhere" if seen.bag_of_words else ""
    return f"{one} of {of}{windows}{ends}{tags}{words}"


def _reading(info: ModelInfo, share: float) -> str:
    told = f"The model reads {tokens_text(info)}."
    if info.text_input is None or not share:
        return f"{told} All of the measured texts are shorter."
    from_both = info.text_input.truncate == "head-tail"
    lost = "their middle" if from_both else "what is behind"
    words = ", though its words are counted" if info.text_input.bag_of_words else ""
    return (
        f"{told} Of the measured texts {percent(share)} are longer, and {lost} is cut off{words} "
        "(--windows reads more)."
    )


def _table(
    facts: Facts, outcome: Outcome, rows: np.ndarray, words: np.ndarray, cut: np.ndarray | None
) -> Table:
    """A row for each range of lengths that occurs."""
    found = []
    for low, high in pairwise(EDGES):
        inside = (words > low) & (words <= high)
        if inside.any():
            name = f"{low + 1:,} to {high:,}" if high < EDGES[-1] else f"more than {low:,}"
            cells = [Cell(name), Cell(f"{inside.sum():,}"), _score(facts, outcome, rows[inside])]
            found.append(cells if cut is None else [*cells, Cell(percent(cut[inside].mean()))])
    score = facts.error_name if facts.task == "regression" else "right"
    head = ["words", "texts", score, *([] if cut is None else ["cut off"])]
    counted = "." if facts.groups is None else ", for which whole groups count."
    about = f"With 95 % intervals (Wilson, JASA 22, 1927){counted}"
    without = facts.task == "regression" or facts.of_one_group
    return Table(head, found, "" if without else about)


def _score(facts: Facts, outcome: Outcome, rows: np.ndarray) -> Cell:
    if facts.task == "regression":
        return Cell(number(float(outcome.errors()[rows].mean())))
    right = outcome.right[rows]
    groups = None if facts.groups is None else np.unique(facts.groups[rows], return_inverse=True)[1]
    ((low,), (high,)) = wilson(right[:, None].astype(float), np.ones((len(right), 1)), groups)
    share = float(right.mean())
    if facts.of_one_group:
        return Cell(percent(share))
    under = f"{percent(low, 0)} to {percent(high, 0)}".replace(" ", "\u00a0")
    return Cell(percent(share), under, span=(float(low), share, float(high)))
