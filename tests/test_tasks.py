import keras
import numpy as np
import pytest

from keras_tl import freezing, tasks
from keras_tl.errors import InputError
from keras_tl.training.phases import Phase

PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.3, 0.6, 0.1]], np.float32)
TARGETS = np.array([[1, 0, 0], [0, 0, 1]], np.float32)


def value(loss, targets=TARGETS, predictions=PROBABILITIES):
    return float(keras.ops.convert_to_numpy(loss(targets, predictions)))


def test_the_focal_loss_of_classes_by_hand():
    loss = tasks.get("single-label").build_loss(focal_gamma=2.0)
    # (1 - p)^2 * -log p for the true class, averaged over images.
    expected = np.mean([0.3**2 * -np.log(0.7), 0.9**2 * -np.log(0.1)])
    assert value(loss) == pytest.approx(expected, rel=1e-5)


def test_the_focal_loss_of_several_labels_by_hand():
    loss = tasks.get("multi-label").build_loss(focal_gamma=1.5)
    p = np.where(TARGETS == 1, PROBABILITIES, 1 - PROBABILITIES)
    assert value(loss) == pytest.approx(np.mean((1 - p) ** 1.5 * -np.log(p)), rel=1e-5)


@pytest.mark.parametrize("name", ["single-label", "multi-label"])
def test_a_small_gamma_is_nearly_cross_entropy(name):
    plain = value(tasks.get(name).build_loss())
    assert value(tasks.get(name).build_loss(focal_gamma=1e-6)) == pytest.approx(plain, rel=1e-4)
    assert value(tasks.get(name).build_loss(focal_gamma=2.0)) < 0.95 * plain


def test_smoothed_targets_and_the_focal_loss_go_together():
    loss = tasks.get("single-label").build_loss(0.3, focal_gamma=2.0)
    smooth = TARGETS * 0.7 + 0.1
    expected = (smooth * (1 - PROBABILITIES) ** 2 * -np.log(PROBABILITIES)).sum(axis=1).mean()
    assert value(loss) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("asked", [{"label_smoothing": 0.1}, {"focal_gamma": 2.0}])
@pytest.mark.parametrize("scale", [None, np.ones(3)])
def test_a_regression_has_neither(asked, scale):
    with pytest.raises(InputError, match=next(iter(asked))):
        tasks.get("regression").build_loss(target_scale=scale, **asked)


@pytest.mark.parametrize("wrong", [{"focal_gamma": -1.0}, {"mixup": -0.1}])
def test_a_phase_refuses_what_is_below_0(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        Phase(freezing.All(), 1, 0.1, **wrong)
