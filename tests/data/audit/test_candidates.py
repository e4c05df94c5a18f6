"""Which pairs are looked at: all of few, and nearly all that matter of many."""

import numpy as np
import pytest

from keras_tl.data.audit import candidates as made
from keras_tl.data.audit.candidates import candidates, compared_in_cells, compared_with_all

NUMBERS = 60


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def signatures(count, seed=0):
    return unit(np.random.default_rng(seed).normal(size=(count, NUMBERS)))


def like(rows, similarity, seed=1):
    """Signatures of exactly that similarity to others."""
    noise = np.random.default_rng(seed).normal(size=rows.shape)
    noise = unit(noise - (noise * rows).sum(axis=1, keepdims=True) * rows)
    return unit(similarity * rows + np.sqrt(1 - similarity**2) * noise)


def pairs_of(find, of_whole, *queries):
    """What is found, as (image, other): (query, score)."""
    asked = np.stack((of_whole, *queries))
    found = [
        np.concatenate(p) for p in zip(*find(of_whole, lambda a, b: asked[:, a:b]), strict=True)
    ]
    rows = zip(*(part.tolist() for part in found), strict=True)
    return {(row, column): (query, score) for row, column, query, score in rows}


def by_hand(of_whole, *queries):
    scores = np.stack([query @ of_whole.T for query in (of_whole, *queries)])
    best, which = scores.max(axis=0), scores.argmax(axis=0)
    np.fill_diagonal(best, -1)
    pairs = zip(*(side.tolist() for side in np.nonzero(best >= made.LEAST)), strict=True)
    return {pair: (which[pair], best[pair]) for pair in pairs}


@pytest.fixture
def planted():
    """900 signatures, 100 of which are like others; the second query finds 100 more."""
    first = signatures(700)
    of_whole = np.concatenate((first, like(first[:100], 0.8), signatures(100, 5)))
    query = signatures(900, 7)
    query[800:] = like(of_whole[:100], 0.9, 8)
    return of_whole, query


def test_all_are_compared_as_by_hand(planted, monkeypatch):
    monkeypatch.setattr(made, "ROWS", 128)
    found, wanted = pairs_of(compared_with_all, *planted), by_hand(*planted)
    assert found.keys() == wanted.keys()
    assert len(found) >= 300
    for pair, (query, score) in wanted.items():
        assert found[pair][0] == query
        assert found[pair][1] == pytest.approx(score, abs=1e-6)


def test_in_cells_the_same_is_found_where_all_cells_are_looked_into(planted, monkeypatch):
    monkeypatch.setattr(made, "PROBES", 30)
    monkeypatch.setattr(made, "BLOCK", 128)
    found, wanted = pairs_of(compared_in_cells, *planted), by_hand(*planted)
    assert found.keys() == wanted.keys()
    for pair, (query, score) in wanted.items():
        assert found[pair][0] == query
        assert found[pair][1] == pytest.approx(score, abs=1e-6)


@pytest.mark.parametrize(("similarity", "share"), [(0.7, 0.85), (0.8, 0.95), (0.95, 0.999), (1, 1)])
def test_what_is_alike_shares_a_cell(monkeypatch, similarity, share):
    first = signatures(5000)
    of_whole = np.concatenate((first, like(first, similarity)))
    found = pairs_of(compared_in_cells, of_whole)
    hits = sum((i, i + 5000) in found or (i + 5000, i) in found for i in range(5000))
    assert hits >= share * 5000
    monkeypatch.setattr(made, "PROBES", 1)
    monkeypatch.setattr(made, "TABLES", 1)
    few = pairs_of(compared_in_cells, of_whole)
    assert len(few) < len(found) or similarity == 1


def test_many_are_not_compared_with_all():
    """Four times as many have twice as many comparisons an image, and not four times."""

    def compared(count):
        done = 0

        class Counted(np.ndarray):
            def __matmul__(self, other):
                nonlocal done
                done += self.shape[0] * other.shape[1]
                return np.asarray(self) @ np.asarray(other)

        of_whole = signatures(count).view(Counted)
        found = compared_in_cells(of_whole, lambda a, b: of_whole[None, a:b])
        for _ in found:
            pass
        return done / count

    few, many = compared(4000), compared(16_000)
    # Cells are of different size, and the larger ones are looked into more often.
    assert 0 < few < many < 2.5 * few
    assert many < 16_000 / 2


@pytest.mark.parametrize("find", [compared_with_all, compared_in_cells])
def test_only_the_most_similar_of_each_are_looked_at(monkeypatch, find):
    monkeypatch.setattr(made, "MOST", 2)
    rows = [row for row, _ in pairs_of(find, unit(np.ones((9, 4))))]
    assert np.bincount(rows).tolist() == [2] * 9
    asked = np.array([[1, 0.7, 0.9, 0.2], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], np.float32)
    eye = np.eye(4, dtype=np.float32)
    found = find(eye, lambda a, b: asked[None, a:b])
    pairs = [pair for rows, columns, *_ in found for pair in zip(rows, columns, strict=True)]
    assert pairs == [(0, 2), (0, 1)]


def test_how_many_there_are_decides(planted, monkeypatch):
    of_whole, query = planted
    asked = np.stack((of_whole, query))
    monkeypatch.setattr(made, "compared_in_cells", None)
    assert len(candidates(of_whole, lambda a, b: asked[:, a:b]).whole) >= 300
    monkeypatch.setattr(made, "ALL_PAIRS", 899)
    with pytest.raises(TypeError, match="not callable"):
        candidates(of_whole, lambda a, b: asked[:, a:b])
