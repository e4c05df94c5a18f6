"""The flat encoder: NumPy, MiniLM against transformers, cuts, engines, copies."""

import dataclasses
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_tl import freezing, frozen_prefix
from keras_tl.backbones import graph, pretrained
from keras_tl.backbones.encoder import EncoderConfig, build_encoder
from keras_tl.backbones.encoder_layers import SelfAttention
from keras_tl.backbones.encoders import _minilm, load_encoder
from keras_tl.backbones.host import behind_host
from keras_tl.engines import LiteRTEngine, OpenVINOEngine
from keras_tl.errors import InputError
from keras_tl.training.rates import section_rates

TINY = EncoderConfig(
    vocabulary_size=20, width=8, heads=2, layers=2, intermediate=16, max_positions=12
)
TOKENS = np.zeros((3, 2, 8), np.int32)
TOKENS[0, 0, :5] = [2, 5, 6, 7, 3]
TOKENS[0, 1, 2:5] = 1
TOKENS[1, 0, :2] = [2, 3]
TOKENS[2, 0] = [2, 9, 8, 7, 6, 5, 4, 3]

# From transformers 5.24 and torch 2.14 in float64 (`AutoModel` on the package's folder, 128
# tokens, truncated longest first): the first four numbers of the last hidden state at the first
# and at the last token, and the first six of the mean over tokens with its norm.
LONG = " ".join(["The encoder reads at most so many tokens, what is behind them is cut off."] * 20)
SENTENCE = (
    "Transfer learning takes a pretrained encoder and trains a small head on your own data; here "
    "a longer sentence is needed, with commas, numbers such as 1,234 and a question: does it work?"
)
EXPECTED = {
    "Hello world": (
        [0.176445, 0.039366, 0.077902, 0.258542],
        [-0.413796, 0.077548, -0.110788, 0.616333],
        [-0.197446, 0.177665, 0.03857, 0.149522, -0.22542, -0.918028],
        5.726849,
    ),
    SENTENCE: (
        [-0.012941, -0.063601, -0.046986, -0.226117],
        [0.130788, -0.276254, 0.137444, -0.024795],
        [0.033548, -0.02776, -0.031079, -0.12223, -0.014115, 0.247666],
        2.987653,
    ),
    "Le café était fermé à Zürich, naïvement.": (
        [0.160751, 0.308681, 0.514663, -0.035554],
        [0.217455, 0.387104, 0.112557, 0.549315],
        [0.039086, 0.500221, 0.262281, 0.039955, 0.470348, 0.143134],
        5.324262,
    ),
    "": (
        [0.006044, 0.02769, 0.031542, -0.019427],
        [-1.51903, 0.587224, -0.063983, -0.120761],
        [-0.756493, 0.307457, -0.016221, -0.070094, 0.330705, 0.065515],
        6.365731,
    ),
    LONG: (
        [-0.014439, -0.074162, -0.042918, -0.163289],
        [0.583197, 0.572583, -0.179087, 0.168396],
        [0.106061, 0.084889, -0.065044, -0.089339, -0.013442, -0.003562],
        2.533586,
    ),
}
PAIR = ("A title", "And the body that belongs to it.")
EXPECTED_PAIR = (
    [-0.070167, 0.369329, 0.166553, -0.098768],
    [-0.025012, 0.500114, -0.102948, 0.187831],
    [-0.214273, 0.643705, 0.013896, -0.05764, -0.276688, -0.15908],
    5.005276,
)


def tiny(**settings):
    """An encoder with random weights that are not near zero."""
    keras.utils.set_random_seed(3)
    model = build_encoder(dataclasses.replace(TINY, **settings), max_tokens=8)
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(0, 0.5, w.shape) for w in model.get_weights()])
    return model


def hidden_and_vectors(model):
    last = model.get_layer("block_5_output_norm").output
    return keras.Model(model.input, [last, model.output, model.get_layer("mask").output])


