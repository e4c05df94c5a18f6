import numpy as np

from keras_tl.data.audit.groups import bounded_groups, size_limit


def grouped(ids, pairs, keys=None, similarity=None):
    ids = np.array(list(ids), dtype=object)
    keys = np.array([f"h{i}" for i in ids] if keys is None else keys, dtype=object)
    first, second = np.array(pairs, np.int64).reshape(-1, 2).T
    alike = np.ones(len(pairs)) if similarity is None else np.array(similarity)
    return bounded_groups(ids, keys, first, second, alike)


def test_a_chain_is_not_one_group():
    """a-b-c-d-e, all equally near: a and b, then c with half of them, then d and e."""
    groups = grouped("abcde", [(0, 1), (1, 2), (2, 3), (3, 4)])
    assert groups.names.tolist() == ["a", "a", "a", "d", "d"]
    assert groups.too_large == ()


def test_all_that_is_like_one_image_is_not_one_group():
    """e is near all others, none of which is near another one: two pairs of three images fit."""
    groups = grouped("abcde", [(4, 0), (4, 1), (4, 2), (4, 3)])
    assert groups.names.tolist() == ["a", "a", "", "", "a"]


def test_a_copy_stays_with_its_original_whatever_else_that_is_like():
    """b is a's copy; a is like c and d, which are like each other."""
    pairs, alike = [(2, 0), (3, 0), (3, 2), (0, 1)], [0.8, 0.81, 0.82, 0.99]
    groups = grouped("abcd", pairs, similarity=alike)
    # Of the four pairs between a, b and c, d two are near.
    assert groups.names.tolist() == ["a"] * 4
    fewer = grouped("abcd", [pairs[0], pairs[2], pairs[3]], similarity=alike[:1] + alike[2:])
    assert fewer.names.tolist() == ["a", "a", "c", "c"]


def test_what_all_are_near_is_one_group_whatever_the_order():
    pairs = [(i, j) for i in range(6) for j in range(i)]
    assert grouped("abcdefg", pairs).names.tolist() == ["a"] * 6 + [""]
    backwards = grouped("gfedcba", [(6 - i, 6 - j) for i, j in pairs])
    assert backwards.names.tolist() == [""] + ["a"] * 6


def test_equal_pictures_count_as_one_and_come_along():
    keys = ["x", "x", "y", "z"]
    groups = grouped("abcd", [(1, 2)], keys)
    assert groups.names.tolist() == ["a", "a", "a", ""]
    alone = grouped("abcd", [(0, 1)], keys)
    assert alone.names.tolist() == ["a", "a", "", ""]


def test_a_group_over_the_limit_is_reported_and_not_made():
    limit = size_limit(60)
    ids = [f"{i:02d}" for i in range(60)]
    pairs = [(i, j) for i in range(limit + 1) for j in range(i)]
    groups = grouped(ids, pairs)
    assert groups.too_large == (tuple(range(limit + 1)),)
    assert np.unique(groups.names, return_counts=True)[1].max() <= 60 - limit
    just = grouped(ids, [(i, j) for i, j in pairs if i < limit])
    assert (just.names == "00").sum() == limit
    assert just.too_large == ()


def test_equal_pictures_are_together_however_many_there_are():
    keys = ["x"] * 20 + [str(i) for i in range(40)]
    groups = grouped([f"{i:02d}" for i in range(60)], [], keys)
    assert groups.names.tolist() == ["00"] * 20 + [""] * 40 and groups.too_large == ()
    assert groups.keys.tolist() == keys


def test_limits():
    assert [size_limit(n) for n in (2, 200, 400, 2000, 10**6)] == [10, 10, 20, 100, 100]
