"""Genuine Keras-2 files, as the tf_keras that tensorflow-hub brings writes them."""

import subprocess
import sys

import numpy as np
import pytest

from keras_tl.backbones.load import load_backbone
from keras_tl.errors import InputError

WRITE = """
import sys, numpy as np, tf_keras as keras
name, path, form = sys.argv[1:]
keras.utils.set_random_seed(1)
base = getattr(keras.applications, name)(weights=None, include_top=False, input_shape=(75, 75, 3))
random = np.random.default_rng(0)
for layer in base.layers:
    if isinstance(layer, keras.layers.BatchNormalization):
        layer.moving_mean.assign(random.normal(size=layer.moving_mean.shape) * 0.1)
        layer.moving_variance.assign(random.uniform(0.5, 1.5, layer.moving_variance.shape))
pixels = np.random.default_rng(1).uniform(0, 255, (2, 75, 75, 3)).astype("float32")
np.save(path + ".npy", base(pixels / 127.5 - 1, training=False))
head = [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(5, activation="softmax")]
if form == "nested":
    model = keras.Sequential([base, *head])
else:
    x = base.output
    for layer in head:
        x = layer(x)
    model = keras.Model(base.input, x)
if form == "weights":
    model.save_weights(path)
else:
    model.save(path)
"""


def written(tmp_path, name, form):
    path = tmp_path / "classifier.h5"
    subprocess.run(
        [sys.executable, "-c", WRITE, name, str(path), form], check=True, capture_output=True
    )
    return path, np.load(f"{path}.npy")


@pytest.mark.slow
@pytest.mark.parametrize("form", ["nested", "flat", "weights"])
@pytest.mark.parametrize("name", ["MobileNetV2", "InceptionV3"])
def test_a_whole_classifier_gives_its_backbone(tmp_path, name, form):
    path, expected = written(tmp_path, name, form)
    pixels = np.random.default_rng(1).uniform(0, 255, (2, 75, 75, 3)).astype("float32")
    found = np.asarray(load_backbone(name, weights=path, image_size=75)(pixels, training=False))
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found / scale, expected / scale, atol=1e-3)
    other = np.asarray(load_backbone(name, weights=None, image_size=75)(pixels, training=False))
    assert np.abs(other - expected).max() / scale > 1e-2


@pytest.mark.slow
def test_a_file_of_another_backbone_is_refused(tmp_path):
    path, _ = written(tmp_path, "MobileNetV2", "flat")
    with pytest.raises(InputError, match="none of which fits"):
        load_backbone("VGG16", weights=path, image_size=75)
