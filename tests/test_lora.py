import keras
import numpy as np
import pytest

from keras_tl import freezing
from keras_tl.backbones.adapters import adapter_of, adapter_weights
from keras_tl.backbones.encoder import EncoderConfig, encode
from keras_tl.backbones.graph import merge_adapters, to_stock
from keras_tl.builders.image import build_image_model
from keras_tl.config import TrainConfig
from keras_tl.data import augment
from keras_tl.data.arrays import from_arrays
from keras_tl.data.image_input import ImageInput
from keras_tl.data.pipeline import Samples
from keras_tl.errors import CheckError, InputError
from keras_tl.feature_cache import FeatureStore
from keras_tl.fingerprints import fingerprint
from keras_tl.frozen_prefix import split
from keras_tl.plans import make_plan
from keras_tl.topology import graph_layers
from keras_tl.training import fit
from keras_tl.training.anchors import L2SP
from keras_tl.training.averaging import EMA, SWA
from keras_tl.training.checks import warn_of_fast_rate
from keras_tl.training.guard import FreezingGuard
from keras_tl.training.lr_finder import find_learning_rate
from keras_tl.training.phases import Phase
from keras_tl.training.schedules import Constant

ENCODER = EncoderConfig(
    vocabulary_size=50, width=8, heads=2, layers=3, intermediate=16, max_positions=12
)
QUERIES_AND_VALUES = {f"block_{i}_{part}" for i in range(3) for part in ("query", "value")}


@pytest.fixture
def encoder():
    """A classifier of three classes on a small encoder with random weights and biases."""
    keras.utils.set_random_seed(3)
    tokens = keras.Input((2, 12), dtype="int32", name="tokens")
    x = encode(tokens, ENCODER)
    outputs = keras.layers.Dense(3, activation="softmax", name="head_predictions")(x)
    model = keras.Model(tokens, outputs)
    random = np.random.default_rng(3)
    for layer in graph_layers(model):
        # Random weights as large as trained ones, biases too.
        layer.set_weights([w + random.normal(0, 0.3, w.shape) for w in layer.get_weights()])
    return model


def test_a_rank_above_that_of_the_kernels_is_refused(encoder):
    for policy, largest in ((freezing.LoRA(9), 8), (freezing.LoRA(10**6, layers="*"), 8)):
        with pytest.raises(InputError, match=f"a rank of at most {largest}, .* received"):
            policy.apply(encoder)
        assert not any(adapter_of(layer) for layer in graph_layers(encoder))
    freezing.LoRA(8).apply(encoder)


@pytest.fixture
def texts():
    """Thirty-two rows of tokens, the first token of which tells the class."""
    random = np.random.default_rng(0)
    tokens = np.zeros((32, 2, 12), "int32")
    tokens[:, 0] = random.integers(4, 50, (32, 12))
    labels = np.arange(32) % 3
    tokens[:, 0, 0] = 1 + labels
    return tokens, labels


def images(three_colors, part=slice(None)):
    pixels, labels = three_colors
    source = from_arrays(pixels[part], labels[part])
    return Samples(source, ImageInput(size=16), augment.get("none"))


def run_phases(*arguments, **options):
    return fit.run_phases(*arguments, **{"verbose": 0, **options})


def phase(policy, epochs=2, rate=0.05, **options):
    return Phase(policy, epochs, rate, Constant(), "sgd", **{"weight_decay": 0.0, **options})


# On the images of TinyNet: its kernels are of 3 x 3, but for that of the top.
tiny_lora = freezing.LoRA(2, layers="*_conv")


def trained(model):
    return {weight.path for weight in model.trainable_weights}


def move(model, seed=0):
    """Gives every adapter random factors."""
    random = np.random.default_rng(seed)
    for layer in graph_layers(model):
        for weight in adapter_weights(layer):
            weight.assign(random.normal(0, 0.5, weight.shape))


def fit_plainly(model, data, epochs=3):
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    guard = FreezingGuard(model, (data[0][:8], data[1][:8]))
    history = model.fit(*data, batch_size=8, epochs=epochs, callbacks=[guard], verbose=0)
    return history.history["loss"]


