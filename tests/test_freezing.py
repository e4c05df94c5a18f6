import keras
import numpy as np
import pytest

from keras_tl import freezing
from keras_tl.errors import InputError

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
