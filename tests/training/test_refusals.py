"""What a training refuses in one line, before anything of it is computed."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_tl import freezing
from keras_tl.data.arrays import from_arrays
from keras_tl.data.image_input import ImageInput
from keras_tl.data.pipeline import Samples
from keras_tl.data.prepare import prepare
from keras_tl.errors import InputError
from keras_tl.export.saved_model import export_saved_model
from keras_tl.measuring import measure
from keras_tl.model_info import ModelInfo
from keras_tl.training.checks import check_shapes
from keras_tl.training.fit import run_phases
from keras_tl.training.lr_finder import find_learning_rate
from keras_tl.training.phases import Phase

PHASE = Phase(freezing.All(), 1, 1e-3, name="head")


def samples(images, labels, size=16, **options):
    return Samples(from_arrays(images, labels, **options), ImageInput(size=size))


def train(model, data, val=None, **options):
    return run_phases(model, [PHASE], data, val, **{"verbose": 0, **options})


def find(model, data, **options):
    return find_learning_rate(model, PHASE, data, **options)


@pytest.fixture
def data(three_colors):
    return samples(*three_colors)


@pytest.fixture
def no_pass(monkeypatch):
    """Reading a pixel fails."""
    monkeypatch.setattr(Samples, "images", None)
    monkeypatch.setattr(Samples, "batches", None)


@pytest.mark.parametrize("start", [train, find])
def test_another_task_than_the_data_have_is_refused(tiny_model, three_colors, no_pass, start):
    images, labels = three_colors
    several = samples(images, [[str(label)] for label in labels])
    with pytest.raises(InputError, match=r"task='multi-label', as the data are.+'single-label'"):
        start(tiny_model, several)
    values = samples(images, labels * 1.0, task="regression")
    with pytest.raises(InputError, match="task='regression', as the data are"):
        start(tiny_model, values)


def test_validation_has_the_task_too(tiny_model, three_colors, data, no_pass):
    values = samples(three_colors[0], three_colors[1] * 1.0, task="regression")
    with pytest.raises(InputError, match="task='regression', as the data are"):
        train(tiny_model, data, values)


@pytest.mark.parametrize("start", [train, find])
@pytest.mark.parametrize("store", [True, False])
def test_images_of_another_size_than_the_model_has_are_refused(
    tiny_model, three_colors, no_pass, start, store
):
    large = samples(*three_colors, size=24)
    said = r"images of 16 pixels for this model, received 24\. Give prepare image_size=16, or build"
    with pytest.raises(InputError, match=said):
        start(tiny_model, large, feature_store=store)


def test_images_of_another_size_are_not_measured(tiny_model, three_colors, no_pass):
    large = samples(*three_colors, size=24)
    info = ModelInfo(large.input_spec, large.source.class_names, "single-label")
    with pytest.raises(InputError, match="images of 16 pixels for this model, received 24"):
        measure(tiny_model, large, info)


def test_a_model_of_any_size_takes_any_images(three_colors):
    inputs = keras.Input((None, None, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(inputs)
    outputs = keras.layers.Dense(3, "softmax", name="head_predictions")(pooled)
    check_shapes(
        keras.Model(inputs, outputs), samples(*three_colors), samples(*three_colors, size=24)
    )


@pytest.mark.parametrize("start", [train, find])
def test_a_model_of_another_number_of_outputs_is_refused(tiny_model, three_colors, no_pass, start):
    four = samples(three_colors[0], np.arange(60) % 4)
    with pytest.raises(InputError, match=r"4 outputs.+a model of 3\. Build it with outputs=4"):
        start(tiny_model, four)


class Subclassed(keras.Model):
    def call(self, x):
        return x


def dense_of(*inputs):
    return [keras.layers.Dense(3)(tensor) for tensor in inputs]


def two_inputs():
    inputs = [keras.Input((3,)), keras.Input((3,))]
    return keras.Model(inputs, keras.layers.Add()(dense_of(*inputs)))


def two_outputs():
    one = keras.Input((3,))
    return keras.Model(one, dense_of(one, one))


@pytest.mark.parametrize("start", [train, find])
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: "EfficientNetB0", "received str. build_image_model"),
        (Subclassed, r"Subclassed, whose input is not known. Make keras.Model\(inputs"),
        (lambda: keras.Sequential([keras.layers.Dense(3)]), "Begin it with keras.Input"),
        (two_inputs, "2 inputs and 1 outputs"),
        (two_outputs, "1 inputs and 2 outputs"),
    ],
)
def test_a_model_that_is_no_function_from_one_tensor_to_one_is_refused(data, make, said, start):
    with pytest.raises(InputError, match=said):
        start(make(), data)


def test_a_sequential_and_a_model_of_lists_train_in_place(data):
    layers = [
        keras.layers.Rescaling(1 / 255),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(3, "softmax", name="head_predictions"),
    ]
    sequential = keras.Sequential([keras.Input((16, 16, 3)), *layers])
    of_lists = keras.Model(sequential.inputs, sequential.outputs)
    phase = Phase(freezing.UpTo(layers[1].name), 1, 1e-2)
    for model in (sequential, of_lists):
        before = layers[2].kernel.numpy()
        # A single phase need be no list.
        run_phases(model, phase, data, verbose=0)
        assert np.abs(layers[2].kernel.numpy() - before).max() > 1e-3


def test_they_are_measured_and_exported_too(data, tmp_path):
    inputs = keras.Input((16, 16, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(inputs))
    outputs = keras.layers.Dense(3, "softmax")(pooled)
    model = keras.Model([inputs], {"probabilities": outputs})
    info = ModelInfo(data.input_spec, data.source.class_names, "single-label")
    figures, _ = measure(model, data, info, verbose=0)
    assert 0 <= figures["accuracy"] <= 1
    export_saved_model(model, tmp_path / "saved", info)
    with pytest.raises(InputError, match="2 inputs"):
        export_saved_model(two_inputs(), tmp_path / "other", info)


@pytest.mark.parametrize("phases", [None, ["all"], freezing.All(), [PHASE, Phase]])
def test_what_is_no_phase_is_refused(tiny_model, data, phases):
    with pytest.raises(InputError, match="a list of phases"):
        run_phases(tiny_model, phases, data)


def test_a_sweep_has_one_phase(tiny_model, data):
    with pytest.raises(InputError, match="a list of phases"):
        find_learning_rate(tiny_model, [PHASE], data)


@pytest.mark.parametrize("start", [train, find])
def test_data_that_are_not_one_split_are_refused(tiny_model, three_colors, start):
    images, labels = three_colors
    with pytest.raises(InputError, match=r"ImageData as a whole\. Pass data.train, data.val"):
        start(tiny_model, prepare(from_arrays(images, labels), image_size=16, audit=False))
    for other in (None, images, (images, labels), tf.data.Dataset.from_tensors((images, labels))):
        with pytest.raises(InputError, match=r"keras_tl\.prepare\(keras_tl\.from_arrays"):
            start(tiny_model, other)


def test_labels_in_the_place_of_validation_are_refused(tiny_model, three_colors, data):
    with pytest.raises(InputError, match=r"such as data.train, received ndarray"):
        train(tiny_model, data, three_colors[1])


@pytest.mark.parametrize("start", [train, find])
@pytest.mark.parametrize("weights", [{0: 1.0, 2: 3.0}, {0: 1, 1: 1, 2: 1, 3: 1}, {"0": 1.0}, {}])
def test_class_weights_by_index_must_be_those_of_the_classes(
    tiny_model, data, no_pass, weights, start
):
    with pytest.raises(InputError, match="class weights"):
        start(tiny_model, data, class_weights=weights)


def test_class_weights_may_be_given_by_index(tiny_model, data):
    start, losses = tiny_model.get_weights(), []
    tiny_model.get_layer("head_dropout").rate = 0.0
    for weights in ([3.0, 0.0, 1.0], {2: 1.0, 0: 3.0, 1: 0.0}):
        tiny_model.set_weights(start)
        result = train(tiny_model, data, batch_size=60, class_weights=weights)
        losses.append(result.history[0]["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_callbacks_are_a_function_of_the_phase(tiny_model, data, no_pass):
    for wrong in ([keras.callbacks.TerminateOnNaN()], keras.callbacks.TerminateOnNaN()):
        with pytest.raises(InputError, match=r"Give callbacks=lambda phase"):
            train(tiny_model, data, callbacks=wrong)


@pytest.mark.parametrize("start", [train, find])
@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"batch_size": 8.0}, {"micro_batches": 0}])
def test_a_batch_of_nothing_is_refused(tiny_model, data, no_pass, wrong, start):
    with pytest.raises(InputError, match=f"{next(iter(wrong))} of at least 1"):
        start(tiny_model, data, **wrong)
