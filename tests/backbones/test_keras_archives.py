"""How much a `.keras` archive may ask for; hostile ones are in tests/robustness."""

import io
import threading
import zipfile

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_tl.backbones import keras_archives
from keras_tl.backbones.keras_archives import load_model, objects
from keras_tl.backbones.weight_files import load_weights
from keras_tl.errors import InputError

LAYERS = keras.layers


@pytest.fixture
def model():
    """Layers whose weights and numbers come about in several ways."""
    inputs = keras.Input((6,))
    x = LAYERS.Normalization(mean=1.0, variance=2.0)(inputs)
    x = LAYERS.Normalization()(x)
    x = LAYERS.Dropout(0.1)(LAYERS.Dense(200, name="wide")(x))
    x = LAYERS.Dense(300, dtype="bfloat16", name="half")(x)
    return keras.Model(inputs, LAYERS.Dense(3, use_bias=False)(LAYERS.Reshape((3, 100))(x)))


@pytest.fixture
def path(model, tmp_path):
    model.save(tmp_path / "model.keras")
    return tmp_path / "model.keras"


def check(loaded, model):
    for found, saved in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(found, saved)


def test_a_model_is_what_was_saved(path, model):
    check(load_model(path), model)


def test_adapters_that_are_saved_merged_are_made_anew(model, tmp_path):
    for name in ("wide", "half"):
        model.get_layer(name).enable_lora(64)
    model.save(tmp_path / "lora.keras")
    loaded = load_model(tmp_path / "lora.keras")
    assert loaded.get_layer("wide").lora_kernel_a.shape == (6, 64)
    np.testing.assert_array_equal(loaded.get_layer("wide").kernel, model.get_layer("wide").kernel)


def test_an_archive_that_was_packed_again_is_read(path, model):
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    check(load_model(path), model)


def test_an_archive_that_expands_is_refused_by_what_it_says(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", bytes(40_000_000))
    for read in (load_model, lambda path: load_weights(keras.Sequential(), path)):
        with pytest.raises(InputError, match="expands more than 20 times, to 40000000 bytes"):
            read(tmp_path / "x.keras")


@pytest.mark.parametrize("shapes", [[(1000, 1000)], [(300, 300)] * 4, [()] * 3000])
def test_no_more_is_counted_than_the_archive_holds(shapes, path):
    before = keras.Layer.add_weight, LAYERS.Normalization.build
    layer = LAYERS.Layer(name="greedy")
    refused = pytest.raises(InputError, match=r"for, received .*, in which greedy would have one")
    with refused, keras_archives._no_more_than(path, 1000):
        for shape in shapes:
            layer.add_weight(shape=shape, initializer="zeros")
    assert len(layer.weights) < len(shapes)
    assert (keras.Layer.add_weight, LAYERS.Normalization.build) == before


def test_layers_that_other_threads_make_are_not_counted(path):
    made = []
    other = threading.Thread(target=lambda: made.append(LAYERS.Embedding(1000, 1000)))
    build = threading.Thread(target=lambda: made[0].build((None,)))
    with keras_archives._no_more_than(path, 1000):
        for thread in (other, build):
            thread.start()
            thread.join()
    assert made[0].count_params() == 10**6


@pytest.mark.parametrize(
    "error",
    [
        tf.errors.ResourceExhaustedError(None, None, "OOM when\nallocating"),
        tf.errors.InternalError(None, None, "failed"),
        MemoryError(),
        ZeroDivisionError("division by zero"),
        RecursionError("too deep"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_goes_wrong_in_loading_is_one_line(error, path, monkeypatch):
    def fails(*_args, **_options):
        raise error

    monkeypatch.setattr(keras.models, "load_model", fails)
    with pytest.raises(InputError) as caught:
        load_model(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    assert (str(error).split() or ["MemoryError"])[0] in str(caught.value)


def hdf5(links):
    """An HDF5 file with a group under some names."""
    file = h5py.File(io.BytesIO(), "w")
    group = file.create_group("first")
    group["x"] = np.zeros(3)
    for name, link in links.items():
        file[name] = group if link is None else link
    return file


def test_all_that_is_in_a_file_is_found_once():
    with hdf5({"soft": h5py.SoftLink("/first"), "out": h5py.ExternalLink("a.h5", "/")}) as file:
        assert [path for path, _ in objects(file)] == ["first", "first/x"]


@pytest.mark.parametrize("name", ["second", "first/itself"])
def test_a_second_link_to_a_group_is_refused(name):
    with hdf5({name: None}) as file, pytest.raises(ValueError, match="under another name"):
        list(objects(file))