def test_queries_values_and_the_head_train_and_kernels_stay(encoder, texts):
    before = {w.path: w.numpy() for w in encoder.weights}
    summary = freezing.LoRA(2).apply(encoder)
    factors = {f"{n}/lora_kernel_{f}" for n in QUERIES_AND_VALUES for f in "ab"}
    assert trained(encoder) == factors | {"head_predictions/kernel", "head_predictions/bias"}
    # Six adapters of 8 x 2 and 2 x 8 numbers; the head has 8 x 3 and 3.
    assert summary.adapters == (32,) * 6
    assert summary.trainable == 6 * 32 + 27
    assert str(summary).startswith("LoRA of rank 2 (6 adapters of 192 parameters in all): 219 of ")
    losses = fit_plainly(encoder, texts)
    assert losses[-1] < losses[0]
    for weight in encoder.weights:
        moved = weight.path not in before or (weight.numpy() != before[weight.path]).any()
        assert moved == (weight.path in trained(encoder)), weight.path


@pytest.mark.parametrize("alpha", [None, 6.0])
def test_a_layer_computes_with_what_numpy_computes(encoder, alpha):
    freezing.LoRA(2, alpha).apply(encoder)
    move(encoder)
    layer = encoder.get_layer("block_1_query")
    x = np.random.default_rng(1).normal(size=(5, 4, 8)).astype("float32")
    a, b = (getattr(layer, f"lora_kernel_{f}").numpy() for f in "ab")
    scale = 1.0 if alpha is None else 3.0
    want = x @ (layer._kernel.numpy() + scale * a @ b) + layer.bias.numpy()
    np.testing.assert_allclose(layer(x), want, atol=1e-5)
    merged = merge_adapters(encoder).get_layer("block_1_query")
    np.testing.assert_allclose(merged.kernel, layer._kernel.numpy() + scale * a @ b, atol=1e-6)


@pytest.mark.parametrize("copy", [merge_adapters, pytest.param(to_stock, marks=pytest.mark.slow)])
def test_merged_it_is_the_same_model_without_adapters(encoder, texts, tmp_path, copy):
    plain = len(encoder.weights)
    freezing.LoRA(2, alpha=6.0).apply(encoder)
    move(encoder)
    want = encoder.predict(texts[0], verbose=0)
    merged = copy(encoder)
    np.testing.assert_allclose(merged.predict(texts[0], verbose=0), want, atol=1e-5)
    assert len(merged.weights) == plain
    assert not any("lora" in weight.path for weight in merged.weights)
    merged.save(tmp_path / "merged.keras")
    loaded = keras.models.load_model(tmp_path / "merged.keras")
    assert "lora_rank" not in loaded.get_layer("block_0_query").get_config()
    np.testing.assert_allclose(loaded.predict(texts[0], verbose=0), want, atol=1e-5)
    # A planted fault: what is not merged is missed.
    for layer in graph_layers(encoder):
        if adapter_of(layer):
            layer.lora_kernel_b.assign(np.zeros(layer.lora_kernel_b.shape))
    assert np.abs(merge_adapters(encoder).predict(texts[0], verbose=0) - want).max() > 1e-3


@pytest.mark.slow
def test_a_second_lora_works_after_merging(encoder, texts):
    freezing.LoRA(2).apply(encoder)
    fit_plainly(encoder, texts)
    merged = merge_adapters(encoder)
    want = merged.predict(texts[0], verbose=0)
    summary = freezing.LoRA(4, blocks=1).apply(merged)
    assert summary.adapters == (64, 64)
    np.testing.assert_array_equal(merged.predict(texts[0], verbose=0), want)
    losses = fit_plainly(merged, texts)
    assert losses[-1] < losses[0]


def test_what_was_traced_before_knows_the_adapters(encoder, texts):
    encoder.compile("sgd", "sparse_categorical_crossentropy")
    before = encoder.predict(texts[0], verbose=0)
    freezing.LoRA(2).apply(encoder)
    move(encoder)
    assert np.abs(encoder.predict(texts[0], verbose=0) - before).max() > 1e-3


