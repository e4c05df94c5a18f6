"""TF-Hub modules in phases, with the frozen prefix, on two devices, and exported."""

import io
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import hub_modules
import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_tl import freezing, frozen_prefix
from keras_tl.backbones.host import tokenize_of
from keras_tl.backbones.hub import hub_image_size
from keras_tl.builders.hub import build_hub_model
from keras_tl.config import TrainConfig
from keras_tl.data.arrays import from_arrays
from keras_tl.data.image_input import ImageInput
from keras_tl.data.pipeline import Samples
from keras_tl.data.text_input import TextInput
from keras_tl.data.texts import from_texts
from keras_tl.errors import CheckError, InputError
from keras_tl.export.saved_model import export_saved_model
from keras_tl.feature_cache import FeatureStore
from keras_tl.model_info import ModelInfo
from keras_tl.preparing import image_size_of
from keras_tl.probing import Part, decide, features_of
from keras_tl.training.fit import run_phases
from keras_tl.training.guard import FreezingGuard
from keras_tl.training.phases import Phase
from keras_tl.training.step_time import seconds_to_fine_tune

HEAD = Phase(freezing.All(), 3, 0.1, name="head")
TUNING = Phase(freezing.AllButLast(1, batch_norm="trained"), 2, 0.003, name="fine-tuning")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return hub_modules.publish(hub_modules.ImageModule(), tmp_path_factory.mktemp("hub") / "image")


@pytest.fixture(scope="module")
def colors(three_colors):
    return Samples(from_arrays(*three_colors), ImageInput(size=16))


def built(folder):
    keras.utils.set_random_seed(3)
    return build_hub_model(folder, outputs=3, dropout=0.0)


def weights(model):
    return [w.numpy() for w in model.get_layer("hub_module").weights]


def test_what_a_module_gives_is_probed_though_nothing_is_before_it(folder, colors, tmp_path):
    model = built(folder)
    phases = [Phase(freezing.All(), 2, 1e-3), Phase(freezing.AllButLast(1), 3, 1e-4)]
    parts = [Part(colors, None)]
    options = {"store": FeatureStore(tmp_path), "engine": "tensorflow", "verbose": 0}
    found = features_of(model, phases, parts, task="single-label", **options)
    assert found.early is None
    source = replace(colors.source, hashes=colors.source.ids)
    verdict = decide(found, source, images_per_class=20, clock=None)
    assert verdict.earlier is None and verdict.probe.score > 0.9
    assert seconds_to_fine_tune(model, phases[1], colors, task="single-label", batch_size=20) > 0


def test_images_get_the_modules_size(folder, tmp_path):
    any_size = hub_modules.publish(hub_modules.ImageModule(None), tmp_path / "any")
    texts = hub_modules.publish(hub_modules.TextModule(tmp_path), tmp_path / "text")
    assert hub_image_size(folder) == hub_image_size(folder, 16) == 16
    assert (hub_image_size(any_size), hub_image_size(any_size, 32)) == (224, 32)
    assert hub_image_size(texts) == 224
    with pytest.raises(InputError, match=r"an image size of 16 .* received 32"):
        hub_image_size(folder, 32)
    config = TrainConfig("photos", "run", backbone=f"hub:{folder}")
    assert image_size_of(config) == 16


def test_the_frozen_module_is_the_prefix(folder, three_colors):
    model = built(folder)
    freezing.All().apply(model)
    parts = frozen_prefix.split(model)
    assert parts.last_layers == ("hub_module",)
    pixels = three_colors[0].astype(np.float32)
    np.testing.assert_allclose(parts.suffix(parts.prefix(pixels)), model(pixels), atol=1e-6)
    freezing.AllButLast(1).apply(model)
    assert frozen_prefix.split(model).prefix is None


def test_phases_train_the_head_and_then_the_module(folder, colors):
    model = built(folder)
    before = weights(model)
    result = run_phases(model, [HEAD], colors, colors, batch_size=10, verbose=0)
    assert result.phases[0].cut == ("hub_module",)
    assert sum(p.computed for p in result.phases[0].passes) == 60
    assert [(a == b).all() for a, b in zip(before, weights(model), strict=True)] == [True] * 3
    assert result.history[-1]["loss"] < result.history[0]["loss"]
    run_phases(model, [TUNING], colors, colors, batch_size=10, verbose=0)
    # Kernel and gamma by gradients, the moving mean by training mode.
    moved = [float(np.abs(a - b).max()) for a, b in zip(before, weights(model), strict=True)]
    assert min(moved) > 1e-4


