import numpy as np
import pytest
from audit_texts import edited, letters

from keras_tl.data.audit.findings import read_audit
from keras_tl.data.audit.text_judging import audit_texts
from keras_tl.data.audit.text_languages import languages
from keras_tl.data.audit.text_words import read_words
from keras_tl.data.text_input import TextInput
from keras_tl.data.texts import from_texts

ENGLISH = "It was the best of times and it was the worst of times, and all of us are here for you."
OTHERS = {
    "German": "Es war die beste und die schlechteste Zeit, und der Tag ist nicht von mir für euch.",
    "French": "C'est le meilleur des temps et le pire des temps, pour tous dans la rue qui est là.",
    "Spanish": "Es el mejor de los tiempos y el peor de los tiempos, para los que no están.",
    "Dutch": "Het is de beste tijd van het jaar en niet de slechtste, maar dat is er voor ons ook.",
    "Polish": "To jest najlepszy dzień i nie wiem, co się z nim stało, ale od tego dnia to on.",
    "Cyrillic script": "Это было лучшее из времён, and the worst",
    "Japanese": "これは日本語の文章です。漢字もある。",
    "Chinese": "这是最好的时代，这是最坏的时代。",
    "Korean": "최고의 시간이었고 최악의 시간이었다.",
}


def kinds(audit):
    return {finding.kind: finding for finding in audit.findings}


def planted():
    """Letters in three splits with one of each thing planted: see the test."""
    texts = letters(60)
    labels = ["a", "b"] * 30
    splits = ["train"] * 40 + ["val"] * 10 + ["test"] * 10
    texts[50] = texts[0]  # an equal text in another split
    texts[51] = edited(texts[3], 1)  # a quoted one
    texts[5] = texts[4]  # under another label
    texts[7] = edited(texts[6], 2)  # another name, another label
    texts[9] = texts[11] = edited(texts[13], 0)  # in all the same words, and label
    texts[20] = "Too short"
    texts[21] = " "
    return from_texts(texts, labels, splits=splits)


def test_planted_faults_are_found_and_nothing_else(tmp_path):
    audit = audit_texts(planted())
    found = kinds(audit)
    assert found["leak"].sets == (("text 0", "text 50"),)
    assert found["near-leak"].sets == (("text 3", "text 51"),)
    assert found["two-labels"].sets == (("text 4", "text 5"),)
    assert found["near-two-labels"].sets == (("text 6", "text 7"),)
    assert set(found["duplicates"].sets) == {
        ("text 0", "text 50"),
        ("text 4", "text 5"),
        ("text 9", "text 11", "text 13"),
    }
    assert found["duplicates"].why[2] == "equal words"
    assert len(found["near-duplicates"].sets) == 2
    assert found["very-short"].sets == (("text 20",),)
    assert found["unreadable"].sets == (("text 21",),)
    assert found["unreadable"].severity == "warning"
    assert [finding.kind for finding in audit.serious] == ["leak", "near-leak", "two-labels"]
    assert set(found) == {
        *("leak", "near-leak", "two-labels", "near-two-labels", "duplicates", "near-duplicates"),
        *("very-short", "unreadable", "lengths", "boilerplate"),
    }
    assert str(audit).startswith("59 texts: 39 train, 10 val, 10 test; 2 classes.")
    audit.write(tmp_path / "audit.json")
    assert read_audit(tmp_path / "audit.json") == audit


def test_the_clean_twin_has_notes_only():
    audit = audit_texts(from_texts(letters(60), ["a", "b"] * 30))
    assert {finding.severity for finding in audit.findings} == {"note"}


def test_classes_out_of_balance():
    audit = audit_texts(from_texts(letters(60), ["a"] * 56 + ["b"] * 4))
    found = kinds(audit)
    assert "has 56 texts, the smallest (b) 4" in found["imbalance"].text
    assert "fewer than 10 texts: b (4)" in found["few-texts"].text


def test_groups_that_share_a_text():
    texts = letters(20)
    texts[1] = texts[0]
    audit = audit_texts(from_texts(texts, ["a", "b"] * 10, groups=[f"g{i}" for i in range(20)]))
    assert kinds(audit)["groups-alike"].sets == (("text 0", "text 1"),)


