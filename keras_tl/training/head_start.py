"""Where a new head starts: as it was made, or at a linear model fitted to its features.

A few hundred items make few steps: a head that starts at random has not converged when the phase
ends, and a few dozen items choose the epoch whose weights are kept. But its optimum is that of a
convex problem, which for so few items is solved at once.
"""

import logging
import warnings

import keras
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from threadpoolctl import threadpool_limits

from keras_tl.errors import InputError, did_you_mean
from keras_tl.feature_cache import Features
from keras_tl.features import scaling
from keras_tl.heads import HEAD_UNIT
from keras_tl.training.images import Images
from keras_tl.training.refinement import refined_loss
from keras_tl.workers import Workers

HEAD_STARTS = ("given", "fitted")
# With more items an epoch has enough steps; items squared times classes bounds the time, to about a
# quarter of a minute.
MOST_ITEMS, MOST_WORK = 1000, 2 * 10**7
# Factors of the summed loss relative to half the kernel's squares (scikit-learn's C), for features
# whose mean square length is 1.
STRENGTHS = tuple(10 ** (power / 2) for power in range(2, 10))
MAX_STEPS, TOLERANCE = 1000, 1e-6
# Penalties of a ridge regression (scikit-learn's alpha), likewise.
PENALTIES = tuple(10 ** (power / 2) for power in range(-6, 7))

log = logging.getLogger("keras_tl")


def check_head_start(name: str) -> None:
    """Refuses an unknown start of a head."""
    if name not in HEAD_STARTS:
        fix = did_you_mean(name, HEAD_STARTS, f"Choose {' or '.join(HEAD_STARTS)}.")
        raise InputError("a head's start", repr(name), fix)


def start_fitted(
    part: keras.Model,
    train: tuple[Images, Features],
    val: tuple[Images, Features] | None,
    weights: np.ndarray | None = None,
    sampling: str = "shuffled",
    workers: Workers | None = None,
) -> bool:
    """Sets a head that is one layer to a linear model of its stored features.

    Of a softmax layer that is logistic regression; of a regression's, ridge regression. The penalty
    is the one with the lowest refined loss, or squared error, on the validation items; without any,
    a middle one. Nothing changes where the model's part is more than dropout and that layer, where
    there are more than `MOST_ITEMS` items or very many classes, where a class has no item, or where
    views blend labels.

    Args:
        part: The part after the cut; its layer is changed in place.
        train: The items to fit to, and what is stored of them in one view.
        val: The items to choose the penalty by.
        weights: What each item counts, float32 `[items]`.
        sampling: "balanced" makes all classes count the same, on top of the weights.
        workers: The processes; all get the solution of the chief.

    Returns:
        Whether the head was changed.
    """
    (dense, unit), (items, stored) = _only_layer(part), train
    if dense is None or items.mixes or not _is_quick(len(items), dense.units):
        return False
    if unit is not None:
        held = None if val is None else (_all(val[1]), _in_unit(val[0].targets(), unit))
        targets = _in_unit(items.targets(), unit)
        kernel, bias, penalty = fit_ridge(_all(stored), targets, held, weights)
        _share(dense, kernel, bias, workers)
        log.info("The head starts at a ridge regression on its features (penalty %.3g)", penalty)
        return True
    classes = items.targets().argmax(axis=1)
    if len(np.unique(classes)) < dense.units:
        return False
    balanced = sampling == "balanced"
    held = None if val is None else (_all(val[1]), val[0].targets().argmax(axis=1))
    kernel, bias, strength = fit_softmax(_all(stored), classes, held, weights, balanced=balanced)
    _share(dense, kernel, bias, workers)
    log.info("The head starts at a logistic regression on its features (strength %.3g)", strength)
    return True


