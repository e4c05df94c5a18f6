"""Texts that were taken apart before are not taken apart again."""

import numpy as np
import pytest
from audit_texts import edited, letters

from keras_tl.data.audit import text_memory
from keras_tl.data.audit.text_memory import words_and_pairs
from keras_tl.data.audit.text_near import near_texts
from keras_tl.data.audit.text_words import read_words

STRANGE = ("", "漢字 👍", "half a pair \ud800", "a\nb\x00c")


@pytest.fixture(autouse=True)
def taken_apart(monkeypatch, tmp_path):
    """The number of texts that were taken apart, each time."""
    found = []

    def read(items):
        found.append(len(items))
        return read_words(items)

    monkeypatch.setenv("KERAS_TL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(text_memory, "read_words", read)
    return found


@pytest.fixture(scope="module")
def items():
    texts = letters(30)
    return [(text,) for text in (*texts, edited(texts[3], 5), *STRANGE)]


def test_what_is_remembered_is_what_was_found(items, taken_apart):
    words_and_pairs(items)
    words, pairs = words_and_pairs(items)
    assert taken_apart == [len(items)]
    expected = read_words(items)
    assert words.vocabulary == expected.vocabulary
    for name in ("counts", "keys", "phrases"):
        array, other = getattr(words, name), getattr(expected, name)
        np.testing.assert_array_equal(array, other)
        assert array.dtype == other.dtype
    assert words.held.dtype == expected.held.dtype and (words.held != expected.held).nnz == 0
    again = near_texts(expected)
    assert len(pairs) > 0
    for name, values in vars(again).items():
        np.testing.assert_array_equal(getattr(pairs, name), values)


def test_nothing_else_is_taken_for_the_same(items, taken_apart):
    words_and_pairs(items)
    others = [items[::-1], items[:-1], [(text, "") for (text,) in items], [("x",), *items[1:]]]
    for number, other in enumerate(others, 2):
        words, _ = words_and_pairs(other)
        assert len(taken_apart) == number and words.counts.shape == (len(other),)


def test_very_much_text_is_not_remembered(items, taken_apart, monkeypatch):
    monkeypatch.setattr(text_memory, "LARGEST", 1000)
    for _ in range(2):
        words_and_pairs(items)
    assert taken_apart == [len(items)] * 2


def test_no_texts():
    words, pairs = words_and_pairs([])
    again, _ = words_and_pairs([])
    assert words.counts.shape == again.counts.shape == (0,) and len(pairs) == 0
