from dataclasses import replace

import numpy as np
import pytest

from keras_tl.data import augment
from keras_tl.data.image_input import ImageInput
from keras_tl.data.pipeline import Samples
from keras_tl.data.source import Source
from keras_tl.evaluation import from_scratch
from keras_tl.evaluation.from_scratch import image_baseline, small_network

SEEN = ImageInput(size=16)


@pytest.fixture(autouse=True)
def few_epochs(monkeypatch):
    monkeypatch.setattr(from_scratch, "LEAST_EPOCHS", 4)
    monkeypatch.setattr(from_scratch, "MOST_EPOCHS", 4)


def split(three_colors, labels=None):
    images, own = three_colors
    ids = np.array([f"im {i}" for i in range(60)], dtype=object)
    source = Source(ids, list(images), own, ("red", "green", "blue"))
    taken = [np.arange(30), np.arange(30, 45), np.arange(45, 60)]
    train, val, measured = (source.take(rows) for rows in taken)
    if labels is not None:
        train = replace(train, labels=labels[:30])
    return [Samples(each, SEEN, augment.get("none")) for each in (train, val, measured)]


@pytest.mark.slow
def test_it_learns_what_is_there(three_colors):
    train, val, measured = split(three_colors)
    found = image_baseline(train, val, measured, SEEN, batch_size=5, seed=3, verbose=0)
    true = measured.source.labels
    assert found.outputs.shape == (15, 3)
    assert (found.outputs.argmax(axis=1) == true).mean() > 0.8
    assert found.settings["image_size"] == 16 and found.settings["epochs"] == 4


@pytest.mark.slow
def test_the_same_seed_gives_the_same_outputs(three_colors):
    how = {"batch_size": 5, "seed": 3, "verbose": 0}
    one, two = (image_baseline(*split(three_colors), SEEN, **how).outputs for _ in range(2))
    np.testing.assert_allclose(one, two, atol=1e-5)


@pytest.mark.slow
def test_the_twin_with_wrong_labels_learns_what_they_say(three_colors):
    wrong = (three_colors[1] + 1) % 3
    train, _, measured = split(three_colors, wrong)
    none = replace(train, source=train.source.take(np.arange(0)))
    found = image_baseline(train, none, measured, SEEN, batch_size=5, verbose=0)
    assert (found.outputs.argmax(axis=1) == measured.source.labels).mean() < 0.2


@pytest.mark.slow
def test_large_images_are_read_smaller(three_colors, monkeypatch):
    monkeypatch.setattr(from_scratch, "LARGEST_SIZE", 8)
    train, val, measured = split(three_colors)
    found = image_baseline(train, val, measured, SEEN, batch_size=15, verbose=0)
    assert found.settings["image_size"] == 8


@pytest.mark.parametrize(("size", "blocks"), [(8, 2), (28, 2), (64, 3), (128, 4)])
def test_blocks_go_with_the_size(size, blocks):
    model = small_network(size, np.eye(3, dtype=np.float32), "single-label")
    convolutions = [layer for layer in model.layers if layer.name.endswith("_conv")]
    assert len(convolutions) == blocks
    assert convolutions[-1].filters == from_scratch.LAST_WIDTH
    assert model.output_shape == (None, 3)


def test_values_come_in_the_targets_unit():
    targets = np.array([[100.0, 7.0], [300.0, 7.0]], np.float32)
    unit = small_network(16, targets, "regression").get_layer("head_unit")
    np.testing.assert_allclose(unit.offset, (200.0, 7.0))
    np.testing.assert_allclose(unit.scale, (100.0, 1.0))
