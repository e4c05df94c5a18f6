import numpy as np
import pytest
from scipy import sparse
from scipy.stats import binomtest

from keras_tl.evaluation.wilson import wilson


def of_share(hits, count):
    return wilson(np.arange(count)[:, None] < hits, np.ones((count, 1)))


def test_by_hand():
    # Brown, Cai and DasGupta (2001): of 20 samples, none.
    (low,), (high,) = of_share(0, 20)
    assert (low, high) == (0.0, pytest.approx(1.96**2 / (20 + 1.96**2)))
    for hits, count in ((8, 10), (12, 12), (1, 1)):
        (low,), (high,) = of_share(hits, count)
        wanted = binomtest(hits, count).proportion_ci(method="wilson")
        assert (low, high) == pytest.approx(wanted, abs=1e-4)


def test_each_share_is_of_its_own_samples(monkeypatch):
    monkeypatch.setattr("keras_tl.evaluation.wilson.COLUMNS", 2)
    counted = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 0], [1, 0, 0]])
    hits = np.array([[1, 1, 0], [0, 0, 0], [1, 1, 0], [0, 0, 0]])
    low, high = wilson(hits, counted)
    for column, share in enumerate([(2, 4), (2, 2)]):
        (expected_low,), (expected_high,) = of_share(*share)
        assert (low[column], high[column]) == pytest.approx((expected_low, expected_high))
    assert np.isnan([low[2], high[2]]).all()
    for dense, thin in zip(
        (low, high), wilson(*map(sparse.csr_array, (hits, counted))), strict=True
    ):
        np.testing.assert_array_equal(dense, thin)


def test_copies_in_a_group_count_once():
    right = np.arange(40)[:, None] < 30
    expected = wilson(right, np.ones((40, 1)))
    copies = np.repeat(right, 5, axis=0)
    found = wilson(copies, np.ones((200, 1)), np.arange(200) // 5)
    np.testing.assert_allclose(found, expected)
    # All right: so many independent ones as there are groups.
    all_right = np.ones((200, 1))
    np.testing.assert_allclose(wilson(all_right, all_right, np.arange(200) // 5), of_share(40, 40))


def test_groups_that_say_nothing_change_nothing():
    right = np.arange(40)[:, None] < 30
    alone = wilson(right, np.ones((40, 1)), np.arange(40))
    np.testing.assert_allclose(alone, wilson(right, np.ones((40, 1))))


def test_the_share_is_within_whatever_is_rounded():
    for count in range(1, 300):
        for hits in (0, count):
            (low,), (high,) = of_share(hits, count)
            assert low <= hits / count <= high
