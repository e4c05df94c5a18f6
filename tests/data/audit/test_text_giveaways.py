import tracemalloc
from dataclasses import replace

import numpy as np
from audit_texts import letters

from keras_tl.data.audit.text_giveaways import (
    findings_on_boilerplate,
    findings_on_giveaways,
    giveaways,
    phrases_to_take_out,
    without_phrases,
)
from keras_tl.data.audit.text_words import read_words
from keras_tl.data.texts import from_texts

COUNT = 200


def news(with_dateline, in_fakes=0):
    """Two classes of letters; so many of the true ones have a dateline, and of the fakes."""
    labels = np.array(["true", "fake"] * (COUNT // 2))
    texts = letters(COUNT, words=30)
    for name, count in (("true", with_dateline), ("fake", in_fakes)):
        for i in np.flatnonzero(labels == name)[:count]:
            texts[i] = f"WASHINGTON (Reuters) - {texts[i]}"
    return from_texts(texts, labels)


def test_a_dateline_gives_the_label_away():
    (found,) = giveaways(news(80))
    assert (found.phrase, found.class_name) == ("WASHINGTON (Reuters", "true")
    assert (found.texts, found.precision, found.recall) == (80, 1.0, 0.8)
    (finding,) = findings_on_giveaways(news(80))
    assert finding.severity == "warning" and "1 phrase nearly decides" in finding.text
    assert finding.sets[0][:2] == ("text 0", "text 2")
    told = "100.0% of 80 texts with it are true, and 80.0% of all true have it"
    assert finding.why == (f"'WASHINGTON (Reuters': {told}",)


def test_the_twin_that_has_it_in_both_classes_is_not_named():
    assert giveaways(news(80, in_fakes=20)) == []
    assert findings_on_giveaways(news(80, in_fakes=20)) == []


def test_few_texts_are_not_enough():
    """By hand: Wilson's lower bound of n of n is n / (n + 1.96 ** 2): 0.898 of 34, 0.901 of 35."""
    assert giveaways(news(34)) == []
    assert [entry.texts for entry in giveaways(news(35))] == [35]


def test_what_few_of_a_class_hold_is_not_named():
    source = news(35)
    # 35 of 175 are a fifth; of 176 they are less.
    texts = [text for (text,) in source.items] + letters(76, seed=1, words=30)
    labels = [source.class_names[k] for k in source.labels] + ["true"] * 76
    assert [entry.recall for entry in giveaways(from_texts(texts[:-1], labels[:-1]))] == [0.2]
    assert giveaways(from_texts(texts, labels)) == []


def test_what_stands_behind_a_phrase_is_taken_out_too():
    """Only the pair is named, for it is in the same texts; the name alone would still tell."""
    source = news(80)
    items = [(f"{text} said the envoy to reuters",) for (text,) in source.items[::2]]
    labels = ["true"] * 80 + ["true"] * 20
    others = [text for (text,) in source.items[1::2]]
    both = from_texts([text for (text,) in items] + others, labels + ["fake"] * 100)
    assert len(giveaways(both)) < len(phrases_to_take_out(both))
    cleaned = without_phrases(both, phrases_to_take_out(both))
    assert giveaways(cleaned) == []
    assert not any("reuters" in text.lower() for (text,) in cleaned.items)


def test_phrases_are_taken_out_however_they_are_written():
    texts = [
        "Washington, Reuters: a dull DAY",
        "WASHINGTON (\uff32\uff25uters - day",
        "\u65b0\u83ef\u793e reutersday",
    ]
    cleaned = without_phrases(from_texts(texts), ["WASHINGTON (Reuters", "dull", "\u65b0 \u83ef"])
    assert cleaned.items == [(" : a   DAY",), ("  - day",), (" \u793e reutersday",)]
    assert list(cleaned.hashes) == [""] * 3


def test_a_regression_has_no_class_to_give_away():
    texts = [text for (text,) in news(80).items]
    assert giveaways(from_texts(texts, np.linspace(0, 1.5, COUNT))) == []


def test_of_several_labels_each_is_looked_at():
    texts = letters(COUNT, words=30)
    labels = [["x"] if i % 2 else ["y"] for i in range(COUNT)]
    for i in range(0, COUNT, 4):
        labels[i] = ["x", "y"]
        texts[i] += " magic word"
    found = giveaways(from_texts(texts, labels))
    assert [("magic" in entry.phrase, entry.class_name) for entry in found] == [
        (True, "y"),
        (True, "x"),
    ]
    assert [round(entry.recall, 3) for entry in found] == [0.5, 0.333]


def test_lines_that_many_texts_close_with():
    texts = [f"{' '.join(text.split()[2:20])}\nsent from  my phone" for text in letters(30)]
    texts += [text.splitlines()[1] for text in letters(70, seed=1)]
    source = from_texts(texts, ["a", "b"] * 50)
    (finding,) = findings_on_boilerplate(source, read_words(source.items))
    assert finding.why == ("closes 30 texts: 'sent from my phone'",)
    assert finding.severity == "note" and len(finding.sets[0]) == 20
    # The twin in which it is nine, below the least.
    fewer = source.take(np.arange(21, 100))
    assert not list(findings_on_boilerplate(fewer, read_words(fewer.items)))


def test_words_that_texts_of_one_line_open_with():
    texts = [
        f"click here to see what {i} others {text[12:60]} end{i}"
        for i, text in enumerate(letters(20, words=20))
    ]
    texts = [text.replace("\n", " ") for text in texts]
    source = from_texts([text.replace(f"what {i}", "what the") for i, text in enumerate(texts)])
    (finding,) = findings_on_boilerplate(source, read_words(source.items))
    assert finding.why == ("opens 20 texts: 'click here to see what the'",)


def test_classes_that_no_phrase_meets_take_no_memory():
    """Of 2,000 phrases and 10,000 classes all pairs would be 160 MB, several times."""
    random = np.random.default_rng(0)
    words = np.array([f"w{i}" for i in range(2_000)])
    texts = [" ".join(random.choice(words, 40, replace=False)) for _ in range(2_000)]
    labels = np.arange(2_000) % 500
    source = replace(from_texts(texts, labels), class_names=tuple(map(str, range(10_000))))
    known = read_words(source.items)
    tracemalloc.start()
    assert giveaways(source, known) == []
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30e6


def test_phrases_are_taken_out_of_what_other_characters_write():
    texts = ["Re\u0301seau: un jour", "Acme\u2122 \u2460", "\u21165 ici", "le re\u0301seaux \u2460"]
    cleaned = without_phrases(from_texts(texts), ["r\u00e9seau", "AcmeTM", "no5"])
    # Only where something is taken out are the other characters written anew.
    assert cleaned.items == [(" : un jour",), ("  1",), ("  ici",), (texts[3],)]