def test_moving_statistics_stay_unless_a_policy_lets_them_go(folder, three_colors, tmp_path):
    model, pixels = built(folder), three_colors[0].astype(np.float32)
    before = weights(model)
    freezing.Nothing().apply(model)
    np.testing.assert_array_equal(model(pixels, training=True), model(pixels))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.get_layer("hub_module").statistics_frozen
    for policy, moves in ((freezing.Nothing(), False), (TUNING.freezing, True)):
        run_phases(
            model,
            [Phase(policy, 1, 0.003)],
            Samples(from_arrays(*three_colors), ImageInput(size=16)),
            batch_size=10,
            verbose=0,
        )
        kernel, _, mean = weights(model)
        assert np.abs(kernel - before[0]).max() > 1e-4
        assert (np.abs(mean - before[2]).max() > 1e-4) == moves
    assert np.abs(model(pixels, training=True) - model(pixels)).max() > 1e-3


@pytest.mark.slow
def test_a_module_without_statistics_trains_with_its_dropout(tmp_path):
    hub_modules.publish(hub_modules.Preprocessor(tmp_path), tmp_path / "preprocessor")
    hub_modules.publish(hub_modules.Encoder(), tmp_path / "encoder")
    folders = {"preprocessor": tmp_path / "preprocessor", "max_tokens": 8}
    model = build_hub_model(tmp_path / "encoder", **folders, outputs=2, dropout=0.0)
    freezing.Nothing().apply(model)
    texts = tf.constant(["good film", "very bad"])
    assert np.abs(model(texts, training=True) - model(texts)).max() > 1e-3


@pytest.mark.slow
def test_computed_once_is_what_plain_training_gives(folder, colors):
    found = []
    for store in (True, False):
        model = built(folder)
        run_phases(model, [HEAD], colors, batch_size=10, verbose=0, feature_store=store)
        found.append(model.get_layer("head_predictions").kernel.numpy())
    np.testing.assert_allclose(*found, atol=2e-3)


def test_the_penalty_is_trained_on(folder, three_colors):
    pixels, labels = three_colors[0].astype(np.float32), np.eye(3)[three_colors[1]]
    model = built(folder)
    model.compile("sgd", "categorical_crossentropy")
    plain = model.evaluate(pixels, labels, verbose=0)
    model.get_layer("hub_module").trainable = True
    model.compile("sgd", "categorical_crossentropy")
    penalty = 0.01 * np.sum(weights(model)[0] ** 2)
    assert model.evaluate(pixels, labels, verbose=0) == pytest.approx(plain + penalty, rel=1e-4)


def test_the_guard_sees_a_frozen_module_that_moves(folder, three_colors):
    model = built(folder)
    freezing.All().apply(model)
    pixels = tf.constant(three_colors[0][:12], tf.float32)
    batch = (pixels, tf.one_hot(three_colors[1][:12], 3))

    class Disturb(keras.callbacks.Callback):
        def on_train_batch_begin(self, index, logs=None):
            layer = model.get_layer("hub_module")
            layer.weights[2].assign_add([0.1] * 4)

    model.compile("sgd", "categorical_crossentropy")
    with pytest.raises(CheckError, match="moving_mean"):
        model.fit(*batch, callbacks=[FreezingGuard(model, batch), Disturb()], verbose=0)


def test_a_module_of_strings_trains(tmp_path):
    hub_modules.publish(hub_modules.TextModule(tmp_path), tmp_path / "text")
    keras.utils.set_random_seed(0)
    model = build_hub_model(tmp_path / "text", outputs=2, dropout=0.0)
    texts = tf.constant(["good film", "bad film", "very good", "very bad"] * 4)
    labels = np.eye(2)[[0, 1, 0, 1] * 4]
    freezing.AllButLast(1).apply(model)
    model.compile(keras.optimizers.Adam(0.05), "categorical_crossentropy", metrics=["accuracy"])
    model.fit(texts, labels, epochs=30, verbose=0)
    assert model.evaluate(texts, labels, verbose=0)[1] == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["strings", "encoder"])