def differences(model, strings, expected):
    """The largest difference from transformers, of hidden states and of vectors."""
    hidden, vectors, mask = (t.numpy() for t in hidden_and_vectors(model)(tf.constant(strings)))
    found = [0.0, 0.0]
    for h, v, m, (first, last, mean, norm) in zip(hidden, vectors, mask, expected, strict=True):
        ends = np.stack([h[0, :4], h[int(m.sum()) - 1, :4]])
        found[0] = max(found[0], np.abs(ends - [first, last]).max())
        found[1] = max(found[1], np.abs(v[:6] - mean).max(), abs(np.linalg.norm(v) - norm))
    return found


@pytest.fixture(scope="module")
def minilm():
    return load_encoder("MiniLM")


def test_minilm_gives_what_transformers_gives(minilm):
    assert max(differences(minilm, list(EXPECTED), EXPECTED.values())) < 1e-4


def test_minilm_gives_what_transformers_gives_for_a_pair():
    model = load_encoder("MiniLM", texts=2)
    assert max(differences(model, [PAIR], [EXPECTED_PAIR])) < 1e-4


def test_the_approximate_gelu_is_seen(minilm):
    source = _minilm(with_weights=True)
    config = dataclasses.replace(source.config, activation="gelu_approximate")
    model = build_encoder(config)
    pretrained.set_weights(model, source.weights)
    tokens = minilm.get_layer("tokenizer")(tf.constant(["Hello world"]))
    expected = EXPECTED["Hello world"][2]
    assert np.abs(model(tokens)[0, :6] - expected).max() > 1e-4


def test_a_mean_over_padding_is_seen(minilm):
    hidden = hidden_and_vectors(minilm)(tf.constant(["Hello world"]))[0].numpy()
    assert np.abs(hidden[0].mean(0)[:6] - EXPECTED["Hello world"][2]).max() > 1e-2


def test_attention_is_that_of_the_paper():
    rng = np.random.default_rng(0)
    q, k, v = rng.normal(size=(3, 2, 4, 6)).astype(np.float32)
    present = np.array([[1, 1, 1, 0], [1, 1, 0, 0]], np.float32)
    expected = np.zeros_like(q)
    for text in range(2):
        for head in (slice(0, 3), slice(3, 6)):
            scores = q[text, :, head] @ k[text, :, head].T / np.sqrt(3)
            shares = np.exp(scores) * present[text]
            expected[text, :, head] = shares / shares.sum(1, keepdims=True) @ v[text, :, head]
    np.testing.assert_allclose(SelfAttention(2)(q, k, v, present), expected, atol=1e-6)


def test_in_training_a_token_that_mixup_has_blended_counts_by_its_share():
    rng = np.random.default_rng(0)
    q, k, v = rng.normal(size=(3, 1, 4, 3)).astype(np.float32)
    share = np.array([1, 1, 0.3, 0], np.float32)
    weights = np.exp(q[0] @ k[0].T / np.sqrt(3)) * share
    expected = weights / weights.sum(1, keepdims=True) @ v[0]
    layer = SelfAttention(1)
    mixed = layer(q, k, v, share[None], training=True)[0]
    np.testing.assert_allclose(mixed, expected, atol=1e-6)
    # Of a mask without blending both ways make the same.
    whole = np.array([[1, 1, 0, 0]], np.float32)
    plain = layer(q, k, v, whole)
    np.testing.assert_allclose(layer(q, k, v, whole, training=True), plain, atol=1e-6)


def test_attention_drops_where_it_trains_only():
    layer = SelfAttention(2, dropout=0.5)
    x = np.random.default_rng(0).normal(size=(2, 4, 6)).astype(np.float32)
    present = np.ones((2, 4), np.float32)
    still = layer(x, x, x, present)
    assert np.abs(layer(x, x, x, present, training=True) - still).max() > 1e-3
    assert frozen_prefix.is_live(layer)
    layer.trainable = False
    np.testing.assert_array_equal(layer(x, x, x, present, training=True), still)
    assert not frozen_prefix.is_live(layer)


