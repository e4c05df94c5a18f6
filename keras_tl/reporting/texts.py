"""The texts that a model got wrong or was unsure of, with the words that decided."""

import re
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_tl.data.pipeline import Samples
from keras_tl.data.source import Source
from keras_tl.model_info import ModelInfo
from keras_tl.reporting.album import Album
from keras_tl.reporting.blocks import Block, Excerpt, Passage, Passages, Section, Span, Text
from keras_tl.reporting.facts import Facts, Outcome
from keras_tl.reporting.occlusion import Item, Stretch, log_odds, occlude, read_part
from keras_tl.reporting.pictures import Pick, choose, words

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from keras_tl.feature_cache import FeatureStore

TITLE = "Texts"
# Texts that are explained under a heading; under others all that are shown.
EXPLAINED = {"Most confident mistakes": 5, "Least certain": 3}
# Characters that are shown of a text: around what decided, beside another, behind a click.
AROUND, BESIDE, WHOLE = 420, 300, 10_000
# Effects are painted relative to the strongest of their text, or to this where all are fainter (in
# log-odds, or deviations of the target): what hardly moves the answer decides nothing.
FAINT = 0.25
# What has less than this of the strongest effect is not painted.
LEAST_WEIGHT = 0.1
# Joiners are part of letters and emoji; other marks that are not printed may turn a page around.
_JOINERS, _SOFT_HYPHEN = "\u200c\u200d", "\u00ad"
_ABOUT = (
    "The colour shows what speaks for the answer in the title (orange) or against it (blue): words "
    "are left out in turn, and what the answer then loses is what they said (Li, Monroe and "
    "Jurafsky 2016). A name, a date or a stock phrase that decides is a warning."
)


def texts(
    facts: Facts,
    album: Album,
    *,
    model: "keras.Model | None" = None,
    store: "FeatureStore | None" = None,
    engine: str = "auto",
) -> Section:
    """The most confident mistakes and the least certain texts; of a regression the worst.

    Args:
        facts: The run.
        album: Its texts.
        model: Its model; without one nothing is explained.
        store: Where outputs of what is frozen in it are kept; None keeps none.
        engine: See `run_phases`.

    Returns:
        The section. Where texts are not found, or are no longer what they were, it says so.
    """
    outcome, info = facts.outcome, facts.info
    if outcome is None or info is None or not len(outcome):
        return Section(TITLE, (Text("The run lists no predictions to show.", "quiet"),))
    wanted = choose(outcome, info)
    ids = [outcome.ids[pick.sample] for chosen in wanted.values() for pick in chosen]
    items, trouble = album.find(list(dict.fromkeys(ids)))
    if not items:
        return Section(TITLE, (Text(trouble, "quiet"),))
    found = {
        title: [pick for pick in chosen if outcome.ids[pick.sample] in items]
        for title, chosen in wanted.items()
    }
    effects: dict[Pick, list[Stretch]] = {}
    if model is not None:
        effects = _explained(model, outcome, info, found, items, store, engine)
    blocks: list[Block] = [Text(trouble, "quiet")] if trouble else []
    for title, chosen in found.items():
        shown = tuple(
            Passage(
                *words(outcome, info, pick),
                excerpts(items[outcome.ids[pick.sample]], effects.get(pick, ()), AROUND),
            )
            for pick in chosen
        )
        blocks.append(Passages(title, shown) if shown else Text(f"{title}: none.", "quiet"))
    return Section(TITLE, (*blocks, *([Text(_ABOUT, "quiet")] if effects else [])))


def beside(items: dict[str, Item], names: Sequence[str], why: str) -> Passage:
    """Texts side by side.

    Args:
        items: Texts by their names.
        names: Those to show.
        why: What there is to see.
    """
    shown = [
        Excerpt(part.spans, part.whole, name if place == 0 else part.label)
        for name in names
        for place, part in enumerate(excerpts(items[name], (), BESIDE))
    ]
    return Passage(why, (" = ".join(names),), tuple(shown))


def excerpts(item: Item, stretches: Sequence[Stretch], size: int) -> tuple[Excerpt, ...]:
    """The parts of an item's texts that decided, coloured; else how they begin.

    Args:
        item: One or two texts.
        stretches: What their words do; may be none.
        size: Characters of each text that are shown, about.

    Returns:
        One excerpt for each text.
    """
    scale = max((abs(each.effect) for each in stretches), default=0.0)
    scale = max(scale, FAINT)
    found = []
    for place, text in enumerate(item):
        inside = [each for each in stretches if each.place == place]
        first, last = _window(text, inside, size)
        spans = _spans(text, inside, first, last, scale)
        whole = printable(text[:WHOLE]) if last - first < len(text) else ""
        label = ("first text", "second text")[place] if len(item) > 1 else ""
        found.append(Excerpt(tuple(spans), whole, label))
    return tuple(found)


