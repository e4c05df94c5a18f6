import numpy as np

from keras_tl.data.audit.groups import bounded_groups, size_limit


def grouped(ids, pairs, hashes=None):
    ids = np.array(list(ids), dtype=object)
    hashes = np.array([f"h{i}" for i in ids] if hashes is None else hashes, dtype=object)
    first, second = np.array(pairs, np.int64).reshape(-1, 2).T
    return bounded_groups(ids, hashes, first, second)


def test_a_chain_is_not_one_group():
    """a-b-c-d-e: b, c and d have two each; b leads by its name, and c goes with it."""
    groups = grouped("abcde", [(0, 1), (1, 2), (2, 3), (3, 4)])
    assert groups.names.tolist() == ["b", "b", "b", "d", "d"]
    assert groups.too_large == ()


def test_the_one_with_the_most_leads_whatever_the_order():
    star = [(4, 0), (4, 1), (4, 2), (0, 1)]
    groups = grouped("abcde", star)
    assert groups.names.tolist() == ["e", "e", "e", "", "e"]
    backwards = grouped("edcba", [(0, 4), (0, 3), (0, 2), (4, 3)])
    assert backwards.names.tolist() == ["e", "", "e", "e", "e"]


def test_equal_files_count_as_one_image_and_come_along():
    hashes = ["x", "x", "y", "z"]
    groups = grouped("abcd", [(1, 2)], hashes)
    assert groups.names.tolist() == ["a", "a", "a", ""]
    alone = grouped("abcd", [(0, 1)], hashes)
    assert alone.names.tolist() == [""] * 4


def test_a_group_over_the_limit_is_reported_and_not_merged():
    count = size_limit(60) + 1
    ids = [f"{i:02d}" for i in range(60)]
    star = [(0, i) for i in range(1, count)]
    groups = grouped(ids, star)
    assert set(groups.names) == {""}
    assert [len(group) for group in groups.too_large] == [count]
    just = grouped(ids, star[:-1])
    assert (just.names == "00").sum() == size_limit(60)
    assert just.too_large == ()


def test_limits():
    assert [size_limit(n) for n in (2, 200, 400, 2000, 10**6)] == [10, 10, 20, 100, 100]
