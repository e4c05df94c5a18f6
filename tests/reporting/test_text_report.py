import json
import re
from dataclasses import replace
from itertools import pairwise

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from run_folders import Page, make_run, make_text_run

from keras_tl.backbones.tokenizers import Tokenizer
from keras_tl.data.audit.findings import Audit, Finding
from keras_tl.data.text_input import TextInput
from keras_tl.feature_cache import FeatureStore
from keras_tl.model_info import ModelInfo
from keras_tl.reporting.album import Album
from keras_tl.reporting.baseline import baseline_text
from keras_tl.reporting.facts import read_facts
from keras_tl.reporting.lengths import cut_off, lengths
from keras_tl.reporting.model_card import model_card
from keras_tl.reporting.occlusion import (
    AT_ONCE,
    PIECES,
    REFINED,
    STRETCHES,
    log_odds,
    occlude,
    read_part,
)
from keras_tl.reporting.page import render, write_report
from keras_tl.reporting.texts import AROUND, excerpts, printable
from keras_tl.training.passes import PrefixPass

VOCABULARY = "\n".join(["[PAD]", "[CLS]", "[SEP]", "other", "win", "please", "money"])


class WordTokenizer(Tokenizer):
    """A word is a token; of few known ones."""

    def pieces(self, strings):
        words = tf.strings.split(strings)
        ids = tf.constant(3, tf.int32)
        ids = tf.where(words.flat_values == "win", 4, ids)
        ids = tf.where(words.flat_values == "please", 5, ids)
        return words.with_flat_values(tf.where(words.flat_values == "money", 6, ids))


def word_model(outputs=2, pair=False, max_tokens=16):
    """Strings in; the second class is the likelier the more often "win" is read."""
    text = keras.Input((2,) if pair else (), dtype="string", name="text")
    tokens = WordTokenizer(VOCABULARY, max_tokens, name="tokenizer")(text)
    ids = keras.layers.Reshape((-1,))(tokens)
    vectors = keras.layers.Embedding(7, 1, name="scores")(ids)
    total = keras.layers.GlobalAveragePooling1D()(vectors)
    head = keras.layers.Dense(outputs, "softmax", name="head_predictions")
    model = keras.Model(text, head(total))
    scores = np.zeros((7, 1), np.float32)
    scores[4], scores[5] = 60.0, -60.0
    model.get_layer("scores").set_weights([scores])
    kernel = np.zeros((1, outputs), np.float32)
    kernel[0, 1] = 1.0
    head.set_weights([kernel, np.zeros(outputs, np.float32)])
    return model


def counted(items):
    """Scores `[items, 2]`: how often "win" is there, less "please"; and the words."""
    words = [" ".join(item).split() for item in items]
    return np.array([[w.count("win") - 2 * w.count("please"), len(w)] for w in words], float)


def effects_of(item, found):
    return {item[each.place][each.start : each.end]: each.effect for each in found}


def test_what_each_word_of_a_short_text_does_by_hand():
    item = ("you can win, or win please",)
    (found,) = occlude(counted, [item], np.array([0]))
    assert effects_of(item, found) == {
        "you": 0, "can": 0, "win,": 0, "or": 0, "win": 1, "please": -2
    }  # fmt: skip
    (found,) = occlude(counted, [item], np.array([1]))
    assert set(effects_of(item, found).values()) == {1.0}


def test_in_a_long_text_the_words_of_the_strongest_stretches_are_told_apart():
    words = [f"w{i}" for i in range(160)]
    words[77], words[120] = "please", "win"
    item = (" ".join(words),)
    asked = []

    def answer(items):
        asked.extend(items)
        return counted(items)

    (found,) = occlude(answer, [item], np.array([0]))
    effects = effects_of(item, found)
    assert effects["please"] == -2 and effects["win"] == 1
    assert sum(value != 0 for value in effects.values()) == 2
    assert len(asked) <= 1 + STRETCHES + 2 * 10
    # Nothing is lost and nothing is twice there.
    spans = sorted((each.start, each.end) for each in found)
    assert all(a[1] <= b[0] for a, b in pairwise(spans))
    assert sum(len(item[0][a:b].split()) for a, b in spans) == 160


