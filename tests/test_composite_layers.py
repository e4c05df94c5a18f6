"""Backbones with layers that are made of layers, which names do not tell apart."""

import keras
import numpy as np
import pytest

from keras_tl import freezing, frozen_prefix
from keras_tl.backbones import graph, registry
from keras_tl.backbones.layers import FreezableDropout
from keras_tl.backbones.load import load_backbone
from keras_tl.backbones.spec import BackboneSpec, Block
from keras_tl.builders.image import build_image_model
from keras_tl.data.arrays import from_arrays
from keras_tl.data.image_input import ImageInput
from keras_tl.data.pipeline import Samples
from keras_tl.errors import InputError
from keras_tl.training import anchors
from keras_tl.training.fit import run_phases
from keras_tl.training.guard import FreezingGuard
from keras_tl.training.lr_finder import _restored
from keras_tl.training.phases import Phase
from keras_tl.training.rates import variable_rates


@keras.saving.register_keras_serializable(package="tests")
class Scaled(keras.layers.Layer):
    """A weight of its own beside a layer with BatchNormalization's statistics."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = keras.layers.BatchNormalization()

    def build(self, shape):
        self.inner.build(shape)
        self.scale = self.add_weight(shape=(shape[-1],), initializer="ones", name="scale")
        super().build(shape)

    def call(self, x, training=None):
        return self.inner(x, training=training) * self.scale

    def compute_output_shape(self, shape):
        return shape


def attending(image_size, weights, include_top):
    """Two blocks of attention with dropout, in which sublayers have the same names."""
    inputs = keras.Input((image_size, image_size, 3))
    x = keras.layers.Conv2D(8, 4, strides=4, name="stem_conv")(inputs)
    for name in ("one", "two"):
        attend = keras.layers.MultiHeadAttention(2, 4, dropout=0.5, name=f"{name}_attention")
        y = attend(x, x)
        x = keras.layers.Add(name=f"{name}_add")([x, Scaled(name=f"{name}_scaled")(y)])
    return keras.Model(inputs, x, name="attending")


def row(name, factory=attending, **options):
    blocks = (Block("one", "one_add"), Block("two", "two_add"))
    fields = {"stem": "stem_conv", "blocks": blocks, "output": "two_add", **options}
    return BackboneSpec(name, name, factory, 16, 8, "tf", **fields)


@pytest.fixture
def model(monkeypatch):
    monkeypatch.setattr(registry, "_SPECS", dict(registry._SPECS))
    registry.register(row("Attending"))
    return build_image_model("Attending", outputs=3, weights=None)


def training(model):
    """The layers of the graph of which a weight trains."""
    trains = {id(weight) for weight in model.trainable_weights}
    return {x.name for x in model.layers if any(id(w) in trains for w in x.weights)}


ATTENTION = 4 * (8 * 8 + 8)


def test_what_a_layer_is_made_of_is_in_its_section(model):
    parts = {section.name: set(section.layers) for section in freezing.sections(model)}
    assert list(parts) == ["stem", "one", "two", "head"]
    assert parts["one"] == {"one_attention", "one_scaled", "one_add"}
    assert parts["head"] == {"head_pool", "head_dropout", "head_predictions"}


def test_all_leaves_only_the_head(model):
    summary = freezing.All().apply(model)
    assert training(model) == {"head_predictions"}
    assert summary.trainable == 8 * 3 + 3
    assert summary.trainable + summary.frozen == model.count_params()


def test_the_last_block_trains_without_its_batch_norm(model):
    summary = freezing.AllButLast(1).apply(model)
    assert training(model) == {"two_attention", "two_scaled", "head_predictions"}
    assert not model.get_layer("two_scaled").inner.trainable
    assert model.get_layer("two_scaled").scale.trainable
    assert summary.trainable == ATTENTION + 8 + 27
    assert summary.rows[-1].frozen_batch_norms == 1
    assert summary.trainable + summary.frozen == model.count_params()
    freezing.AllButLast(1, batch_norm="trained").apply(model)
    assert model.get_layer("two_scaled").inner.trainable
    assert not model.get_layer("one_scaled").inner.trainable


def test_the_last_block_s_biases_train_alone(model):
    freezing.BitFit(blocks=1).apply(model)
    trained = [weight.path for weight in model.trainable_weights]
    inside = [f"two_attention/{part}/bias" for part in ("query", "key", "value")]
    assert trained == [*inside, "two_attention/attention_output/bias", *trained[-2:]]
    freezing.BitFit(blocks=1, batch_norm="trained").apply(model)
    assert any(weight.path.endswith("beta") for weight in model.trainable_weights)


def test_adapters_are_for_layers_of_the_graph(model):
    freezing.LoRA(rank=2, layers="stem_*").apply(model)
    assert training(model) == {"stem_conv", "head_predictions"}
    with pytest.raises(InputError, match="layers of the backbone"):
        freezing.LoRA(rank=2, layers="*query").apply(model)


def test_frozen_is_inference_also_within(model):
    images = np.random.default_rng(0).uniform(0, 255, (4, 16, 16, 3)).astype("float32")
    body = keras.Model(model.input, model.get_layer("two_add").output)
    freezing.All().apply(model)
    np.testing.assert_array_equal(body(images, training=True), body(images, training=False))
    # The twin that must differ: the same body with its dropout at work.
    freezing.Nothing().apply(model)
    assert np.abs(body(images, training=True) - body(images, training=False)).max() > 1e-3


def test_the_frozen_prefix_ends_behind_a_frozen_layer_with_dropout(model):
    freezing.AllButLast(1).apply(model)
    assert frozen_prefix.split(model).last_layers == ("one_add",)
    model.get_layer("one_scaled").inner.trainable = True
    assert frozen_prefix.is_live(model.get_layer("one_scaled"))


def test_copies_keep_flags_and_dropout_within(model):
    freezing.AllButLast(1).apply(model)
    for copy in (graph.rebuild(model), graph.to_freezable(graph.to_stock(model))):
        assert training(copy) == training(model)
        assert not copy.get_layer("two_scaled").inner.trainable
        assert type(copy.get_layer("two_attention")._dropout_layer) is FreezableDropout
    stock = graph.to_stock(model).get_layer("two_attention")
    assert type(stock._dropout_layer) is keras.layers.Dropout


def test_rates_and_starting_points_reach_every_weight(model):
    rates = variable_rates(model, 0.5)
    assert set(rates) == {id(weight) for weight in model.weights}
    assert rates[id(model.get_layer("one_scaled").scale)] == 0.25
    head = {id(weight) for weight in model.get_layer("head_predictions").weights}
    assert set(anchors.start_values(model)) == set(rates) - head


def test_the_guard_watches_all_that_is_frozen(model):
    freezing.AllButLast(1, batch_norm="trained").apply(model)
    watched = set(FreezingGuard(model, ())._digests())
    trained = {weight.path for weight in model.trainable_weights}
    moving = {w.path for w in model.get_layer("two_scaled").inner.non_trainable_weights}
    assert watched == {weight.path for weight in model.weights} - trained - moving


def test_a_sweep_leaves_flags_as_they_were(model):
    freezing.AllButLast(1).apply(model)
    before = [weight.path for weight in model.trainable_weights]
    with _restored(model, freezing.Nothing(batch_norm="trained"), None):
        assert len(model.trainable_weights) > len(before)
    assert [weight.path for weight in model.trainable_weights] == before


def test_recurrent_layers_with_dropout_are_refused(monkeypatch):
    def recurrent(image_size, weights, include_top):
        inputs = keras.Input((image_size, image_size, 3))
        x = keras.layers.Reshape((image_size, -1), name="rows")(inputs)
        cell = keras.layers.LSTM(4, dropout=0.1)
        return keras.Model(inputs, keras.layers.Bidirectional(cell, name="read")(x))

    monkeypatch.setattr(registry, "_SPECS", dict(registry._SPECS))
    registry.register(row("Reading", recurrent, stem="rows", blocks=(), output="read"))
    with pytest.raises(InputError, match="without dropout, received 'read' with it"):
        load_backbone("Reading", weights=None)


def test_what_a_training_layer_keeps_beside_its_weights_may_move():
    inputs = keras.Input((8, 8, 3))
    layer = keras.layers.SpectralNormalization(keras.layers.Conv2D(4, 3), name="normalised")
    x = keras.layers.GlobalAveragePooling2D()(layer(inputs))
    model = keras.Model(inputs, keras.layers.Dense(2, "softmax", name="head_predictions")(x))
    images = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3), np.uint8)
    data = Samples(from_arrays(images, np.arange(8) % 2), ImageInput(size=8))
    before = [weight.numpy() for weight in layer.non_trainable_weights]
    phase = Phase(freezing.Nothing(), 1, 1e-3)
    run_phases(model, [phase], data, batch_size=4, feature_store=False, verbose=0)
    pairs = zip(before, layer.non_trainable_weights, strict=True)
    assert any((old != new.numpy()).any() for old, new in pairs)


def test_flags_within_a_layer_that_was_frozen_are_set(model):
    scaled = model.get_layer("one_scaled")
    scaled.trainable = False
    scaled.inner.trainable = True
    freezing.UpTo("one_scaled", batch_norm="trained").apply(model)
    assert not scaled.inner.trainable
