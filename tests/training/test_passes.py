"""How outputs of a frozen prefix are stored, and when they are computed again instead."""

import json
import logging

import keras
import numpy as np
import pytest

from keras_tl import freezing, frozen_prefix
from keras_tl.builders.image import build_image_model
from keras_tl.data import augment
from keras_tl.data.arrays import from_arrays
from keras_tl.data.image_input import ImageInput
from keras_tl.data.pipeline import Samples
from keras_tl.engines import TensorFlowEngine
from keras_tl.evaluation.predictions import predict, predict_images
from keras_tl.feature_cache import FeatureStore
from keras_tl.fingerprints import fingerprint
from keras_tl.training import passes
from keras_tl.training.fit import run_phases
from keras_tl.training.passes import PrefixPass
from keras_tl.training.phases import Phase


@pytest.fixture
def data(three_colors):
    images, labels = three_colors
    source = from_arrays(list(images), labels)
    return Samples(source, ImageInput(size=16), augment.get("dihedral"))


def train(model, data, store, start, engine="tensorflow"):
    model.set_weights(start)
    for layer in ("head_dropout", "one_drop", "two_drop"):
        model.get_layer(layer).rate = 0.0
    plan = [Phase(freezing.AllButLast(1), 3, 0.05, optimizer="sgd")]
    options = {"batch_size": 8, "feature_store": store, "engine": engine, "verbose": 0}
    return run_phases(model, plan, data, data, **options)


@pytest.mark.parametrize("reason", ["no room", pytest.param("slow disk", marks=pytest.mark.slow)])
def test_what_is_not_worth_storing_is_computed_again_with_the_same_result(
    tiny_model, data, tmp_path, monkeypatch, caplog, reason
):
    caplog.set_level(logging.INFO, "keras_tl")
    start = tiny_model.get_weights()
    stored = train(tiny_model, data, FeatureStore(tmp_path / "one", dtype="float16"), start)
    weights = tiny_model.get_weights()

    monkeypatch.setattr(passes, "SMALL_ITEM", 0)
    store = FeatureStore(tmp_path / "two", dtype="float16")
    engine = "tensorflow"
    if reason == "no room":
        store.max_bytes = 1000
    else:
        monkeypatch.setattr(passes, "_seconds_to_store", lambda *_: 1e6)
        # Where TensorFlow is asked for by name, no timing decides.
        by_name = train(tiny_model, data, FeatureStore(tmp_path / "three"), start)
        assert by_name.phases[0].passes
        engine = "auto"
    again = train(tiny_model, data, store, start, engine)
    assert "computed again at every step" in caplog.text
    assert not again.phases[0].passes and not store.stored()
    for row, want in zip(again.history, stored.history, strict=True):
        assert row["loss"] == pytest.approx(want["loss"], abs=1e-5)
        assert row["val_loss"] == pytest.approx(want["val_loss"], abs=1e-5)
    for value, want in zip(tiny_model.get_weights(), weights, strict=True):
        np.testing.assert_allclose(value, want, atol=1e-5)


@pytest.mark.slow
def test_a_fast_disk_keeps_large_outputs(tiny_model, data, tmp_path, monkeypatch):
    monkeypatch.setattr(passes, "SMALL_ITEM", 0)
    monkeypatch.setattr(passes, "_seconds_to_store", lambda *_: 0.0)
    result = train(tiny_model, data, FeatureStore(tmp_path), tiny_model.get_weights())
    assert [done.computed for done in result.phases[0].passes] == [60, 60, 60, 60]


@pytest.mark.parametrize(
    ("limit", "dtype"),
    [(1.0, np.float16), pytest.param(0.0, np.float32, marks=pytest.mark.slow)],
)
def test_float16_is_kept_where_it_hardly_moves_the_loss(
    tiny_model, data, tmp_path, monkeypatch, limit, dtype
):
    monkeypatch.setattr(passes, "NEGLIGIBLE", limit)
    train(tiny_model, data, FeatureStore(tmp_path), tiny_model.get_weights())
    manifests = [json.loads(path.read_text())["body"] for path in tmp_path.rglob("*.json")]
    found = {tensor["dtype"] for body in manifests for tensor in body["tensors"]}
    assert found == {np.dtype(dtype).str}


def test_predictions_by_way_of_the_store_are_the_models(tiny_model, data, tmp_path):
    freezing.AllButLast(1).apply(tiny_model)
    store = FeatureStore(tmp_path, dtype="float32")
    found = predict_images(tiny_model, data, store)
    np.testing.assert_allclose(found, predict(tiny_model, data.batches(32)), atol=1e-6)
    assert store.stored()
    # What is in the store is not computed again, and what changed in the suffix counts.
    head = tiny_model.get_layer("head_predictions")
    head.bias.assign(np.asarray(head.bias) + np.array([5.0, 0.0, 0.0], "float32"))
    moved = predict_images(tiny_model, data, store)
    np.testing.assert_allclose(moved, predict(tiny_model, data.batches(32)), atol=1e-6)
    assert np.abs(moved - found).max() > 0.1


@pytest.mark.parametrize("reason", ["no room", "float16 would show"])
def test_predictions_are_stored_only_where_there_is_room_and_as_finely_as_it_takes(
    tiny_model, data, tmp_path, monkeypatch, reason
):
    freezing.AllButLast(1).apply(tiny_model)
    store = FeatureStore(tmp_path)
    if reason == "no room":
        store.max_bytes = 1000
    else:
        monkeypatch.setattr(passes, "NEGLIGIBLE", 0.0)
    found = predict_images(tiny_model, data, store, engine="tensorflow")
    want = predict(tiny_model, data.batches(32))
    np.testing.assert_allclose(found, want, atol=2e-3 if reason == "no room" else 1e-6)
    if reason == "no room":
        assert not store.stored()
    else:
        # 60 images of 8 x 8 x 8 numbers.
        assert store.stored()[0].size > 4 * 60 * 8**3


