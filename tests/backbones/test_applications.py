import keras
import numpy as np
import pytest

from keras_tl.backbones import applications
from keras_tl.backbones.applications import ROWS, Application, NASNetApplication


def test_rows_are_exactly_the_builders_of_keras_applications():
    builders = {name for name in dir(keras.applications) if name[0].isupper()}
    assert {row.name for row in ROWS} == builders
    assert len(ROWS) == 40


def test_image_sizes_are_those_of_the_classifiers():
    # The models' papers; Keras' default input with the classifier on top.
    sizes = {row.name: row.image_size for row in ROWS}
    assert [sizes[f"EfficientNetB{k}"] for k in range(8)] == [
        *(224, 240, 260, 300),
        *(380, 456, 528, 600),
    ]
    assert [sizes[f"EfficientNetV2{k}"] for k in ("B0", "B1", "B2", "B3", "S", "M", "L")] == [
        *(224, 240, 260, 300),
        *(384, 480, 480),
    ]
    assert sizes["NASNetLarge"] == 331
    assert sizes["InceptionV3"] == sizes["InceptionResNetV2"] == sizes["Xception"] == 299


@pytest.mark.parametrize(
    ("name", "blocks", "first", "last"),
    [
        ("MobileNetV2", 17, "expanded_conv_project_BN", "block_16_project_BN"),
        ("ResNet50", 16, "conv2_block1_out", "conv5_block3_out"),
        ("DenseNet201", 98, "conv2_block1_concat", "conv5_block32_concat"),
        ("EfficientNetB0", 16, "block1a_project_bn", "block7a_project_bn"),
        ("EfficientNetV2S", 40, "block1a_add", "block6o_add"),
        ("NASNetMobile", 14, "normal_concat_0", "normal_concat_12"),
        ("NASNetLarge", 20, "normal_concat_0", "normal_concat_18"),
        ("VGG19", 5, "block1_pool", "block5_pool"),
        ("ConvNeXtSmall", 36, "add_1", "add_36"),
    ],
)
def test_blocks_are_counted_as_the_papers_do(name, blocks, first, last):
    row = next(row for row in ROWS if row.name == name)
    assert len(row.blocks) == blocks
    assert (row.blocks[0].last, row.blocks[-1].last) == (first, last)


def test_block_names_are_unique():
    for row in ROWS:
        names = [block.name for block in row.blocks]
        assert len(set(names)) == len(names), row.name


class RecordedBuilder:
    """Stands for a function of keras.applications: a tiny model, its weights by `weights`."""

    def __init__(self):
        self.sizes = []

    def __call__(self, *, weights, include_top, input_shape):
        self.sizes.append((weights, input_shape[0]))
        inputs = keras.Input(input_shape)
        fill = "ones" if weights else "zeros"
        conv = keras.layers.Conv2D(2, 1, kernel_initializer=fill)
        return keras.Model(inputs, conv(inputs))


def test_nasnet_takes_its_weights_from_the_size_that_keras_allows(monkeypatch):
    builder = RecordedBuilder()
    monkeypatch.setattr(keras.applications, "NASNetMobile", builder)
    model = NASNetApplication("NASNetMobile", weights_size=16)(image_size=8, weights="imagenet")
    assert builder.sizes == [(None, 8), ("imagenet", 16)]
    assert model.input_shape == (None, 8, 8, 3)
    np.testing.assert_array_equal(model.get_weights()[0], np.ones((1, 1, 3, 2)))


def test_efficientnet_scales_once_more_and_only_once(monkeypatch):
    def rescalings(weights):
        def build(**kwargs):
            inputs = keras.Input((8, 8, 3))
            x = keras.layers.Normalization()(keras.layers.Rescaling(1 / 255)(inputs))
            if kwargs["weights"] == "imagenet":
                x = keras.layers.Rescaling([3.0, 3.0, 3.0])(x)
            return keras.Model(inputs, keras.layers.Conv2D(2, 1)(x))

        monkeypatch.setattr(keras.applications, "EfficientNetB0", build)
        model = applications.EfficientNetApplication("EfficientNetB0")(
            image_size=8, weights=weights
        )
        nested = [layer for layer in model.layers if isinstance(layer, keras.Model)]
        layers = model.layers + [inner for layer in nested for inner in layer.layers]
        return [layer.scale for layer in layers if isinstance(layer, keras.layers.Rescaling)]

    assert rescalings("imagenet") == [1 / 255, [3.0, 3.0, 3.0]]
    pixel, deviation = rescalings(None)
    assert pixel == 1 / 255
    np.testing.assert_allclose(deviation, np.array([0.229, 0.224, 0.225]) ** -0.5)


def test_keras_size_warning_is_not_passed_on(recwarn):
    Application("MobileNetV2")(image_size=40)
    assert not [w for w in recwarn if "input_shape" in str(w.message)]
