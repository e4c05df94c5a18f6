import logging

import numpy as np
import pytest
from data.audit.audit_texts import edited, letters

from keras_tl.data.prepare_texts import prepare_texts
from keras_tl.data.text_input import TextInput
from keras_tl.data.texts import from_texts
from keras_tl.errors import AuditError, InputError

COUNT = 40
FRACTIONS = {"val_fraction": 0.3, "test_fraction": 0.3}


def source(texts, **options):
    labels = ["a" if i % 3 else "b" for i in range(len(texts))]
    return from_texts(texts, labels, **options)


@pytest.fixture(scope="module")
def copied():
    """Letters, then an edited copy of each."""
    originals = letters(COUNT)
    return [*originals, *(edited(text, i) for i, text in enumerate(originals))]


def divided(data):
    """How many copies lie in another split than their originals."""
    return int((data.source.splits[:COUNT] != data.source.splits[COUNT:]).sum())


@pytest.mark.parametrize("seed", [0, 1])
def test_near_duplicates_stay_on_one_side(copied, seed):
    data = prepare_texts(source(copied), seed=seed, **FRACTIONS)
    assert divided(data) == 0 and min(data.counts.values()) > COUNT / 3
    # The twin that does not look.
    assert divided(prepare_texts(source(copied), seed=seed, audit=False, **FRACTIONS)) > COUNT / 4


def test_equal_texts_stay_together_without_an_audit():
    data = prepare_texts(source(letters(COUNT) * 2), audit=False, **FRACTIONS)
    assert divided(data) == 0 and data.seen is None and data.audit is None


def test_samples_give_the_texts_and_their_targets():
    texts = letters(COUNT)
    data = prepare_texts(source(texts), TextInput(max_tokens=16), **FRACTIONS)
    assert data.counts == {"train": 16, "val": 12, "test": 12}
    read, targets = next(iter(data.val.batches(12)))
    assert [text.decode() for text in read.numpy()] == [item[0] for item in data.val.source.items]
    np.testing.assert_array_equal(targets.numpy().argmax(axis=1), data.val.source.labels)
    assert data.class_names == ("a", "b") and data.task == "single-label"


def test_what_crosses_given_splits_is_said_or_refused(copied, caplog):
    splits = ["train"] * COUNT + ["test"] * COUNT
    with caplog.at_level(logging.INFO, "keras_tl"):
        data = prepare_texts(source(copied, splits=splits), val_fraction=0)
    assert data.source.splits.tolist() == splits
    # Of the copies 14 have the same words in other case.
    for said in ("14 texts are in more than one split", "26 pairs of near-duplicates lie in two"):
        assert any(line.strip().startswith(f"serious: {said}") for line in caplog.messages)
    with pytest.raises(AuditError, match="26 pairs of near-duplicates lie in two splits"):
        prepare_texts(source(copied, splits=splits), val_fraction=0, strict=True)


def test_too_many_empty_texts_are_refused():
    texts = [*letters(8), " ", ""]
    with pytest.raises(InputError, match="at most 10% bad texts, received 2 of 10"):
        prepare_texts(source(texts))
    assert len(prepare_texts(source(texts), max_bad_fraction=0.2).source) == 8


def test_tokens_are_counted_for_the_audit():
    def count_tokens(items):
        return np.array([len(text.split()) for (text,) in items])

    texts = [" ".join(["word", str(i)] * (5 + 5 * (i % 2))) for i in range(20)]
    data = prepare_texts(source(texts), TextInput(max_tokens=17), count_tokens=count_tokens)
    found = {finding.kind: finding for finding in data.audit.findings}
    # Ten of twenty have 20 tokens, of which 15 are read.
    assert found["truncated"].text.startswith("50.0% of the texts are longer than 17 tokens")
    assert "16.7% of all that is written is not read" in found["truncated"].text