def test_in_a_text_of_a_thousand_words_one_is_found_with_few_tries():
    words = [f"w{i}" for i in range(1000)]
    words[77], words[900] = "please", "win"
    item, asked = (" ".join(words),), []

    def answer(items):
        asked.append(len(items))
        return counted(items)

    (found,) = occlude(answer, [item], np.array([0]))
    effects = effects_of(item, found)
    assert effects["please"] == -2 and effects["win"] == 1
    assert sum(value != 0 for value in effects.values()) == 2
    # Short texts are asked about together.
    assert sum(asked) <= 1 + STRETCHES + 2 * REFINED * PIECES and len(asked) == 4


def test_a_stretch_stays_whole_where_its_words_only_count_together():
    words = [f"w{i}" for i in range(64)]
    words[8:12] = ["win"] * 4
    item = (" ".join(words),)

    def answer(items):
        return np.array([[float("win" in items[i][0])] for i in range(len(items))])

    (found,) = occlude(answer, [item], np.array([0]))
    assert [item[0][e.start : e.end] for e in found if e.effect] == ["win win win win"]


def test_a_text_of_a_hundred_thousand_words_is_asked_for_a_few_times():
    item, asked = ("win " * 100_000,), []

    def answer(items):
        asked.append(len(items))
        return np.array([[text.count("win"), 0.0] for (text,) in items])

    occlude(answer, [item] * 3, np.array([0, 0, 0]))
    # Copies of a text are few at once, or a text of a megabyte fills the memory.
    assert max(asked) <= AT_ONCE and sum(asked) == 3 * (1 + STRETCHES + REFINED * PIECES)


def test_both_texts_of_a_pair_are_taken_apart():
    item = ("win this", "please answer")
    (found,) = occlude(counted, [item], np.array([0]))
    assert [(each.place, each.effect) for each in found] == [(0, 1), (0, 0), (1, -2), (1, 0)]


def test_log_odds_count_near_one():
    np.testing.assert_allclose(log_odds(np.array([0.5, 0.9])), [0, np.log(9)])
    assert np.isfinite(log_odds(np.array([0.0, 1.0]))).all()


@pytest.mark.parametrize("pair", [False, True])
def test_the_part_that_is_read_has_the_same_tokens_and_is_the_shortest(pair):
    layer = WordTokenizer(VOCABULARY, 10)
    long = " ".join(f"w{i}" for i in range(30)) + " "

    def tokenize(items):
        rows = [list(item) if pair else item[0] for item in items]
        return layer(tf.constant(rows)).numpy()

    items = [("one win", long), (long, "two"), (long, long)] if pair else [(long,), ("one win ",)]
    found = read_part(tokenize, items)
    np.testing.assert_array_equal(tokenize(found), tokenize(items))
    if pair:
        assert [len(text.split()) for item in found for text in item] == [2, 5, 6, 1, 3, 4]
    else:
        assert [len(item[0].split()) for item in found] == [8, 2]


def test_a_long_text_is_shown_around_what_decided():
    words = [f"w{i:03d}" for i in range(400)]
    words[300] = "win"
    item = (" ".join(words),)
    found = occlude(counted, [item], np.array([0]))[0]
    (shown,) = excerpts(item, found, AROUND)
    text = "".join(span.text for span in shown.spans)
    assert text.startswith("… w") and text.endswith(" …") and len(text) < AROUND + 60
    assert [(s.text, s.weight) for s in shown.spans if s.weight] == [("win", 1.0)]
    assert shown.whole == item[0]
    (short,) = excerpts(("few words",), (), AROUND)
    assert short.whole == "" and [span.text for span in short.spans] == ["few words"]


