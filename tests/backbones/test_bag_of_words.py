"""Bags of words, against words that Python counts and weights that NumPy computes."""

import re
from collections import Counter

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_tl as ktl
from keras_tl import freezing, frozen_prefix
from keras_tl.backbones.bag_of_words import BagOfWords, as_rows, count_words, rows_of
from keras_tl.backbones.encoders import load_encoder
from keras_tl.backbones.host import Tokenize, behind_host, host_layer, tokenize_of
from keras_tl.engines.litert import LiteRTEngine
from keras_tl.engines.open_vino import OpenVINOEngine
from keras_tl.errors import InputError
from tests.tiny_encoder import LAYERS, WIDTH, write_tiny_bert

BUCKETS = 50
TEXTS = ["The film was good, good, GOOD!", "", "a dull story " * 30, "naïve 中文 text_1 don't"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny_bert(tmp_path_factory.mktemp("bag") / "bert")


@pytest.fixture(scope="module")
def model(folder):
    settings = {"max_tokens": 8, "windows": 2, "bag_of_words": BUCKETS}
    return ktl.build_text_classifier(folder, outputs=2, pooling="layers", **settings)


def bucket(word, buckets):
    return int(tf.strings.to_hash_bucket_fast(word, buckets))


def test_words_are_counted_as_python_counts_them():
    buckets = 2**16
    found = count_words(tf.constant(TEXTS), buckets)
    assert (found.dtype, found.shape) == (tf.int32, (4, buckets))
    for text, counts in zip(TEXTS, found.numpy(), strict=True):
        # Words, runs of other signs, and each Chinese sign for itself.
        words = re.findall(r"[一-鿿]|[^\W一-鿿]+|[^\w\s]+", text.lower())
        expected = np.zeros(buckets, np.int32)
        for word, count in Counter(words).items():
            expected[bucket(word, buckets)] += count
        np.testing.assert_array_equal(counts, expected)


def test_a_word_has_the_same_bucket_wherever_an_export_runs():
    assert [bucket(word, 4096) for word in ("good", "中", "!")] == [2400, 2046, 1202]


def test_pairs_are_counted_together_and_broken_bytes_are_no_error():
    pair = count_words(tf.constant([["a title", "a body"]]), BUCKETS)
    np.testing.assert_array_equal(pair, count_words(tf.constant(["a title a body"]), BUCKETS))
    assert count_words(tf.constant([b"good \xff\xfe film"]), BUCKETS).numpy().sum() == 3


@pytest.mark.parametrize(("buckets", "length", "rows"), [(16, 8, 2), (17, 8, 3)])
def test_rows_hold_all_counts(buckets, length, rows):
    assert rows_of(buckets, length) == rows
    counts = np.arange(2 * buckets, dtype=np.int32).reshape(2, buckets)
    laid_out = as_rows(tf.constant(counts), length).numpy()
    assert laid_out.shape == (2, rows, length)
    np.testing.assert_array_equal(laid_out.reshape(2, -1)[:, :buckets], counts)


def test_weights_are_logarithms_of_counts_and_bags_equally_long():
    counts = np.zeros((3, BUCKETS), np.int32)
    counts[0, [3, 7]] = 1, 5
    counts[1, 49] = 2
    tokens = np.concatenate([np.ones((3, 2, 16), np.int32), as_rows(tf.constant(counts), 16)], 1)
    weights = np.where(counts, 1 + np.log(np.maximum(counts, 1)), 0)
    lengths = np.linalg.norm(weights, axis=1, keepdims=True)
    expected = weights / np.where(lengths, lengths, 1) * 0.4 * np.sqrt(64)
    np.testing.assert_allclose(BagOfWords(BUCKETS, 64)(tokens), expected, atol=1e-6)
    assert np.linalg.norm(expected, axis=1).tolist() == pytest.approx([3.2, 3.2, 0])


def test_the_encoder_stays_as_it_was(folder):
    plain = load_encoder(folder, max_tokens=8, windows=2, pooling="layers")
    words = load_encoder(folder, max_tokens=8, windows=2, pooling="layers", bag_of_words=BUCKETS)
    text = tf.constant(TEXTS)
    assert words.output_shape == (None, LAYERS * WIDTH + BUCKETS)
    np.testing.assert_allclose(words(text)[:, : LAYERS * WIDTH], plain(text), atol=1e-6)
    assert tokenize_of(words).key != tokenize_of(plain).key
    np.testing.assert_array_equal(host_layer(words).measure(text), host_layer(plain).measure(text))


def test_words_behind_what_the_encoder_reads_count_and_tags_do_not(folder):
    settings = {"max_tokens": 8, "bag_of_words": BUCKETS}
    reads, drops = (
        Tokenize(host_layer(load_encoder(folder, markup=markup, **settings)))
        for markup in ("keep", "drop")
    )
    long = "dull story " * 10
    first, second = reads([long + "good", long + "bad"]).numpy()
    np.testing.assert_array_equal(first[:2], second[:2])
    assert (first[2:] != second[2:]).any()
    marked, plain = drops(["<p>a <b>good</b> film", " a good film"]).numpy()
    np.testing.assert_array_equal(marked, plain)


@pytest.mark.parametrize(
    ("policy", "names"),
    [
        (freezing.All(), ("pool_and_words",)),
        (freezing.AllButLast(1), ("mask", "bag_of_words", "block_0_output_norm")),
        (freezing.Nothing(), ("tokens",)),
    ],
)
def test_a_cut_carries_the_words(model, policy, names):
    policy.apply(model)
    split = frozen_prefix.split(model)
    assert sorted(split.last_layers) == sorted(names)
    tokens = tokenize_of(model)(TEXTS)
    inputs = tokens if split.prefix is None else split.prefix(tokens)
    np.testing.assert_allclose(split.suffix(inputs), model(tf.constant(TEXTS)), atol=1e-6)


def test_a_cut_holds_no_ids_even_where_they_are_smaller(folder):
    model = ktl.build_text_classifier(
        folder, outputs=2, max_tokens=8, pooling="layers", bag_of_words=4096
    )
    freezing.AllButLast(1).apply(model)
    outputs = frozen_prefix.split(model).prefix.outputs
    assert {tensor.dtype for tensor in outputs} == {"float32"}


@pytest.mark.slow
@pytest.mark.parametrize("policy", [freezing.All(), freezing.AllButLast(1)])
def test_the_fast_engines_compute_the_same(model, policy, tmp_path):
    policy.apply(model)
    prefix = frozen_prefix.split(model).prefix
    tokens = tokenize_of(model)(TEXTS).numpy()
    expected = tf.nest.flatten(prefix(tokens))
    for engine in (LiteRTEngine, OpenVINOEngine):
        found = engine(prefix, tmp_path / engine.__name__)(tokens)
        for one, wanted in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, wanted, atol=1e-4 * np.abs(wanted).max())


