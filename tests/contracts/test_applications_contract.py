"""What every keras.applications row must keep, checked against keras.applications itself."""

import gc
import itertools

import keras
import numpy as np
import pytest
from keras.src.utils import file_utils

from keras_tl.backbones import applications, registry
from keras_tl.backbones.layers import FreezableDropout, FreezableStochasticDepth
from keras_tl.backbones.load import load_backbone, preprocess

# The smallest model of each family runs in the default suite.
FAST = {
    "ConvNeXtTiny",
    "DenseNet121",
    "EfficientNetB0",
    "EfficientNetV2B0",
    "InceptionResNetV2",
    "InceptionV3",
    "MobileNet",
    "MobileNetV2",
    "MobileNetV3Small",
    "NASNetMobile",
    "ResNet50",
    "ResNet50V2",
    "VGG16",
    "Xception",
}

MODULES = {
    "ConvNeXt": "convnext",
    "DenseNet": "densenet",
    "EfficientNet": "efficientnet",
    "EfficientNetV2": "efficientnet_v2",
    "InceptionResNetV2": "inception_resnet_v2",
    "InceptionV3": "inception_v3",
    "MobileNet": "mobilenet",
    "MobileNetV2": "mobilenet_v2",
    "MobileNetV3": "mobilenet_v3",
    "NASNet": "nasnet",
    "ResNet": "resnet",
    "ResNetV2": "resnet_v2",
    "VGG": "vgg16",
    "Xception": "xception",
}
# Rows for which Keras' own way to its published weights is tried with a local file.
IMAGENET = {"EfficientNetB0", "MobileNetV2", "NASNetLarge", "VGG16"}
# On the same preprocessed input both graphs are the same operations.
GRAPH_TOLERANCE = 1e-5
# Our preprocessing rounds otherwise in the last bit, which depth blows up: inputs 1e-7 apart
# move Keras' own ResNet101V2, with these weights, by 1.7e-4. Faults move it by 1 and more.
PIXELS_TOLERANCE = 1e-3
FAULT = 1e-2
OTHER_MODE = {"caffe": "tf", "tf": "torch", "torch": "caffe"}


def images(size):
    """Smooth random images: they differ in colour, which noise does not."""
    coarse = np.random.default_rng(4).uniform(0, 255, (4, 4, 4, 3))
    return np.array(keras.ops.image.resize(coarse.astype(np.float32), (size, size)))


def make_lively(model, pixels):
    """Gives a random model features that depend on its input, as training would.

    With random weights alone the signal dies out in the depth and any two images look alike.
    So BatchNormalization takes the statistics of a batch over (with a floor, lest it blows
    rounding errors up); ConvNeXt's layer scales, which start at 1e-6, and all biases become
    such that a mix-up would show.
    """
    rng = np.random.default_rng(0)
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for weight in model.weights:
        if weight.name in ("bias", "beta"):
            weight.assign(rng.uniform(-0.02, 0.02, weight.shape))
    for layer in model.layers:
        if type(layer).__name__ == "LayerScale":
            layer.gamma.assign(rng.uniform(0.1, 0.5, layer.gamma.shape))
    for norm in norms:
        norm.momentum = 0.0
    model(pixels, training=True)
    for norm in norms:
        variance = norm.moving_variance.numpy()
        norm.moving_variance.assign(np.maximum(variance, 0.3 * variance.mean()))


def reference_model(spec, size, path):
    """The Keras application with random weights, which are also saved to `path`."""
    build = getattr(keras.applications, spec.name)
    arguments = {"include_top": False, "input_shape": (size, size, 3)}
    model = build(weights=None, **arguments)
    make_lively(model, preprocess_input(spec, images(size)))
    model.save_weights(path)
    if spec.family != "EfficientNet":
        return model
    # The published variant has one layer more.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file_utils, "get_file", lambda *args, **kwargs: str(path))
        return build(weights="imagenet", **arguments)


def preprocess_input(spec, pixels):
    return getattr(keras.applications, MODULES[spec.family]).preprocess_input(pixels.copy())


def difference(ours, expected):
    """The relative difference of two feature maps, as root mean squares."""
    ours, expected = np.asarray(ours, np.float64), np.asarray(expected, np.float64)
    assert np.isfinite(expected).all()
    return np.linalg.norm(ours - expected) / np.linalg.norm(expected)


class Case:
    """A row, its model built by keras_tl and its reference, at the row's smallest size.

    Attributes:
        features: What keras_tl's model computes from `pixels`.
        expected: What the Keras application computes from its own preprocessing of them.
        expected_after: What it computes from keras_tl's preprocessing of them.
        wrongly_fed: What it computes behind another family's preprocessing.
    """

    def __init__(self, name, path):
        self.spec, self.path = registry.get(name), path
        self.size = self.spec.min_image_size
        self.pixels = images(self.size)
        reference = reference_model(self.spec, self.size, path)
        mode = OTHER_MODE.get(self.spec.preprocessing, "tf")
        wrong = keras.applications.imagenet_utils.preprocess_input(self.pixels.copy(), mode=mode)
        right = preprocess_input(self.spec, self.pixels)
        computed = np.array(reference(np.concatenate([right, wrong])))
        self.expected, self.wrongly_fed = np.split(computed, 2)
        own = keras.Input(self.pixels.shape[1:])
        preprocessed = keras.Model(own, preprocess(own, self.spec.preprocessing))(self.pixels)
        self.expected_after = np.array(reference(preprocessed))
        del reference
        self.model = load_backbone(name, weights=path, image_size=self.size)
        self.features = np.array(self.model(self.pixels))


def rows():
    for row in applications.ROWS:
        marks = () if row.name in FAST else pytest.mark.slow
        yield pytest.param(row.name, marks=marks, id=row.name)


@pytest.fixture(scope="module", params=rows())
def case(request, tmp_path_factory):
    case = Case(request.param, tmp_path_factory.mktemp("weights") / "body.weights.h5")
    yield case
    case.path.unlink()
    keras.backend.clear_session()
    gc.collect()


def test_there_is_a_fast_row_for_each_family():
    families = [row.family for row in applications.ROWS if row.name in FAST]
    assert sorted(families) == sorted({row.family for row in applications.ROWS})


def test_raw_pixels_give_what_keras_gives_on_preprocessed_ones(case):
    assert difference(case.features, case.expected_after) < GRAPH_TOLERANCE
    assert difference(case.features, case.expected) < PIXELS_TOLERANCE
    # Planted faults: channels swapped, another family's preprocessing.
    swapped = case.model(case.pixels[..., ::-1])
    assert difference(swapped, case.expected) > FAULT
    assert difference(case.features, case.wrongly_fed) > FAULT


def test_imagenet_weights_take_the_same_way(case, monkeypatch):
    if case.spec.name not in IMAGENET:
        pytest.skip("one row of each way to build")
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
    for layer in switched:
        layer.trainable = False
    frozen = np.array(case.model(case.pixels, training=True))
    np.testing.assert_array_equal(frozen, case.features)
    if switched:
        # Planted fault: one that trains is seen.
        switched[-1].trainable = True
        assert (frozen != np.array(case.model(case.pixels, training=True))).any()


def test_below_the_minimum_keras_cannot_build_it(case):
    size = case.spec.min_image_size - 1
    with pytest.raises(ValueError, match=r"at least|[Nn]egative|size"):
        case.spec.factory(image_size=size, weights=None, include_top=False)