def test_adapters_that_rest_change_nothing(encoder, texts):
    freezing.All().apply(encoder)
    key, want = fingerprint(split(encoder).prefix), encoder.predict(texts[0], verbose=0)
    freezing.LoRA(2).apply(encoder)
    summary = freezing.All().apply(encoder)
    assert not summary.adapters
    assert fingerprint(split(encoder).prefix) == key
    np.testing.assert_array_equal(encoder.predict(texts[0], verbose=0), want)
    # Those that do something count, by what the kernel is with them.
    move(encoder)
    moved = fingerprint(split(encoder).prefix)
    assert moved != key
    merged = merge_adapters(encoder)
    freezing.All().apply(merged)
    assert fingerprint(split(merged).prefix) == moved


def test_other_policies_leave_adapters_alone_and_train_kernels(encoder):
    freezing.LoRA(2).apply(encoder)
    freezing.Nothing().apply(encoder)
    assert {path for path in trained(encoder) if "block_0_query" in path} == {
        "block_0_query/kernel",
        "block_0_query/bias",
    }
    assert not any("lora" in path for path in trained(encoder))
    freezing.LoRA(2).apply(encoder)
    assert not any(path.endswith("query/kernel") for path in trained(encoder))


@pytest.mark.parametrize("policy", [freezing.LoRA(2, blocks=2), freezing.BitFit(blocks=2)])
def test_the_cut_is_before_the_first_block_that_trains(encoder, texts, policy):
    policy.apply(encoder)
    parts = split(encoder)
    behind = {layer.name for layer in parts.suffix.layers}
    assert "block_0_output_norm" in parts.last_layers
    assert not {name for name in behind if name.startswith("block_0")}
    assert behind >= {"block_1_query", "block_1_value"}
    move(encoder)
    want = encoder.predict(texts[0], verbose=0)
    found = parts.suffix(parts.prefix(texts[0]))
    np.testing.assert_allclose(found, want, atol=1e-6)


def test_dropout_is_active_behind_the_first_adapter_only(encoder):
    freezing.LoRA(2, blocks=2).apply(encoder)
    active = {x.name for x in graph_layers(encoder) if x.trainable and "dropout" in x.name}
    assert active == {f"block_{i}_{p}_dropout" for i in (1, 2) for p in ("attention", "output")}


def test_bitfit_trains_biases_and_the_head(encoder, texts):
    summary = freezing.BitFit().apply(encoder)
    assert all(
        path.split("/")[1] in ("bias", "beta")
        for path in trained(encoder) - {"head_predictions/kernel"}
    )
    # Of each block: five biases of 8, one of 16, two shifts of 8; the stem has one shift of 8.
    assert summary.trainable == 8 + 3 * (5 * 8 + 16 + 2 * 8) + 27
    assert summary.trainable + summary.frozen == encoder.count_params()
    kernels = {w.path: w.numpy() for w in encoder.weights if w.path not in trained(encoder)}
    losses = fit_plainly(encoder, texts)
    assert losses[-1] < losses[0]
    for weight in encoder.weights:
        if weight.path in kernels:
            np.testing.assert_array_equal(weight.numpy(), kernels[weight.path])


def test_flags_of_single_weights_are_set_anew_by_the_next_policy(encoder):
    freezing.BitFit().apply(encoder)
    freezing.Nothing().apply(encoder)
    assert len(trained(encoder)) == len(encoder.weights)
    freezing.BitFit().apply(encoder)
    freezing.All().apply(encoder)
    assert trained(encoder) == {"head_predictions/kernel", "head_predictions/bias"}
    freezing.LoRA(2).apply(encoder)
    freezing.BitFit().apply(encoder)
    assert not any("lora" in path for path in trained(encoder))


def test_the_guard_finds_a_kernel_that_moves_beside_its_adapter(encoder, texts):
    """Planted fault: a toggled layer trains its kernel too, as compiled before the policy."""
    freezing.LoRA(2).apply(encoder)
    encoder.get_layer("block_0_query")._kernel.trainable = True
    encoder.compile("sgd", "sparse_categorical_crossentropy")
    encoder.fit(*texts, verbose=0)
    freezing.LoRA(2).apply(encoder)
    guard = FreezingGuard(encoder, (texts[0][:8], texts[1][:8]))
    with pytest.raises(CheckError, match="block_0_query/kernel"):
        encoder.fit(*texts, callbacks=[guard], verbose=0)


