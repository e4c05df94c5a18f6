"""Predictions for items by linear layers that did not see them, remembered from run to run."""

import hashlib
import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import sklearn

from keras_tl.data.one_hot import OneHotRows
from keras_tl.data.remembered import found_once
from keras_tl.evaluation.linear_fits import fit_logistic, fit_ridge
from keras_tl.features import scaling
from keras_tl.files import scratch_array

# So many items are predicted at once.
PART = 8192
# Raise VERSION with every change of what is predicted. Probes that are remembered at most (a
# training has up to five), and predictions of each.
VERSION, MOST_REMEMBERED, MOST_PREDICTIONS = 3, 100, 2**20


@dataclass(frozen=True)
class HeldOut:
    """What is fitted to the items of all folds but one, and predicts that one.

    Attributes:
        features: Float `[items, features]`.
        labels: As in a `Source`: int64 `[items]`, or float32 `[items, outputs]`.
        task: "single-label", "multi-label" or "regression".
        fold_of: int64 `[items]`, the fold of each item.
        trusted: Bool `[items]`, which ones may be fitted to.
        penalties: Those to choose from.
        groups: A name for each item; where a penalty is chosen, no group is divided.
    """

    features: np.ndarray
    labels: np.ndarray
    task: str
    fold_of: np.ndarray
    trusted: np.ndarray
    penalties: tuple[float, ...]
    groups: np.ndarray | None = None

    @property
    def targets(self) -> Any:
        """What the layers are fitted to: float32 `[items, outputs]`."""
        if self.task == "single-label":
            return OneHotRows(self.labels, int(self.labels.max()) + 1)
        return self.labels.astype(np.float32)

    def predict(self) -> tuple[np.ndarray, tuple[float, ...]]:
        """Fits a layer for each fold.

        Returns:
            Float32 `[items, outputs]`, zeros where nothing could be fitted to; and the penalty of
            each fold's layer.
        """
        fit = fit_logistic if self.task == "single-label" else fit_ridge
        targets, chosen = self.targets, []
        outputs = scratch_array(targets.shape, np.float32)
        for fold in range(self._folds):
            test = self.fold_of == fold
            fitted = ~test & self.trusted
            if not fitted.any():
                chosen.append(self.penalties[0])
                continue
            train = self.features[fitted]
            groups = None if self.groups is None else self.groups[fitted]
            shift, scale = scaling(train)
            predict, penalty = fit((train - shift) * scale, targets[fitted], self.penalties, groups)
            chosen.append(penalty)
            held_out = np.flatnonzero(test)
            for at in range(0, len(held_out), PART):
                part = held_out[at : at + PART]
                outputs[part] = predict((self.features[part] - shift) * scale)
        return outputs, tuple(chosen)

    def recall_or_predict(self) -> tuple[np.ndarray, tuple[float, ...]]:
        """As `predict`, but nothing is fitted again to what the cache folder remembers."""
        shape = self.targets.shape
        if math.prod(shape) > MOST_PREDICTIONS:
            return self.predict()
        key = self._key()

        def predicted() -> bytes:
            outputs, penalties = self.predict()
            return np.array(penalties).tobytes() + outputs.tobytes()

        content = found_once("probes", key, predicted, most=MOST_REMEMBERED)
        chosen = np.frombuffer(content, np.float64, self._folds)
        outputs = np.frombuffer(content, np.float32, offset=chosen.nbytes)
        return outputs.reshape(shape).copy(), tuple(chosen.tolist())

    @property
    def _folds(self) -> int:
        return int(self.fold_of.max()) + 1

    def _key(self) -> bytes:
        """SHA-256 of all that decides what is predicted."""
        arrays = [self.features, self.labels, self.fold_of, self.trusted]
        if self.groups is not None:
            # Their names do not matter.
            arrays.append(np.unique(self.groups, return_inverse=True)[1])
        shapes = [(array.shape, array.dtype.str) for array in arrays]
        about = [VERSION, sklearn.__version__, self.task, self.penalties, shapes]
        digest = hashlib.sha256(json.dumps(about).encode())
        for array in arrays:
            digest.update(np.ascontiguousarray(array).data)
        return digest.digest()