def test_what_is_saved_counts_words_too(model, tmp_path):
    freezing.All().apply(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(tf.constant(TEXTS)), model(tf.constant(TEXTS)), atol=1e-6)
    model.export(tmp_path / "exported", verbose=False)
    served = tf.saved_model.load(tmp_path / "exported")
    np.testing.assert_allclose(
        served.serve(tf.constant(TEXTS)), model(tf.constant(TEXTS)), atol=1e-6
    )


@pytest.mark.slow
def test_words_alone_can_tell_texts_apart(folder):
    model = ktl.build_text_classifier(folder, outputs=2, max_tokens=8, bag_of_words=256)
    freezing.All().apply(model)
    # What the encoder reads is the same of all.
    same = "the film was very the plot and the story of the book "
    tokens = tokenize_of(model)([same + word for word in ("good", "bad") * 8])
    assert (tokens[0, :2].numpy() == tokens[1, :2].numpy()).all()
    head = behind_host(model)
    head.compile(
        keras.optimizers.Adam(0.05), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    head.fit(tokens, np.arange(16) % 2, epochs=40, verbose=0)
    assert head.evaluate(tokens, np.arange(16) % 2, verbose=0, return_dict=True)["accuracy"] == 1


def test_a_module_of_tf_hub_has_none():
    with pytest.raises(InputError, match="bag_of_words=0 for a TF-Hub module"):
        load_encoder("hub:/nowhere", bag_of_words=8)
