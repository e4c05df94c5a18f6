"""A module's layer in models of one's own: saved and trained on, shared, wrapped, of any size."""

import hub_modules
import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_tl as ktl
from keras_tl import freezing
from keras_tl.backbones.hub import load_hub_layer
from keras_tl.builders.hub import build_hub_model
from keras_tl.errors import InputError

RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.uniform(0, 255, (8, 16, 16, 3)).astype(np.float32)
LABELS = np.arange(8) % 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return hub_modules.publish(hub_modules.ImageModule(), tmp_path_factory.mktemp("hub") / "image")


class Plain(tf.Module):
    """Images to a feature map of half the size."""

    def __init__(self):
        super().__init__()
        self.kernel = tf.Variable(tf.random.Generator.from_seed(0).normal((3, 3, 3, 4)))

    def map_of(self, images):
        return tf.nn.conv2d(images, self.kernel, 2, "SAME")


class OfAnySize(Plain):
    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3))])
    def __call__(self, images):
        return self.map_of(images)


class ForInference(Plain):
    """It takes `training`, but was traced without it."""

    @tf.function
    def __call__(self, images, training=False):
        return tf.reduce_mean(self.map_of(images), [1, 2]) * (100.0 if training else 1.0)


class OfTwoOutputs(Plain):
    @tf.function(input_signature=[tf.TensorSpec((None, 16, 16, 3))])
    def __call__(self, images):
        found = tf.reduce_mean(self.map_of(images), [1, 2])
        return {"one": found, "two": found[:, :2]}


def kernel_of(model):
    return model.get_layer("hub_module").weights[0].numpy()


def fitted(model):
    before = kernel_of(model)
    model.fit(PIXELS, LABELS, epochs=2, batch_size=4, verbose=0)
    return np.abs(kernel_of(model) - before).max()


def test_a_compiled_model_trains_on_after_loading(folder, tmp_path):
    model = build_hub_model(folder, outputs=2)
    freezing.Nothing().apply(model)
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    assert fitted(model) > 1e-3
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert int(again.optimizer.iterations) == 4
    for variable, expected in zip(
        again.optimizer.variables, model.optimizer.variables, strict=True
    ):
        np.testing.assert_array_equal(variable, expected)
    assert fitted(again) > 1e-3
    assert int(again.optimizer.iterations) == 8


def test_a_module_without_a_training_mode_trains_in_its_only_one(tmp_path):
    module = ForInference()
    module.__call__.get_concrete_function(tf.TensorSpec((None, 16, 16, 3)))
    tf.saved_model.save(module, str(tmp_path / "module"))
    model = build_hub_model(tmp_path / "module", outputs=2)
    freezing.Nothing().apply(model)
    layer = model.get_layer("hub_module")
    np.testing.assert_array_equal(layer(PIXELS, training=True), layer(PIXELS))
    model.compile("sgd", "sparse_categorical_crossentropy")
    assert fitted(model) > 0


class Fixed(hub_modules.Published):
    """It publishes that nothing in it is to be trained."""

    def __init__(self):
        super().__init__()
        self.kernel = tf.Variable(tf.ones((3, 4)))
        self.publish([], [self.kernel])

    @tf.function(input_signature=[tf.TensorSpec((None, 16, 16, 3))])
    def __call__(self, images):
        return tf.reduce_mean(images, [1, 2]) @ self.kernel


@pytest.mark.parametrize(("kind", "count"), [(Fixed, 0), (OfAnySize, 1)])
def test_a_module_that_says_so_does_not_train(tmp_path, kind, count):
    tf.saved_model.save(kind(), str(tmp_path / "module"))
    layer = load_hub_layer(tmp_path / "module")
    layer.trainable = True
    assert len(layer.weights) == 1 and len(layer.trainable_weights) == count


def test_a_shared_layer_is_penalised_once(folder):
    layer = load_hub_layer(folder)
    layer.trainable = True
    first, second = keras.Input((16, 16, 3)), keras.Input((16, 16, 3))
    model = keras.Model([first, second], keras.layers.Dot(1)([layer(first), layer(second)]))
    model([PIXELS, PIXELS])
    penalty = 0.01 * np.sum(layer.weights[0].numpy() ** 2)
    np.testing.assert_allclose(sum(model.losses), penalty, rtol=1e-5)
    layer.trainable = False
    assert not model.losses


def test_a_map_s_sides_are_open_where_those_of_images_are(tmp_path):
    tf.saved_model.save(OfAnySize(), str(tmp_path / "module"))
    layer = load_hub_layer(tmp_path / "module")
    assert layer.module.shape == (None, None, 4)
    inputs = keras.Input((16, 16, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(layer(inputs))
    assert keras.Model(inputs, pooled)(PIXELS).shape == (8, 4)
    of_a_size = load_hub_layer(tmp_path / "module", sample=PIXELS[:2], name="of_a_size")
    assert of_a_size.module.shape == (8, 8, 4)


def test_frames_of_films(folder):
    films = keras.Input((5, 16, 16, 3))
    model = keras.Model(films, keras.layers.TimeDistributed(load_hub_layer(folder))(films))
    assert model.output_shape == (None, 5, 4)
    found = model(np.stack([PIXELS[:5], PIXELS[3:]]))
    np.testing.assert_allclose(found[1, 0], found[0, 3], rtol=1e-5)


def test_one_of_several_outputs(tmp_path):
    tf.saved_model.save(OfTwoOutputs(), str(tmp_path / "module"))
    model = build_hub_model(tmp_path / "module", outputs=2, output="two")
    assert model.get_layer("hub_module").output.shape == (None, 2)
    with pytest.raises(InputError, match=r"It has one, two\. In Python give its name as output"):
        build_hub_model(tmp_path / "module", outputs=2)


def test_a_preprocessor_alone_is_refused(tmp_path):
    folder = hub_modules.publish(hub_modules.Preprocessor(tmp_path), tmp_path / "preprocessor")
    with pytest.raises(InputError, match=r"It is a preprocessor: give hub:ENCODER\+PREPROCESSOR"):
        build_hub_model(folder, outputs=2)


@pytest.mark.parametrize(("texts", "least"), [(1, 3), (2, 5)])
def test_too_few_tokens_for_a_word_are_refused(tmp_path, texts, least):
    folder = hub_modules.publish(hub_modules.Preprocessor(tmp_path), tmp_path / "preprocessor")
    encoder = hub_modules.publish(hub_modules.Encoder(), tmp_path / "encoder")
    how = {"outputs": 2, "preprocessor": folder, "texts": texts}
    assert ktl.build_hub_model(encoder, **how, max_tokens=least)
    with pytest.raises(InputError, match=f"at least {least} max_tokens"):
        ktl.build_hub_model(encoder, **how, max_tokens=least - 1)
