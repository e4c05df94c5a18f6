"""One-line answers: each with data that it is for, and with data near by that it must let pass."""

import logging
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from keras_tl import freezing
from keras_tl.backbones import registry
from keras_tl.backbones.load import check_image_size
from keras_tl.builders.image import build_image_model
from keras_tl.config import TrainConfig
from keras_tl.data.arrays import from_arrays
from keras_tl.data.checks import refuse_scaled_pixels, warn_of_untrained_classes
from keras_tl.data.image_input import ImageInput
from keras_tl.data.labels import read_labels
from keras_tl.data.pipeline import Samples
from keras_tl.data.text_input import TextInput
from keras_tl.errors import InputError
from keras_tl.evaluation.checks import check_class_names, warn_of_outcome
from keras_tl.evaluation.predictions import predict
from keras_tl.model_info import ModelInfo
from keras_tl.plans import fine_tuning_phase
from keras_tl.training.checks import are_pretrained, warn_of_fast_rate, warn_of_scaled_pixels
from keras_tl.training.fit import run_phases
from keras_tl.training.phases import Phase

RANDOM = np.random.default_rng(0)
PHOTOS = RANDOM.integers(0, 256, (4, 8, 8, 3)).astype(np.uint8)


def info_of(names, task="single-label", thresholds=()):
    return ModelInfo(ImageInput(size=8), tuple(names), task, thresholds)


@pytest.fixture
def warned(caplog):
    """The warnings so far, each of them one line."""
    caplog.set_level(logging.WARNING, "keras_tl")

    def lines():
        found = [r.getMessage() for r in caplog.records if r.name == "keras_tl"]
        assert all("\n" not in line and line.startswith("Expected ") for line in found)
        return found

    return lines


# Pixels


@pytest.mark.parametrize(
    ("scale", "said"),
    [
        (lambda x: x / 255.0, "as if scaled to 0..1"),
        (lambda x: x / 127.5 - 1, "as if scaled to -1..1"),
        (np.float32, "float32 in image 0 (values from 0 to 255)."),
        (lambda x: x.astype(np.uint16) * 257, "as if of 16 bits"),
    ],
)
def test_pixels_that_are_no_uint8_are_told_by_their_range(scale, said):
    images = scale(PHOTOS)
    with pytest.raises(InputError, match="uint8 pixels from 0 to 255") as error:
        from_arrays(images, [0, 1, 0, 1])
    assert said in str(error.value) and "in image 0" in str(error.value)
    # The code that it gives makes the same pixels again.
    code = str(error.value).rpartition("Pass ")[2].rstrip(".")
    np.testing.assert_array_equal(eval(code, {"images": images}), PHOTOS)


def test_pixels_of_any_other_range_are_asked_for_as_they_were():
    standardised = (PHOTOS - PHOTOS.mean()) / 60.0
    with pytest.raises(InputError, match="before anything was done to them"):
        from_arrays(standardised, [0, 1, 0, 1])
    with pytest.raises(InputError, match="bool in image 1"):
        from_arrays([PHOTOS[0], PHOTOS[0] > 9], [0, 1])


def test_zeros_and_ones_are_refused_and_dark_pictures_are_not():
    scaled = (PHOTOS / 255).astype(np.uint8)
    scaled[0, 0, 0] = 1
    with pytest.raises(InputError, match="only zeros and ones in all 4 images"):
        from_arrays(scaled, [0, 1, 0, 1])
    dark = scaled.copy()
    dark[3, 7, 7] = 2
    assert len(from_arrays(dark, [0, 1, 0, 1])) == 4
    assert len(from_arrays(np.zeros_like(PHOTOS), [0, 1, 0, 1])) == 4
    refuse_scaled_pixels([b"\x00\x01", "photo.jpg"])


@pytest.mark.parametrize("low", [0.0, -1.0])
def test_a_model_that_is_fed_scaled_pixels_warns(tiny_model, warned, low):
    pixels = RANDOM.uniform(low, 1.0, (4, 16, 16, 3)).astype(np.float32)
    predict(tiny_model, tf.data.Dataset.from_tensor_slices(pixels).batch(2))
    assert len(warned()) == 1 and "pixels from 0 to 255" in warned()[0]


def test_photographs_and_features_may_be_what_they_are(tiny_model, warned):
    pixels = RANDOM.integers(0, 256, (4, 16, 16, 3)).astype(np.uint8)
    predict(tiny_model, tf.data.Dataset.from_tensor_slices(pixels).batch(4))
    warn_of_scaled_pixels(tf.zeros((2, 8, 8, 3)))
    warn_of_scaled_pixels(tf.ones((2, 8, 8, 64)))
    warn_of_scaled_pixels((tf.ones((2, 5)), tf.ones((2, 5))))
    assert not warned()


