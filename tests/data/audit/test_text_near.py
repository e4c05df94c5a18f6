import numpy as np
import pytest
from audit_texts import edited, letters

from keras_tl.data.audit import text_near
from keras_tl.data.audit.text_near import near_texts
from keras_tl.data.audit.text_words import read_words

COUNT = 60


def items(texts):
    return [(text,) for text in texts]


def test_words_and_pairs_of_them():
    words = read_words([("It's a Ｂig_b.",), ("BIG", "b, it!"), ("漢字 👍",), ("",)])
    assert words.counts.tolist() == [5, 3, 3, 0]
    held = [
        {" ".join(words.phrase(j)) for j in words.held[i].indices} for i in range(len(words.counts))
    ]
    assert held == [
        {"it", "s", "a", "big", "b", "it s", "s a", "a big", "big b"},
        {"big", "b", "it", "big b", "b it"},
        {"漢", "字", "👍", "漢 字", "字 👍"},
        set(),
    ]


def test_keys_are_equal_for_what_differs_in_case_blanks_and_punctuation():
    texts = [
        "Hello, big World",
        "hello big\n\nworld!",
        "hello bigworld",
        ":)",
        ":(",
        "Ok 👍",
        "ok 👎",
    ]
    keys = read_words(items(texts)).keys
    assert keys[0] == keys[1] and len(set(keys)) == 6


def test_edited_copies_are_found_and_nothing_else():
    originals = letters(COUNT)
    copies = [edited(text, i) for i, text in enumerate(originals)]
    words = read_words(items([*originals, *copies]))
    pairs = near_texts(words)
    equal = {i for i in range(COUNT) if words.keys[i] == words.keys[COUNT + i]}
    assert equal == set(range(0, COUNT, 3))
    assert (pairs.second == pairs.first + COUNT).all()
    assert set(pairs.first.tolist()) == set(range(COUNT)) - equal


def test_similarity_is_the_weighted_jaccard_index():
    """By hand: two of five texts differ in the last of ten words."""
    texts = ["a b c d e f g h i j", "a b c d e f g h i k", "l m n o p", "q r s t u", "v w x y z"]
    pairs = near_texts(read_words(items(texts)))
    shared = 17 * np.log(6 / 2)  # nine words, and eight pairs of them
    own = 2 * np.log(6 / 1)  # j (or k), and the pair that it closes
    assert len(pairs) == 1 and (pairs.first[0], pairs.second[0]) == (0, 1)
    np.testing.assert_allclose(pairs.similarity[0], shared / (shared + 2 * own), rtol=1e-6)


@pytest.mark.parametrize("same", [0.3, 0.6])
def test_no_pair_is_passed_over(monkeypatch, same):
    """Against the comparison of all with all."""
    monkeypatch.setattr(text_near, "SAME", same)
    rng = np.random.default_rng(1)
    base = [rng.integers(0, 300, 12) for _ in range(60)]
    texts = []
    for i in range(240):
        drawn = base[i % 60].copy()
        drawn[rng.integers(0, 12, i // 60)] = rng.integers(0, 300, i // 60)
        texts.append(" ".join(f"w{k}" for k in drawn))
    words = read_words(items(texts))
    pairs = near_texts(words)
    found = set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))
    first_of = sorted(np.unique(words.keys.astype(str), return_index=True)[1])
    sets = {i: set(words.held[i].indices) for i in first_of}
    texts_with = np.bincount(np.concatenate([list(s) for s in sets.values()]))
    weight = np.log((len(sets) + 1) / np.maximum(texts_with, 1))
    expected = {
        (i, j)
        for i in first_of
        for j in first_of
        if i < j
        and weight[list(sets[i] & sets[j])].sum() >= same * weight[list(sets[i] | sets[j])].sum()
    }
    assert found == expected and len(expected) > 50


def test_what_all_texts_share_counts_little():
    footer = " ".join(f"footer{i}" for i in range(40))
    texts = [f"{text.splitlines()[1][:40]} {footer}" for text in letters(50)]
    assert len(near_texts(read_words(items(texts)))) == 0


def test_few_words_and_few_texts():
    assert len(near_texts(read_words(items(["so do I", "so do we", "", " "])))) == 0
    assert len(near_texts(read_words([]))) == 0
    assert len(near_texts(read_words(items(["one two three four five six"])))) == 0


def test_marks_belong_to_their_letters():
    texts = ["मेरा बेटा अच्छा है", "मेरी बेटी अच्छी है", "e\u0301te\u0301 cafe\u0301 la", "ผู้มี"]
    words = read_words(items(texts))
    assert words.counts.tolist() == [4, 4, 3, 2]
    assert len(set(words.keys)) == 4
    assert words.vocabulary[:4] == ["मेरा", "बेटा", "अच्छा", "है"]
    assert words.vocabulary[-2:] == ["ผู้", "มี"]
