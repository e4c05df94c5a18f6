"""The recipe for a TF-Hub module, whole, on a module and photographs made by code."""

import shutil

import hub_modules
import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from PIL import Image
from processes import told_by

# The recipe without dropout in its head, which is drawn on each device.
STILL = """
import functools
import keras_tl as ktl
from keras_tl.place_options import launch
from keras_tl.recipes import hub_image_classifier
ktl.build_hub_model = functools.partial(ktl.build_hub_model, dropout=0.0)
launch(hub_image_classifier.main)
"""

pytestmark = pytest.mark.slow


def write_photos(folder, three_colors, held_out="test"):
    images, labels = three_colors
    for index, pixels in enumerate(images):
        Image.fromarray(pixels).save(folder / f"{index}.png")
    table = pd.DataFrame({"path": [f"{index}.png" for index in range(60)], "label": labels})
    table = table.assign(
        label=table["label"].map("abc".__getitem__), split=["train"] * 45 + [held_out] * 15
    )
    table.to_csv(folder / "photos.csv", index=False)
    return labels


@pytest.mark.parametrize("held_out", ["test", "val"])
def test_hub_image_classifier(tmp_path, capsys, three_colors, held_out):
    from keras_tl.recipes import hub_image_classifier

    labels = write_photos(tmp_path, three_colors, held_out)
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


def test_two_processes_train_what_one_does(tmp_path, three_colors):
    write_photos(tmp_path, three_colors)
    module = hub_modules.publish(hub_modules.ImageModule(size=None), tmp_path / "module")
    arguments = [tmp_path / "photos.csv", "--handle", module, "--out", "out"]
    arguments += ["--epochs", "4", "--fine-tune", "0"]
    [(alone, _)] = told_by(STILL, arguments, tmp_path / "one", 1)
    (chief, _), (other, _) = told_by(STILL, arguments, tmp_path / "two", 2)
    assert "\naccuracy" not in other and not (tmp_path / "two" / "1" / "out").exists()
    assert chief.splitlines()[-1] == alone.splitlines()[-1]
    found, expected = (
        keras.models.load_model(tmp_path / name / "0" / "out" / "model.keras", compile=False)
        for name in ("two", "one")
    )
    for mine, other in zip(found.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(mine, other, atol=2e-5)


def test_the_module_it_writes_is_a_reusable_one(tmp_path):
    from keras_tl.recipes import hub_image_classifier

    import keras_tl as ktl

    hub_image_classifier.write_module(folder := tmp_path / "module")
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
