"""The images or texts of a run, found again; images made small enough for its page."""

import base64
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from keras_tl.data.image_input import ImageInput
from keras_tl.data.open import open_data
from keras_tl.data.source import Source, content_hash
from keras_tl.errors import InputError
from keras_tl.reporting.facts import Facts

# The quality of the pictures' JPEG in the page.
QUALITY = 78


class Album:
    """A run's images or texts by their ids.

    Args:
        facts: The run.
        source: Its items, where they are already opened; else the data are opened, once, as the
            run's configuration says.
    """

    def __init__(self, facts: Facts, source: Source | None = None):
        self._facts, self._source = facts, source

    def find(self, ids: Sequence[str]) -> tuple[dict[str, Any], str]:
        """Finds items that are still what they were in the run.

        Args:
            ids: Their names.

        Returns:
            Items by id, and one line on those that cannot be shown; "" where all are there.
        """
        if self._facts.splits is None:
            return {}, "This needs splits.csv, which the run does not have."
        try:
            item_of = self._items
        except InputError as error:
            return {}, f"The {self._facts.nouns} of this run cannot be opened: {error}"
        hashes = self._hashes
        found = {
            name: item_of[name]
            for name in ids
            if name in item_of and _hash_now(item_of[name]) == hashes.get(name)
        }
        if len(found) == len(ids):
            return found, ""
        gone = len(ids) - len(found)
        nouns = self._facts.nouns
        return found, f"{gone} of {len(ids)} {nouns} are gone, or not what they were in this run."

    @cached_property
    def _items(self) -> dict[str, Any]:
        source = self._source or _open(self._facts)
        return {str(name): item for name, item in zip(source.ids, source.items, strict=True)}

    @cached_property
    def _hashes(self) -> dict[str, str]:
        splits = self._facts.splits
        return {} if splits is None else dict(zip(splits["id"], splits["sha256"], strict=True))


def _hash_now(item: Any) -> str | None:
    """The SHA-256 of an item's content; None where its file is gone or cannot be read."""
    try:
        return content_hash(item)
    except OSError:
        return None


def pixels_of(item: Any, image_input: ImageInput) -> np.ndarray:
    """An image as the model sees it: uint8 `[size, size, 3]`.

    Run eagerly: to build the graph of a pipeline would take longer than these few images.
    """
    import tensorflow as tf

    from keras_tl.data.decoding import decode, fit_to_input

    if isinstance(item, np.ndarray):
        return fit_to_input(item, image_input).numpy()
    contents = tf.io.read_file(item) if isinstance(item, str) else item
    return decode(contents, image_input).numpy()


def data_uri(pixels: np.ndarray) -> str:
    """Pixels `[height, width, 3]` in 0..255 as the source of an `img`."""
    import tensorflow as tf

    whole = tf.saturate_cast(tf.round(pixels), tf.uint8)
    encoded = tf.io.encode_jpeg(whole, quality=QUALITY).numpy()
    return f"data:image/jpeg;base64,{base64.b64encode(encoded).decode()}"


def _open(facts: Facts) -> Source:
    """The run's data, not decoded; nothing is downloaded for a report."""
    config = facts.run.config
    return open_data(config.data, task=facts.task, download=False, **config.columns)