def test_the_guard_allows_a_zero_gradient_to_the_first_factor_only(encoder, texts):
    freezing.LoRA(2).apply(encoder)
    move(encoder)
    # Both factors zero: neither can learn, and no second factor is excused.
    layer = encoder.get_layer("block_0_query")
    for factor in adapter_weights(layer):
        factor.assign(np.zeros(factor.shape))
    with pytest.raises(CheckError, match=r"none for 1 of .*block_0_query/lora_kernel_b"):
        fit_plainly(encoder, texts)


@pytest.mark.slow
def test_adapters_loaded_as_zeros_are_woken(encoder, texts, tmp_path):
    """Keras merges where it saves, and loads an adapter of zeros."""
    freezing.LoRA(2).apply(encoder)
    fit_plainly(encoder, texts)
    encoder.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=False)
    want = encoder.predict(texts[0], verbose=0)
    np.testing.assert_allclose(loaded.predict(texts[0], verbose=0), want, atol=1e-5)
    freezing.LoRA(2).apply(loaded)
    np.testing.assert_allclose(loaded.predict(texts[0], verbose=0), want, atol=1e-5)
    fit_plainly(loaded, texts)


def test_mobilenet_adapts_pointwise_kernels_only():
    keras.utils.set_random_seed(0)
    model = build_image_model("MobileNetV2", outputs=2, image_size=32, weights=None)
    summary = freezing.LoRA(4).apply(model)
    adapted = [layer for layer in graph_layers(model) if adapter_of(layer)]
    # 16 expansions, 17 projections and the last convolution; none of them depthwise.
    assert len(adapted) == len(summary.adapters) == 16 + 17 + 1
    assert {layer.kernel_size for layer in adapted} == {(1, 1)}
    shapes = [layer._kernel.shape for layer in adapted]
    assert sum(summary.adapters) == sum(4 * (rows + columns) for *_, rows, columns in shapes)
    move(model)
    x = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype("float32")
    np.testing.assert_allclose(merge_adapters(model)(x), model(x), atol=1e-5)
    with pytest.raises(InputError, match="biases outside BatchNormalization"):
        freezing.BitFit().apply(model)
    assert freezing.BitFit(batch_norm="trained").apply(model).trainable > 0
    assert not any(path.endswith("gamma") for path in trained(model))


@pytest.mark.parametrize(
    ("policy", "match"),
    [
        (freezing.LoRA(2, layers="nothing_*"), "layers='nothing_\\*'"),
        (freezing.LoRA(2, layers="*_bn"), "that Keras has adapters for"),
        (freezing.LoRA(2, layers="head_*"), "layers of the backbone"),
        (freezing.LoRA(2, blocks=3), "1 to 2 blocks"),
    ],
)
def test_a_policy_that_reaches_nothing_is_refused(tiny_model, policy, match):
    with pytest.raises(InputError, match=match):
        policy.apply(tiny_model)


def test_one_rank_and_alpha_at_a_time(encoder):
    freezing.LoRA(2).apply(encoder)
    with pytest.raises(InputError, match=r"merge_adapters"):
        freezing.LoRA(4).apply(encoder)
    for wrong in ({"rank": 0}, {"alpha": 0.0}):
        with pytest.raises(InputError):
            freezing.LoRA(**wrong)


@pytest.mark.slow
def test_a_head_phase_before_it_is_not_disturbed(tiny_model, three_colors, tmp_path):
    # Dropout draws from a state of its own.
    for name in ("head_dropout", "one_drop", "two_drop"):
        tiny_model.get_layer(name).rate = 0.0
    data, start = images(three_colors), tiny_model.get_weights()
    store = FeatureStore(tmp_path)
    keras.utils.set_random_seed(1)
    alone = run_phases(tiny_model, [phase(freezing.All())], data, feature_store=store)
    tiny_model.set_weights(start)
    keras.utils.set_random_seed(1)
    plan = [phase(freezing.All()), phase(tiny_lora)]
    both = run_phases(tiny_model, plan, data, feature_store=store)
    assert alone.phases[0].passes[0].computed == 60
    # The head's features are found in the store, adapters or not.
    assert both.phases[0].passes[0].computed == 0
    losses = [row["loss"] for row in both.history]
    assert losses[:2] == pytest.approx([row["loss"] for row in alone.history], abs=1e-6)
    assert losses[3] < losses[1]


