"""What the contracts share: the rows, and each row's model with weights that tell faults."""

import keras
import numpy as np
import pytest
from keras.src.utils import file_utils

from keras_tl.backbones import registry
from keras_tl.backbones.graph import set_weights
from keras_tl.backbones.load import load_backbone, preprocess

SPECS = [registry.get(name) for name in registry.names()]
# The rows that keras.applications has too, to check against.
APPLICATIONS = [spec for spec in SPECS if hasattr(keras.applications, spec.name)]
# The smallest row of each family: a few that are quickly built run in the default suite, the others
# in the slow one.
FAST = {"EfficientNetB0", "EfficientNetLite0", "MobileNetV2", "ResNet50", "VGG16"}
REPRESENTATIVES = FAST | {
    "ConvNeXtTiny",
    "DenseNet121",
    "EfficientNetV2B0",
    "InceptionResNetV2",
    "InceptionV3",
    "MobileNet",
    "MobileNetV3Small",
    "NASNetMobile",
    "ResNet50V2",
    "Xception",
}
# The largest of the others run where there is an hour more: each takes up to a minute.
LARGEST = {
    "ConvNeXtBase",
    "ConvNeXtLarge",
    "ConvNeXtSmall",
    "ConvNeXtXLarge",
    "DenseNet169",
    "DenseNet201",
    "EfficientNetB3",
    "EfficientNetB4",
    "EfficientNetB5",
    "EfficientNetB6",
    "EfficientNetB7",
    "EfficientNetV2L",
    "EfficientNetV2M",
    "EfficientNetV2S",
    "NASNetLarge",
    "ResNet101",
    "ResNet101V2",
    "ResNet152",
    "ResNet152V2",
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
OTHER_MODE = {"caffe": "tf", "tf": "torch", "torch": "caffe"}


def rows(specs=SPECS, fast=FAST):
    """The names of `specs` as parameters of `case`; those not in `fast` are slow."""

    def marks(name):
        if name in fast:
            return ()
        return (pytest.mark.slow, pytest.mark.hour) if name in LARGEST else pytest.mark.slow

    return [pytest.param(s.name, marks=marks(s.name), id=s.name) for s in specs]


class Case:
    """A row's model, built by keras_tl at the row's smallest size, and its reference's outputs.

    All contracts of a row share the model: who moves its weights puts them back, and
    who needs a `trainable` flag sets it.

    Attributes:
        path: The weights file that the model was loaded from.
        features: What keras_tl's model computes from `pixels`.
        expected: What the Keras application computes from its own preprocessing of them.
        expected_after: What it computes from keras_tl's preprocessing of them.
        wrongly_fed: What it computes behind another family's preprocessing.
    """

    def __init__(self, spec, path):
        keras.utils.set_random_seed(0)
        self.spec, self.path, self.size = spec, path, spec.min_image_size
        self.pixels = images(self.size)[:4]
        if spec in APPLICATIONS:
            self._compute_reference()
            self.model = load_backbone(spec.name, weights=path, image_size=self.size)
        else:
            self.model = load_backbone(spec.name, weights=None, image_size=self.size)
            make_lively(self.model, images(self.size))
        self.features = np.array(self.model(self.pixels))

    def _compute_reference(self):
        spec = self.spec
        reference = reference_model(spec, self.size, self.path)
        mode = OTHER_MODE.get(spec.preprocessing, "tf")
        wrong = keras.applications.imagenet_utils.preprocess_input(self.pixels.copy(), mode=mode)
        right = preprocess_input(spec, self.pixels)
        # In a batch as long as ours: in one of another length some processors round otherwise, and
        # with random weights a deep EfficientNet makes 1e-3 and more of that.
        self.expected, self.wrongly_fed = np.array(reference(right)), np.array(reference(wrong))
        preprocessed = preprocess(keras.ops.convert_to_tensor(self.pixels), spec.preprocessing)
        self.expected_after = np.array(reference(preprocessed))


def images(size):
    """Sixteen smooth random images: they differ in colour, which noise does not."""
    coarse = np.random.default_rng(4).uniform(0, 255, (16, 4, 4, 3))
    return np.array(keras.ops.image.resize(coarse.astype(np.float32), (size, size)))


def make_lively(model, pixels):
    """Gives a random model features that depend on its input, as training would.

    With random weights alone the signal dies out in the depth and any two images look alike.
    So BatchNormalization takes the statistics of a batch over, with a floor, lest it blows
    rounding errors up. (From fewer than 16 images, where features are single pixels, they grow
    a hundredfold.) ConvNeXt's layer scales, which start at 1e-6, and all biases become such
    that a mix-up would show.
    """
    rng = np.random.default_rng(0)
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for weight in model.weights:
        if weight.name in ("bias", "beta"):
            weight.assign(rng.uniform(-0.02, 0.02, weight.shape))
    for layer in model.layers:
        if type(layer).__name__ == "LayerScale":
            layer.gamma.assign(rng.uniform(0.1, 0.5, layer.gamma.shape))
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    model(pixels, training=True)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        variance = norm.moving_variance.numpy()
        norm.moving_variance.assign(np.maximum(variance, 0.3 * variance.mean()))


def reference_model(spec, size, path):
    """The Keras application with random weights, which are also saved to `path`."""
    build = getattr(keras.applications, spec.name)
    arguments = {"include_top": False, "input_shape": (size, size, 3)}
    model = build(weights=None, **arguments)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization) and layer.weights:
            # As in published weights: it is by this that they are told.
            set_weights(layer, [np.full(3, 0.5), np.full(3, 0.25), np.array(0)])
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


def values(model):
    """The values of a model's variables, the states of random generators included."""
    return [np.array(variable.value) for variable in model.variables]


def put_back(model, start):
    """Sets a model's variables to what `values` has returned."""
    for variable, value in zip(model.variables, start, strict=True):
        variable.assign(value)
