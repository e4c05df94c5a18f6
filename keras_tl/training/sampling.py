"""Which images an epoch shows, and in which of their views.

An order is a function from the epoch's number to two int64 `[images]`: the indices, and how often
each image was shown before, which is the number of the view it shows now.
"""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_tl import tasks
from keras_tl.data.one_hot import OneHotRows
from keras_tl.data.pipeline import Order
from keras_tl.errors import InputError, did_you_mean
from keras_tl.training.images import Images

SAMPLINGS = ("shuffled", "balanced")


def check_sampling(name: str, task: str | None = None) -> None:
    """Raises `InputError` where there is no such sampling, or not for the task if one is given."""
    if name not in SAMPLINGS:
        hint = did_you_mean(name, SAMPLINGS, f"Choose {' or '.join(SAMPLINGS)}.")
        raise InputError("a way of sampling", repr(name), hint)
    if name == "balanced" and task is not None and not tasks.get(task).classifies:
        raise InputError("classes for balanced sampling", "a regression", "Leave it out.")


def order_of(sampling: str, images: Images, seed: int, task: str) -> Order:
    """The order of a phase.

    Args:
        sampling: "shuffled" shows every image once in an epoch; "balanced" see `balanced`.
        images: The training images.
        seed: The phase's seed, at least 0.
        task: A name in `keras_tl.tasks`.

    Raises:
        InputError: A regression has no classes to balance.
    """
    check_sampling(sampling, task)
    if sampling == "shuffled":
        return shuffled(images, seed)
    return functools.lru_cache(maxsize=2)(functools.partial(balanced, images.targets(), seed))


def shuffled(images: Images, seed: int) -> Order:
    """Every image once in an epoch, in the order of `Images.order`."""

    @functools.lru_cache(maxsize=2)
    def order(epoch: int) -> tuple[np.ndarray, np.ndarray]:
        indices = images.order(seed, epoch)
        return indices, np.full(len(indices), epoch, np.int64)

    return order


def balanced(targets: np.ndarray, seed: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws an epoch in which all classes come equally often.

    Each class deals its images out in rounds, every round a new permutation of them; an epoch
    takes what comes next, the same number of each class, and shuffles it. So over the epochs all
    images of a class come equally often; those of a small one several times in an epoch, in
    different views; and an epoch depends on its number alone, not on those before it
    (class-aware sampling: Shen et al., "Relay Backpropagation for Effective Learning of Deep
    Convolutional Neural Networks", ECCV 2016).

    With several labels, the images of each label, and those without any, are the classes: a label
    that occurs together with others comes more often than they do.

    Args:
        targets: `[images, classes]`, above 0 for an image's classes.
        seed: The phase's seed, at least 0.
        epoch: The epoch's number, from 0.

    Returns:
        The images, and the round of each: int64 `[images]` both. If the number of images is no
        multiple of the classes, a few are left out, others in each epoch.
    """
    pools = _pools(targets)
    share = -(-len(targets) // len(pools))
    chosen, rounds = [], []
    for number, pool in enumerate(pools):
        at = np.arange(epoch * share, (epoch + 1) * share)
        first, last = at[0] // len(pool), at[-1] // len(pool)
        dealt = [
            np.random.default_rng([seed, number, turn]).permutation(pool)
            for turn in range(first, last + 1)
        ]
        chosen.append(np.concatenate(dealt)[at - first * len(pool)])
        rounds.append(at // len(pool))
    mixed = np.random.default_rng([seed, epoch]).permutation(share * len(pools))[: len(targets)]
    return np.concatenate(chosen)[mixed], np.concatenate(rounds)[mixed]


def _pools(targets: Any) -> list[np.ndarray]:
    """The images of each class that has some, int64 each; at last those without any class."""
    if isinstance(targets, OneHotRows):
        order = np.argsort(targets.labels, kind="stable")
        starts = np.flatnonzero(np.diff(targets.labels[order])) + 1
        return np.split(order, starts)
    member = targets > 0
    pools = [np.flatnonzero(column) for column in (*member.T, ~member.any(axis=1))]
    return [pool for pool in pools if len(pool)]


def class_weights(counts: Sequence[int] | np.ndarray, beta: float | None = None) -> list[float]:
    """Weights by which rare classes count more, with a mean of 1 over all labels.

    With several labels an image, the mean is over the occurrences of labels, not over the images.

    A class counts with the inverse of its number of images, so that all classes count the same;
    or with the inverse of the effective number (1 - beta^n) / (1 - beta) (Cui et al.,
    "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019), which lies between
    that and no weights at all.

    Args:
        counts: Images of each class, at least one of them not 0.
        beta: In [0, 1): 0 weights all alike, 0.999 a class of thousands like one of a thousand;
            None takes the inverse number itself.

    Returns:
        A weight for each class.
    """
    images = np.asarray(counts, np.float64)
    present = np.maximum(images, 1)
    effective = present if beta is None else (1 - beta**present) / (1 - beta)
    weights = images.sum() / effective / (images / effective).sum()
    return [float(weight) for weight in weights]


def sample_weights(targets: np.ndarray, class_weights: Sequence[float] | None) -> np.ndarray | None:
    """The weight of each image, float32 `[images]`: the mean over its classes.

    Args:
        targets: Float32 `[images, classes]`.
        class_weights: A weight for each class; None weights nothing.

    Raises:
        InputError: There are not as many weights as classes.
    """
    if class_weights is None:
        return None
    if len(class_weights) != targets.shape[1]:
        received, fix = str(len(class_weights)), "Give one for each class, in order."
        raise InputError(f"{targets.shape[1]} class weights", received, fix)
    if isinstance(targets, OneHotRows):
        return np.asarray(class_weights, np.float32)[targets.labels]
    share = targets / np.maximum(targets.sum(axis=1, keepdims=True), 1)
    # An image without any class (multi-label) counts once.
    none = (targets.sum(axis=1) == 0).astype(np.float32)
    return (share @ np.asarray(class_weights, np.float32) + none).astype(np.float32)
