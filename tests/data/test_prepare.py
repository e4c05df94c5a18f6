import logging
from dataclasses import replace

import numpy as np
import pytest
from data.audit.audit_pictures import COPIES, encoded, photograph

from keras_tl.data.arrays import from_arrays
from keras_tl.data.prepare import prepare
from keras_tl.errors import AuditError

COUNT = 30
FRACTIONS = {"val_fraction": 0.3, "test_fraction": 0.3, "image_size": 32}


@pytest.fixture(scope="module")
def clean():
    return [encoded(photograph(i), quality=92) for i in range(COUNT)]


@pytest.fixture(scope="module")
def copied(clean):
    """Photographs, then a mirrored or darker copy of each."""
    ways = (COPIES["mirrored"], COPIES["darker"])
    return [*clean, *(ways[i % 2](photograph(i)) for i in range(COUNT))]


def source(items, **options):
    ids = [f"{i:02d}.jpg" for i in range(len(items))]
    labels = ["a" if i % 3 else "b" for i in range(len(items))]
    return from_arrays(items, labels, ids=ids, **options)


def divided(data):
    """How many copies lie in another split than their originals."""
    return int((data.source.splits[:COUNT] != data.source.splits[COUNT:]).sum())


@pytest.mark.parametrize("seed", [0, 1])
def test_near_duplicates_stay_on_one_side(copied, seed):
    data = prepare(source(copied), seed=seed, **FRACTIONS)
    assert divided(data) == 0
    assert min(data.counts.values()) > COUNT / 3
    # The twin that does not look.
    assert divided(prepare(source(copied), seed=seed, audit=False, **FRACTIONS)) > COUNT / 4


def test_where_there_are_none_the_splits_are_those_without_an_audit(clean):
    data = prepare(source(clean), **FRACTIONS)
    plain = prepare(source(clean), audit=False, **FRACTIONS)
    assert data.source.splits.tolist() == plain.source.splits.tolist()
    assert data.audit.findings == () and data.seen.seconds > 0
    assert plain.audit is None and plain.seen is None


def test_given_splits_stay_and_what_crosses_them_is_said(copied, caplog):
    splits = ["train"] * COUNT + ["val", "test"] * (COUNT // 2)
    with caplog.at_level(logging.INFO, "keras_tl"):
        data = prepare(source(copied, splits=splits), image_size=32)
    assert data.source.splits.tolist() == splits
    found = {finding.kind: finding for finding in data.audit.findings}
    assert {("07.jpg", "37.jpg"), ("08.jpg", "38.jpg")} < set(found["near-leak"].sets)
    said = "serious: 30 pairs of near-duplicates lie in two splits: figures are too good."
    assert any(line.strip().startswith(said) for line in caplog.messages)
    with pytest.raises(AuditError, match="30 pairs of near-duplicates lie in two splits"):
        prepare(source(copied, splits=splits), image_size=32, strict=True)


def test_a_strict_one_takes_what_is_merely_to_be_looked_at(copied):
    data = prepare(source(copied), strict=True, **FRACTIONS)
    assert not data.audit.serious and data.audit.findings


def test_a_handful_of_images_and_a_broken_one(clean):
    data = prepare(source([*clean[:3], clean[3][:500]]), max_bad_fraction=0.5, image_size=32)
    assert len(data.source) == 3
    assert [finding.kind for finding in data.audit.serious] == ["unreadable"]


def test_copies_of_a_given_test_image_join_it(copied):
    opened = source(copied)
    splits = np.array([""] * len(copied), dtype=object)
    splits[3] = "test"
    data = prepare(replace(opened, splits=splits, given_splits=("test",)), image_size=32)
    assert np.flatnonzero(data.source.splits == "test").tolist() == [3, 3 + COUNT]
