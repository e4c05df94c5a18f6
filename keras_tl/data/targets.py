"""The unit that a regression learns its targets in: deviations from their mean."""

import numpy as np


def target_unit(targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of each target.

    Args:
        targets: Float `[items, targets]`.

    Returns:
        Both float64 `[targets]`; the deviation is 1 for a target that is always the same.
    """
    # Along rows NumPy adds up in the array's own dtype, one by one: float32 would lose the mean of
    # many large numbers.
    mean = targets.mean(axis=0, dtype=np.float64)
    deviation = targets.std(axis=0, dtype=np.float64)
    return mean, np.where(deviation > 0, deviation, 1.0)


def standardised(targets: np.ndarray) -> np.ndarray:
    """Targets in that unit, float64 `[items, targets]`."""
    mean, deviation = target_unit(targets)
    return (targets - mean) / deviation
