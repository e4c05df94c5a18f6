"""What the workers do: read files, run the model, write shards."""

import io
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems
from apache_beam.io.parquetio import WriteToParquetBatched
from apache_beam.metrics import Metrics
from apache_beam.pvalue import TaggedOutput
from apache_beam.utils.shared import Shared

from keras_tl import shard_formats
from keras_tl.beam.served import ServedModel, unpack
from keras_tl.data.inspection import MAX_FILE_BYTES, refused_unread, too_large
from keras_tl.data.streams import Item
from keras_tl.data.tables import decoded
from keras_tl.data.texts import is_blank
from keras_tl.errors import InputError
from keras_tl.files import csv_writer
from keras_tl.model_info import ModelInfo
from keras_tl.scorers import computed

# Bounds of a batch's size: all of it is decoded in a worker's memory at once.
SMALLEST_BATCH, LARGEST_BATCH = 8, 64
SKIPPED, READ = "skipped", "read"
NAMESPACE = "keras_tl"
EMPTY = "empty file"


class ReadFiles(beam.DoFn):
    """Reads the files that items name; what cannot be read goes to the output `SKIPPED`.

    Args:
        texts: Whether they hold texts; else they hold encoded images.
        encoding: Of texts.
    """

    def __init__(self, texts: bool, encoding: str = "utf-8"):
        self._texts, self._encoding = texts, encoding

    def process(self, item: Item) -> Iterator[Any]:
        """Reads one."""
        read = item if item.reason or not isinstance(item.content, str) else self._read(item)
        yield TaggedOutput(SKIPPED, replace(read, content="")) if read.reason else read

    def _read(self, item: Item) -> Item:
        if "://" not in item.content and (reason := refused_unread(item.content)):
            # Not opened at all: a named pipe would wait for ever.
            return replace(item, reason=reason)
        try:
            with FileSystems.open(item.content) as file:
                content = file.read(MAX_FILE_BYTES + 1)
        except (OSError, BeamIOError) as error:
            is_missing = isinstance(error, FileNotFoundError)
            why = getattr(error, "strerror", None) or type(error).__name__
            return replace(item, reason="file not found" if is_missing else f"unreadable: {why}")
        reason = too_large(len(content))
        if not self._texts:
            return replace(item, content=content, reason=reason or ("" if content else EMPTY))
        try:
            text = decoded(content, self._encoding, item.id)
        except InputError:
            return replace(item, reason=f"not in {self._encoding.upper()}")
        return replace(
            item, content=(text,), reason=reason or ("no text" if is_blank(text) else "")
        )


class Score(beam.DoFn):
    """Runs a model over batches of items; what cannot be decoded goes to the output `SKIPPED`.

    Args:
        model: The address of what `keras_tl.beam.served.pack` wrote. It is loaded once in each
            process of a worker, however many threads that has.
        kind: See `keras_tl.scorers.computed`.
    """

    def __init__(self, model: str, kind: str):
        self._address, self._kind = model, kind
        self._shared = Shared()
        self._items = Metrics.counter(NAMESPACE, READ)
        self._model: ServedModel | None = None

    def setup(self) -> None:
        """Loads the model, or takes that of another thread."""
        self._model = self._shared.acquire(lambda: unpack(self._address))

    def process(self, batch: list[Item]) -> Iterator[Any]:
        """Runs one batch."""
        assert self._model is not None, "setup() comes first"
        good, outputs, bad = self._model.run(batch)
        for item in bad:
            yield TaggedOutput(SKIPPED, replace(item, content=""))
        if good:
            self._items.inc(len(good))
            columns = computed(outputs, self._model.info, self._kind)
            yield shard_formats.columns_of(good, columns)


class WriteShards(beam.PTransform):
    """Writes columns as shards.

    Args:
        prefix: What the files' addresses begin with.
        form: Their format.
        info: What the model gives, which decides the columns.
        kind: See `keras_tl.scorers.computed`.
    """

    def __init__(self, prefix: str, form: shard_formats.ShardFormat, info: ModelInfo, kind: str):
        super().__init__()
        self._prefix, self._form = prefix, form
        none = computed(np.zeros((0, len(info.class_names)), np.float32), info, kind)
        self._empty = shard_formats.columns_of([], none)

    def expand(self, columns: beam.PCollection) -> beam.PCollection:
        """From a collection of columns to the files' names."""
        ending = self._form.ending
        if self._form.name == shard_formats.PARQUET:
            schema = shard_formats.arrow_table(self._empty).schema
            tables = columns | "Table" >> beam.Map(shard_formats.arrow_table)
            return tables | WriteToParquetBatched(self._prefix, schema, file_name_suffix=ending)
        examples = columns | "Example" >> beam.FlatMap(shard_formats.examples)
        return examples | beam.io.WriteToTFRecord(self._prefix, file_name_suffix=ending)


class WriteSkipped(beam.PTransform):
    """Writes the ids of items, and why they were passed over, as CSV.

    Args:
        prefix: What the file's address begins with.
    """

    def __init__(self, prefix: str):
        super().__init__()
        self._prefix = prefix

    def expand(self, items: beam.PCollection) -> beam.PCollection:
        """From a collection of items to the file's name."""
        lines = items | "Line" >> beam.Map(_line)
        how: dict[str, Any] = {"num_shards": 1, "header": "id,reason", "file_name_suffix": ".csv"}
        return lines | beam.io.WriteToText(self._prefix, **how)


def _line(item: Item) -> str:
    Metrics.counter(NAMESPACE, SKIPPED).inc()
    line = io.StringIO()
    csv_writer(line).writerow((item.id, item.reason))
    return line.getvalue().removesuffix("\n")
