"""Laying one picture over another that is a crop of it, many pairs at once."""

import numpy as np

# Side in pixels of the pictures compared, and the least share of each side that a crop leaves.
OUT, LEAST_SCALE = 32, 0.84
STEPS = 8
# Largest move in one step, as a share of a side.
LARGEST_STEP = 0.03
# Positions of the output's pixels, measured from its middle.
_PLACES = np.linspace(-0.5 + 0.5 / OUT, 0.5 - 0.5 / OUT, OUT, dtype=np.float32)

# A window is (y, x, height, width): its middle, measured from the picture's, and its sides, all in
# shares of the picture's sides.
WHOLE = np.array([0, 0, 1, 1], np.float32)


def corner_windows() -> np.ndarray:
    """Windows to start from: all, the middle 95 and 90 %, and 95 % in each corner.

    Returns:
        Float32 `[7, 4]`.
    """
    scales = ((1, 0, 0), (0.95, 0, 0), (0.9, 0, 0))
    corners = tuple((0.95, y, x) for y in (-0.025, 0.025) for x in (-0.025, 0.025))
    return np.array([(y, x, scale, scale) for scale, y, x in scales + corners], np.float32)


def cut_out(thumbs: np.ndarray, windows: np.ndarray) -> np.ndarray:
    """Resamples windows of thumbnails, averaging where they shrink.

    Args:
        thumbs: `[pairs, side, side]`.
        windows: Float32 `[pairs, 4]`, or `[4]` for all.

    Returns:
        Float32 `[pairs, 32, 32]`.
    """
    windows = np.atleast_2d(windows)
    rows = _weights(windows[:, 0], windows[:, 2], thumbs.shape[1])
    columns = _weights(windows[:, 1], windows[:, 3], thumbs.shape[2])
    return rows @ thumbs.astype(np.float32) @ columns.transpose(0, 2, 1)


def align(wholes: np.ndarray, crops: np.ndarray, windows: np.ndarray) -> np.ndarray:
    """Finds the windows of pictures that show what other pictures show.

    Gauss-Newton steps on the squared difference of normalised pictures (Baker and Matthews,
    "Lucas-Kanade 20 Years On: A Unifying Framework", IJCV 56, 2004), forwards compositional, over
    shift and scale of both axes. Brightness and contrast do not matter.

    Args:
        wholes: `[pairs, side, side]`, of which a window is sought.
        crops: `[pairs, side, side]`, what the window is to show.
        windows: Float32 `[pairs, 4]`, where to start.

    Returns:
        Float32 `[pairs, 4]`, windows inside the pictures.
    """
    wanted = _normal(cut_out(crops, WHOLE))
    windows = windows.astype(np.float32).copy()
    damping = 1e-3 * np.eye(4, dtype=np.float32)
    for _ in range(STEPS):
        shown = _normal(cut_out(wholes, windows))
        down, right = (OUT * gradient for gradient in np.gradient(shown, axis=(1, 2)))
        slopes = np.stack((down, right, down * _PLACES[:, None], right * _PLACES), axis=1)
        slopes = slopes.reshape(len(shown), 4, -1)
        error = (wanted - shown).reshape(len(shown), -1, 1)
        curvature = slopes @ slopes.transpose(0, 2, 1) + damping
        step = np.linalg.solve(curvature, slopes @ error)[..., 0]
        step = np.clip(step, -LARGEST_STEP, LARGEST_STEP)
        windows[:, :2] += step[:, :2] * windows[:, 2:]
        windows[:, 2:] = np.clip(windows[:, 2:] * (1 + step[:, 2:]), LEAST_SCALE, 1)
        room = (1 - windows[:, 2:]) / 2
        windows[:, :2] = np.clip(windows[:, :2], -room, room)
    return windows


def _weights(middle: np.ndarray, length: np.ndarray, side: int) -> np.ndarray:
    """The weight of each pixel at each place of the output: float32 `[pairs, 32, side]`."""
    at = (_PLACES * length[:, None] + middle[:, None] + 0.5) * side - 0.5
    at = np.clip(at, 0.5, side - 1.5)
    distance = np.abs(at[:, :, None] - np.arange(side, dtype=np.float32))
    weights = np.maximum(1 - distance * OUT / side, 0)
    return weights / weights.sum(axis=2, keepdims=True)


def _normal(images: np.ndarray) -> np.ndarray:
    centred = images - images.mean(axis=(1, 2), keepdims=True)
    length = np.sqrt((centred**2).sum(axis=(1, 2), keepdims=True))
    return centred / np.maximum(length, 1e-6)
