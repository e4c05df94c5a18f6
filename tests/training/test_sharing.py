"""What the devices of a strategy read."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
from together import together

from keras_tl import freezing
from keras_tl.data import one_hot
from keras_tl.data.arrays import from_arrays
from keras_tl.data.image_input import ImageInput
from keras_tl.data.pipeline import Samples
from keras_tl.errors import InputError
from keras_tl.training.phases import Phase
from keras_tl.training.sharing import Sharing, batches_of
from keras_tl.workers import Workers


def sharing(processes, index, devices=1):
    """What one of several processes with so many devices each reads."""
    made = Sharing.__new__(Sharing)
    made.strategy = SimpleNamespace(num_replicas_in_sync=processes * devices)
    made.workers = Workers()
    made.workers.count, made.workers.index = processes, index
    made.devices, made.local = processes * devices, devices
    return made


def order(epoch):
    rows = np.random.default_rng(epoch).permutation(23)
    return rows, rows * 10


def test_one_device_reads_all():
    alone = sharing(1, 0)
    assert alone.order(order, 8) is order
    assert alone.parts(23, 8) is None


@pytest.mark.parametrize(("processes", "devices"), [(2, 1), (4, 1), (1, 2), (2, 2)])
def test_the_parts_of_a_step_are_the_batch_of_one_device(processes, devices):
    rows = [sharing(processes, i, devices).order(order, 8)(3) for i in range(processes)]
    for column, expected in enumerate(order(3)):
        # [processes, steps, devices, items of a device]
        parts = np.stack([found[column].reshape(2, devices, -1) for found in rows])
        for step in range(2):
            here = expected[8 * step : 8 * step + 8]
            np.testing.assert_array_equal(parts[:, step].reshape(-1), here)


@pytest.mark.parametrize(("processes", "devices"), [(2, 1), (3, 1), (1, 2), (2, 3)])
@pytest.mark.parametrize("items", [7, 21, 64, 65])
@pytest.mark.parametrize("batch_size", [1, 8, 12, 100])
def test_what_comes_once_comes_once(processes, devices, items, batch_size):
    parts = [sharing(processes, i, devices).parts(items, batch_size) for i in range(processes)]
    assert len({len(found) for found in parts}) == 1
    assert len(parts[0]) % devices == 0
    found = [part for process in parts for part in process]
    assert min(map(len, found)) > 0
    assert max(map(len, found)) <= max(-(-batch_size // (processes * devices)), 2)
    np.testing.assert_array_equal(np.sort(np.concatenate(found)), np.arange(items))


def test_fewer_items_than_devices_are_read_by_all():
    for part in sharing(2, 1, 2).parts(3, 8):
        np.testing.assert_array_equal(part, [0, 1, 2])


def test_batches_have_the_images_of_their_part():
    images = np.random.default_rng(0).integers(0, 255, (7, 8, 8, 3)).astype("uint8")
    data = Samples(from_arrays(images, np.arange(7) % 3), ImageInput(size=8))
    parts = [np.array([4, 0]), np.array([6]), np.array([1, 2, 3])]
    found = list(batches_of(data, parts).as_numpy_iterator())
    assert len(found) == 3
    for (pixels, targets), part in zip(found, parts, strict=True):
        np.testing.assert_array_equal(pixels, images[part])
        np.testing.assert_array_equal(targets.argmax(axis=1), part % 3)


def test_very_many_classes_are_not_held_as_a_matrix(monkeypatch):
    monkeypatch.setattr(one_hot, "MOST_HELD", 0)
    asked, rows = [], one_hot.OneHotRows.__getitem__
    monkeypatch.setattr(
        one_hot.OneHotRows, "__getitem__", lambda self, at: asked.append(at) or rows(self, at)
    )
    images = np.zeros((4, 8, 8, 3), "uint8")
    data = Samples(from_arrays(images, np.arange(4) % 3), ImageInput(size=8))
    [(_, targets)] = batches_of(data, [np.array([2, 0, 1])]).as_numpy_iterator()
    np.testing.assert_array_equal(targets, np.eye(3)[[2, 0, 1]])
    np.testing.assert_array_equal(asked, [[2, 0, 1]])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rate": 0.2}, "received phase 1, learning_rate of phase 1 (0.1 in process 0, 0.2 in"),
        ({"seed": 1}, "received seed (0 in process 0, 1 in process 1)"),
        ({"store": None}, "received feature store (True in process 0, False in process 1)"),
        ({"label": 1}, "the same training items in all processes, received target of item 0"),
        ({"pixel": 9}, "received content of item 0"),
        ({"items": 4}, "the same training items in all processes, received 5 items in process 0"),
        ({"val": True}, "validation items in all processes, received 0 items in process 0, 5 in"),
        ({"size": 16}, "received data"),
        ({"weight": 2.0}, "received another net/dense/kernel in process 1"),
    ],
)
def test_processes_that_do_not_train_the_same(changes, said):
    def checking(rate=0.1, seed=0, label=0, pixel=0, items=5, size=8, weight=1.0, **others):
        pixels = np.zeros((items, 8, 8, 3), np.uint8)
        pixels[0] = pixel
        source = from_arrays(pixels, np.array([label, 1, 0, 1, 1])[:items], class_names=("a", "b"))
        train = Samples(source, ImageInput(size=size))
        layers = [keras.Input([3]), keras.layers.Dense(2, name="dense")]
        model = keras.Sequential(layers, name="net")
        model.set_weights([np.full((3, 2), weight), np.zeros(2)])

        def run(workers):
            made = Sharing.__new__(Sharing)
            made.workers = workers
            val, store = others.get("val") and train, others.get("store", "a store")
            phases = [Phase(freezing.Nothing(), 2, rate)]
            made.check_alike(model, phases, train, val, store, 8, seed, None)

        return run

    assert together(checking(), checking()) == [None, None]
    errors = together(checking(), checking(**changes))
    assert len({str(error) for error in errors}) == 1
    assert isinstance(errors[0], InputError) and said in str(errors[0])
