import numpy as np
import pytest
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge

from keras_tl.data.one_hot import OneHotRows
from keras_tl.evaluation import baseline
from keras_tl.evaluation.baseline import text_baseline

HAM = ["report", "meeting", "attached", "please", "regards", "agenda", "minutes", "budget"]
SPAM = ["win", "money", "now", "prize", "click", "free", "offer", "winner"]
BOTH = [f"word{i}" for i in range(60)]


def mails(count=120, seed=0, share=0.35):
    """Texts that say by some of their words what they are, and one-hot classes."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    texts = []
    for label in labels:
        own = random.random(12) < share
        words = np.where(own, random.choice((HAM, SPAM)[label], 12), random.choice(BOTH, 12))
        texts.append((" ".join(words),))
    return texts, np.eye(2, dtype=np.float32)[labels]


def test_it_is_scikit_learns_tfidf_and_logistic_regression():
    texts, targets = mails(160)
    found = text_baseline(texts[:120], targets[:120], texts[120:])
    vectorizer = TfidfVectorizer(
        ngram_range=(1, found.settings["longest_ngram"]),
        token_pattern=r"(?u)\b\w+\b",
        sublinear_tf=True,
    )
    train = vectorizer.fit_transform([text for (text,) in texts[:120]])
    test = vectorizer.transform([text for (text,) in texts[120:]])
    model = LogisticRegression(C=found.settings["C"], max_iter=500)
    model.fit(train, targets[:120, 1] > 0.5)
    np.testing.assert_allclose(found.outputs, model.predict_proba(test), atol=1e-5)
    assert found.settings["columns"] == train.shape[1]
    assert found.outputs.dtype == np.float32
    assert (found.outputs.argmax(axis=1) == targets[120:].argmax(axis=1)).mean() > 0.9


def test_the_twin_with_shuffled_labels_knows_nothing():
    texts, targets = mails(400)
    shuffled = np.random.default_rng(1).permutation(targets[:200])
    found = text_baseline(texts[:200], shuffled, texts[200:])
    assert 0.3 < (found.outputs.argmax(axis=1) == targets[200:].argmax(axis=1)).mean() < 0.7


def test_what_is_predicted_decides_nothing():
    texts, targets = mails(160)
    one = text_baseline(texts[:120], targets[:120], texts[120:140])
    more = text_baseline(texts[:120], targets[:120], texts[120:])
    assert one.settings == more.settings
    np.testing.assert_array_equal(one.outputs, more.outputs[:20])


def test_pairs_of_words_are_taken_where_only_they_decide():
    random = np.random.default_rng(0)
    labels = np.arange(200) % 2
    texts = []
    for label in labels:
        noise = list(random.choice(BOTH, 6))
        # Each text has all four words; which of them stand together is what counts.
        pairs = [["not", "good"], ["so", "bad"]] if label else [["so", "good"], ["not", "bad"]]
        random.shuffle(pairs)
        texts.append((" ".join([*pairs[0], *noise, *pairs[1]]),))
    targets = np.eye(2, dtype=np.float32)[labels]
    found = text_baseline(texts[:150], targets[:150], texts[150:])
    assert found.settings["longest_ngram"] == 2
    assert (found.outputs.argmax(axis=1) == labels[150:]).mean() > 0.95


def test_the_choice_is_the_one_with_the_fewest_errors_over_the_folds():
    random = np.random.default_rng(0)
    labels = np.arange(60) % 2
    signal = np.where(labels == 1, 1.0, -1.0)[:, None]
    told = sparse.csr_matrix(signal + random.normal(0, 0.3, (60, 2)))
    noise = sparse.csr_matrix(random.normal(0, 1, (60, 2)))
    targets = np.eye(2, dtype=np.float32)[labels]
    for rows, best in (({1: noise, 2: told}, 2), ({1: told, 2: noise}, 1)):
        assert baseline._choose(rows, targets, "single-label", 0)[0] == best


def test_of_a_pair_each_text_has_its_own_columns():
    texts, targets = mails(160)
    # The first text is the second one of another item: it says nothing.
    order = np.random.default_rng(0).permutation(160)
    pairs = [(texts[j][0], texts[i][0]) for i, j in enumerate(order)]
    found = text_baseline(pairs[:120], targets[:120], pairs[120:])
    one = text_baseline(texts[:120], targets[:120], texts[120:])
    assert (found.outputs.argmax(axis=1) == targets[120:].argmax(axis=1)).mean() > 0.8
    if found.settings["longest_ngram"] == one.settings["longest_ngram"]:
        assert found.settings["columns"] > 1.5 * one.settings["columns"]


def test_a_first_text_that_is_always_blank_is_left_out():
    texts, targets = mails(160)
    blank = [(" ", text) for (text,) in texts]
    found = text_baseline(blank[:120], targets[:120], blank[120:])
    one = text_baseline(texts[:120], targets[:120], texts[120:])
    np.testing.assert_allclose(found.outputs, one.outputs, atol=1e-6)


def test_several_classes_sum_to_one_and_an_unseen_one_gets_nothing():
    texts, targets = mails(150)
    three = np.zeros((150, 3), np.float32)
    three[:, [0, 2]] = targets
    found = text_baseline(texts[:120], three[:120], texts[120:])
    np.testing.assert_allclose(found.outputs.sum(axis=1), 1, atol=1e-6)
    assert (found.outputs[:, 1] == 0).all()
    assert (found.outputs.argmax(axis=1) == three[120:].argmax(axis=1)).mean() > 0.8


def test_several_labels_have_a_model_each():
    texts, targets = mails(160)
    targets[::4] = 0.0
    found = text_baseline(texts[:120], targets[:120], texts[120:], task="multi-label")
    assert found.outputs.shape == (40, 2)
    assert not np.allclose(found.outputs.sum(axis=1), 1, atol=1e-2)


def test_values_are_a_ridge_regression():
    random = np.random.default_rng(0)
    counts = random.integers(0, 8, 200)
    texts = [(" ".join(["good"] * n + ["plain"] * (10 - n)),) for n in counts]
    values = (50 + 10 * counts[:, None]).astype(np.float32)
    found = text_baseline(texts[:150], values[:150], texts[150:], task="regression")
    assert found.kind == "TF-IDF with ridge regression"
    features = baseline._features(texts[:150], texts[150:], found.settings["longest_ngram"])
    model = Ridge(alpha=1 / found.settings["C"]).fit(features[0], values[:150])
    expected = model.predict(features[1]).reshape(-1, 1)
    np.testing.assert_allclose(found.outputs, expected, rtol=1e-5)
    spread = np.abs(values[150:] - values.mean()).mean()
    assert np.abs(found.outputs - values[150:]).mean() < 0.3 * spread


@pytest.mark.parametrize("words", [("天气很好", "股票下跌"), ("!!! ###", "... ,,,")])
def test_scripts_without_blanks_are_read_by_characters(words):
    random = np.random.default_rng(0)
    filler = [chr(0x4E00 + i) for i in range(40)]
    labels = np.arange(80) % 2
    texts = [
        ("".join(random.choice(filler, 20)) + words[k] + "".join(random.choice(filler, 20)),)
        for k in labels
    ]
    targets = np.eye(2, dtype=np.float32)[labels]
    found = text_baseline(texts[:60], targets[:60], texts[60:])
    assert (found.outputs.argmax(axis=1) == labels[60:]).mean() > 0.9


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_handful_of_texts_is_enough_to_run(count):
    texts, targets = mails(20)
    found = text_baseline(texts[:count], targets[:count], texts[10:])
    assert np.isfinite(found.outputs).all() and found.outputs.shape == (10, 2)


def test_words_of_one_text_are_left_out_of_many(monkeypatch):
    monkeypatch.setattr(baseline, "MANY_TEXTS", 50)
    counts = np.eye(60, 8, dtype=int)
    counts[1, 0] = 1
    assert baseline._common(sparse.csr_matrix(counts)).tolist() == [0]
    assert len(baseline._common(sparse.csr_matrix(np.eye(60, 8, dtype=int)))) == 8
    monkeypatch.setattr(baseline, "MOST_COLUMNS", 3)
    full = sparse.csr_matrix(np.triu(np.ones((60, 8), int)))
    assert baseline._common(full).tolist() == [5, 6, 7]


def test_rows_that_are_made_as_they_are_asked_for_are_the_same():
    texts, targets = mails(150)
    three = np.zeros((150, 3), np.float32)
    three[np.arange(150), np.arange(150) % 3] = 1
    for given in (targets, three):
        lazy = OneHotRows(given.argmax(axis=1)[:120], given.shape[1])
        found = text_baseline(texts[:120], given[:120], texts[120:])
        again = text_baseline(texts[:120], lazy, texts[120:])
        assert again.settings == found.settings
        np.testing.assert_array_equal(again.outputs, found.outputs)
