"""Heads that start at a logistic regression, beside scikit-learn's on all features."""

import keras
import numpy as np
import pytest
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from keras_tl import freezing
from keras_tl.builders.image import build_image_model
from keras_tl.data.arrays import from_arrays
from keras_tl.data.augment import Augmentation
from keras_tl.data.image_input import ImageInput
from keras_tl.data.pipeline import Samples
from keras_tl.errors import InputError
from keras_tl.feature_cache import FeatureStore
from keras_tl.training import head_start
from keras_tl.training.fit import run_phases
from keras_tl.training.head_start import STRENGTHS, fit_softmax
from keras_tl.training.phases import Phase
from keras_tl.training.refinement import refined_loss
from keras_tl.training.schedules import Constant

MIDDLE, NONE = 1000.0, Augmentation("none")


def made(items=60, width=8, classes=3, seed=0, strength=1.0):
    random = np.random.default_rng(seed)
    labels = np.arange(items) % classes
    features = random.normal(0, 2, (items, width)).astype(np.float32)
    features[:, :classes] += strength * np.eye(classes, dtype=np.float32)[labels]
    return features, labels


def probabilities(features, kernel, bias):
    return softmax(features @ kernel + bias, axis=1)


def regression(features, strength, labels, weights=None):
    """Scikit-learn's on standardised features, which are brought to a mean square length of 1."""
    scaler = StandardScaler().fit(features.astype(float))
    length = np.sqrt((scaler.transform(features) ** 2).sum(axis=1).mean())
    model = LogisticRegression(C=strength, tol=1e-8, max_iter=10_000)
    model.fit(scaler.transform(features) / length, labels, sample_weight=weights)
    return lambda others: model.predict_proba(scaler.transform(others) / length)


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("width", [8, 200])
def test_it_is_the_logistic_regression_on_the_features(classes, width):
    features, labels = made(width=width, classes=classes)
    kernel, bias, strength = fit_softmax(features, labels)
    assert (kernel.shape, bias.shape, strength) == ((width, classes), (classes,), MIDDLE)
    assert kernel.dtype == bias.dtype == np.float32
    expected = regression(features, MIDDLE, labels)(features)
    np.testing.assert_allclose(probabilities(features, kernel, bias), expected, atol=5e-4)


def test_rare_words_do_not_count_the_more_for_it():
    """Standardised, the five words that stand in one text each would outweigh the two that tell."""
    random = np.random.default_rng(0)
    labels = np.arange(60) % 2
    dense = random.normal(5, 3, (60, 4)).astype(np.float32)
    words = np.zeros((60, 7), np.float32)
    words[labels == 0, 0], words[labels == 1, 1] = 1, 1
    words[::7, :2] = 0
    words[np.arange(0, 60, 12), 2 + np.arange(5)] = 2
    kernel, bias, _ = fit_softmax(np.hstack([dense, words]), labels)
    # All words together are as long as the four dense features, whose squares add up to 4.
    alike = words * np.sqrt(4 / (words**2).sum(axis=1).mean())
    scaled = np.hstack([StandardScaler().fit_transform(dense), alike]) / np.sqrt(8)
    model = LogisticRegression(C=MIDDLE, tol=1e-8, max_iter=10_000).fit(scaled, labels)
    found = probabilities(np.hstack([dense, words]), kernel, bias)
    np.testing.assert_allclose(found, model.predict_proba(scaled), atol=5e-4)


def test_other_items_choose_the_penalty():
    features, labels = made(width=100, strength=2.0)
    others, theirs = made(items=300, width=100, seed=1, strength=2.0)
    losses = [refined_loss(regression(features, c, labels)(others), theirs) for c in STRENGTHS]
    best = STRENGTHS[int(np.argmin(losses))]
    assert best < MIDDLE
    assert fit_softmax(features, labels, (others, theirs))[2] == best


def test_an_item_that_counts_twice_is_as_two():
    features, labels = made(strength=3.0)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    twice = np.arange(60) < 20
    weights = np.where(twice, 2.0, 1.0)
    found = fit_softmax(features, labels, weights=weights)
    both = np.concatenate([features, features[twice]]), np.concatenate([labels, labels[twice]])
    for value, expected in zip(found, fit_softmax(*both), strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-3, atol=1e-2)
    assert np.abs(found[0] - fit_softmax(features, labels)[0]).max() > 0.2


