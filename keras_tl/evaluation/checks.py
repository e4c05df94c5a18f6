"""Answers, in one line, to what figures alone do not say: why they are so low."""

import logging

import numpy as np
from scipy.optimize import linear_sum_assignment

from keras_tl.data.labels import first_few
from keras_tl.errors import InputError, sentence
from keras_tl.evaluation.many_classes import class_indices, has_many
from keras_tl.evaluation.metrics import decide
from keras_tl.model_info import ModelInfo

# Fewer images say nothing: a coin that is tossed 20 times hardly ever shows 16 heads (0.6 %).
LEAST_IMAGES, LEAST_OF_A_CLASS = 20, 5
# Classes look interchanged if at least FITS of each one's images fit the other order, and at most
# MISFITS of all of theirs the order that was given.
FITS, MISFITS = 0.8, 0.2
# From this share of the images on, one class alone may be what was learned.
DOMINANT = 0.8

log = logging.getLogger("keras_tl")


def check_class_names(names: tuple[str, ...], info: ModelInfo) -> None:
    """Compares the classes (or targets) of data with those that a model was trained on.

    Args:
        names: The data's, in the order of its labels.
        info: The model's.

    Raises:
        InputError: They are the same in another order, or of another number.
    """
    if names == info.class_names:
        return
    shown = first_few([repr(name) for name in info.class_names], 10)
    others = len(names) != len(info.class_names)
    if others or sorted(names) == sorted(info.class_names):
        listed = first_few([repr(name) for name in names], 10)
        raise InputError(
            f"the model's {len(info.class_names)} labels in its order, {shown}",
            f"{len(names)}: {listed}" if others else listed,
            "Open the data with class_names=info.class_names, or use keras_tl.data.open."
            "align_classes(source, info.class_names).",
        )
    # Labels that are mere indices are what the model was trained on, in its own order.
    indices = tuple(str(i) for i in range(len(info.class_names)))
    if info.task != "regression" and len(names) == len(indices) and names != indices:
        pairs = enumerate(zip(names, info.class_names, strict=True))
        index = next(i for i, (data, model) in pairs if data != model)
        fix = f"Number {index} is taken for {info.class_names[index]!r}: see whether that is right."
        log.warning("%s", sentence(f"the model's classes, {shown}", repr(names[index]), fix))


def warn_of_outcome(outputs: np.ndarray, targets: np.ndarray, info: ModelInfo) -> None:
    """Warns where a classifier's answers show that something else than the model is wrong.

    Args:
        outputs: Probabilities, float32 `[samples, classes]`.
        targets: As `evaluate` takes them.
        info: The task, class names and thresholds.
    """
    if info.task == "regression":
        return
    if has_many(info):
        _warn_of_many(outputs.argmax(axis=1), class_indices(targets), info)
        return
    if targets.ndim == 1:
        targets = np.eye(len(info.class_names), dtype=np.float32)[targets]
    chosen, present = decide(outputs, info), targets > 0.5
    _warn_of_missing_classes(present.sum(axis=0), info)
    if len(targets) < LEAST_IMAGES:
        return
    line = _always_the_same(chosen, present, info)
    if line is None and info.task == "single-label":
        classes = len(info.class_names)
        pairs = present.argmax(axis=1) * classes + chosen.argmax(axis=1)
        matrix = np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
        line = _interchanged(matrix, info.class_names)
    if line:
        log.warning("%s", line)


def _warn_of_many(chosen: np.ndarray, true: np.ndarray, info: ModelInfo) -> None:
    """As `warn_of_outcome`, from indices of very many classes; another order is not looked for."""
    _warn_of_missing_classes(np.bincount(true, minlength=len(info.class_names)), info)
    alike = np.bincount(true).max()
    if len(true) < LEAST_IMAGES or len(true) - alike < LEAST_OF_A_CLASS:
        return
    if (chosen == chosen[0]).all():
        share = float((true == chosen[0]).mean())
        log.warning("%s", _one_answer([info.class_names[chosen[0]]], len(true), share, info))


def _warn_of_missing_classes(counts: np.ndarray, info: ModelInfo) -> None:
    missing = [repr(name) for name, n in zip(info.class_names, counts, strict=True) if not n]
    if missing:
        line = sentence(
            f"{info.nouns} of all {len(counts)} classes to measure on",
            f"none of {first_few(missing)}",
            "Macro F1 counts such a class as 0: read the figures of each class.",
        )
        log.warning("%s", line)


def _always_the_same(chosen: np.ndarray, present: np.ndarray, info: ModelInfo) -> str | None:
    """One line where all images get the same answer, though they differ."""
    alike = np.unique(present, axis=0, return_counts=True)[1].max()
    if (chosen != chosen[0]).any() or len(present) - alike < LEAST_OF_A_CLASS:
        return None
    named = [name for name, yes in zip(info.class_names, chosen[0], strict=True) if yes]
    share = float((present == chosen[0]).all(axis=1).mean())
    return _one_answer(named, len(chosen), share, info)


def _one_answer(named: list[str], count: int, share: float, info: ModelInfo) -> str:
    """The line on one answer to all items, which is right for `share` of them."""
    causes = [
        "a learning rate that is too high (look at the loss: NaN, or not below its start)",
        "too few epochs",
        f"labels that do not belong to the {info.nouns}",
    ]
    if info.text_input is None:
        causes.insert(2, "pixels scaled before they reach the model, which takes 0..255")
    if share >= DOMINANT:
        causes.insert(0, f"a class that {share:.0%} of the {info.nouns} have (--class-weights)")
    listed = "; ".join(f"{number}. {cause}" for number, cause in enumerate(causes, start=1))
    return sentence(
        "predictions that differ",
        f"{first_few(list(map(repr, named))) or 'no class'} for all {count:,} {info.nouns}",
        f"Likely causes, the likeliest first: {listed}.",
    )


def _interchanged(matrix: np.ndarray, names: tuple[str, ...]) -> str | None:
    """One line where predictions fit the labels in another order of the classes.

    That order is the assignment of predicted to true classes under which most images are right
    (Kuhn, "The Hungarian method", 1955). It is believed only where nearly all images of the
    classes it moves fit it, and nearly none fit their own.

    Args:
        matrix: Images `[true class, predicted class]`.
        names: The classes.
    """
    support = matrix.sum(axis=1)
    true, predicted = linear_sum_assignment(matrix, maximize=True)
    # A class without images is moved by whoever takes its place.
    moved = (true != predicted) & (support[true] >= LEAST_OF_A_CLASS)
    true, predicted = true[moved], predicted[moved]
    images = support[true].sum()
    if images < LEAST_IMAGES or len(true) < 2:
        return None
    fits = matrix[true, predicted] / support[true]
    if fits.min() < FITS or matrix[true, true].sum() > MISFITS * images:
        return None
    pairs = [f"{names[t]!r} as {names[p]!r}" for t, p in zip(true, predicted, strict=True)]
    right = float(np.trace(matrix) / support.sum())
    would_be = float(np.trace(matrix) + (matrix[true, predicted] - matrix[true, true]).sum())
    return sentence(
        "labels in the order that the model was trained with",
        f"{first_few(pairs)}, one for one: accuracy is {right:.1%}, and would be "
        f"{would_be / support.sum():.1%} in another order",
        "Check which class each label means, or give labels as class names.",
    )
