"""What all tests share: a tiny backbone, a feature store of their own, images made by code."""

import gc
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Test processes share the cores; more threads for NumPy's small matrices would wait for each other.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pytest

from keras_tl.backbones import registry
from keras_tl.backbones.spec import BackboneSpec, Block


def tiny_net(image_size, weights, include_top):
    """Two residual blocks with BatchNormalization and stochastic depth, 16 channels."""
    import keras
    from keras import layers

    x = inputs = keras.Input((image_size, image_size, 3))
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False, name="stem_conv")(x)
    x = layers.BatchNormalization(name="stem_bn")(x)
    x = layers.ReLU(name="stem_out")(x)
    for name in ("one", "two"):
        y = layers.Conv2D(8, 3, padding="same", use_bias=False, name=f"{name}_conv")(x)
        y = layers.BatchNormalization(name=f"{name}_bn")(y)
        y = layers.Dropout(0.5, noise_shape=(None, 1, 1, 1), name=f"{name}_drop")(y)
        x = layers.Add(name=f"{name}_add")([x, y])
    x = layers.Conv2D(16, 1, name="top_conv")(x)
    x = layers.ReLU(name="top_out")(x)
    return keras.Model(inputs, x, name="tiny_net")


TINY_NET = BackboneSpec(
    name="TinyNet",
    family="TinyNet",
    factory=tiny_net,
    image_size=16,
    min_image_size=8,
    preprocessing="tf",
    stem="stem_out",
    blocks=(Block("one", "one_add"), Block("two", "two_add")),
    output="top_out",
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """A process gets a whole file, as with `--dist loadfile`, or all contracts of a backbone.

    The contracts of a backbone share a large model, and are in two files: two processes would
    each build it.
    """
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid):
            file, parameters = super()._split_scope(nodeid), nodeid.partition("[")[2]
            if not file.startswith("tests/contracts/") or not parameters:
                return file
            return f"contracts of {parameters.rstrip(']').partition('-')[0]}"

    return Scheduling(config, log)


def pytest_collection_finish():
    """Garbage is looked for less often, and not in what the imports have made."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)


@pytest.fixture(scope="session", autouse=True)
def _tiny_net_is_registered():
    registry.register(TINY_NET)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    os.environ["KERAS_TL_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    os.environ.pop("KERAS_TL_CACHE_REMOTE", None)


@pytest.fixture
def tiny_model():
    """A TinyNet classifier of three classes with random weights and moved statistics."""
    import keras

    from keras_tl.builders.image import build_image_model

    keras.utils.set_random_seed(1)
    model = build_image_model("TinyNet", outputs=3, weights=None)
    random = np.random.default_rng(1)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_mean.assign(random.normal(size=8) * 0.1)
            layer.moving_variance.assign(random.uniform(0.5, 1.5, size=8))
    return model


@pytest.fixture(scope="session")
def three_colors():
    """Sixty noisy uint8 images `[60, 16, 16, 3]` of three colours, and their classes."""
    random = np.random.default_rng(0)
    labels = np.arange(60) % 3
    colors = np.array([[200, 60, 60], [60, 200, 60], [60, 60, 200]])
    images = colors[labels][:, None, None, :] + random.normal(0, 40, (60, 16, 16, 3))
    return np.clip(images, 0, 255).astype(np.uint8), labels


@pytest.fixture(scope="module")
def small_decoder():
    """Exports decode in a graph that is quick to trace; for upright images of the model's size."""
    import tensorflow as tf

    from keras_tl.export import saved_model, verify

    def decode(contents, image_input):
        pixels = tf.io.decode_image(contents, channels=3, expand_animations=False)
        resized = tf.image.resize(pixels, [image_input.size] * 2)
        return tf.saturate_cast(tf.round(resized), tf.uint8)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(saved_model, "decode", decode)
        patch.setattr(verify, "decode", decode)
        yield