def printable(text: str) -> str:
    """Text whose characters can all be shown, and leave the page as it is."""
    lines = text.replace("\r\n", "\n").replace(_SOFT_HYPHEN, "").split("\n")
    # A page's pictures are long, and letters and digits alone.
    return "\n".join(n if n.isprintable() else "".join(map(_shown, n)) for n in lines)


def _shown(character: str) -> str:
    # Blanks that are not ASCII's (French and Japanese have some) are not "printable".
    is_blank = unicodedata.category(character) == "Zs"
    if character.isprintable() or is_blank or character in "\n\t" or character in _JOINERS:
        return character
    return "\ufffd"


def _tight(text: str) -> str:
    """Printable, and without blank lines."""
    return printable(re.sub(r"\s*\n\s*", "\n", text))


def _window(text: str, stretches: Sequence[Stretch], size: int) -> tuple[int, int]:
    """Where the shown part starts and ends: around the strongest stretch, between words."""
    if len(text) <= 1.2 * size:
        return 0, len(text)
    strongest = max(stretches, key=lambda each: abs(each.effect), default=None)
    middle = (strongest.start + strongest.end) // 2 if strongest else 0
    first = min(max(middle - size // 2, 0), len(text) - size)
    last = first + size
    # To the next blank, where one is near.
    before, behind = text.rfind(" ", max(first - 25, 0), first), text.find(" ", last, last + 25)
    first = before + 1 if first and before >= 0 else first
    return first, behind if behind >= 0 else last


def _spans(
    text: str, stretches: Sequence[Stretch], first: int, last: int, scale: float
) -> list[Span]:
    """The text from `first` to `last`, with the weight of what is in it."""
    found, at = [Span("… ")] if first else [], first
    for each in stretches:
        start, end = max(each.start, first), min(each.end, last)
        if start < end:
            weight = round(each.effect / scale, 2)
            weight = weight if abs(weight) >= LEAST_WEIGHT else 0.0
            found += [Span(_tight(text[at:start])), Span(_tight(text[start:end]), weight)]
            at = end
    found.append(Span(_tight(text[at:last])))
    return [*found, Span(" …")] if last < len(text) else found


def _explained(
    model: "keras.Model",
    outcome: Outcome,
    info: ModelInfo,
    found: dict[str, list[Pick]],
    items: dict[str, Item],
    store: "FeatureStore | None",
    engine: str,
) -> dict[Pick, list[Stretch]]:
    """What the words of the first texts of each heading do."""
    from keras_tl.backbones.host import tokenize_of
    from keras_tl.evaluation.predictions import predictor

    first = {p: None for title, chosen in found.items() for p in chosen[: EXPLAINED.get(title)]}
    picks, tokenize = list(first), tokenize_of(model)
    shown = [items[outcome.ids[pick.sample]] for pick in picks]
    spec = info.text_input
    if not shown or spec is None:
        return {}
    if tokenize is not None:
        shown = read_part(lambda given: np.asarray(tokenize(strings(given))), shown)
    unit = np.maximum(outcome.truth.std(axis=0), 1e-12) if info.task == "regression" else None
    if store is not None and store.automatic:
        # Colours need no more, and to find that out takes a batch of the whole model.
        store = store.settled("float16")
    predict = predictor(model, store, engine=engine)

    def answer(tried: Sequence[Item]) -> np.ndarray:
        ids = np.arange(len(tried)).astype(str).astype(object)
        unlabelled = np.zeros(len(tried), np.int64)
        source = Source(ids, list(tried), unlabelled, info.class_names)
        outputs = predict(Samples(source, spec, tokenize=tokenize))
        return log_odds(outputs) if unit is None else outputs / unit

    effects = occlude(answer, shown, np.array([pick.output for pick in picks], int))
    return dict(zip(picks, effects, strict=True))


def strings(items: Sequence[Item]) -> "tf.Tensor":
    """What a model takes: strings `[items]`, or of pairs `[items, 2]`."""
    import tensorflow as tf

    rows: list[Any] = [[text.encode("utf-8", "replace") for text in item] for item in items]
    return tf.constant([row[0] if len(row) == 1 else row for row in rows])
