"""Columns of many items as files: Parquet, or TFRecord.

Both hold the same columns: `id`, `label` and `split` (text; the last two are missing where the
data have none), then what was computed: numbers as float32, text as text.

- Parquet: a column each; `[items, n]` numbers are a list of fixed size n. pyarrow writes it.
- TFRecord: a `tf.train.Example` for each item, with a feature for each column: text is a
  `bytes_list` of one, numbers are a `float_list` of one or of n; what is missing has no feature.
"""

import errno
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import tensorflow as tf

from keras_tl.data.streams import Item
from keras_tl.errors import InputError, did_you_mean

if TYPE_CHECKING:
    import pyarrow as pa

# Text (None where it is missing), or float32 `[items]` or `[items, n]`.
Columns: TypeAlias = Mapping[str, Sequence[str | None] | np.ndarray]


@dataclass(frozen=True)
class ShardFormat:
    """A kind of file.

    Attributes:
        name: What it is called at the command line.
        write: Writes columns to a path.
    """

    name: str
    write: Callable[[Columns, Path], None]

    @property
    def ending(self) -> str:
        """The ending of its files."""
        return f".{self.name}"


def columns_of(items: Sequence[Item], computed: Columns) -> Columns:
    """Columns of what is known of items, and of what was computed for them."""
    return {
        "id": [item.id for item in items],
        "label": [item.label for item in items],
        "split": [item.split for item in items],
        **computed,
    }


def joined(parts: Sequence[Columns]) -> Columns:
    """Puts columns below each other."""

    def together(values: list[Any]) -> Any:
        if isinstance(values[0], np.ndarray):
            return np.concatenate(values)
        return [cell for part in values for cell in part]

    return {name: together([part[name] for part in parts]) for name in parts[0]}


def arrow_table(columns: Columns) -> "pa.Table":
    """Columns as a table of Arrow's."""
    import pyarrow as pa

    arrays = {}
    for name, values in columns.items():
        if not isinstance(values, np.ndarray):
            arrays[name] = pa.array(values, pa.string())
            continue
        numbers = pa.array(np.ascontiguousarray(values, np.float32).reshape(-1))
        wide = values.ndim == 2
        arrays[name] = (
            pa.FixedSizeListArray.from_arrays(numbers, values.shape[1]) if wide else numbers
        )
    return pa.table(arrays)


def examples(columns: Columns) -> Iterator[bytes]:
    """Columns as serialized `tf.train.Example`s, one for each item."""
    names = list(columns)
    for cells in zip(*columns.values(), strict=True):
        features = {
            n: _feature(cell) for n, cell in zip(names, cells, strict=True) if cell is not None
        }
        example = tf.train.Example(features=tf.train.Features(feature=features))
        yield example.SerializeToString(deterministic=True)


def _feature(cell: Any) -> tf.train.Feature:
    if isinstance(cell, str):
        encoded = cell.encode("utf-8", "replace")
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[encoded]))
    return tf.train.Feature(float_list=tf.train.FloatList(value=np.atleast_1d(cell)))


def _write_parquet(columns: Columns, path: Path) -> None:
    import pyarrow.parquet as pq

    # A network's outputs hardly compress, and a dictionary of them only costs time.
    texts = [name for name, values in columns.items() if not isinstance(values, np.ndarray)]
    # pyarrow would take a name with a colon for an address.
    with path.open("wb") as file:
        pq.write_table(arrow_table(columns), file, use_dictionary=texts)


def _write_tfrecord(columns: Columns, path: Path) -> None:
    try:
        with tf.io.TFRecordWriter(str(path)) as writer:
            for example in examples(columns):
                writer.write(example)
    except tf.errors.OpError as error:
        # The message is "path; reason", without an errno. The caller adds the final name.
        raise OSError(errno.ENOSPC, str(error.message).rpartition("; ")[2]) from error


PARQUET, TFRECORD = "parquet", "tfrecord"
_FORMATS = {
    kind.name: kind
    for kind in (ShardFormat(PARQUET, _write_parquet), ShardFormat(TFRECORD, _write_tfrecord))
}


def get(name: str) -> ShardFormat:
    """The format of a name.

    Raises:
        InputError: There is none, or the package that writes it is not installed.
    """
    if name not in _FORMATS:
        hint = did_you_mean(name, _FORMATS, f"Choose {' or '.join(_FORMATS)}.")
        raise InputError("a format of shards", repr(name), hint)
    if name == PARQUET and find_spec("pyarrow") is None:
        fix = "Install it with pip install 'keras_tl[parquet]', or give --format tfrecord."
        raise InputError("the package pyarrow", "none installed", fix)
    return _FORMATS[name]