def test_padding_changes_nothing():
    model = tiny()
    longer = build_encoder(TINY, max_tokens=12)
    longer.set_weights(model.get_weights())
    padded = np.pad(TOKENS, ((0, 0), (0, 0), (0, 4)))
    np.testing.assert_allclose(longer(padded), model(TOKENS), atol=1e-5)


def test_the_same_graph_takes_shorter_windows():
    model = tiny()
    short = keras.Input((2, 5), dtype="int32")
    made = graph.rebuild(model, inputs=short)
    np.testing.assert_allclose(made(TOKENS[:2, :, :5]), model(TOKENS[:2]), atol=1e-5)


def test_windows_are_texts_of_their_own():
    model = tiny()
    windows = build_encoder(TINY, max_tokens=4, windows=2)
    windows.set_weights(model.get_weights())
    short = build_encoder(TINY, max_tokens=4)
    short.set_weights(model.get_weights())
    tokens = np.zeros((2, 2, 8), np.int32)
    tokens[0, 0] = [2, 5, 6, 3, 2, 7, 3, 0]
    tokens[1, 0] = [2, 9, 9, 3, 0, 0, 0, 0]
    first, second = short(tokens[:, :, :4]).numpy(), short(tokens[:, :, 4:]).numpy()
    # Weighted by the tokens of each window: 4 and 3, 4 and none.
    expected = [(4 * first[0] + 3 * second[0]) / 7, first[1]]
    np.testing.assert_allclose(windows(tokens), expected, atol=1e-5)


def test_pooling_of_layers_is_the_means_of_all_blocks():
    model = build_encoder(TINY, max_tokens=8, pooling="layers")
    model.set_weights(tiny().get_weights())
    blocks = [model.get_layer(f"block_{index}_output_norm").output for index in range(2)]
    present = (TOKENS[:, 0] != 0)[..., None]
    means = [
        (np.asarray(hidden) * present).sum(1) / present.sum(1)
        for hidden in keras.Model(model.input, blocks)(TOKENS)
    ]
    np.testing.assert_allclose(model(TOKENS), np.concatenate(means, axis=1), atol=1e-6)
    np.testing.assert_allclose(model(TOKENS)[:, TINY.width :], tiny()(TOKENS), atol=1e-6)


def test_pooling_of_layers_can_be_cut(tmp_path):
    model = build_encoder(TINY, max_tokens=8, pooling="layers")
    freezing.All().apply(model)
    assert frozen_prefix.split(model).last_layers == ("pool",)
    freezing.AllButLast(1).apply(model)
    split = frozen_prefix.split(model)
    assert split.last_layers == ("mask", "block_0_output_norm")
    np.testing.assert_allclose(split.suffix(split.prefix(TOKENS)), model(TOKENS), atol=1e-6)
    assert [section.name for section in freezing.sections(model)] == [
        "stem",
        "block_0",
        "block_1",
        "top",
    ]
    expected = model(TOKENS).numpy()
    for engine in (LiteRTEngine, OpenVINOEngine):
        found = engine(model, tmp_path / engine.__name__)(TOKENS)[0]
        assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


def test_cls_pooling_takes_the_first_token():
    model = build_encoder(TINY, max_tokens=8, pooling="cls")
    model.set_weights(tiny().get_weights())
    hidden = keras.Model(model.input, model.get_layer("block_1_output_norm").output)
    np.testing.assert_allclose(model(TOKENS), hidden(TOKENS)[:, 0], atol=1e-6)


@pytest.mark.parametrize(
    ("policy", "names", "shapes"),
    [
        (freezing.AllButLast(1), ("mask", "block_0_output_norm"), [(None, 8), (None, 8, 8)]),
        (freezing.UpTo("block_0"), ("mask", "block_0_output_norm"), [(None, 8), (None, 8, 8)]),
        (freezing.All(), ("pool",), [(None, 8)]),
    ],
)
def test_a_cut_is_the_hidden_state_and_the_mask(policy, names, shapes):
    model = tiny()
    policy.apply(model)
    split = frozen_prefix.split(model)
    assert split.last_layers == names
    assert [tuple(tensor.shape) for tensor in split.prefix.outputs] == shapes
    np.testing.assert_allclose(split.suffix(split.prefix(TOKENS)), model(TOKENS), atol=1e-6)


