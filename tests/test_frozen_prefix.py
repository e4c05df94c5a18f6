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


def step(model, part, inputs, targets, loss, eagerly):
    """Fits `part` of a model for one step; returns the model's values after and before it."""
    start = [np.array(variable.value) for variable in model.variables]
    part.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss, run_eagerly=eagerly)
    part.fit(inputs, targets, batch_size=len(targets), shuffle=False, verbose=0)
    after = [np.array(variable.value) for variable in model.variables]
    # Dropout's state too, so that the next step draws the same.
    for variable, value in zip(model.variables, start, strict=True):
        variable.assign(value)
    return after, start


@pytest.mark.parametrize(
    "policy",
    [
        pytest.param(freezing.All(), marks=pytest.mark.slow),
        pytest.param(freezing.AllButLast(1), marks=pytest.mark.slow),
        freezing.AllButLast(1, batch_norm="trained"),
    ],
    ids=repr,
)
def test_a_compiled_step_on_the_suffix_is_the_step_on_the_whole(tiny_model, three_colors, policy):
    images, labels = three_colors
    images = images.astype("float32")
    policy.apply(tiny_model)
    how = {"loss": "sparse_categorical_crossentropy", "eagerly": False}
    expected, start = step(tiny_model, tiny_model, images, labels, **how)
    parts = frozen_prefix.split(tiny_model)
    features = parts.prefix.predict(images, batch_size=len(images), verbose=0)
    values, _ = step(tiny_model, parts.suffix, features, labels, **how)
    swapped, _ = step(tiny_model, parts.suffix, features[..., ::-1], labels, **how)
    live = {id(v) for x in tiny_model.layers if frozen_prefix.is_live(x) for v in x.variables}
    noticed = 0
    for variable, value, want, wrong, was in zip(
        tiny_model.variables, values, expected, swapped, start, strict=True
    ):
        # Statistics and states included: what is live has moved, nothing else has.
        assert np.any(want != was) == (id(variable) in live), variable.path
        # Rounding: compiled, operations that the cut parts are fused in the whole.
        np.testing.assert_allclose(value, want, rtol=1e-5, atol=1e-6, err_msg=variable.path)
        noticed += not np.allclose(wrong, want, rtol=1e-2, atol=1e-3)
    assert noticed


def dense(name, x, units=3):
    return keras.layers.Dense(units, activation="tanh", name=name)(x)


def frozen(model, *names):
    for name in names:
        model.get_layer(name).trainable = False
    return model


def two_inputs():
    left, right = keras.Input((4,), name="left"), keras.Input((4,), name="right")
    x = keras.layers.Concatenate()([dense("a", left), dense("b", right)])
    return frozen(keras.Model([left, right], dense("c", x)), "a")


def inputs_by_name():
    left, right = keras.Input((4,), name="left"), keras.Input((4,), name="right")
    x = keras.layers.Concatenate(name="join")([dense("a", left, 2), dense("b", right, 2)])
    return frozen(keras.Model({"left": left, "right": right}, dense("c", x)), "a", "b")


def u_net():
    # At the cut 8x8x4 + 4x4x8 = 384 values; after upsampling or joining it would be 768.
    inputs = keras.Input((8, 8, 3))
    fine = keras.layers.Conv2D(4, 3, padding="same", name="fine")(inputs)
    coarse = keras.layers.MaxPooling2D()(fine)
    coarse = keras.layers.Conv2D(8, 3, padding="same", name="coarse")(coarse)
    x = keras.layers.Concatenate()([keras.layers.UpSampling2D()(coarse), fine])
    return frozen(keras.Model(inputs, dense("up", x)), "fine", "coarse")


def skip_that_shrinks():
    # Joining costs nothing here: 8x8x(4 + 1) values before and after it, and it comes later.
    inputs = keras.Input((8, 8, 3))
    wide = keras.layers.Conv2D(4, 3, padding="same", name="wide")(inputs)
    thin = keras.layers.Conv2D(1, 3, padding="same", name="thin")(wide)
    x = keras.layers.Concatenate(name="join")([wide, thin])
    return frozen(keras.Model(inputs, dense("up", x)), "wide", "thin")


def a_live_and_a_frozen_tower():
    inputs = keras.Input((4,), name="start")
    still = dense("still_2", dense("still_1", inputs), 2)
    moving = dense("moving_2", dense("moving_1", inputs), 2)
    model = keras.Model(inputs, dense("late", keras.layers.Add()([still, moving])))
    return frozen(model, "still_1", "still_2")


def a_layer_called_twice():
    left, right = keras.Input((4,)), keras.Input((4,))
    shared = keras.layers.Dense(3, name="shared")
    x = keras.layers.Concatenate()([dense("a", shared(left)), dense("b", shared(right))])
    return frozen(keras.Model([left, right], x), "shared")


def a_frozen_layer_on_both_sides():
    inputs = keras.Input((4,))
    shared = keras.layers.Dense(4, name="shared")
    return frozen(keras.Model(inputs, shared(dense("live", shared(inputs), 4))), "shared")


def a_live_layer_called_twice():
    inputs = keras.Input((4,))
    shared = keras.layers.Dense(4, name="shared")
    x = dense("still", inputs, 4)
    return frozen(keras.Model(inputs, dense("late", shared(shared(x)))), "still", "late")


