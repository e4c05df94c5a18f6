"""One-line errors and warnings of what would ruin a training before it begins."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from numbers import Integral
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_tl import freezing, tasks
from keras_tl.backbones.adapters import adapter_weights
from keras_tl.errors import InputError, sentence
from keras_tl.training.images import Images
from keras_tl.training.phases import Phase
from keras_tl.training.rates import variable_rates
from keras_tl.training.sampling import check_sampling

# For `warn_of_fast_rate`: the number of steps of the rate's size that a kernel's weights must be
# worth: the least, the number for each kernel that trains, and the most; and the limit of SGD's
# rate / (1 - momentum), by the mode of BatchNormalization.
LEAST_STEPS, STEPS_A_KERNEL, MOST_STEPS = 50, 2, 100
MOST_SGD = {"frozen": 0.05, "trained": 1.0}

log = logging.getLogger("keras_tl")


def are_pretrained(phases: Sequence[Phase]) -> bool:
    """Whether phases are for a pretrained backbone: random weights have only one kind of phase."""
    return any(phase.freezing != freezing.Nothing(batch_norm="trained") for phase in phases)


def check_training(
    model: keras.Model,
    phases: Sequence[Phase],
    train: Images,
    val: Images | None,
    task: str,
    class_weights: Sequence[float] | None,
) -> None:
    """Refuses parts of a training that do not go together; see `check_task`, `check_shapes`."""
    check_task(task, phases, class_weights, train, val)
    check_shapes(model, train, val)


def check_shapes(model: keras.Model, *parts: Images | None) -> None:
    """Refuses items that a model has another input or other outputs for.

    Args:
        model: A functional model of one input and one output.
        *parts: The training and the validation items; None is passed over.

    Raises:
        InputError: Images of another size, or targets of another number than the outputs.
    """
    shape, outputs = model.inputs[0].shape, model.outputs[0].shape[-1]
    for images in parts:
        size = getattr(getattr(images, "input_spec", None), "size", None)
        if size and len(shape) == 4 and not {*shape[1:3]} <= {size, None}:
            square = shape[1] == shape[2]
            asked = shape[1] if square else f"{shape[1]}x{shape[2]}"
            fix = f"Give prepare image_size={asked}, or build" if square else "Build"
            fix += f" the model with image_size={size}."
            raise InputError(f"images of {asked} pixels for this model", str(size), fix)
        targets = None if images is None else images.targets().shape[1]
        if targets and outputs and targets != outputs:
            received, fix = f"a model of {outputs}", f"Build it with outputs={targets}."
            raise InputError(f"{targets} outputs, as the data have targets", received, fix)


def check_task(
    task: str,
    phases: Sequence[Phase],
    class_weights: Sequence[float] | None,
    train: Images,
    val: Images | None = None,
) -> None:
    """Refuses what a task has no use for, before the first of the phases trains.

    Args:
        task: A name in `keras_tl.tasks`.
        phases: The phases.
        class_weights: What each class counts, or None.
        train: The training items.
        val: The validation items, or None.

    Raises:
        InputError: The data have another task, or a regression was asked for what only classes
            have.
    """
    classifies = tasks.get(task).classifies
    for images in (train, val):
        # Items of another kind than `Samples` need not know their task.
        known = getattr(getattr(images, "source", None), "task", task)
        if known != task:
            received, fix = f"task={task!r}", "Give the task of the data."
            raise InputError(f"task={known!r}, as the data are", received, fix)
    targets = train.targets()
    for phase in phases:
        phase.build_loss(task, targets)
        check_sampling(phase.sampling, task)
    if class_weights is not None and not classifies:
        raise InputError("classes for class weights", "a regression", "Leave them out.")


def warn_of_fast_rate(model: keras.Model, phase: Phase) -> None:
    """Warns where a learning rate would destroy the pretrained weights that a phase trains.

    Adam, AdamW and RMSprop move a weight by about the rate in each step, however small its
    gradient (Kingma and Ba, "Adam", ICLR 2015, section 2.1): after (root mean square of a kernel) /
    rate steps, it may be another kernel. For the median kernel this must be at least 50 steps, and
    at least two for each kernel, since what each of them passes on changes, too (100 are enough).
    SGD's steps follow the gradient, and rate / (1 - momentum) counts (Li et al., "Rethinking the
    Hyperparameters for Fine-tuning", ICLR 2020). With trained BatchNormalization, Kornblith et al.
    ("Do Better ImageNet Models Transfer Better?", CVPR 2019) search up to 1, which is the limit
    here. If frozen, it cannot make up for kernels that grow (Arora et al., "Theoretical Analysis of
    Auto Rate-Tuning by Batch Normalization", ICLR 2019), and the limit is a twentieth.
    docs/how-to/one-line-answers.md has the results.

    Args:
        model: The model, with the phase's policy applied.
        phase: The phase.
    """
    sizes = _sizes_of_kernels(model, phase)
    if not sizes:
        return
    rest = 1 - phase.momentum if phase.optimizer in ("sgd", "rmsprop") else 1.0
    size = float(np.median(sizes))
    if phase.optimizer == "sgd":
        most = MOST_SGD[phase.freezing.batch_norm] * rest
        why = f"with momentum {phase.momentum:g}, steps add up to {1 / rest:.0f} times the rate"
    else:
        steps = min(max(LEAST_STEPS, STEPS_A_KERNEL * len(sizes)), MOST_STEPS)
        most = size / steps * rest
        why = (
            f"{phase.optimizer} moves a weight by up to the rate in each step, and the weights of "
            f"these kernels are of size {size:.2g}"
        )
    # With a tolerance for rounding.
    if phase.learning_rate > most * (1 + 1e-6):
        line = sentence(
            f"a learning rate of at most {_rounded_down(most):g} for pretrained weights",
            f"{phase.learning_rate:g} in phase {phase.name}",
            f"It may destroy them; lower it, or train fewer blocks: {why}.",
        )
        log.warning("%s", line)


def _rounded_down(value: float) -> float:
    """Rounds down to one digit, so that the rate that the warning names is allowed."""
    unit = 10.0 ** np.floor(np.log10(value) + 1e-6)
    return float(np.floor(value / unit + 1e-6) * unit)


def _sizes_of_kernels(model: keras.Model, phase: Phase) -> list[float]:
    """The root mean square of each backbone kernel that trains, divided by its rate's factor.

    An adapter's factors are left out: they are new, so there is nothing in them to lose.
    """
    rates = variable_rates(model, phase.layer_decay) if phase.layer_decay < 1 else {}
    return [
        float(np.sqrt(np.mean(np.square(weight.numpy())))) / rates.get(id(weight), 1.0)
        for layer in model.layers
        if not layer.name.startswith("head_")
        for weight in layer.trainable_weights
        if len(weight.shape) > 1 and all(weight is not factor for factor in adapter_weights(layer))
    ]


def warn_of_scaled_pixels(inputs: Any) -> None:
    """Warns where images that a model is fed look scaled: no value of a whole batch above 1.

    Args:
        inputs: What a model is fed; anything but a batch of colour images is ignored.
    """
    shape: Any = getattr(inputs, "shape", ())
    if len(shape) != 4 or shape[-1] != 3:
        return
    pixels = np.asarray(inputs)
    if pixels.any() and pixels.max() <= 1:
        line = sentence(
            "pixels from 0 to 255 (the model scales them itself)",
            f"a batch of values from {pixels.min():.3g} to {pixels.max():.3g}",
            "Leave out what scales them before.",
        )
        log.warning("%s", line)


def _check_enough(images: int, parts: int) -> None:
    """Raises `InputError` if there are fewer images than parts of a batch."""
    if images >= parts:
        return
    which = "one training image" if parts == 1 else f"{parts} training images, one for each part"
    fix = "Add some." if parts == 1 else "Add some, or divide a batch into fewer parts."
    raise InputError(f"at least {which}", str(images), fix)


@contextmanager
def memory_told(batch_size: int, micro_batches: int) -> Iterator[None]:
    """Turns the error of a batch that does not fit into a device's memory into one line.

    Args:
        batch_size: Items in a batch.
        micro_batches: In how many parts it is computed.

    Raises:
        InputError: A batch does not fit.
    """
    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        smaller = f"--batch-size {max(batch_size // 2, 1)}"
        alike = f"--micro-batches {2 * micro_batches}"
        raise InputError(
            "memory for training",
            f"too little for batches of {batch_size} in {micro_batches} parts",
            f"Try {alike}, which trains the same model, or {smaller}.",
        ) from error


def check_batch(batch_size: int, parts: int) -> None:
    """Refuses sizes that are no numbers of items or of parts.

    Raises:
        InputError: One is.
    """
    for name, number in (("batch_size", batch_size), ("micro_batches", parts)):
        if not isinstance(number, Integral) or number < 1:
            raise InputError(f"{name} of at least 1", str(number), "Give a whole number.")


def whole_batch(batch_size: int, images: int, parts: int) -> int:
    """The largest batch that the images can fill and that divides into so many equal parts.

    Raises:
        InputError: A number is below 1; there are fewer training images than parts.
    """
    check_batch(batch_size, parts)
    _check_enough(images, parts)
    fits = min(batch_size, images)
    if fits < batch_size:
        fix = f"The batch size is {fits} instead, and an epoch one step: a smaller one gives more."
        log.warning("%s", sentence(f"{batch_size} images to fill a batch", str(images), fix))
    whole = max(fits // parts, 1) * parts
    if whole != fits:
        fix = f"The batch size is {whole} instead."
        log.info("%s", sentence(f"a batch of {parts} equal parts", f"{fits} images", fix))
    return whole
