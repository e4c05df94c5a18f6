import keras
import numpy as np
import pytest

from keras_tl import freezing, frozen_prefix


def pixels(count=3):
    return np.random.default_rng(0).uniform(0, 255, (count, 16, 16, 3)).astype("float32")


@pytest.mark.parametrize(
    ("policy", "last_layers"),
    [
        (freezing.All(), ("head_pool",)),
        (freezing.AllButLast(1), ("one_add",)),
        (freezing.UpTo("stem_out"), ("stem_out",)),
        (freezing.Matching("stem_conv"), ("stem_out",)),
    ],
)
def test_the_cut_is_the_deepest_with_the_fewest_values(tiny_model, policy, last_layers):
    policy.apply(tiny_model)
    parts = frozen_prefix.split(tiny_model)
    assert parts.last_layers == last_layers
    assert not parts.prefix.trainable_weights
    x = pixels()
    np.testing.assert_array_equal(parts.suffix(parts.prefix(x)), tiny_model(x))


def test_nothing_frozen_means_no_prefix_with_a_kernel(tiny_model):
    freezing.Nothing(batch_norm="trained").apply(tiny_model)
    parts = frozen_prefix.split(tiny_model)
    assert parts.prefix is None
    assert parts.suffix is tiny_model


def test_a_branch_that_trains_leaves_two_tensors_at_the_cut(tiny_model):
    freezing.Matching("*").apply(tiny_model)
    tiny_model.get_layer("one_conv").trainable = True
    parts = frozen_prefix.split(tiny_model)
    # Both the training branch and the shortcut start at stem_out; two_conv comes after.
    assert parts.last_layers == ("stem_out",)


def test_a_live_dropout_stops_the_prefix(tiny_model):
    freezing.All().apply(tiny_model)
    tiny_model.get_layer("one_drop").trainable = True
    parts = frozen_prefix.split(tiny_model)
    # The branch is frozen up to the dropout; the shortcut is needed beside it.
    assert parts.last_layers == ("stem_out", "one_bn")
    x = pixels()
    np.testing.assert_array_equal(parts.suffix(parts.prefix(x)), tiny_model(x))


def test_a_moving_batch_norm_stops_the_prefix(tiny_model):
    freezing.All().apply(tiny_model)
    norm = tiny_model.get_layer("two_bn")
    norm.trainable = True
    assert frozen_prefix.is_live(norm)
    assert frozen_prefix.split(tiny_model).last_layers == ("one_add", "two_conv")


def test_models_with_two_inputs_are_cut_too():
    left, right = keras.Input((4,), name="left"), keras.Input((4,), name="right")
    x = keras.layers.Dense(3, name="a")(left)
    y = keras.layers.Dense(3, name="b")(right)
    out = keras.layers.Dense(2, name="c")(keras.layers.Concatenate(name="join")([x, y]))
    model = keras.Model([left, right], out)
    model.get_layer("a").trainable = False
    parts = frozen_prefix.split(model)
    assert set(parts.last_layers) == {"a", "right"}
    inputs = [np.ones((2, 4), "float32"), np.full((2, 4), 2, "float32")]
    np.testing.assert_array_equal(parts.suffix(parts.prefix(inputs)), model(inputs))


@pytest.mark.parametrize("policy", [freezing.All(), freezing.AllButLast(1)])
def test_a_step_on_the_suffix_is_the_step_on_the_whole(tiny_model, three_colors, policy):
    images, labels = three_colors
    policy.apply(tiny_model)
    # Dropout draws from a state of its own; without it both steps are the same arithmetic.
    tiny_model.get_layer("head_dropout").rate = 0.0
    for layer in tiny_model.layers:
        if layer.name.endswith("_drop"):
            layer.trainable = False
    start = tiny_model.get_weights()
    tiny_model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    tiny_model.train_on_batch(images.astype("float32"), labels)
    expected = tiny_model.get_weights()

    tiny_model.set_weights(start)
    parts = frozen_prefix.split(tiny_model)
    features = parts.prefix(images.astype("float32"))
    parts.suffix.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    parts.suffix.train_on_batch(features, labels)
    changed = 0
    for value, want, was in zip(tiny_model.get_weights(), expected, start, strict=True):
        np.testing.assert_allclose(value, want, atol=1e-6)
        changed += bool(np.any(want != was))
    assert changed >= 2