def test_policies_and_rates_know_the_sections():
    model = tiny()
    names = [section.name for section in freezing.sections(model)]
    assert names == ["stem", "block_0", "block_1", "top"]
    assert section_rates(model, 0.5) == {"stem": 0.25, "block_0": 0.5, "block_1": 1.0}
    summary = freezing.AllButLast(1).apply(model)
    # Four projections of 8x8, two of 8x16, their biases, two norms.
    assert summary.trainable == 4 * 72 + (8 * 16 + 16) + (16 * 8 + 8) + 2 * 16


@pytest.mark.parametrize("engine", [LiteRTEngine, OpenVINOEngine])
@pytest.mark.parametrize("activation", ["gelu", "gelu_approximate"])
def test_fast_engines_agree(engine, activation, tmp_path):
    model = tiny(activation=activation)
    expected = model(TOKENS).numpy()
    found = engine(model, tmp_path)(TOKENS)[0]
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


def test_a_fast_engine_runs_up_to_a_block(tmp_path):
    model = tiny()
    freezing.AllButLast(1).apply(model)
    prefix = frozen_prefix.split(model).prefix
    for found, expected in zip(LiteRTEngine(prefix, tmp_path)(TOKENS), prefix(TOKENS), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_xla_compiles_it():
    model = tiny()
    run = tf.function(model, jit_compile=True)
    np.testing.assert_allclose(run(tf.constant(TOKENS)), model(TOKENS), atol=1e-5)


def test_mixed_precision_keeps_softmax_and_pooling_in_float32():
    expected = tiny()(TOKENS).numpy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = tiny()
        assert model.get_layer("block_0_query").compute_dtype == "float16"
        found = model(TOKENS)
    finally:
        keras.config.set_dtype_policy("float32")
    assert found.dtype == "float32"
    np.testing.assert_allclose(found, expected, atol=0.05)


@pytest.mark.parametrize(
    "copy", [graph.rebuild, graph.to_stock, graph.to_freezable, keras.models.clone_model]
)
def test_copies_give_the_same(copy):
    model = tiny()
    model.get_layer("block_0_query").trainable = False
    made = copy(model)
    made.set_weights(model.get_weights())
    assert [layer.name for layer in made.layers] == [layer.name for layer in model.layers]
    np.testing.assert_allclose(made(TOKENS), model(TOKENS), atol=1e-6)


@pytest.mark.slow
def test_copies_of_a_text_model_give_the_same(minilm):
    made = graph.to_freezable(graph.to_stock(minilm))
    text = tf.constant(["Hello world"])
    np.testing.assert_allclose(made(text), minilm(text), atol=1e-5)


def test_what_is_behind_the_tokenizer_takes_tokens(minilm):
    text = tf.constant(["Hello world", ""])
    tokens = minilm.get_layer("tokenizer")(text)
    np.testing.assert_allclose(behind_host(minilm)(tokens), minilm(text), atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"activation": "swish"}, "activation"),
        ({"width": 9}, "width"),
    ],
)
def test_impossible_encoders_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(TINY, **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_tokens": 13}, "at most 12 tokens"),
        ({"windows": 0}, "at least 1 window"),
        ({"pooling": "men"}, "mean"),
    ],
)
def test_impossible_graphs_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        build_encoder(TINY, **{"max_tokens": 8} | settings)


READ = """
import sys, keras_tl, keras, tensorflow as tf
model = keras.models.load_model(sys.argv[1])
print(",".join(f"{x:.5f}" for x in model(tf.constant(["Hello world"]))[0, :6].numpy()))
"""


@pytest.mark.slow
def test_a_saved_model_is_read_in_another_process(minilm, tmp_path):
    path = tmp_path / "model.keras"
    minilm.save(path)
    command = [sys.executable, "-c", READ, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = [float(x) for x in done.stdout.split()[-1].split(",")]
    np.testing.assert_allclose(found, EXPECTED["Hello world"][2], atol=1e-4)