def fit_softmax(
    features: np.ndarray,
    classes: np.ndarray,
    held: tuple[np.ndarray, np.ndarray] | None = None,
    weights: np.ndarray | None = None,
    *,
    balanced: bool = False,
) -> tuple[np.ndarray, np.ndarray, float]:
    """Multinomial logistic regression with a penalty on the squares of the kernel.

    The penalty applies to features scaled by `keras_tl.features.scaling`; the kernel returned is
    for unscaled ones. The best kernel lies in the span of the items' features, so only that is
    searched: with fewer items than features it is much smaller, and the solution is the same.

    Args:
        features: Float `[items, features]`.
        classes: int64 `[items]`; all from 0 to the highest one occur.
        held: Features and classes of other items, to choose the penalty by.
        weights: What each item counts, `[items]`.
        balanced: Whether all classes count the same, on top of the weights.

    Returns:
        Kernel `[features, classes]` and bias `[classes]`, float32, and the strength chosen.
    """
    shift, scale = scaling(features)
    basis, mixed = np.linalg.qr(((features - shift) * scale).T.astype(np.float64))
    length = np.sqrt((mixed**2).sum(axis=0).mean()) or 1.0
    if balanced:
        # scikit-learn's own "balanced" counts weights too, in some versions, and undoes them.
        counts = np.bincount(classes)
        shares = len(classes) / len(counts) / counts[classes]
        weights = shares if weights is None else weights * shares
    model = LogisticRegression(max_iter=MAX_STEPS, tol=TOLERANCE, warm_start=True)
    strengths = STRENGTHS if held is not None else STRENGTHS[len(STRENGTHS) // 2 :][:1]
    found = []
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for strength in strengths:
            model.set_params(C=strength).fit(mixed.T / length, classes, sample_weight=weights)
            kernel, bias = _of_all_classes(basis @ model.coef_.T / length, model.intercept_)
            kernel *= scale[:, np.newaxis]
            bias = bias - shift @ kernel
            loss = 0.0 if held is None else _refined(held, kernel, bias)
            found.append((loss, strength, kernel, bias))
    _, strength, kernel, bias = min(found, key=lambda fit: fit[0])
    return kernel.astype(np.float32), bias.astype(np.float32), strength


def fit_ridge(
    features: np.ndarray,
    targets: np.ndarray,
    held: tuple[np.ndarray, np.ndarray] | None = None,
    weights: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, float]:
    """Linear regression with a penalty on the squares of the kernel.

    Args:
        features: See `fit_softmax`.
        targets: Float `[items, targets]`.
        held: Features and targets of other items, to choose the penalty by.
        weights: See `fit_softmax`.

    Returns:
        Kernel `[features, targets]` and bias `[targets]`, float32, and the penalty chosen.
    """
    shift, scale = scaling(features)
    scaled = ((features - shift) * scale).astype(np.float64)
    length = np.sqrt((scaled**2).sum(axis=1).mean()) or 1.0
    middle = len(PENALTIES) // 2
    found = []
    for penalty in PENALTIES if held is not None else PENALTIES[middle : middle + 1]:
        model = Ridge(penalty).fit(scaled / length, targets, sample_weight=weights)
        # Of one target, some versions of scikit-learn give a vector and a number.
        coefficients = np.reshape(model.coef_, (targets.shape[1], -1)).T
        kernel = coefficients * scale[:, np.newaxis] / length
        bias = np.ravel(model.intercept_) - shift @ kernel
        error = 0.0 if held is None else ((held[0] @ kernel + bias - held[1]) ** 2).mean()
        found.append((error, penalty, kernel, bias))
    _, penalty, kernel, bias = min(found, key=lambda fit: fit[0])
    return kernel.astype(np.float32), bias.astype(np.float32), penalty


def _share(
    dense: keras.layers.Dense, kernel: np.ndarray, bias: np.ndarray, workers: Workers | None
) -> None:
    """Sets the layer of all processes to the solution of the chief."""
    told = (workers or Workers()).share_bytes(np.vstack([kernel, bias]).tobytes())
    solution = np.frombuffer(told, np.float32).reshape(-1, dense.units)
    dense.kernel.assign(solution[:-1])
    dense.bias.assign(solution[-1])


def _in_unit(targets: np.ndarray, unit: keras.layers.Rescaling) -> np.ndarray:
    """Targets as the layer before gives them."""
    return (targets - np.asarray(unit.offset)) / np.asarray(unit.scale)


def _of_all_classes(kernel: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Kernel and bias of both classes: of two, scikit-learn gives only the logits' difference."""
    if kernel.shape[1] > 1:
        return kernel, bias
    halves = np.array([[-0.5, 0.5]])
    return kernel * halves, bias * halves[0]


def _refined(held: tuple[np.ndarray, np.ndarray], kernel: np.ndarray, bias: np.ndarray) -> float:
    logits = held[0] @ kernel + bias
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    return refined_loss(exponents / exponents.sum(axis=1, keepdims=True), held[1])


def _only_layer(
    part: keras.Model,
) -> tuple[keras.layers.Dense | None, keras.layers.Rescaling | None]:
    """The layer of a model that is only this and dropout on a vector; a regression's unit, too."""
    kinds = (keras.layers.InputLayer, keras.layers.Dropout)
    layer, *after = [layer for layer in part.layers if not isinstance(layer, kinds)] or [None]
    if len(after) > 1 or len(part.inputs) != 1 or len(part.inputs[0].shape) != 2:
        return None, None
    if not isinstance(layer, keras.layers.Dense) or not (layer.use_bias and layer.trainable):
        return None, None
    if not after:
        return (layer if layer.activation is keras.activations.softmax else None), None
    unit = after[0] if after[0].name == HEAD_UNIT else None
    return (layer if unit and layer.activation is keras.activations.linear else None), unit


def _is_quick(items: int, classes: int) -> bool:
    return items <= MOST_ITEMS and items**2 * classes <= MOST_WORK


def _all(features: Features) -> np.ndarray:
    return features.gather(np.arange(len(features)))[0]
