from dataclasses import replace

import keras
import numpy as np
import pytest

from keras_tl import freezing
from keras_tl.backbones import registry
from keras_tl.backbones.graph import rebuild
from keras_tl.backbones.load import load_backbone
from keras_tl.builders.image import build_image_model
from keras_tl.errors import InputError
from keras_tl.heads import add_head
from keras_tl.training.rates import section_rates

STEM = {"pixels", "stem_conv", "stem_bn", "stem_out"}
BLOCK_ONE = {"one_conv", "one_bn", "one_drop", "one_add"}
BLOCK_TWO = {"two_conv", "two_bn", "two_drop", "two_add"}


def trainable(model):
    return {layer.name for layer in model.layers if layer.trainable}


def test_sections_follow_the_declared_blocks(tiny_model):
    found = {section.name: set(section.layers) for section in freezing.sections(tiny_model)}
    assert list(found) == ["stem", "one", "two", "top", "head"]
    assert found["stem"] >= STEM
    assert found["one"] == BLOCK_ONE
    assert found["two"] == BLOCK_TWO
    assert found["top"] == {"top_conv", "top_out"}
    assert found["head"] == {"head_pool", "head_dropout", "head_predictions"}


def test_all_leaves_only_the_head(tiny_model):
    summary = freezing.All().apply(tiny_model)
    assert trainable(tiny_model) == {"head_pool", "head_dropout", "head_predictions"}
    assert summary.trainable == 16 * 3 + 3
    assert summary.trainable + summary.frozen == tiny_model.count_params()


def test_all_but_last_trains_the_last_blocks_without_their_batch_norm(tiny_model):
    freezing.AllButLast(1).apply(tiny_model)
    assert trainable(tiny_model) == (BLOCK_TWO - {"two_bn"}) | {
        "top_conv",
        "top_out",
        "head_pool",
        "head_dropout",
        "head_predictions",
    }
    freezing.AllButLast(1, batch_norm="trained").apply(tiny_model)
    assert "two_bn" in trainable(tiny_model)
    assert "one_bn" not in trainable(tiny_model)


def test_nothing_trains_every_layer(tiny_model):
    freezing.All().apply(tiny_model)
    freezing.Nothing(batch_norm="trained").apply(tiny_model)
    assert trainable(tiny_model) == {layer.name for layer in tiny_model.layers}


@pytest.mark.parametrize("name", ["one", "one_add"])
def test_up_to_takes_a_block_or_a_layer(tiny_model, name):
    freezing.UpTo(name, batch_norm="trained").apply(tiny_model)
    assert not (STEM | BLOCK_ONE) & trainable(tiny_model)
    assert trainable(tiny_model) >= BLOCK_TWO


@pytest.fixture
def nested():
    """A convolution and BatchNormalization as a model within one, and a head."""
    pixels = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, name="inner_conv")(pixels)
    body = keras.Model(pixels, keras.layers.BatchNormalization(name="inner_bn")(x), name="body")
    outer = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, name="behind")(body(outer))
    return add_head(keras.Model(outer, x), outputs=2)


def test_up_to_takes_a_nested_model_as_a_whole(nested):
    summary = freezing.UpTo("body", batch_norm="trained").apply(nested)
    assert {w.path.split("/")[0] for w in nested.trainable_weights} == {
        "behind",
        "head_predictions",
    }
    assert summary.frozen == nested.get_layer("body").count_params()
    freezing.UpTo("behind").apply(nested)
    assert len(nested.trainable_weights) == 2
    freezing.Matching("inner_conv").apply(nested)
    assert [w.path for w in nested.get_layer("body").trainable_weights] == []
    freezing.Matching("inner_conv", batch_norm="trained").apply(nested)
    trained = nested.get_layer("body").trainable_weights
    assert [w.path for w in trained] == ["inner_bn/gamma", "inner_bn/beta"]


def test_up_to_refuses_what_is_within_a_layer(nested):
    within = r"'inner_conv', which is within 'body'. Name 'body', or .*graph.rebuild\(model\)\.$"
    with pytest.raises(InputError, match=within):
        freezing.UpTo("inner_conv").apply(nested)
    with pytest.raises(InputError, match=r"received 'xyz'. Layers: .*, body, behind, .*"):
        freezing.UpTo("xyz").apply(nested)
    flat = rebuild(nested)
    freezing.UpTo("inner_conv").apply(flat)
    assert weighted(flat) == {"behind", "head_predictions"}
    x = keras.Input((4, 8))
    attention = keras.layers.MultiHeadAttention(2, 4, name="attention")
    model = keras.Model(x, attention(x, x))
    with pytest.raises(InputError, match=r"within 'attention'. Name 'attention'\.$"):
        freezing.UpTo("query").apply(model)


