"""What texts say without transfer: TF-IDF with a linear model.

Each text is the words and pairs of words in it, weighed by how rare they are (Spärck Jones, "A
Statistical Interpretation of Term Specificity and Its Application in Retrieval", Journal of
Documentation 28, 1972), and a linear model is fitted to that. It is strong where single words
decide, as they do for junk mail or topics (Wang and Manning, "Baselines and Bigrams: Simple, Good
Sentiment and Topic Classification", ACL 2012).
"""

import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer
from sklearn.linear_model import LogisticRegression, Ridge
from threadpoolctl import threadpool_limits

from keras_tl.data.audit.text_words import ABOVE_LATIN, MARKS
from keras_tl.data.stratify import strata
from keras_tl.evaluation.class_figures import log_loss
from keras_tl.evaluation.linear_fits import deal

# What is chosen from: the longest n-gram, and scikit-learn's C (for ridge regression one over
# alpha): the larger, the weaker the penalty. A few hundred texts want hardly any.
NGRAMS = (1, 2)
CLASS_CS, VALUE_CS = (1.0, 10.0, 100.0, 1e3, 1e4), (0.1, 1.0, 10.0, 100.0)
# The cross-validation that chooses: its folds, and how many training texts it takes at most.
FOLDS, CHOOSING = 3, 6_000
# From MANY_TEXTS training texts on, a word must be in two of them. The MOST_COLUMNS commonest stay.
MANY_TEXTS, MOST_COLUMNS = 1_000, 300_000
# Steps of L-BFGS at most; scikit-learn's own tolerance ends most fits long before.
MAX_STEPS = 500
# Words longer than this in the mean are no words: Chinese, Japanese and Thai write none apart.
LONG_WORD = 12.0
WORD = rf"\w+(?:{ABOVE_LATIN}[{MARKS}]+\w*)*"
# Texts, and characters of each, that are looked at to see whether there are blanks between words.
LOOKED_AT, CHARACTERS = 500, 1_000

Predict: TypeAlias = Callable[[sparse.csr_matrix], np.ndarray]


@dataclass(frozen=True)
class Baseline:
    """What answers without transfer.

    Attributes:
        kind: What it is, in words.
        outputs: Float32 `[items, outputs]`: probabilities, or values of a regression.
        settings: What was chosen, ready for JSON.
    """

    kind: str
    outputs: np.ndarray
    settings: dict[str, Any]


def text_baseline(
    train_texts: Sequence[tuple[str, ...]],
    train_targets: np.ndarray,
    test_texts: Sequence[tuple[str, ...]],
    *,
    task: str = "single-label",
    seed: int = 0,
) -> Baseline:
    """Fits TF-IDF with logistic regression, or ridge regression, and predicts other texts.

    Whether pairs of words count, and how strong the penalty is, is chosen by cross-validation
    within the training texts: by the share right (for a regression the mean absolute error), of
    equal ones by the loss. Term frequencies are sublinear. Of several texts each has its own
    columns. Several labels have a model each; exclusive classes too, whose probabilities are then
    brought to a sum of 1.

    Args:
        train_texts: One or two texts for each item.
        train_targets: What they are, float32 `[items, outputs]`: one-hot classes, zeros and ones,
            or values.
        test_texts: What to predict; at least one.
        task: "single-label", "multi-label" or "regression".
        seed: Decides the folds.

    Returns:
        The outputs for `test_texts`, and what was chosen.
    """
    features = {n: _features(train_texts, test_texts, n) for n in NGRAMS}
    # The sums are small: a second thread would cost more than it brings.
    with threadpool_limits(1), warnings.catch_warnings():
        # One that stops early is near enough: the penalty, not the last digit, decides.
        warnings.simplefilter("ignore", ConvergenceWarning)
        trained = {n: train for n, (train, _) in features.items()}
        longest, c = _choose(trained, train_targets, task, seed)
        train, test = features[longest]
        outputs = _fit(train, train_targets, task, c)(test)
    model = "ridge regression" if task == "regression" else "logistic regression"
    settings = {"longest_ngram": longest, "C": c, "columns": train.shape[1]}
    return Baseline(f"TF-IDF with {model}", outputs.astype(np.float32), settings)


def _features(
    train: Sequence[tuple[str, ...]], test: Sequence[tuple[str, ...]], longest: int
) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
    """TF-IDF of both, `[items, columns]`, first and second texts side by side."""
    places = range(len(train[0]))
    parts = [_place([t[k] for t in train], [t[k] for t in test], longest) for k in places]
    left, right = (sparse.hstack(matrices, format="csr") for matrices in zip(*parts, strict=True))
    return left, right