class Halves(keras.layers.Layer):
    """One call, two tensors."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(1, shape[-1]), name="scale")

    def call(self, x):
        return keras.ops.split(x * self.scale, 2, axis=-1)


def two_tensors_of_one_layer():
    inputs = keras.Input((6,))
    left, right = Halves(name="halves")(inputs)
    x = keras.layers.Concatenate()([dense("a", left), dense("b", right)])
    return frozen(keras.Model(inputs, x), "halves")


def one_of_two_tensors():
    inputs = keras.Input((6,))
    _, right = Halves(name="halves")(inputs)
    return frozen(keras.Model(inputs, dense("a", right)), "halves")


def two_outputs():
    inputs = keras.Input((4,))
    x = dense("still", inputs)
    outputs = {"a": dense("head_a", x), "b": dense("head_b", x, 2)}
    return frozen(keras.Model(inputs, outputs), "still")


def an_output_at_the_cut():
    inputs = keras.Input((4,))
    x = dense("still", inputs)
    return frozen(keras.Model(inputs, [x, dense("head", x)]), "still")


GRAPHS = [
    (two_inputs, ("right", "a")),
    (inputs_by_name, ("join",)),
    (u_net, ("fine", "coarse")),
    (skip_that_shrinks, ("join",)),
    (a_live_and_a_frozen_tower, ("start", "still_2")),
    (a_layer_called_twice, ("shared", "shared")),
    (a_frozen_layer_on_both_sides, ("shared",)),
    (a_live_layer_called_twice, ("still",)),
    (two_tensors_of_one_layer, ("halves", "halves")),
    (one_of_two_tensors, ("halves",)),
    (two_outputs, ("still",)),
    (an_output_at_the_cut, ("still",)),
]


def like(tensors, seed):
    """Random arrays of six samples in the structure and shapes of symbolic tensors."""
    rng = np.random.default_rng(seed)
    return keras.tree.map_structure(
        lambda tensor: rng.normal(size=(6, *tensor.shape[1:])).astype("float32"), tensors
    )


def same(one, other):
    pairs = zip(keras.tree.flatten(one), keras.tree.flatten(other), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def close(one, other):
    """Values below 4, but for their last bit."""
    return all(np.allclose(a, b, rtol=0, atol=2.4e-7) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(("build", "last_layers"), GRAPHS, ids=lambda x: getattr(x, "__name__", ""))
def test_graphs_of_other_forms(build, last_layers):
    model = build()
    parts = frozen_prefix.split(model)
    assert parts.last_layers == last_layers
    x, y = like(model.input, 0), like(model.output, 1)
    features = parts.prefix(x)
    outputs = parts.suffix(features)
    keras.tree.assert_same_structure(outputs, model.output)
    assert same(outputs, model(x))
    # One after the other the operations are the same. With several outputs the last bit of an
    # update was seen to differ on some processors, though its gradient did not.
    expected, start = step(model, model, x, y, "mse", eagerly=True)
    assert close(step(model, parts.suffix, features, y, "mse", eagerly=True)[0], expected)
    frozen_ids = {id(v) for layer in parts.prefix.layers for v in layer.variables}
    for variable, value, was in zip(model.variables, expected, start, strict=True):
        assert np.array_equal(value, was) == (id(variable) in frozen_ids or not variable.trainable)
    wrong = keras.tree.map_structure(lambda f: np.array(f)[..., ::-1], features)
    assert not close(step(model, parts.suffix, wrong, y, "mse", eagerly=True)[0], expected)


def test_a_mask_goes_over_the_cut_beside_what_it_masks():
    ids = keras.Input((5,), dtype="int32")
    x = keras.layers.Embedding(7, 4, mask_zero=True, name="words")(ids)
    model = keras.Model(ids, dense("out", keras.layers.LSTM(3, name="reader")(x)))
    parts = frozen_prefix.split(frozen(model, "words"))
    assert [tensor.dtype for tensor in parts.prefix.outputs] == ["float32", "bool"]
    tokens = np.array([[1, 2, 0, 0, 0], [3, 4, 5, 0, 0]])
    # As a store gives them: arrays, to which Keras has attached nothing.
    words, mask = (np.array(feature) for feature in parts.prefix(tokens))
    np.testing.assert_array_equal(mask, tokens > 0)
    np.testing.assert_array_equal(parts.suffix([words, mask]), model(tokens))
    assert not same(parts.suffix([words, np.ones_like(mask)]), model(tokens))


def test_with_everything_frozen_the_output_is_the_cut():
    inputs = keras.Input((4,))
    model = frozen(keras.Model(inputs, dense("b", dense("a", inputs), 2)), "a", "b")
    parts = frozen_prefix.split(model)
    assert parts.last_layers == ("b",)
    assert not parts.suffix.weights
    x = like(model.input, 0)
    np.testing.assert_array_equal(parts.suffix(parts.prefix(x)), model(x))


def test_where_masks_would_be_lost_nothing_is_cut():
    """`MultiHeadAttention` looks for its masks on the tensors that it gets."""
    ids = keras.Input((5,), dtype="int32")
    x = keras.layers.Embedding(7, 4, mask_zero=True, name="words")(ids)
    attention = keras.layers.MultiHeadAttention(2, 3, name="attention")(x, x)
    pooled = keras.layers.GlobalAveragePooling1D(name="mean")(attention)
    model = frozen(keras.Model(ids, dense("out", pooled)), "words")
    parts = frozen_prefix.split(model)
    assert parts.prefix is None and parts.suffix is model