def test_balanced_classes_count_the_same():
    features, labels = made(items=90, strength=3.0)
    few = (labels > 0) | (np.arange(90) < 15)
    features, labels = features[few], labels[few]
    weights = (len(labels) / 3 / np.bincount(labels))[labels]
    kernel, bias, _ = fit_softmax(features, labels, balanced=True)
    expected = regression(features, MIDDLE, labels, weights)(features)
    np.testing.assert_allclose(probabilities(features, kernel, bias), expected, atol=2e-3)
    # On top of what each item counts.
    counts = np.array([1.0, 5.0, 1.0])[labels]
    kernel, bias, _ = fit_softmax(features, labels, weights=counts, balanced=True)
    expected = regression(features, MIDDLE, labels, weights * counts)(features)
    np.testing.assert_allclose(probabilities(features, kernel, bias), expected, atol=2e-3)


def samples(three_colors, part=slice(None), augmentation=NONE):
    images, labels = three_colors
    source = from_arrays(images[part], labels[part], class_names=["a", "b", "c"])
    return Samples(source, ImageInput(size=16), augmentation)


def train(model, data, val=None, folder=None, start="fitted"):
    """One step so small that the head stays where it starts."""
    phase = Phase(freezing.All(), 1, 1e-12, Constant(), "sgd", weight_decay=0, head_start=start)
    store = FeatureStore(folder, dtype="float32") if folder else False
    return run_phases(model, [phase], data, val, batch_size=8, feature_store=store, verbose=0)


def head_of(model):
    return model.get_layer("head_predictions")


@pytest.mark.parametrize("validated", [True, False])
def test_training_begins_there(tiny_model, three_colors, tmp_path, validated):
    held = slice(45, 60)
    data, val = samples(three_colors, slice(45)), samples(three_colors, held)
    train(tiny_model, data, val if validated else None, tmp_path)
    body = keras.Model(tiny_model.input, head_of(tiny_model).input)
    features = body.predict(three_colors[0].astype(np.float32), verbose=0)
    labels = three_colors[1]
    others = (features[held], labels[held]) if validated else None
    kernel, bias, _ = fit_softmax(features[:45], labels[:45], others)
    wanted = probabilities(features, kernel, bias)
    found = tiny_model.predict(three_colors[0].astype(np.float32), verbose=0)
    np.testing.assert_allclose(found, wanted, atol=5e-4)
    assert (found.argmax(axis=1) == labels).mean() > 0.9


@pytest.mark.slow
def test_given_is_as_it_was_and_without_a_store_nothing_is_fitted(
    tiny_model, three_colors, tmp_path
):
    before = head_of(tiny_model).kernel.numpy()
    train(tiny_model, samples(three_colors), folder=tmp_path, start="given")
    train(tiny_model, samples(three_colors))
    np.testing.assert_allclose(head_of(tiny_model).kernel, before, atol=1e-6)


def hidden_head():
    return build_image_model("TinyNet", outputs=3, weights=None, hidden=(8,))


def plain_head(**options):
    return build_image_model("TinyNet", outputs=3, weights=None, **options)


@pytest.mark.parametrize(
    ("build", "part", "augmentation", "most"),
    [
        (hidden_head, slice(None), NONE, 60),
        (plain_head, slice(None), NONE, 59),
        (plain_head, slice(0, 60, 3), NONE, 60),
        (plain_head, slice(None), Augmentation("boxes", cutmix=0.5), 60),
    ],
    ids=["hidden layer", "too many", "a class without items", "blended views"],
)
def test_what_is_no_small_regression_stays(
    three_colors, tmp_path, monkeypatch, build, part, augmentation, most
):
    monkeypatch.setattr(head_start, "MOST_ITEMS", most)
    model = build()
    before = head_of(model).kernel.numpy()
    train(model, samples(three_colors, part, augmentation), folder=tmp_path)
    np.testing.assert_allclose(head_of(model).kernel, before, atol=1e-6)


def test_that_no_epoch_is_better_is_no_warning(tiny_model, three_colors, tmp_path, caplog):
    images, labels = three_colors
    # Some labels are wrong: else any head that is sure of itself would do.
    labels = np.where(np.arange(60) % 7 == 0, (labels + 1) % 3, labels)
    data, val = (samples((images, labels), part) for part in (slice(45), slice(45, 60)))
    phase = Phase(freezing.All(), 2, 1000.0, Constant(), "sgd", head_start="fitted")
    store = FeatureStore(tmp_path, dtype="float32")
    with caplog.at_level("INFO", logger="keras_tl"):
        result = run_phases(tiny_model, [phase], data, val, batch_size=8, feature_store=store)
    [told] = [each for each in caplog.records if "lower validation loss" in each.message]
    assert (told.levelname, len(result.history)) == ("INFO", 2)


def test_a_typo_is_told():
    with pytest.raises(InputError, match=r"'fited'.*Did you mean fitted"):
        Phase(freezing.All(), 1, 0.1, head_start="fited")