def test_texts_in_phases(tmp_path, kind):
    hub_modules.publish(hub_modules.TextModule(tmp_path), tmp_path / "text")
    hub_modules.publish(hub_modules.Preprocessor(tmp_path), tmp_path / "preprocessor")
    hub_modules.publish(hub_modules.Encoder(), tmp_path / "encoder")
    keras.utils.set_random_seed(0)
    options = {"handle": tmp_path / "text"}
    if kind == "encoder":
        options = {"handle": tmp_path / "encoder", "preprocessor": tmp_path / "preprocessor"}
    model = build_hub_model(**options, outputs=2, dropout=0.0, max_tokens=8)
    texts = ["good film", "bad film", "very good", "very bad", "a good text", "a bad title"] * 4
    source = from_texts(texts, ["yes", "no"] * 12)
    data = Samples(source, TextInput(max_tokens=8), tokenize=tokenize_of(model))
    phases = [
        Phase(freezing.All(), 4, 0.1, name="head"),
        Phase(freezing.AllButLast(1), 8, 0.05, name="fine-tuning"),
    ]
    before = weights(model)
    result = run_phases(model, phases, data, data, batch_size=8, verbose=0)
    assert [report.cut for report in result.phases] == [("hub_module",), ()]
    assert np.abs(before[0] - weights(model)[0]).max() > 1e-3
    predicted = model.predict(tf.constant(texts), verbose=0).argmax(axis=1)
    assert (predicted == source.labels).mean() > 0.9


def test_exported_as_one_saved_model(folder, colors, tmp_path, small_decoder):
    source = shutil.copytree(folder, tmp_path / "source")
    model = built(source)
    run_phases(model, [TUNING], colors, batch_size=10, verbose=0)
    shutil.rmtree(source)
    info = ModelInfo(ImageInput(size=16), ("a", "b", "c"), "single-label", backbone="hub:x")
    path = export_saved_model(model, tmp_path / "exported", info)
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    loaded = tf.saved_model.load(str(path))
    found = loaded.signatures["serving_default"](image_bytes=tf.constant([file.getvalue()]))
    np.testing.assert_allclose(found["probabilities"], model(pixels[None]), atol=1e-5)


TWO_DEVICES = """
import numpy as np, tensorflow as tf, keras, sys
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
from keras_tl import freezing
from keras_tl.backbones.host import tokenize_of
from keras_tl.builders.hub import build_hub_model
from keras_tl.data.arrays import from_arrays
from keras_tl.data.image_input import ImageInput
from keras_tl.data.pipeline import Samples
from keras_tl.training.fit import run_phases
from keras_tl.training.phases import Phase

labels = np.arange(60) % 3
images = np.random.default_rng(0).integers(0, 255, (60, 16, 16, 3)).astype("uint8")
data = Samples(from_arrays(images, labels), ImageInput(size=16))
tuning = freezing.AllButLast(1, batch_norm="trained")
phases = [Phase(freezing.All(), 2, 0.05), Phase(tuning, 2, 0.003)]
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    model = build_hub_model({folder!r}, outputs=3)
before = [w.numpy() for w in model.get_layer("hub_module").weights]
assert "Mirrored" in type(model.get_layer("hub_module").weights[0].value).__name__
run_phases(model, phases, data, batch_size=8, strategy=strategy, verbose=0)
moved = [np.abs(a - w.numpy()).max() for a, w in zip(before, model.get_layer("hub_module").weights)]
assert min(moved) > 1e-4, moved
# Statistics are each device's own, and the first one's are the model's.
for w in model.get_layer("hub_module").trainable_weights:
    one, two = [v.numpy() for v in w.value.values]
    np.testing.assert_array_equal(one, two)
model.save({path!r})
with strategy.scope():
    loaded = keras.models.load_model({path!r})
np.testing.assert_allclose(loaded(images[:4]), model(images[:4]), atol=1e-6)
print("AGREED", strategy.num_replicas_in_sync)
"""


@pytest.mark.slow
def test_on_two_devices(folder, tmp_path):
    code = TWO_DEVICES.format(folder=str(folder), path=str(tmp_path / "model.keras"))
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "AGREED 2" in done.stdout, done.stderr[-3000:]