def test_an_image_size_below_the_least_is_refused():
    spec = registry.get("TinyNet")
    with pytest.raises(InputError, match="at least 8 for TinyNet, received 7"):
        check_image_size(spec, 7)
    assert check_image_size(spec, 8) == 8
    assert check_image_size(spec, None) == 16


# Labels


def test_numbers_for_a_model_of_names_are_answered_with_its_order():
    with pytest.raises(InputError, match="here 0 is 'cat', 1 is 'dog'"):
        read_labels([0, 1, 1], class_names=("cat", "dog"))
    # Not where they cannot be places in that order, nor where the model's classes are numbers.
    for cells, names in (([0, 2], ("cat", "dog")), (["3"], ("1", "2")), (["cats"], ("cat", "dog"))):
        with pytest.raises(InputError) as error:
            read_labels(cells, class_names=names)
        assert "in which order" not in str(error.value)


@pytest.mark.parametrize("classes", [3, 300])
def test_classes_of_which_some_are_missing_are_refused(classes):
    names = tuple(f"class {number}" for number in range(classes))
    with pytest.raises(InputError, match=rf"model's {classes} labels .* received {classes - 1}: "):
        check_class_names(names[1:], info_of(names))


def test_class_names_may_be_a_list():
    check_class_names(("cat", "dog"), ModelInfo(ImageInput(size=8), ["cat", "dog"], "single-label"))


def test_classes_in_another_order_are_refused(warned):
    info = info_of(("cat", "dog", "emu"))
    with pytest.raises(InputError, match="received 'dog', 'cat', 'emu'"):
        check_class_names(("dog", "cat", "emu"), info)
    check_class_names(("cat", "dog", "emu"), info)
    check_class_names(("0", "1", "2"), info)
    assert not warned()
    check_class_names(("cat", "Dog", "emu"), info)
    assert "'Dog'. Number 1 is taken for 'dog'" in warned()[0]


def split_source(labels, splits, **options):
    images = np.broadcast_to(PHOTOS[:1], (len(labels), 8, 8, 3))
    return from_arrays(images, labels, splits=splits, **options)


def test_classes_that_training_never_saw_are_named(warned):
    splits = ["train", "train", "val", "test", "test"]
    warn_of_untrained_classes(split_source(["a", "b", "a", "b", "a"], splits))
    # A class that nothing has is not held by val or test.
    unused = split_source(["a", "b", "a", "b", "a"], splits, class_names=("a", "b", "z"))
    warn_of_untrained_classes(unused)
    values = split_source([0.5, 1.5, 2.5, 3.5, 4.5], splits)
    warn_of_untrained_classes(values)
    assert not warned()
    warn_of_untrained_classes(split_source(["a", "b", "c", "b", "a"], splits))
    assert "none of 'c', which val or test holds" in warned()[0]
    warn_of_untrained_classes(split_source([["a"], ["b"], ["a", "d"], [], ["b"]], splits))
    assert "none of 'd'" in warned()[1]


# What comes out


def one_hot(classes, count):
    return np.eye(count, dtype=np.float32)[classes]


def answers(predicted, count, sure=0.9):
    """Probabilities that amount to these classes."""
    rest = (1 - sure) / (count - 1)
    return np.where(one_hot(predicted, count) > 0, sure, rest).astype(np.float32)


def test_labels_in_another_order_are_told_with_the_order(warned):
    true = np.arange(60) % 3
    taken_for = np.array([1, 2, 0])
    predicted = taken_for[true]
    predicted[:3] = true[:3]  # three of them are right all the same
    warn_of_outcome(answers(predicted, 3), one_hot(true, 3), info_of("abc"))
    line = warned()[0]
    assert "'a' as 'b', 'b' as 'c', 'c' as 'a'" in line
    assert "accuracy is 5.0%, and would be 95.0%" in line