OTHERS = (
    {"averaging": EMA(0.5)},
    {"averaging": SWA(0.0)},
    {"l2_sp": L2SP()},
    {"layer_decay": 0.5},
    {"optimizer": "adamw", "weight_decay": 0.01, "clip_norm": 1.0},
)
BITFIT = freezing.BitFit(batch_norm="frozen")


@pytest.mark.parametrize(
    ("policy", "options"),
    [
        (tiny_lora, OTHERS[0]),
        (BITFIT, OTHERS[-1]),
        *(pytest.param(tiny_lora, options, marks=pytest.mark.slow) for options in OTHERS[1:]),
        *(pytest.param(BITFIT, options, marks=pytest.mark.slow) for options in OTHERS[:-1]),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else str(value),
)
def test_it_works_with_what_else_a_phase_can_have(tiny_model, three_colors, policy, options):
    kernels = {
        w.path: w.numpy() for w in tiny_model.weights if w.path.endswith(("conv/kernel", "gamma"))
    }
    values = {"optimizer": "sgd", "weight_decay": 0.0, **options}
    plan = [Phase(policy, 2, 0.02, Constant(), **values)]
    result = run_phases(tiny_model, plan, images(three_colors), images(three_colors))
    assert result.history[1]["loss"] < result.history[0]["loss"]
    for weight in tiny_model.weights:
        if weight.path in kernels:
            np.testing.assert_array_equal(weight.numpy(), kernels[weight.path])


@pytest.mark.slow
def test_a_phase_that_makes_it_worse_is_undone(tiny_model, three_colors):
    data = images(three_colors)
    want = tiny_model.predict(three_colors[0], verbose=0)
    run_phases(tiny_model, [phase(tiny_lora, rate=1e4, clip_norm=1.0)], data, data)
    np.testing.assert_allclose(tiny_model.predict(three_colors[0], verbose=0), want, atol=1e-6)


@pytest.mark.slow
def test_rate_finding_leaves_idle_adapters(tiny_model, three_colors):
    want = tiny_model.predict(three_colors[0], verbose=0)
    sweep = {"steps": 20, "batch_size": 16}
    trained = [weight.path for weight in tiny_model.trainable_weights]
    find_learning_rate(tiny_model, phase(tiny_lora), images(three_colors), **sweep)
    assert [weight.path for weight in tiny_model.trainable_weights] == trained
    tiny_lora.apply(tiny_model)
    adapted = [weight.path for weight in tiny_model.trainable_weights]
    find_learning_rate(tiny_model, phase(freezing.Nothing()), images(three_colors), **sweep)
    assert [weight.path for weight in tiny_model.trainable_weights] == adapted != trained
    assert all(adapter_of(x).is_idle for x in graph_layers(tiny_model) if adapter_of(x))
    np.testing.assert_allclose(tiny_model.predict(three_colors[0], verbose=0), want, atol=1e-6)


def test_a_rate_for_adapters_is_not_measured_against_kernels(tiny_model, caplog):
    high = Phase(tiny_lora, 1, 0.01)
    tiny_lora.apply(tiny_model)
    warn_of_fast_rate(tiny_model, high)
    assert not caplog.records
    whole = Phase(freezing.Nothing(), 1, 0.01)
    whole.freezing.apply(tiny_model)
    warn_of_fast_rate(tiny_model, whole)
    assert "learning rate of at most" in caplog.text


@pytest.mark.parametrize(
    ("settings", "policy"),
    [
        ({"fine_tune": "lora"}, freezing.LoRA(8)),
        ({"fine_tune": "lora", "lora_rank": 4}, freezing.LoRA(4)),
        ({"fine_tune": "bitfit"}, freezing.BitFit()),
    ],
)
def test_a_run_can_ask_for_it(settings, policy):
    head, tuning = make_plan(TrainConfig(data="d", out="o", **settings), images=1000)
    assert (head.freezing, tuning.freezing) == (freezing.All(), policy)
    assert tuning.learning_rate == 1e-3
    with pytest.raises(InputError, match="pretrained weights"):
        make_plan(TrainConfig(data="d", out="o", weights="none", **settings), images=1000)
    with pytest.raises(InputError, match="lora"):
        TrainConfig(data="d", out="o", fine_tune="loar")
