"""Whether transfer was worth it: the model beside what answers without it."""

from typing import Any

from keras_tl.reporting.blocks import Block, Cell, Section, Table, Text, number, percent, seconds
from keras_tl.reporting.facts import Facts
from keras_tl.reporting.headlines import headlines

TITLE = "Was transfer worth it?"
LEVEL_OF_TEST = 0.05
_REACHES = {
    "accuracy": "reaches {} on the same split",
    "subset_accuracy": "gets every class right in {} of the same split",
    "mae": "is off by {} on average on the same split",
}


def baseline_text(metrics: dict[str, Any], nouns: str) -> str:
    """What the baseline reaches, and whether transfer was worth it, in a sentence.

    Args:
        metrics: `metrics.json`.
        nouns: What the samples are, "images" or "texts".

    Returns:
        The sentence; "" where no baseline was measured.
    """
    if not (found := metrics.get("baseline")):
        return ""
    gap = found["difference"]
    is_share = gap["figure"] != "mae"
    reached = (percent if is_share else number)(found[gap["figure"]])
    if (several := gap.get("reached_in_deviations")) is not None:
        reached = f"{number(several)} deviations of the targets"
    value, low, high = (gap[key] for key in ("value", "low", "high"))
    # An error is better where it is smaller; a gain is what the model is better by.
    gain = (value, low, high) if is_share else (-value, -high, -low)
    told = f"{found['kind']} {_REACHES[gap['figure']].format(reached)}"
    if gap.get("before_thresholds"):
        return f"{told}; the model was compared with it before thresholds were set."
    verdict = _verdict(gain, gap.get("p", 0.0), metrics, nouns)
    if gap.get("of_one_group"):
        verdict = f"all measured {nouns} are of one group, so that shows nothing of others"
    return f"{told}, {_distance(gain, is_share)}: {verdict}."


def _distance(gain: tuple[float, float, float], is_share: bool) -> str:
    """How far the baseline is from the model, with the interval of that."""
    value, low, high = gain
    behind = value >= 0
    if not behind:
        value, low, high = -value, -high, -low
    if not is_share:
        words = f"{number(value)} {'more' if behind else 'less'} than this model"
        if low == high:
            return words
        return f"{words} (95 % interval {number(low)} to {number(high)})"
    points = f"{100 * value:.1f} points {'less' if behind else 'more'} than this model"
    words = "as this model does" if value == 0 else points
    if low == high:
        # Both are right on the same samples: no resample says how sure that is.
        return words
    return f"{words} (95 % interval {100 * low:z.1f} to {100 * high:z.1f})"


def _verdict(
    gain: tuple[float, float, float], chance: float, metrics: dict[str, Any], nouns: str
) -> str:
    """The interval decides, and the test where there is one: resamples of few items agree early."""
    _, low, high = gain
    if low > 0 and chance <= LEVEL_OF_TEST:
        return "transfer was worth it"
    if high < 0 and chance <= LEVEL_OF_TEST:
        return "transfer was not worth it"
    return f"these {metrics.get('samples', 0):,} {nouns} do not show that transfer was worth it"


def baseline(facts: Facts) -> list[Section]:
    """The figures of model and baseline beside each other; no section where there is none.

    The sentence on them is in the result's section.
    """
    found = facts.metrics.get("baseline")
    if not found:
        return []
    rows = [
        [Cell(label), Cell(show(facts.metrics.get(name))), Cell(show(found.get(name)))]
        for name, label, show in headlines(facts)
    ]
    blocks: list[Block] = [
        Table(["figure", "this model", _within_a_line(found["kind"])], rows),
        Text(_about(facts, found), "quiet"),
    ]
    return [Section(TITLE, tuple(blocks))]


def _within_a_line(kind: str) -> str:
    """A baseline's kind without the capital letter of a sentence; TF-IDF keeps its own."""
    return kind if kind[1:2].isupper() else kind[:1].lower() + kind[1:]


def _about(facts: Facts, found: dict[str, Any]) -> str:
    """How it was made and compared."""
    settings = ", ".join(
        f"{name.replace('_', ' ')} {number(value)}" for name, value in found["settings"].items()
    )
    about = (
        f"The baseline learned from the same training {facts.nouns} and was measured on the same "
        f"split, in {seconds(found['seconds'])} ({settings})."
    )
    if not found["difference"].get("of_one_group"):
        about += (
            f" The interval is of the difference: 1,000 resamples of the {facts.nouns}, on which "
            "both are judged."
        )
    if (chance := found["difference"].get("p")) is not None:
        about += f" Exact McNemar test: p = {chance:.3g}."
    if found["difference"].get("before_thresholds"):
        about += " The difference was measured before thresholds were set."
    return about
