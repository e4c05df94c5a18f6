"""The recipe for a TF-Hub module, whole, on a module and photographs made by code."""

import shutil

import hub_modules
import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from PIL import Image

pytestmark = pytest.mark.slow


def test_hub_image_classifier(tmp_path, capsys, three_colors):
    from keras_tl.recipes import hub_image_classifier

    images, labels = three_colors
    for index, pixels in enumerate(images):
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
    table = pd.DataFrame({"path": [f"{index}.png" for index in range(60)], "label": labels})
    table = table.assign(
        label=table["label"].map("abc".__getitem__), split=["train"] * 45 + ["test"] * 15
    )
    table.to_csv(tmp_path / "photos.csv", index=False)
    module = hub_modules.publish(hub_modules.ImageModule(size=None), tmp_path / "module")
    out = tmp_path / "out"
    options = ["--out", str(out), "--epochs", "2", "--fine-tune", "1"]
    hub_image_classifier.main([str(tmp_path / "photos.csv"), "--handle", str(module), *options])
    printed = float(capsys.readouterr().out.split("accuracy ")[-1].split(" %")[0])
    shutil.rmtree(module)
    model = keras.models.load_model(out / "model.keras")
    exported = tf.saved_model.load(str(out / "saved_model"))
    files = tf.constant([(tmp_path / f"{index}.png").read_bytes() for index in range(45, 60)])
    found = exported.signatures["serving_default"](image_bytes=files)
    pixels = exported.signatures["decode"](image_bytes=files)["pixels"]
    expected = model(tf.cast(pixels, tf.float32)).numpy()
    np.testing.assert_allclose(found["probabilities"], expected, atol=1e-5)
    assert printed == pytest.approx(100 * (expected.argmax(1) == labels[45:]).mean(), abs=0.06)


def test_the_module_it_writes_is_a_reusable_one(tmp_path):
    from keras_tl.recipes import hub_image_classifier

    import keras_tl as ktl

    folder = hub_image_classifier.write_module(tmp_path / "module")
    model = ktl.build_hub_model(folder, outputs=2)
    layer = model.get_layer("hub_module")
    layer.trainable = True
    # Convolutions, scales and shifts of 49 layers train; their statistics move.
    plain = ktl.load_backbone("EfficientNetLite0")
    assert len(layer.trainable_weights) == len(plain.trainable_weights) == 3 * 49
    pixels = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3)).astype(np.float32)
    expected = plain(pixels).numpy().mean(axis=(1, 2))
    found = keras.Model(model.input, layer.output)(pixels)
    np.testing.assert_allclose(found, expected, atol=1e-4)
