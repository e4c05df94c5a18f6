import numpy as np

from keras_tl.data.targets import standardised, target_unit


def test_large_numbers_keep_their_mean_and_deviation():
    # In float32, the sum of 200,000 such numbers along rows is off by hundreds.
    rng = np.random.default_rng(0)
    targets = np.stack([rng.normal(4e5, 50, 200_000), rng.normal(0, 1, 200_000)], axis=1)
    mean, deviation = target_unit(targets.astype(np.float32))
    np.testing.assert_allclose(mean, targets.mean(axis=0), atol=0.01)
    np.testing.assert_allclose(deviation, targets.std(axis=0), rtol=1e-3)


def test_targets_are_told_in_deviations_from_their_mean():
    targets = np.array([[1, 7], [3, 7], [5, 7]], np.float32)
    mean, deviation = target_unit(targets)
    assert mean.tolist() == [3, 7]
    np.testing.assert_allclose(deviation, [np.sqrt(8 / 3), 1])
    np.testing.assert_allclose(standardised(targets)[:, 0], [-np.sqrt(1.5), 0, np.sqrt(1.5)])
    assert standardised(targets)[:, 1].tolist() == [0, 0, 0]