def test_what_hardly_moves_the_answer_is_painted_faintly():
    item = ("win this",)
    for scale, weight in ((0.05, 0.2), (0.01, 0.0)):
        found = occlude(lambda items, by=scale: by * counted(items), [item], np.array([0]))[0]
        (shown,) = excerpts(item, found, AROUND)
        assert max(abs(span.weight) for span in shown.spans) == pytest.approx(weight)


def test_blank_lines_are_left_out_of_what_is_shown():
    (shown,) = excerpts(("one\n \n\ntwo",), (), AROUND)
    assert [span.text for span in shown.spans] == ["one\ntwo"]


def test_characters_that_would_turn_the_page_around_are_not_printed():
    assert (
        printable("a\u202eb\x00c\ud800d\n\tä👩\u200d🔬") == "a\ufffdb\ufffdc\ufffdd\n\tä👩\u200d🔬"
    )


def test_blanks_of_other_scripts_are_shown():
    text = "Prix\u00a0: 12\u202f\u20ac \u6771\u4eac\u3000\u306f\r\nco\u00adoperate"
    assert printable(text) == text.replace("\r", "").replace("\u00ad", "")


def report(run, **options):
    return Page(write_report(run, **options).read_text(encoding="utf-8"))


@pytest.mark.parametrize("pair", [False, True])
def test_the_page_of_a_run_of_texts(tmp_path, pair):
    made = make_text_run(tmp_path, pair=pair, noise=2.5)
    page = report(made.run, source=made.source, model=word_model(pair=pair))
    assert "Of 30 texts of the test split" in page.text
    said = page.text.split("Settings config.yaml")[0].replace("not an image file", "")
    assert "image" not in said
    assert "Most confident mistakes" in page.text and "Least certain" in page.text
    assert "<b>attached</b>" in page.text and "script" not in page.tags
    assert "import tensorflow_text" in page.text
    assert ("text_pair=" in page.text) == pair
    assert "up to 16 tokens of" in page.text
    marked = page.tags.count("mark")
    assert marked > 0
    # Without a model the same texts, not explained.
    plain = report(made.run, source=made.source)
    assert plain.tags.count("mark") == 0 and plain.tags.count("figcaption") > 12


def test_the_words_that_decide_are_marked(tmp_path):
    made = make_text_run(tmp_path, noise=2.5)
    html = write_report(made.run, source=made.source, model=word_model()).read_text("utf-8")
    found = r'<mark class="(for|against)" style="--weight:([\d.]+)">([^<]+)</mark>'
    marks = re.findall(found, html)
    strong = {text for _, weight, text in marks if float(weight) > 0.5}
    assert strong and strong <= {"win", "please"}


def test_what_is_frozen_runs_once_for_several_reports(tmp_path, monkeypatch):
    made, model = make_text_run(tmp_path, noise=2.5), word_model()
    options = {"source": made.source, "model": model}
    plain = write_report(made.run, **options).read_text("utf-8")
    for layer in model.layers[:-1]:
        layer.trainable = False
    store = FeatureStore(tmp_path / "store", dtype="float32")
    options |= {"store": store, "engine": "tensorflow"}
    assert write_report(made.run, **options).read_text("utf-8") == plain
    monkeypatch.setattr(PrefixPass, "_compute", lambda *_: pytest.fail("computed again"))
    assert write_report(made.run, **options).read_text("utf-8") == plain


def test_texts_that_are_gone_are_said_to_be(tmp_path):
    made = make_text_run(tmp_path)
    changed = [(f"{text} other",) for (text,) in made.source.items]
    page = report(made.run, source=replace(made.source, items=changed))
    assert re.search(r"\d+ of \d+ texts are gone", page.text)


