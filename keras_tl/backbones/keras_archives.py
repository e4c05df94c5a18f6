"""Reads `.keras` archives from anywhere, in no more memory than their size justifies.

A few bytes in an archive can ask for any amount of memory: a member that unpacks to gigabytes, an
array that is nothing but its fill value, a layer of a million units. Each is compared with what the
archive holds before it is made.
"""

import io
import json
import lzma
import math
import threading
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import keras
import tensorflow as tf

from keras_tl.errors import InputError, in_one_line

FIX = "Copy it again from where it was trained."
# Keras does not compress members. Compressed by others, weights hardly shrink, and graphs do to a
# tenth; an archive that unpacks to this many times its size is a bomb, unless that is small.
_MOST_EXPANSION, _SMALL = 20, 2**25
# Least bytes that a weight takes of a file, apart from its values.
_LEAST_BYTES = 100
# Numbers in weights that a file need not hold: adapters that were merged.
_ALWAYS_ALLOWED = 2**18
# Weights are counted for one model at a time.
_one_at_a_time = threading.Lock()

# What h5py, zipfile, json and a look into their contents raise on damaged files.
BROKEN = (
    OSError,
    EOFError,
    LookupError,
    RuntimeError,
    ValueError,
    TypeError,
    AttributeError,
    ArithmeticError,
    MemoryError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)


def load_model(path: Path) -> keras.Model:
    """Loads a model, not compiled.

    Args:
        path: A `.keras` file.

    Raises:
        InputError: It is missing or damaged, announces more weights than it holds, or has a layer
            that cannot be made here or could run code of its own.
    """
    try:
        with _no_more_than(path, _held(path)):
            return keras.models.load_model(path, compile=False)
    except (*BROKEN, tf.errors.OpError) as error:
        # Keras buries a layer's own message in a long one.
        cause: BaseException | None = error
        while cause and not isinstance(cause, InputError):
            cause = cause.__cause__ or cause.__context__
        if cause:
            raise cause from error
        reason = in_one_line(error)
        raise InputError(f"a Keras model in {path}", reason, FIX) from error


def read_weights(path: Path) -> io.BytesIO:
    """Reads an archive's HDF5 file.

    Args:
        path: A `.keras` file. What is wrong with it raises one of `BROKEN`.
    """
    return io.BytesIO(_read(path, "model.weights.h5"))


def read_config(path: Path) -> dict[str, Any]:
    """Reads the configuration of an archive's model.

    Args:
        path: A `.keras` file. What is wrong with it raises one of `BROKEN`.
    """
    return json.loads(_read(path, "config.json"))


def check_file(path: Path) -> None:
    """Looks at a path before it is opened.

    Raises:
        ValueError: It is not a regular file: reading a pipe or a device might never end.
    """
    if not path.is_file():
        raise ValueError("not a file" if path.exists() else "not there")


def _read(path: Path, member: str) -> bytes:
    check_file(path)
    _refuse_bomb(path)
    with zipfile.ZipFile(path) as archive:
        return archive.read(member)


def _refuse_bomb(path: Path) -> None:
    """Refuses an archive by the sizes that it claims, before any member is unpacked."""
    with zipfile.ZipFile(path) as archive:
        size = sum(info.file_size for info in archive.infolist())
    if size > max(_MOST_EXPANSION * path.stat().st_size, _SMALL):
        raise ValueError(f"it expands more than {_MOST_EXPANSION} times, to {size} bytes")


def objects(
    group: h5py.Group, path: str = "", seen: set[int] | None = None
) -> Iterator[tuple[str, h5py.Group | h5py.Dataset]]:
    """Yields all that is in a group of an HDF5 file, with paths; links of other kinds are left out.

    Args:
        group: The group.
        path: Its path.
        seen: Addresses in the file of the objects met before.

    Raises:
        ValueError: Two links lead to the same object: a few groups could pass for millions.
    """
    seen = set() if seen is None else seen
    for part in group:
        if not isinstance(group.get(part, getlink=True), h5py.HardLink):
            continue
        child, inner = group[part], f"{path}/{part}" if path else part
        meet(child, seen)
        yield inner, child
        if isinstance(child, h5py.Group):
            yield from objects(child, inner, seen)


def meet(item: h5py.Group | h5py.Dataset, seen: set[int]) -> None:
    """Notes an object's address in its file.

    Raises:
        ValueError: It was met before.
    """
    address = h5py.h5o.get_info(item.id).addr
    if address in seen:
        raise ValueError(f"{item.name} is there under another name, too")
    seen.add(address)


def _held(path: Path) -> int:
    """The size of an archive's weights; raises if an array claims more."""
    content = read_weights(path)
    size = content.getbuffer().nbytes
    with h5py.File(content, "r") as file:
        for name, item in objects(file):
            if isinstance(item, h5py.Dataset) and item.nbytes > size:
                raise ValueError(f"{name} has {item.nbytes} bytes in a file of {size}")
    return size


@contextmanager
def _no_more_than(path: Path, size: int) -> Iterator[None]:
    """Refuses a model with more numbers in weights than `size`, before they get memory."""
    thread, left = threading.get_ident(), size + _ALWAYS_ALLOWED
    add_weight, build = keras.Layer.add_weight, keras.layers.Normalization.build

    def count(layer: keras.Layer, shape: Any) -> None:
        nonlocal left
        if threading.get_ident() != thread:
            return
        shape = keras.KerasTensor(() if shape is None else shape).shape
        left -= math.prod(shape) + _LEAST_BYTES
        if left < 0:
            received = f"{path}, in which {layer.name} would have one of {shape}"
            raise InputError(f"layers that {size} bytes of weights are for", received, FIX)

    def counted(layer: keras.Layer, *args: Any, **kwargs: Any) -> keras.Variable:
        count(layer, args[0] if args else kwargs.get("shape"))
        return add_weight(layer, *args, **kwargs)

    # A configured mean is expanded to as many numbers as there are inputs.
    def counted_build(layer: keras.layers.Normalization, input_shape: Any) -> None:
        count(layer, [input_shape[axis] for axis in layer.axis])
        build(layer, input_shape)

    with _one_at_a_time:
        keras.Layer.add_weight, keras.layers.Normalization.build = counted, counted_build
        try:
            yield
        finally:
            keras.Layer.add_weight, keras.layers.Normalization.build = add_weight, build