def test_a_nested_backbone_is_made_flat_first():
    body = load_backbone("TinyNet", weights=None)
    pixels = keras.Input((16, 16, 3))
    model = add_head(keras.Model(pixels, body(pixels)), outputs=2)
    with pytest.raises(InputError, match=r"One is nested: .*graph.rebuild\(model\)"):
        freezing.All().apply(model)
    flat = rebuild(model)
    freezing.All().apply(flat)
    assert weighted(flat) == {"head_predictions"}


def test_a_model_that_was_frozen_as_a_whole_trains_again(tiny_model, nested):
    for model in (tiny_model, nested):
        model.trainable = False
        summary = freezing.Nothing(batch_norm="trained").apply(model)
        assert summary.trainable == sum(int(np.prod(w.shape)) for w in model.trainable_weights) > 0
    nested.get_layer("body").trainable = False
    assert freezing.Matching("behind", batch_norm="trained").apply(nested).trainable > 100
    assert len(nested.get_layer("body").trainable_weights) == 4


def test_up_to_takes_a_layer_of_a_sequential_model():
    layers = [keras.layers.Dense(2, name=name) for name in ("first", "second")]
    model = keras.Sequential([keras.Input((4,)), *layers])
    freezing.UpTo("first").apply(model)
    assert weighted(model) == {"second"}


def test_matching_freezes_by_pattern(tiny_model):
    freezing.Matching("*_conv").apply(tiny_model)
    frozen = {layer.name for layer in tiny_model.layers if not layer.trainable}
    assert frozen == {"stem_conv", "one_conv", "two_conv", "top_conv"} | {
        "stem_bn",
        "one_bn",
        "two_bn",
    }


def test_fraction_counts_layers_with_weights(tiny_model):
    # stem_conv, stem_bn, one_conv, one_bn, two_conv, two_bn, top_conv: four of seven.
    freezing.Fraction(4 / 7, batch_norm="trained").apply(tiny_model)
    weighted = {layer.name for layer in tiny_model.layers if layer.weights}
    assert weighted & trainable(tiny_model) == {
        "two_conv",
        "two_bn",
        "top_conv",
        "head_predictions",
    }
    freezing.Fraction(1.0).apply(tiny_model)
    assert weighted & trainable(tiny_model) == {"head_predictions"}


def test_a_summary_reads_as_sentences(tiny_model):
    lines = str(freezing.AllButLast(1).apply(tiny_model)).splitlines()
    assert lines[0].startswith("All but the last block is frozen: ")
    assert "frozen  stem to one" in lines[1]
    assert "trains  two to head" in lines[2]
    assert "(1 BatchNormalization layer stays frozen)" in lines[2]


def test_what_a_notebook_shows(tiny_model):
    html = freezing.AllButLast(1).apply(tiny_model)._repr_html_()
    assert "All but the last block is frozen" in html
    assert html.count("<tr") == 3 and html.count("opacity") == 1
    assert "<td>stem<td>one" in html and "<td>two<td>head" in html
    named = freezing.FreezingSummary(freezing.Matching("<b>"), ())
    assert "Layers named &lt;b&gt; are frozen" in named._repr_html_()


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (freezing.AllButLast(3), "1 to 2 blocks"),
        (freezing.AllButLast(0), "1 to 2 blocks"),
        (freezing.UpTo("two_ad"), "Did you mean two_add"),
        (freezing.Matching("block*"), "at least one layer"),
    ],
)
def test_what_the_model_has_not_is_refused(tiny_model, policy, message):
    with pytest.raises(InputError, match=message):
        policy.apply(tiny_model)


def test_wrong_values_are_refused():
    with pytest.raises(InputError, match="from 0 to 1"):
        freezing.Fraction(1.5)
    with pytest.raises(InputError, match="Did you mean trained"):
        freezing.All(batch_norm="traned")


def test_a_model_without_a_backbone_needs_a_policy_that_names_layers():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="only")])
    with pytest.raises(InputError, match="registered backbone"):
        freezing.All().apply(model)
    freezing.Matching("only").apply(model)
    assert not model.trainable_weights


@pytest.mark.parametrize("policy", [freezing.All(), freezing.AllButLast(1), freezing.UpTo("one")])
def test_frozen_stays_frozen_under_plain_fit(tiny_model, three_colors, policy):
    policy.apply(tiny_model)
    training = {id(weight) for weight in tiny_model.trainable_weights}
    frozen = [weight for weight in tiny_model.weights if id(weight) not in training]
    before = [weight.numpy() for weight in frozen]
    tiny_model.compile("sgd", "sparse_categorical_crossentropy")
    tiny_model.fit(*three_colors, epochs=2, verbose=0)
    for weight, value in zip(frozen, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), value, err_msg=weight.path)