def test_lengths_by_hand(tmp_path):
    made = make_text_run(tmp_path)
    facts, test = read_facts(made.run), made.source.split("test")
    section = lengths(facts, Album(facts, made.source), model=word_model())
    table = section.blocks[-1]
    words = np.array([len(text.split()) for (text,) in test.items])
    right = made.outputs.argmax(axis=1) == test.labels
    first = words <= 10
    assert table.rows[0][0].text == "0 to 10"
    assert table.rows[0][1].text == str(first.sum())
    assert table.rows[0][2].text == f"{100 * right[first].mean():.1f}\u00a0%"
    assert sum(int(row[1].text) for row in table.rows) == len(words)
    cut = cut_off(word_model(), test.items, made.info)
    # 16 tokens, two of them the model's own.
    np.testing.assert_array_equal(cut, words > 14)
    assert f"{100 * cut.mean():.1f}" in section.blocks[0].text


def test_of_one_group_no_interval_is_shown(tmp_path):
    made = make_text_run(tmp_path)
    splits = pd.read_csv(made.run.path(made.run.SPLITS))
    splits["group"] = "author 1"
    splits.to_csv(made.run.path(made.run.SPLITS), index=False)
    facts = read_facts(made.run)
    assert facts.of_one_group
    table = lengths(facts, Album(facts, made.source), model=word_model()).blocks[-1]
    assert "interval" not in table.caption
    assert {row[2].under for row in table.rows} == {""}


def test_of_a_pair_the_first_text_takes_room_in_each_window():
    seen = TextInput(max_tokens=12, windows=2, texts=2)
    info = ModelInfo(
        image_input=None, class_names=("a", "b"), task="single-label", backbone="x", text_input=seen
    )
    text = keras.Input((2,), dtype="string")
    model = keras.Model(text, WordTokenizer(VOCABULARY, 12, 2, name="tokenizer")(text))
    # Behind four words each window has room for five.
    items = [("win " * 4, "money " * n) for n in (10, 11)]
    assert cut_off(model, items, info).tolist() == [False, True]


def test_the_audits_findings_stand_side_by_side(tmp_path):
    made = make_text_run(tmp_path)
    ids = list(made.source.ids)
    leak = Finding("near-leak", "serious", "Near-duplicates.", ((ids[0], ids[3]),), ("99 % alike",))
    Audit({"train": 60}, {}, (leak,)).write(made.run.path(made.run.AUDIT))
    page = report(made.run, source=made.source)
    assert "Near-duplicates in more than one split" in page.text
    assert f"{ids[0]} = {ids[3]}" in page.text and "99 % alike" in page.text
    for k in (0, 3):
        beginning = " ".join(made.source.items[k][0].split()[:5])
        assert beginning in page.text


def baseline_facts(value, low, high, figure="accuracy", reached=0.986, p=0.02):
    gap = {"figure": figure, "value": value, "low": low, "high": high, "p": p}
    about = {"kind": "TF-IDF with logistic regression", figure: reached, "difference": gap}
    about |= {"settings": {"C": 10.0}, "seconds": 4.0}
    return {"samples": 600, "baseline": about}


@pytest.mark.parametrize(
    ("gap", "told"),
    [
        (
            (0.004, -0.001, 0.009),
            "reaches 98.6 % on the same split, 0.4 points less than this model (95 % interval "
            "-0.1 to 0.9): these 600 texts do not show that transfer was worth it.",
        ),
        (
            (0.02, 0.01, 0.03),
            "2.0 points less than this model (95 % interval 1.0 to 3.0): transfer was worth it.",
        ),
        (
            (-0.02, -0.03, -0.01),
            "2.0 points more than this model (95 % interval 1.0 to 3.0): transfer was not worth it",
        ),
        ((0.0, -0.01, 0.01), "as this model does (95 % interval -1.0 to 1.0)"),
        ((0.0, 0.0, 0.0), "as this model does: these"),
    ],
)
def test_the_sentence_on_the_baseline(gap, told):
    assert told in baseline_text(baseline_facts(*gap), "texts").replace("\u00a0", " ")


