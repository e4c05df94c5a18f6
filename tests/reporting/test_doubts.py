import numpy as np
import pytest
from run_folders import make_run

from keras_tl.data.audit.findings import Audit, Finding
from keras_tl.reporting.doubts import leaked_text, suspects_text
from keras_tl.reporting.facts import read_facts
from keras_tl.reporting.model_card import model_card
from keras_tl.reporting.result import result


def facts_with(made, *findings):
    Audit({"train": 60}, {"a": 60}, findings).write(made.run.path("audit.json"))
    return read_facts(made.run)


def pairs(made, one, other, count):
    """The first samples of two splits, side by side."""
    ids = [made.source.split(split).ids for split in (one, other)]
    return tuple(zip(*(map(str, part[:count]) for part in ids), strict=True))


def found(kind, sets):
    return Finding(kind, "serious", "", tuple(sets), ("",) * len(sets))


def right(made):
    return made.outputs.argmax(axis=1) == made.source.split("test").labels


def test_the_result_without_what_was_trained_on(made):
    leak = found("leak", pairs(made, "train", "test", 3))
    near = found("near-leak", pairs(made, "val", "test", 5))
    facts = facts_with(made, leak, near)
    share = 100 * right(made)[5:].mean()
    said = (
        "5 of these images lie in another split too, as copies or near-duplicates, and are easier "
        f"than new ones. Of the other 25 the model got {share:.1f} % right."
    )
    assert leaked_text(facts).replace("\xa0", " ") == said
    section = result(facts)
    assert section.blocks[1].tone == "note" and section.blocks[1].text == leaked_text(facts)
    assert "**5 of these images lie in another split too" in model_card(facts)


def test_what_lies_within_a_split_or_in_others_says_nothing_of_the_result(made):
    within = found("leak", pairs(made, "test", "test", 3))
    others = found("near-leak", pairs(made, "train", "val", 3))
    facts = facts_with(made, within, others, found("duplicates", pairs(made, "train", "test", 4)))
    assert leaked_text(facts) == ""
    assert leaked_text(facts_with(made)) == ""


def test_one_and_all(made):
    one = leaked_text(facts_with(made, found("leak", pairs(made, "train", "test", 1))))
    assert one.startswith("1 of these images lies in another split too, as a copy or a near")
    every = leaked_text(facts_with(made, found("leak", pairs(made, "train", "test", 30))))
    assert every.startswith("30 of these") and every.endswith("There are no others to measure on.")


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("multi-label", "Of the other 20 the model got every class right in {:.1f}\xa0%."),
        ("regression", "On the other 20 it is off by {:.4g} on average."),
    ],
)
def test_other_tasks(tmp_path, task, said):
    names = ("depth",) if task == "regression" else ("a", "b", "c")
    made = make_run(tmp_path, task=task, names=names)
    test = made.source.split("test")
    facts = facts_with(made, found("leak", pairs(made, "train", "test", len(test) - 20)))
    targets, outputs = test.targets()[-20:], made.outputs[-20:]
    value = np.abs(targets - outputs).mean()
    if task == "multi-label":
        value = 100 * ((outputs >= 0.5) == (targets > 0.5)).all(axis=1).mean()
    assert leaked_text(facts).endswith(said.format(value))
    assert suspects_text(facts) == ""


def test_mistakes_on_suspected_labels(tmp_path):
    made = make_run(tmp_path, noise=2.0)
    wrong = np.flatnonzero(~right(made))
    ids = made.source.split("test").ids.astype(str)
    assert len(wrong) > 2
    chosen = [(ids[i],) for i in (*wrong[:2], np.flatnonzero(right(made))[0])]
    text = suspects_text(facts_with(made, found("wrong-label", chosen)))
    assert text.startswith(f"2 of its {len(wrong)} mistakes are on images whose labels are ")
    text = suspects_text(facts_with(made, found("wrong-label", chosen[:1])))
    assert text.startswith(f"1 of its {len(wrong)} mistakes is on an image whose label is ")
    assert suspects_text(facts_with(made, found("wrong-label", chosen[2:]))) == ""