def test_a_frozen_part_drops_nothing_while_training(tiny_model, three_colors):
    images = three_colors[0][:4].astype("float32")
    body = keras.Model(tiny_model.input, tiny_model.get_layer("top_out").output)
    freezing.All().apply(tiny_model)
    np.testing.assert_array_equal(body(images, training=True), body(images, training=False))
    # The twin that must differ: the same body with its dropout at work.
    freezing.Nothing().apply(tiny_model)
    assert np.abs(body(images, training=True) - body(images, training=False)).max() > 1e-3


# Features within the body


def tiny(features, **options):
    return build_image_model("TinyNet", outputs=3, weights=None, features=features, **options)


def weighted(model):
    return {layer.name for layer in model.layers if layer.weights and layer.trainable}


@pytest.mark.parametrize(
    ("features", "parts"),
    [
        ("stem_out", ["stem", "head"]),
        ("one_bn", ["stem", "top", "head"]),
        ("one_add", ["stem", "one", "head"]),
        ("two_bn", ["stem", "one", "top", "head"]),
        ("two_add", ["stem", "one", "two", "head"]),
        ("top_conv", ["stem", "one", "two", "top", "head"]),
        (None, ["stem", "one", "two", "top", "head"]),
    ],
)
def test_a_cut_backbone_has_the_blocks_that_are_there(features, parts):
    model = tiny(features, hidden=(4,))
    found = freezing.sections(model)
    assert [section.name for section in found] == parts
    assert all(name.startswith("head_") for name in found[-1].layers)
    freezing.All().apply(model)
    assert weighted(model) == {"head_dense_1", "head_predictions"}


def test_policies_and_rates_count_the_blocks_of_a_cut_backbone(tmp_path):
    model = tiny("two_bn")
    freezing.AllButLast(1).apply(model)
    assert weighted(model) == {"one_conv", "two_conv", "head_predictions"}
    freezing.UpTo("one", batch_norm="trained").apply(model)
    assert weighted(model) == {"two_conv", "two_bn", "head_predictions"}
    freezing.Fraction(1.0).apply(model)
    assert weighted(model) == {"head_predictions"}
    expected = {"stem": 0.125, "one": 0.25, "top": 0.5, "head": 1.0}
    assert section_rates(model, 0.5) == expected
    model.save(tmp_path / "cut.keras")
    assert section_rates(keras.models.load_model(tmp_path / "cut.keras"), 0.5) == expected
    renamed = keras.Model(model.input, model.output, name="mine")
    assert section_rates(renamed, 0.5) == expected
    with pytest.raises(InputError, match="1 to 1 blocks"):
        freezing.AllButLast(2).apply(model)
    with pytest.raises(InputError, match="1 to 0 blocks to train, received 1"):
        freezing.AllButLast(1).apply(tiny("one_bn"))


def test_a_head_of_one_s_own_behind_a_block_trains():
    body = load_backbone("TinyNet", weights=None, features="one_add")
    pooled = keras.layers.GlobalAveragePooling2D()(body.output)
    model = keras.Model(body.input, keras.layers.Dense(2, name="mine")(pooled))
    freezing.All().apply(model)
    assert weighted(model) == {"mine"}


def test_a_row_over_another_s_layers_keeps_its_own_blocks(monkeypatch, tmp_path):
    monkeypatch.setattr(registry, "_SPECS", dict(registry._SPECS))
    row = registry.get("TinyNet")
    registry.register(replace(row, name="Stages", blocks=row.blocks[1:]))
    model = build_image_model("Stages", outputs=2, weights=None)
    assert [s.name for s in freezing.sections(model)] == ["stem", "two", "top", "head"]
    model.save(tmp_path / "stages.keras")
    loaded = keras.models.load_model(tmp_path / "stages.keras")
    assert [s.name for s in freezing.sections(loaded)] == ["stem", "two", "top", "head"]
    assert freezing.block_count(tiny(None)) == 2


def test_a_share_of_any_model_leaves_the_head_of_add_head_out():
    pixels = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, name="head_first")(pixels)
    body = keras.Model(pixels, keras.layers.Conv2D(4, 3, name="second")(x), name="mine")
    model = add_head(body, 2, hidden=(4,), task="regression")
    freezing.Fraction(1.0).apply(model)
    assert weighted(model) == {"head_dense_1", "head_predictions"}
    freezing.Fraction(0.5).apply(model)
    assert weighted(model) == {"second", "head_dense_1", "head_predictions"}


def test_a_part_without_weights_shares_its_neighbour_s_line():
    model = build_image_model("VGG16", outputs=2, weights=None, image_size=32)
    for policy in (freezing.Nothing(), freezing.UpTo("preprocessing")):
        (row,) = policy.apply(model).rows
        assert (row.sections[0], row.sections[-1], row.frozen) == ("stem", "head", 0)
        assert str(row).startswith("trains  stem to head: ")
    assert [row.sections[0] for row in freezing.All().apply(model).rows] == ["stem", "head"]
