"""What every row must keep; those of keras.applications are checked against the original."""

import itertools

import keras
import numpy as np
import pytest
from contract_cases import APPLICATIONS, put_back, rows, values
from keras.src.utils import file_utils

from keras_tl.backbones import registry
from keras_tl.backbones.layers import FreezableDropout, FreezableStochasticDepth
from keras_tl.backbones.load import load_backbone

# One row of each way in which Keras loads its published weights, tried with a local file.
IMAGENET = [registry.get(n) for n in ("EfficientNetB0", "MobileNetV2", "NASNetLarge", "VGG16")]
# On the same preprocessed input both graphs are the same operations.
GRAPH_TOLERANCE = 1e-5
# Our preprocessing rounds otherwise in the last bit, which depth blows up: inputs 1e-7 apart
# move Keras' own ResNet101V2, with these weights, by 1.7e-4. Faults move it by 1 and more.
PIXELS_TOLERANCE = 1e-3
FAULT = 1e-2


def difference(ours, expected):
    """The relative difference of two feature maps, as root mean squares."""
    ours, expected = np.asarray(ours, np.float64), np.asarray(expected, np.float64)
    assert np.isfinite(expected).all()
    return np.linalg.norm(ours - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize("case", rows(APPLICATIONS), indirect=True)
def test_raw_pixels_give_what_keras_gives_on_preprocessed_ones(case):
    assert difference(case.features, case.expected_after) < GRAPH_TOLERANCE
    assert difference(case.features, case.expected) < PIXELS_TOLERANCE
    # Planted faults: channels swapped, another family's preprocessing.
    swapped = case.model(case.pixels[..., ::-1])
    assert difference(swapped, case.expected) > FAULT
    assert difference(case.features, case.wrongly_fed) > FAULT


@pytest.mark.parametrize("case", rows(IMAGENET), indirect=True)
def test_imagenet_weights_take_the_same_way(case, monkeypatch):
    monkeypatch.setattr(file_utils, "get_file", lambda *args, **kwargs: str(case.path))
    published = load_backbone(case.spec.name, weights="imagenet", image_size=case.size)
    assert difference(published(case.pixels), case.expected_after) < GRAPH_TOLERANCE


def ancestors(model):
    """The names of the layers that each layer depends on, itself included."""
    found = {}
    for operation in model.operations:
        above = set()
        for node in operation._inbound_nodes:
            for parent in node.parent_nodes:
                above |= found[id(parent.operation)]
        own = {operation.name} if isinstance(operation, keras.Layer) else set()
        found[id(operation)] = above | own
    return {layer.name: found[id(layer)] for layer in model.layers}


def test_blocks_follow_each_other_from_stem_to_output(case):
    spec, above = case.spec, ancestors(case.model)
    ends = [spec.stem, *(block.last for block in spec.blocks)]
    assert set(ends) <= set(above)
    for earlier, later in itertools.pairwise(ends):
        assert above[earlier] < above[later], (earlier, later)
    assert above[ends[-1]] <= above[spec.output]
    assert case.model.layers[-1].name == spec.output
    # The stem is neither the input alone nor a part of the body.
    assert 1 < len(above[spec.stem]) < len(above) / 2


def test_the_row_is_recognised_by_its_layers(case):
    found = registry.recognise([layer.name for layer in case.model.layers])
    assert (found.family, len(found.blocks)) == (case.spec.family, len(case.spec.blocks))


def test_frozen_in_training_computes_as_in_inference(case):
    kinds = (keras.layers.BatchNormalization, FreezableDropout, FreezableStochasticDepth)
    switched = [layer for layer in case.model.layers if isinstance(layer, kinds)]
    start = values(case.model)
    for layer in switched:
        layer.trainable = False
    frozen = np.array(case.model(case.pixels, training=True))
    np.testing.assert_array_equal(frozen, case.features)
    if switched:
        # Planted fault: one that trains is seen.
        switched[-1].trainable = True
        assert (frozen != np.array(case.model(case.pixels, training=True))).any()
    put_back(case.model, start)


@pytest.mark.parametrize("case", rows(APPLICATIONS), indirect=True)
def test_below_the_minimum_keras_cannot_build_it(case):
    size = case.spec.min_image_size - 1
    with pytest.raises(ValueError, match=r"at least|[Nn]egative|size"):
        case.spec.factory(image_size=size, weights=None, include_top=False)