def _place(
    train: list[str], test: list[str], longest: int
) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
    if not any(text.strip() for text in train):
        return sparse.csr_matrix((len(train), 0)), sparse.csr_matrix((len(test), 0))
    if _has_words(train):
        counter = CountVectorizer(ngram_range=(1, longest), token_pattern=WORD)
    else:
        counter = CountVectorizer(ngram_range=(1, longest + 1), analyzer="char")
    counts = counter.fit_transform(train)
    kept = _common(counts)
    weigh = TfidfTransformer(sublinear_tf=True)
    return weigh.fit_transform(counts[:, kept]), weigh.transform(counter.transform(test)[:, kept])


def _has_words(texts: list[str]) -> bool:
    """Whether blanks part the words."""
    words = re.findall(WORD, " ".join(text[:CHARACTERS] for text in texts[:LOOKED_AT]))
    return bool(words) and sum(map(len, words)) / len(words) <= LONG_WORD


def _common(counts: sparse.csr_matrix) -> np.ndarray:
    """The columns that are worth keeping, in order."""
    documents = np.bincount(counts.indices, minlength=counts.shape[1])
    kept = np.flatnonzero(documents >= (2 if counts.shape[0] >= MANY_TEXTS else 1))
    if not len(kept):
        kept = np.arange(len(documents))
    commonest = np.argsort(-documents[kept], kind="stable")[:MOST_COLUMNS]
    return np.sort(kept[commonest])


def _choose(
    features: dict[int, sparse.csr_matrix], targets: np.ndarray, task: str, seed: int
) -> tuple[int, float]:
    """The longest n-gram and the C with the fewest errors on folds that were held out.

    How rare words are was counted on all of the training texts, which tells nothing of labels.
    """
    shown = np.random.default_rng(seed).permutation(len(targets))[:CHOOSING]
    targets = targets[shown]
    labels = targets.argmax(axis=1) if task == "single-label" else targets
    folds = min(FOLDS, len(shown))
    fold_of = deal(strata(labels, task), folds, seed)
    found = []
    for longest, rows in features.items():
        for c in VALUE_CS if task == "regression" else CLASS_CS:
            outputs = np.zeros(targets.shape)
            for fold in range(folds if folds > 1 else 0):
                held = fold_of == fold
                fit = _fit(rows[shown[~held]], targets[~held], task, c)
                outputs[held] = fit(rows[shown[held]])
            found.append((*_errors(outputs, targets, task), longest, c))
    return min(found)[2:]


def _errors(outputs: np.ndarray, targets: np.ndarray, task: str) -> tuple[float, float]:
    """Mean absolute and squared error, or the share wrong and the log loss."""
    if task == "regression":
        errors = outputs - targets
        return float(np.abs(errors).mean()), float((errors**2).mean())
    present = targets > 0.5
    if task == "single-label":
        wrong = outputs.argmax(axis=1) != present.argmax(axis=1)
    else:
        wrong = ((outputs >= 0.5) != present).any(axis=1)
    of_truth = np.where(present, outputs, 1.0 - outputs)
    return float(wrong.mean()), log_loss(of_truth)


def _fit(features: sparse.csr_matrix, targets: Any, task: str, c: float) -> Predict:
    if task == "regression":
        model = Ridge(alpha=1.0 / c).fit(features, targets)
        return lambda rows: model.predict(rows).reshape(-1, targets.shape[1])
    if task == "single-label":
        # Rows of many items and classes are made one class at a time.
        labels = targets.argmax(axis=1)
        present = (labels == label for label in range(targets.shape[1]))
    else:
        present = (column > 0.5 for column in targets.T)
    if task == "single-label" and targets.shape[1] == 2:
        second = _one_class(features, labels == 1, c)
        return lambda rows: np.stack([1.0 - (found := second(rows)), found], axis=1)
    models = [_one_class(features, column, c) for column in present]

    def probabilities(rows: sparse.csr_matrix) -> np.ndarray:
        found = np.stack([model(rows) for model in models], axis=1)
        if task == "single-label":
            found /= np.maximum(found.sum(axis=1, keepdims=True), 1e-12)
        return found

    return probabilities


def _one_class(features: sparse.csr_matrix, present: np.ndarray, c: float) -> Predict:
    """The probability that a class is there; what all training texts say where they agree."""
    if present.all() or not present.any():
        return lambda rows: np.full(rows.shape[0], float(present[0]))
    model = LogisticRegression(C=c, max_iter=MAX_STEPS).fit(features, present)
    return lambda rows: model.predict_proba(rows)[:, 1]
