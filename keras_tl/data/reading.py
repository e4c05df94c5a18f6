"""Reads items in batches, and goes on where one cannot be read."""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import tensorflow as tf

from keras_tl.allocator import keep_freed_memory
from keras_tl.cores import usable_cores
from keras_tl.data.decoding import ImageInput, decode, fit_to_input
from keras_tl.data.inspection import refused, refused_unread
from keras_tl.data.pipeline import Tokenize
from keras_tl.data.streams import Item
from keras_tl.data.threads import THREADS_OF_A_CORE

# The reason given for a file that failed in the pipeline, but can be read afterwards.
UNSTEADY = "could not be read at first"


@dataclass(frozen=True)
class Batch:
    """Items as a model takes them.

    Attributes:
        told: Every item, in order, with its row in `inputs`, or with None if it cannot be read: its
            `reason` then says why.
        inputs: uint8 pixels `[rows, size, size, 3]`, int32 tokens `[rows, 2, length]`, or strings
            `[rows]` (pairs: `[rows, 2]`).
    """

    told: list[tuple[Item, int | None]]
    inputs: np.ndarray


def read_images(items: Iterable[Item], image_input: ImageInput, batch_size: int) -> Iterator[Batch]:
    """Reads and decodes images once, in parallel, as training does.

    All go through one `tf.data` pipeline, however many there are: a new one for every few
    thousand would keep some megabytes each.

    Args:
        items: The images, found as they are needed.
        image_input: How they are decoded and resized.
        batch_size: How many decoded images make a batch.

    Yields:
        The images, in order.
    """
    found = _Found(items)
    for places, pixels in _decoded(found, image_input, batch_size):
        yield Batch(found.told(places.tolist(), image_input), pixels)
    if found.failure:
        raise found.failure
    if rest := found.told((), image_input):
        yield Batch(rest, np.zeros((0, image_input.size, image_input.size, 3), np.uint8))


def read_texts(
    items: Iterable[Item], tokenize: Tokenize | None, batch_size: int
) -> Iterator[Batch]:
    """Makes tokens of texts, as training does.

    Args:
        items: The texts, found as they are needed.
        tokenize: What makes tokens of them; None leaves them strings.
        batch_size: How many come at once.

    Yields:
        The texts, in order.
    """
    all_items = iter(items)
    while some := list(islice(all_items, batch_size)):
        rows = iter(range(len(some)))
        told = [(item, None if item.reason else next(rows)) for item in some]
        strings = strings_of([item.content for item in some if not item.reason])
        if tokenize is not None and len(strings):
            strings = tokenize(strings).numpy()
        yield Batch(told, strings)


class _Found:
    """Items on their way through a pipeline that leaves out what it cannot read.

    Args:
        items: The items.

    Attributes:
        failure: The exception that ended the items early. It is kept here because the pipeline,
            which ignores errors, would ignore it too.
    """

    def __init__(self, items: Iterable[Item]):
        self._items = iter(items)
        self._waiting: dict[int, Item] = {}
        self._count = self._next = 0
        self.failure: Exception | None = None
        # The first readable item shows what kind of content all of them have.
        self._first = self._look()

    @property
    def sample(self) -> Any:
        """The content of the first item that may be read; None where there is none."""
        return self._waiting[self._first].content if self._first is not None else None

    def __call__(self) -> Iterator[tuple[int, Any]]:
        """Places and contents; run by the pipeline in a thread of its own."""
        place = self._first
        while place is not None:
            yield place, self._waiting[place].content
            place = self._look()

    def told(self, places: Sequence[int], image_input: ImageInput) -> list[tuple[Item, int | None]]:
        """All items up to the last of `places`, with their rows; without places, all so far."""
        rows = {int(place): row for row, place in enumerate(places)}
        end = int(places[-1]) + 1 if len(places) else self._count
        told = []
        for place in range(self._next, end):
            item, row = self._waiting.pop(place), rows.get(place)
            if row is None and not item.reason:
                item = replace(item, reason=refused(item.content, image_input) or UNSTEADY)
            told.append((item, row))
        self._next = end
        return told

    def _look(self) -> int | None:
        """The place of the next item that may be read; None at the end."""
        try:
            for item in self._items:
                looked = item if item.reason else _looked_at(item)
                place = self._count
                self._waiting[place] = looked
                self._count += 1
                if not looked.reason:
                    return place
        except Exception as error:
            self.failure = error
        return None


def strings_of(texts: Sequence[tuple[str, ...]]) -> np.ndarray:
    """Texts as TensorFlow's strings: bytes `[texts]`, of pairs `[texts, 2]`."""
    if not len(texts):
        return np.zeros(0, object)
    rows = [[text.encode("utf-8", "replace") for text in item] for item in texts]
    columns = np.array(rows, dtype=object)
    return columns[:, 0] if columns.shape[1] == 1 else columns


def _looked_at(item: Item) -> Item:
    """Marks a file that must not be read at all, before TensorFlow reads it."""
    if isinstance(item.content, str) and (reason := refused_unread(item.content)):
        return replace(item, reason=reason)
    return item


def _decoded(
    found: _Found, image_input: ImageInput, batch_size: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches of places and pixels; what cannot be read is left out."""
    sample = found.sample
    if sample is None:
        return
    keep_freed_memory()
    is_array = isinstance(sample, np.ndarray)
    content = tf.TensorSpec([None] * 3, tf.uint8) if is_array else tf.TensorSpec([], tf.string)
    read = _fitter(image_input) if is_array else decoder(image_input)
    threads = THREADS_OF_A_CORE * usable_cores()
    options = tf.data.Options()
    options.threading.private_threadpool_size = threads

    @tf.autograph.experimental.do_not_convert
    def load(place: tf.Tensor, item: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return place, read(tf.io.read_file(item) if isinstance(sample, str) else item)

    signature = (tf.TensorSpec([], tf.int64), content)
    contents = tf.data.Dataset.from_generator(found, output_signature=signature)
    mapped = contents.map(load, num_parallel_calls=threads, deterministic=True).ignore_errors()
    yield from mapped.batch(batch_size).prefetch(2).with_options(options).as_numpy_iterator()


@functools.lru_cache(maxsize=8)
def decoder(image_input: ImageInput) -> Callable[[tf.Tensor], tf.Tensor]:
    """`decode` for these settings as one graph, traced once."""
    spec = tf.TensorSpec([], tf.string)
    return tf.function(
        lambda c: decode(c, image_input, True), input_signature=[spec], autograph=False
    )


@functools.lru_cache(maxsize=8)
def _fitter(image_input: ImageInput) -> Callable[[tf.Tensor], tf.Tensor]:
    spec = tf.TensorSpec([None, None, None], tf.uint8)
    return tf.function(
        lambda pixels: fit_to_input(pixels, image_input), input_signature=[spec], autograph=False
    )