def test_a_few_texts_do_not_show_it_whatever_their_resamples_say():
    # Four of 100 that only the model has right: p is 2 / 2**4.
    facts = baseline_facts(0.04, 0.01, 0.08, p=0.125)
    assert "do not show that transfer was worth it" in baseline_text(facts, "texts")
    # Of groups there is no such test.
    del facts["baseline"]["difference"]["p"]
    assert baseline_text(facts, "texts").endswith(": transfer was worth it.")


@pytest.mark.parametrize("figure", ["accuracy", "mae"])
def test_one_group_shows_nothing_of_others(figure):
    facts = baseline_facts(0.5, 0.5, 0.5, figure)
    facts["baseline"]["difference"]["of_one_group"] = True
    told = baseline_text(facts, "texts")
    assert "interval" not in told
    assert told.endswith(": all measured texts are of one group, so that shows nothing of others.")


def test_where_thresholds_were_set_nothing_is_said_of_what_was_before():
    facts = baseline_facts(0.02, 0.01, 0.03)
    facts["baseline"]["difference"]["before_thresholds"] = True
    told = baseline_text(facts, "texts")
    assert told.endswith("the model was compared with it before thresholds were set.")
    assert "points" not in told and "worth" not in told


def test_the_sentence_of_a_regression_where_less_is_better():
    # The model's mean error is smaller by 2.
    facts = baseline_facts(-2.0, -3.0, -1.0, "mae", 7.0)
    told = baseline_text(facts, "texts")
    assert "is off by 7 on average on the same split, 2 more than this model" in told
    assert "(95 % interval 1 to 3): transfer was worth it." in told
    worse = baseline_text(baseline_facts(2.0, 1.0, 3.0, "mae", 7.0), "texts")
    assert "2 less than this model" in worse and "not worth it" in worse


def test_the_sentence_of_several_targets_has_no_unit():
    facts = baseline_facts(-0.2, -0.3, -0.1, "mae", 1358.0)
    facts["baseline"]["difference"]["reached_in_deviations"] = 0.7
    told = baseline_text(facts, "texts")
    assert "is off by 0.7 deviations of the targets on average" in told and "1,358" not in told
    assert "0.2 more than this model" in told and told.endswith("transfer was worth it.")


def test_page_and_card_say_what_transfer_was_worth(tmp_path):
    made = make_text_run(tmp_path)
    assert "Was transfer worth it?" not in report(made.run, source=made.source).text
    facts = {**made.run.metrics, **baseline_facts(0.02, 0.01, 0.03)}
    made.run.path("metrics.json").write_text(json.dumps(facts), encoding="utf-8")
    page = report(made.run, source=made.source)
    assert page.text.count("2.0 points less than this model") == 1
    assert "Was transfer worth it?" in page.text
    assert "McNemar test: p = 0.02" in page.text and "(C 10)" in page.text
    card = model_card(read_facts(made.run))
    assert card.count("2.0 points less than this model") == 1


def test_the_card_of_a_run_of_texts(tmp_path):
    card = model_card(read_facts(make_text_run(tmp_path).run))
    assert "pipeline_tag: text-classification" in card and "license: unknown" in card
    assert "| tokens | up to 16 tokens of a text |" in card
    assert "augmentation" not in card and "camera" not in card
    assert "those the encoder was published with" in card
    own = model_card(read_facts(make_run(tmp_path / "images").run))
    assert "augmentation" in own and "camera" in own


def test_a_regression_of_texts_has_a_page(tmp_path):
    made = make_text_run(tmp_path, task="regression", names=("stars",))
    page = report(made.run, source=made.source)
    assert "Largest errors" in page.text and "stars is off by" in page.text
    assert "mean absolute error" in page.text


def test_render_leaves_no_blank_in_a_word():
    (shown,) = excerpts(("unbelievable",), (), AROUND)
    from keras_tl.reporting.blocks import Passage, Passages, Section

    passages = Passages("Texts", (Passage("spam 99 %", ("right", "line 1"), (shown,)),))
    assert ">unbelievable<" in render("run", "", [Section("Texts", (passages,))])