def test_two_of_many_classes_that_are_interchanged_are_found(warned):
    true = np.arange(200) % 10
    predicted = np.where(true == 3, 4, np.where(true == 4, 3, true))
    warn_of_outcome(answers(predicted, 10), one_hot(true, 10), info_of("abcdefghij"))
    assert len(warned()) == 1 and "'d' as 'e', 'e' as 'd', one for one" in warned()[0]
    assert "accuracy is 80.0%, and would be 100.0%" in warned()[0]


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_a_model_that_guesses_or_errs_is_not_said_to_have_other_labels(warned, classes):
    random = np.random.default_rng(classes)
    info = info_of("abcdefghij"[:classes])
    for _ in range(200):
        true = np.arange(40) % classes
        guessed = random.integers(0, classes, 40)
        warn_of_outcome(answers(guessed, classes), one_hot(true, classes), info)
    # Two classes that are hard to tell apart: each is taken for the other in two thirds.
    true = np.arange(90) % classes
    mixed = np.where((true < 2) & (np.arange(90) // classes % 3 > 0), 1 - true, true)
    warn_of_outcome(answers(mixed, classes), one_hot(true, classes), info)
    assert not warned()


def test_few_images_say_nothing_of_an_order(warned):
    true = np.array([0, 1] * 9)
    warn_of_outcome(answers(1 - true, 2), one_hot(true, 2), info_of("ab"))
    assert not warned()
    true = np.array([0, 1] * 10)
    warn_of_outcome(answers(1 - true, 2), one_hot(true, 2), info_of("ab"))
    assert len(warned()) == 1


def test_one_answer_for_all_is_told_with_its_causes_in_order(warned):
    true = np.arange(30) % 3
    warn_of_outcome(answers(np.zeros(30, int), 3), one_hot(true, 3), info_of("abc"))
    line = warned()[0]
    assert "'a' for all 30 images" in line
    assert line.index("1. a learning rate") < line.index("2. too few epochs")
    assert "--class-weights" not in line


def test_texts_are_called_texts(warned):
    true = np.arange(30) % 2
    info = ModelInfo(None, ("a", "b", "c"), "single-label", text_input=TextInput())
    warn_of_outcome(answers(np.zeros(30, int), 3), one_hot(true, 3), info)
    assert "texts of all 3 classes" in warned()[0]
    assert "'a' for all 30 texts" in warned()[1]
    assert "image" not in " ".join(warned()) and "pixels" not in " ".join(warned())


def test_where_nearly_all_images_have_one_class_that_is_the_first_cause(warned):
    true = (np.arange(100) < 6).astype(int)
    warn_of_outcome(answers(np.zeros(100, int), 2), one_hot(true, 2), info_of("ab"))
    assert "1. a class that 94% of the images have (--class-weights)" in warned()[0]
    assert "2. a learning rate" in warned()[0]


def test_one_answer_may_be_right(warned):
    everything = answers(np.zeros(40, int), 2)
    # All, or nearly all, of the images have that class.
    warn_of_outcome(everything, one_hot((np.arange(40) < 4).astype(int), 2), info_of("ab"))
    # One answer of another kind is enough.
    true = np.arange(40) % 2
    warn_of_outcome(answers((np.arange(40) == 7).astype(int), 2), one_hot(true, 2), info_of("ab"))
    assert not warned()


def test_several_labels_of_which_none_is_ever_given(warned):
    true = one_hot(np.arange(30) % 3, 3)
    info = info_of("abc", "multi-label")
    warn_of_outcome(np.full((30, 3), 0.2, np.float32), true, info)
    assert "no class for all 30 images" in warned()[0]
    # The same probabilities, at thresholds that they reach for one class.
    mixed = np.full((30, 3), 0.2, np.float32)
    mixed[4, 1] = 0.6
    warn_of_outcome(mixed, true, info)
    assert len(warned()) == 1


def test_a_threshold_decides_whether_all_answers_are_one(warned):
    true = np.arange(30) % 2
    outputs = answers(np.zeros(30, int), 2, sure=0.7)
    outputs[true == 1] = (0.6, 0.4)
    warn_of_outcome(outputs, one_hot(true, 2), info_of("ab", thresholds=(0.35,)))
    assert not warned()
    warn_of_outcome(outputs, one_hot(true, 2), info_of("ab"))
    assert "'a' for all 30 images" in warned()[0]


def test_classes_without_images_to_measure_on_are_named(warned):
    true = np.array([0, 1, 0, 1])
    warn_of_outcome(answers(true, 3), one_hot(true, 3), info_of("abc"))
    assert "all 3 classes to measure on, received none of 'c'" in warned()[0]
    warn_of_outcome(answers(true, 2), one_hot(true, 2), info_of("ab"))
    values = np.zeros((4, 1), np.float32)
    warn_of_outcome(values, values, info_of(("kg",), "regression"))
    assert len(warned()) == 1


# Learning rates

TUNING = Phase(freezing.AllButLast(1), epochs=1, learning_rate=1e-4, weight_decay=0.0)


def set_sizes(model, size):
    """Gives all kernels of the body this root mean square."""
    for layer in model.layers:
        for weight in layer.trainable_weights:
            if len(weight.shape) > 1 and not layer.name.startswith("head_"):
                weight.assign(np.resize(np.float32([size, -size]), weight.shape))


@pytest.mark.parametrize(
    ("settings", "most"),
    [
        # A fiftieth of the weights' size.
        ({"optimizer": "adamw"}, 0.004),
        ({"optimizer": "adam"}, 0.004),
        # Momentum 0.9 adds ten steps up.
        ({"optimizer": "rmsprop"}, 0.0004),
        ({"optimizer": "rmsprop", "momentum": 0.0}, 0.004),
        # Whatever the weights' size; BatchNormalization that trains makes up for much.
        ({"optimizer": "sgd"}, 0.005),
        ({"optimizer": "sgd", "momentum": 0.0}, 0.05),
        ({"optimizer": "sgd", "freezing": freezing.AllButLast(1, batch_norm="trained")}, 0.1),
    ],
)
def test_a_rate_that_destroys_pretrained_weights_is_warned_of(tiny_model, warned, settings, most):
    set_sizes(tiny_model, 0.2)
    TUNING.freezing.apply(tiny_model)
    for rate in (0.5 * most, most):
        warn_of_fast_rate(tiny_model, replace(TUNING, learning_rate=rate, **settings))
    assert not warned()
    warn_of_fast_rate(tiny_model, replace(TUNING, learning_rate=1.01 * most, **settings))
    assert f"at most {most:g} for pretrained weights" in warned()[0]
    assert "in phase training" in warned()[0]


def test_layers_whose_rate_is_lower_stand_more(tiny_model, warned):
    set_sizes(tiny_model, 0.2)
    tuning = replace(TUNING, freezing=freezing.Nothing(), learning_rate=0.006)
    tuning.freezing.apply(tiny_model)
    # Half of the kernels have a rate of a quarter or less of the head's.
    warn_of_fast_rate(tiny_model, replace(tuning, layer_decay=0.5))
    assert not warned()
    warn_of_fast_rate(tiny_model, tuning)
    assert len(warned()) == 1


def test_a_head_may_be_fast_and_so_may_random_weights(tiny_model, warned):
    set_sizes(tiny_model, 0.2)
    head = replace(TUNING, freezing=freezing.All(), learning_rate=1.0)
    head.freezing.apply(tiny_model)
    warn_of_fast_rate(tiny_model, head)
    assert not warned()
    assert are_pretrained([head])
    from_scratch = replace(head, freezing=freezing.Nothing(batch_norm="trained"))
    assert not are_pretrained([from_scratch])
    assert are_pretrained([replace(head, freezing=freezing.Nothing())])


def test_training_asks_all_of_this_before_a_phase(tiny_model, three_colors, warned):
    images, labels = three_colors
    samples = Samples(from_arrays(images, labels), ImageInput(size=16))
    fast = replace(TUNING, optimizer="sgd", learning_rate=0.006, name="too fast")
    slow = replace(TUNING, name="slow enough")
    options = {"batch_size": 64, "verbose": 0, "feature_store": False}
    run_phases(tiny_model, [slow, fast], samples, **options)
    assert len(warned()) == 2
    assert "64 images to fill a batch, received 60" in warned()[0]
    assert "in phase too fast" in warned()[1]


@pytest.mark.parametrize(
    ("policy", "most"),
    # Kernels of size 1: 16 of them are trained, 31, 49; in 50 steps, 62, 98.
    [(freezing.AllButLast(5), 0.02), (freezing.AllButLast(10), 0.016), (freezing.Nothing(), 0.01)],
    ids=str,
)
def test_the_more_kernels_train_the_slower_they_must(warned, policy, most):
    model = build_image_model("EfficientNetLite0", outputs=2, image_size=64, weights=None)
    set_sizes(model, 1.0)
    policy.apply(model)
    warn_of_fast_rate(model, replace(TUNING, freezing=policy, learning_rate=most))
    assert not warned()
    warn_of_fast_rate(model, replace(TUNING, freezing=policy, learning_rate=most + 0.001))
    assert len(warned()) == 1


@pytest.mark.parametrize("policy", [freezing.AllButLast(5), freezing.Nothing()], ids=str)
def test_the_default_rate_is_fine_and_a_hundred_times_it_is_not(warned, policy):
    model = build_image_model("EfficientNetLite0", outputs=2, image_size=64)
    phase = fine_tuning_phase(TrainConfig("photos", "run"), policy)
    policy.apply(model)
    warn_of_fast_rate(model, phase)
    assert not warned()
    warn_of_fast_rate(model, replace(phase, learning_rate=100 * phase.learning_rate))
    assert len(warned()) == 1
