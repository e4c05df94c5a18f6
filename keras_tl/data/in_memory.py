"""What stands in memory for images, labels and texts, as arrays and lists read by position."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from keras_tl.errors import InputError

# Modes of PIL whose arrays are no grey, RGB or RGBA, and what they are converted to.
MODES = {"1": "L", "LA": "RGBA", "P": "RGB", "PA": "RGBA", "RGBa": "RGBA"}
MODES |= {"CMYK": "RGB", "YCbCr": "RGB", "HSV": "RGB", "LAB": "RGB"}
ORIENTATION = 0x0112  # EXIF's number of it.
# Modes of which one colour may be transparent.
KEYED_MODES = ("1", "L", "P", "RGB")


def listed(values: Any) -> np.ndarray | list[Any]:
    """Makes an array or a list of what may be a tensor, a pandas object or an iterable.

    Args:
        values: One value for each item. `[i]` of a pandas Series reads by label, not by position.

    Returns:
        Arrays as they are, tensors as arrays, anything else as a list without tensors in it.

    Raises:
        InputError: It does not end.
    """
    if isinstance(values, np.ndarray):
        return values
    if hasattr(values, "__array__") and not isinstance(values, pd.Series | pd.Index):
        return np.asarray(values)
    if hasattr(values, "cardinality") and int(values.cardinality()) == -1:
        raise InputError("data that end", "an endless tf.data.Dataset", "Leave out repeat().")
    return [np.asarray(x)[()] if hasattr(x, "__array__") else x for x in values]


def image_list(images: Any) -> np.ndarray | Sequence[Any]:
    """Makes a list of images that can be read by position, and refuses what is no image.

    Args:
        images: See `from_arrays`; images of PIL too.

    Returns:
        An array, or a list of arrays, encoded images, and upright images of PIL as grey, RGB or
        RGBA.

    Raises:
        InputError: There are paths, batches, or pairs of an image and a label.
    """
    if isinstance(images, pd.DataFrame):
        fix = "Pass its column of images, or use from_dataframe with a column of paths."
        raise InputError("images", "a DataFrame", fix)
    images = listed(images)
    if isinstance(images, np.ndarray) and images.dtype.kind not in "OU":
        return images
    return [_image(image) for image in images]


def label_list(labels: Any) -> np.ndarray | list[Any] | pd.DataFrame | None:
    """Brings labels into a form that has a length and is read by position.

    Args:
        labels: See `from_arrays`.

    Returns:
        An array or a list; a DataFrame, whose columns have names, and None as they are.

    Raises:
        InputError: They are a text or a mapping.
    """
    if labels is None or isinstance(labels, pd.DataFrame):
        return labels
    _refuse_one("a label for each item", labels)
    return listed(labels)


def text_list(texts: Any) -> list[Any]:
    """Brings texts into a list, and refuses what only looks like one.

    Args:
        texts: See `from_texts`.

    Returns:
        The texts, or pairs of them.

    Raises:
        InputError: They are one text, a table, or have labels beside them.
    """
    _refuse_one("several texts", texts)
    if isinstance(texts, pd.DataFrame):
        raise InputError("a list of texts", "a DataFrame", "Use from_text_dataframe.")
    if isinstance(getattr(texts, "element_spec", None), tuple | dict):
        fix = "Pass [x.numpy().decode() for x, _ in data] as texts and the labels likewise."
        raise InputError("texts", "a tf.data.Dataset of several values each", fix)
    return list(listed(texts))


def _refuse_one(expected: str, values: Any) -> None:
    """Refuses what can be iterated over, but not item by item."""
    if isinstance(values, str | bytes | Mapping):
        raise InputError(expected, f"one {type(values).__name__}", "Pass a list of them.")


def _image(image: Any) -> Any:
    if isinstance(image, str | os.PathLike):
        fix = "Use from_folder, or from_dataframe with a column of paths."
        raise InputError("images", f"a path or a name, {str(image)!r}", fix)
    if isinstance(image, tuple):
        data = "data.unbatch()" if np.ndim(image[-1]) else "data"
        fix = f"Pass [x for x, _ in {data}] as images and [y for _, y in {data}] as labels."
        raise InputError("images", f"a tuple of {len(image)}, as if with its label", fix)
    if getattr(image, "ndim", 0) == 4:
        raise InputError("single images", "a batch of them", "Pass data.unbatch().")
    return _of_pil(image) if hasattr(image, "getexif") else image


def _of_pil(image: Any) -> Any:
    from PIL import ImageOps  # Not required to be there.

    mode = image.mode
    # What needs no change is not copied.
    if image.getexif().get(ORIENTATION, 1) != 1:
        image = ImageOps.exif_transpose(image)
    # An index into a palette is no grey, and ink is no light.
    is_keyed = mode in KEYED_MODES and "transparency" in image.info
    wanted = "RGBA" if is_keyed else MODES.get(mode, mode)
    return image if wanted == mode else image.convert(wanted)