def test_a_group_in_several_given_splits_is_serious():
    splits = ["train"] * 12 + ["test"] * 6 + [""] * 2
    groups = ["a", "b", *[""] * 10, "b", *[""] * 5, "a", "b"]
    source = from_texts(letters(20), ["a", "b"] * 10, splits=splits, groups=groups)
    [found] = audit_texts(source).serious
    assert found.kind == "group-leak" and found.sets == (("text 1", "text 12", "text 19"),)
    # Where it is audited, that is said once.
    assert found.text.startswith("1 group is in more than one split: figures are too good.")


def test_share_of_texts_that_are_cut_and_what_would_read_more():
    """Of ten texts with 10, 20 .. 100 tokens, 28 are read: eight are cut."""
    source = from_texts([f"text {i}" for i in range(10)], ["a", "b"] * 5)
    audit = audit_texts(source, lambda items: np.arange(10, 101, 10), TextInput(max_tokens=30))
    (finding,) = [f for f in audit.findings if f.kind == "truncated"]
    assert finding.text.startswith("80.0% of the texts are longer than 30 tokens and are cut: ")
    unread = 1 - (10 + 20 + 8 * 28) / 550
    assert f"{unread:.1%} of all that is written is not read" in finding.text
    # Of 80 % of them the longest is one of 90 (a quantile is not rounded down): four windows of 28.
    assert "--windows 4 (or --max-tokens 114) would read 100% of them whole" in finding.text
    assert finding.severity == "warning" and finding.sets[0] == ("text 9",)
    assert finding.why[0] == "100 tokens"


def test_what_is_cut_of_pairs_is_what_the_tokenizer_measured():
    """Pairs that have room in two windows by their tokens, but not with the first in both."""
    source = from_texts([(f"text {i}", "more") for i in range(10)], ["a", "b"] * 5)
    measured = np.array([[100, 70, 100, 3]] * 9 + [[200, 80, 80, 2]])
    text_input = TextInput(max_tokens=53, windows=2, texts=2)
    (finding,) = [
        f
        for f in audit_texts(source, lambda items: measured, text_input).findings
        if f.kind == "truncated"
    ]
    assert "100.0% of the texts are longer than 53 tokens in 2 windows" in finding.text
    assert f"{1 - 710 / 1100:.1%} of all that is written is not read" in finding.text
    assert "--windows 3 (or --max-tokens 153) would read 90% of them whole" in finding.text
    # No number of windows reads most of them whole.
    measured[:3, 2] = 90
    found = audit_texts(source, lambda items: measured, text_input)
    assert "--windows" not in kinds(found)["truncated"].text


@pytest.mark.parametrize("windows", [1, 4])
def test_windows_make_room(windows):
    source = from_texts(letters(10), ["a", "b"] * 5)
    text_input = TextInput(max_tokens=30, windows=windows)
    audit = audit_texts(source, lambda items: np.full(10, 112), text_input)
    assert ("truncated" in kinds(audit)) == (windows == 1)


def test_lengths_in_words():
    texts = [" ".join(["word"] * n) for n in (1, 2, 3, 4, 5)]
    found = kinds(audit_texts(from_texts(texts, ["a", "b", "a", "b", "a"])))
    assert found["lengths"].text == "Texts have 1 to 5 (median 3, half of them 2 to 4) words."
    assert found["very-short"].severity == "warning" and found["very-short"].why[1] == "word word"


def test_languages_are_told_by_commonest_words_and_scripts():
    items = [(ENGLISH,), *((text,) for text in OTHERS.values()), ("Yes",), ("12 :)",)]
    told = languages(items, read_words(items)).tolist()
    assert told == ["English", *OTHERS, "", ""]


def test_a_rare_language_is_noted():
    texts = [f"{ENGLISH} {i}" for i in range(30)] + [OTHERS["German"]]
    finding = kinds(audit_texts(from_texts(texts, ["a", "b"] * 15 + ["a"])))["languages"]
    assert "English 30, German 1; not told 0" in finding.text and finding.severity == "note"
    assert finding.sets == (("text 30",),) and finding.why == ("German",)
