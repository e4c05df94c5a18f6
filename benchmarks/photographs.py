"""Folders of photograph-like JPEGs, made by code: what the benchmarks run on."""

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = 5
QUALITY = 90


def photograph(seed: int, label: int, shape: tuple[int, int]) -> bytes:
    """One JPEG: coloured blobs on a gradient, tinted by its class, with the grain of a camera.

    The grain keeps the files as long as photographs are (about 0.25 bytes a pixel): decoding
    smooth pictures would be too easy.
    """
    rng = np.random.default_rng([seed, label])
    coarse = rng.uniform(0, 255, (8, 8, 3))
    coarse[..., label % 3] += 40 + 15 * label
    pixels = np.clip(coarse, 0, 255).astype(np.uint8)
    smooth = Image.fromarray(pixels).resize(shape[::-1], Image.Resampling.BICUBIC)
    grain = rng.normal(0, 6, (*shape, 1)).astype(np.float32)
    noisy = np.clip(np.asarray(smooth, np.float32) + grain, 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(noisy).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def make_folder(folder: Path, images: int, shape: tuple[int, int] = (256, 256)) -> Path:
    """Fills `folder`/class_K/N.jpg; the same arguments give the same files.

    Args:
        folder: Where to; it may be there already, whole or in part.
        images: How many, over all classes.
        shape: Height and width in pixels.

    Returns:
        The folder.
    """

    def write(number: int) -> None:
        label = number % CLASSES
        path = folder / f"class_{label}" / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_bytes(photograph(number, label, shape))

    with ThreadPoolExecutor() as threads:
        list(threads.map(write, range(images)))
    return folder
