"""What the audit says of the measured images or texts, beside the result: how far to trust it."""

import numpy as np

from keras_tl.reporting.blocks import number, percent
from keras_tl.reporting.facts import Facts

# Kinds of findings.
LEAKS, SUSPECTED = ("leak", "near-leak"), "wrong-label"


def leaked_text(facts: Facts) -> str:
    """How many of the measured samples lie in another split too, and the result without them.

    Args:
        facts: The run.

    Returns:
        Sentences; "" where the audit found none, or there is none.
    """
    leaked = _measured(facts, _crossing(facts))
    if facts.outcome is None or not (count := int(leaked.sum())):
        return ""
    told = (
        f"{count:,} of these {facts.nouns} lie in another split too, as copies or near-duplicates, "
        "and are easier than new ones."
    )
    if count == 1:
        told = (
            f"1 of these {facts.nouns} lies in another split too, as a copy or a near-duplicate, "
            "and is easier than a new one."
        )
    rest = np.flatnonzero(~leaked)
    return f"{told} {_on_the_rest(facts, rest)}"


def suspects_text(facts: Facts) -> str:
    """How many of the mistakes are on samples whose labels are suspected to be wrong.

    Args:
        facts: The run.

    Returns:
        A sentence; "" where there are none.
    """
    if facts.outcome is None or facts.task != "single-label":
        return ""
    suspected = {name for names in _found(facts).get(SUSPECTED, ()) for name in names}
    wrong = ~facts.outcome.right
    count, mistakes = int((_measured(facts, suspected) & wrong).sum()), int(wrong.sum())
    if not count:
        return ""
    which = f"{count:,} of its {mistakes:,} mistakes are on {facts.nouns} whose labels are"
    if count == 1:
        of = "Its one mistake" if mistakes == 1 else f"1 of its {mistakes:,} mistakes"
        which = f"{of} is on {_a(facts.noun)} whose label is"
    return f"{which} suspected to be wrong: look there first."


def _found(facts: Facts) -> dict[str, tuple[tuple[str, ...], ...]]:
    findings = facts.audit.findings if facts.audit else ()
    return {finding.kind: finding.sets for finding in findings}


def _crossing(facts: Facts) -> set[str]:
    """Names of what lies, itself or as something like it, in a split that is not the measured."""
    if facts.splits is None:
        return set()
    split_of = dict(zip(facts.splits["id"], facts.splits["split"], strict=True))
    measured = facts.metrics.get("measured_on", "test")
    sets = [names for kind in LEAKS for names in _found(facts).get(kind, ())]
    return {
        name
        for names in sets
        if any(split_of.get(other, measured) != measured for other in names)
        for name in names
    }


def _measured(facts: Facts, names: set[str]) -> np.ndarray:
    """Which of the measured samples are among the names: bool `[samples]`."""
    ids = facts.outcome.ids if facts.outcome else ()
    return np.array([str(name) in names for name in ids], bool)


def _a(noun: str) -> str:
    return f"an {noun}" if noun == "image" else f"a {noun}"


def _on_the_rest(facts: Facts, rest: np.ndarray) -> str:
    outcome = facts.outcome
    if outcome is None or not len(rest):
        return "There are no others to measure on."
    others = f"the other {len(rest):,}"
    if facts.task == "regression":
        error = float(np.abs(outcome.outputs[rest] - outcome.truth[rest]).mean())
        return f"On {others} it is off by {number(error)} on average."
    share = percent(float(outcome.right[rest].mean()))
    if facts.task == "multi-label":
        return f"Of {others} the model got every class right in {share}."
    return f"Of {others} the model got {share} right."