@pytest.mark.slow
def test_what_a_later_phase_needs_is_left_out_where_only_this_ones_fits(
    tiny_model, data, tmp_path, caplog
):
    caplog.set_level(logging.INFO, "keras_tl")
    # The head reads 16 numbers of each image and view, the phase behind it 512.
    store = FeatureStore(tmp_path, dtype="float16", max_bytes=60_000)
    plan = [Phase(freezing.All(), 2, 0.05), Phase(freezing.AllButLast(1), 2, 0.05)]
    options = {"batch_size": 8, "feature_store": store, "engine": "tensorflow", "verbose": 0}
    result = run_phases(tiny_model, plan, data, **options)
    assert [done.computed for done in result.phases[0].passes] == [60, 60]
    assert not result.phases[1].passes
    assert "since 0 MB of outputs do not fit into the store" in caplog.text
    assert sum(item.size for item in store.stored()) < 60_000


def test_the_same_layers_at_another_size_are_another_prefix():
    def model(size):
        pixels = keras.Input((size, size, 3), name="pixels")
        conv = keras.layers.Conv2D(2, 3, kernel_initializer="ones", name="conv")
        pooled = keras.layers.GlobalAveragePooling2D(name="pool")(conv(pixels))
        return keras.Model(pixels, [pooled])

    assert fingerprint(model(8)) == fingerprint(model(8))
    assert fingerprint(model(8)) != fingerprint(model(16))


def test_on_a_cpu_the_frozen_part_of_a_mixed_model_computes_in_float32(tiny_model, data, tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        mixed = build_image_model("TinyNet", outputs=3, weights=None)
    finally:
        keras.config.set_dtype_policy("float32")
    mixed.set_weights(tiny_model.get_weights())
    prefixes = []
    for model in (mixed, tiny_model):
        freezing.AllButLast(1).apply(model)
        prefixes.append(frozen_prefix.split(model).prefix)
    store = FeatureStore(tmp_path, dtype="float32")
    found = passes.PrefixPass(prefixes[0], store, engine="tensorflow").features(data)
    rows = np.arange(len(data))
    pixels = np.stack(list(data.images(rows, None).as_numpy_iterator())).astype(np.float32)
    expected = prefixes[1].predict_on_batch(pixels)
    np.testing.assert_allclose(found.gather(rows)[0], expected, rtol=1e-5, atol=1e-5)
    in_16_bits = np.asarray(prefixes[0].predict_on_batch(pixels), np.float32)
    assert np.abs(in_16_bits - expected).max() > 1e-3
    plain = passes.PrefixPass(prefixes[1], store, engine="tensorflow")
    plain.features(data)
    assert plain.passes[0].computed == 0


def test_what_is_stored_as_float32_is_neither_weighed_nor_computed_again(
    tiny_model, data, tmp_path, monkeypatch
):
    """A store of dtype "auto" looks for float16 first, of which there is nothing."""
    freezing.AllButLast(1).apply(tiny_model)
    prefix = frozen_prefix.split(tiny_model).prefix
    monkeypatch.setattr(passes, "NEGLIGIBLE", 0.0)

    def settled():
        run = PrefixPass(prefix, FeatureStore(tmp_path), verbose=0)
        assert not run.settle(data, range(data.views), lambda outputs, indices: outputs[0])
        return run

    first = settled()
    for view in range(data.views):
        first.features(data, view)
    # Were anything to be computed, it would now be weighed, and not stored.
    monkeypatch.setattr(passes, "SMALL_ITEM", 0)
    monkeypatch.setattr(passes, "_seconds_to_store", lambda *_: 1e6)
    assert settled().store.dtype == "float32"


def words_and_own(task_outputs=2):
    """Of the same token ids, frozen vectors and trained ones."""
    ids = keras.Input((6,), dtype="int32")
    frozen = keras.layers.Embedding(30_000, 4, name="given")(ids)
    own = keras.layers.Embedding(30_000, 4, name="own")(ids)
    x = keras.layers.GlobalAveragePooling1D()(keras.layers.Concatenate()([frozen, own]))
    model = keras.Model(ids, keras.layers.Dense(task_outputs, "softmax")(x))
    model.get_layer("given").trainable = False
    return model


def test_whole_numbers_at_the_cut_stay_what_they_are(tmp_path):
    """In 16 bits token 17,009 would become 17,008."""
    parts = frozen_prefix.split(words_and_own())
    assert [tensor.dtype for tensor in parts.prefix.outputs] == ["int32", "float32"]
    for dtype in ("auto", "float16"):
        run = PrefixPass(parts.prefix, FeatureStore(tmp_path, dtype=dtype), verbose=0)
        assert run.store.dtype == "float32"


def test_rows_do_not_depend_on_how_many_are_computed_at_once(tiny_model, data, tmp_path):
    """With one engine the outputs are the same to the bit, whatever is stored already."""
    freezing.AllButLast(1).apply(tiny_model)
    prefix, sizes = frozen_prefix.split(tiny_model).prefix, []

    class Seen(TensorFlowEngine):
        def __call__(self, inputs):
            sizes.append(len(inputs))
            return super().__call__(inputs)

    engine = Seen(prefix)
    pixels = np.stack(list(data.images(np.arange(3)).as_numpy_iterator()))
    found = passes._as_in_a_full(engine, pixels)
    assert sizes == [passes.PASS_BATCH] and [len(output) for output in found] == [3]
    for output, expected in zip(found, TensorFlowEngine(prefix)(pixels), strict=True):
        np.testing.assert_allclose(output, expected, atol=1e-5)
