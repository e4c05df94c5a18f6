"""Reads a PyTorch checkpoint into NumPy arrays, without torch and without unpickling.

`torch.save` writes a pickle that says how tensors lie in storages, and the storages' raw bytes
beside it: in one stream up to PyTorch 1.5, in a zip archive since. Unpickling a file runs what
the file says. Even `pickle.Unpickler` with a guarded `find_class` can be crashed by one (a deep
tuple as a dictionary key overflows the C stack), so here `pickletools` only splits the pickle
into operations, and a small interpreter carries out the two dozen that `torch.save` writes.

The formats: https://github.com/pytorch/pytorch/blob/main/torch/serialization.py
"""

import hashlib
import io
import lzma
import os
import pickletools
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import ml_dtypes
import numpy as np

from keras_tl.errors import InputError

_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
_PROTOCOL_VERSION = 1001
_MAX_DIMENSIONS = 32
_DTYPES = {
    "torch.DoubleStorage": np.dtype("<f8"),
    "torch.FloatStorage": np.dtype("<f4"),
    "torch.HalfStorage": np.dtype("<f2"),
    "torch.BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "torch.LongStorage": np.dtype("<i8"),
    "torch.IntStorage": np.dtype("<i4"),
    "torch.ShortStorage": np.dtype("<i2"),
    "torch.CharStorage": np.dtype("i1"),
    "torch.ByteStorage": np.dtype("u1"),
    "torch.BoolStorage": np.dtype("?"),
}
# What reading a damaged file may raise, from here, pickletools and zipfile.
_MALFORMED = (
    ValueError,
    TypeError,
    IndexError,
    KeyError,
    EOFError,
    OSError,
    OverflowError,
    RuntimeError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)


class _Storage(NamedTuple):
    """A run of numbers of one type, named by the pickle and kept outside it."""

    key: str
    dtype: np.dtype
    length: int


class _Tensor(NamedTuple):
    """A view of a storage; offset and strides count elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_state_dict(
    path: str | os.PathLike[str], *, sha256: str | None = None
) -> dict[str, np.ndarray]:
    """Reads a state dict that `torch.save` wrote, in its old or its zip format.

    Nothing that the file names is imported or called. No array reaches outside the storage that
    the file holds for it, nor has more elements than that storage.

    Args:
        path: The checkpoint (`.pth`, `.pt`, `.bin`): one flat dict of tensors, as from
            `torch.save(model.state_dict(), path)`.
        sha256: The hexadecimal SHA-256 the file must have; checked before anything is parsed.

    Returns:
        The tensors by name, in the file's order: read-only arrays with the checkpoint's shapes,
        strides and dtypes (floats of 16 to 64 bits, bfloat16, integers, bool).

    Raises:
        InputError: The file is missing, has another SHA-256, is no such checkpoint or is damaged,
            or asks for a Python object that a state dict has no use for (it is named).
    """
    content = _read_bytes(Path(path), sha256)
    try:
        read = _read_zip if content[:2] == b"PK" else _read_legacy
        tensors, storages = read(content)
        return {name: _view(tensor, storages) for name, tensor in tensors.items()}
    except _MALFORMED as error:
        raise InputError(
            "a PyTorch checkpoint holding one dict of tensors",
            f"{path} ({error})",
            "Write it anew with torch.save(model.state_dict(), path).",
        ) from error


def _read_bytes(path: Path, sha256: str | None) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(
            "a readable PyTorch checkpoint", f"{path} ({error.strerror})", "Check the path."
        ) from error
    found = hashlib.sha256(content).hexdigest()
    if sha256 is not None and found != sha256.lower():
        raise InputError(
            f"a checkpoint with SHA-256 {sha256}",
            f"{path} with {found}",
            "The file is damaged or not the one meant: fetch it anew.",
        )
    return content


# --- The two formats: each gives the tensors' descriptions and the storages by key. -------------


def _read_legacy(content: bytes) -> tuple[dict[str, _Tensor], dict[str, np.ndarray]]:
    """Magic number, protocol, system, tensors, storage keys: five pickles, then raw storages."""
    stream = io.BytesIO(content)
    if content[:1] != b"\x80" or _evaluate(stream) != _MAGIC_NUMBER:
        raise ValueError("it does not begin like a checkpoint")
    if _evaluate(stream) != _PROTOCOL_VERSION:
        raise ValueError("it is of an unknown protocol")
    system = _evaluate(stream)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise ValueError("it is not from a little-endian machine")
    tensors = _flat_state_dict(_evaluate(stream))
    keys = _evaluate(stream)
    described = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    # Strings first: hashing whatever else a file puts here may take for ever.
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise ValueError("its list of storages is damaged")
    if set(keys) != described.keys():
        raise ValueError("its list of storages does not fit its tensors")
    return tensors, {key: _legacy_storage(content, stream, described[key]) for key in keys}


def _legacy_storage(content: bytes, stream: BinaryIO, storage: _Storage) -> np.ndarray:
    count = int.from_bytes(stream.read(8), "little", signed=True)
    if count != storage.length:
        raise ValueError(f"storage {storage.key} is cut short or of another size than announced")
    values = np.frombuffer(content, storage.dtype, count, stream.tell())
    stream.seek(values.nbytes, io.SEEK_CUR)
    return values


def _read_zip(content: bytes) -> tuple[dict[str, _Tensor], dict[str, np.ndarray]]:
    """`NAME/data.pkl` has the tensors, `NAME/data/KEY` a storage each, uncompressed."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > len(content):
            raise ValueError("it unpacks to more than its own size")
        pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError("a zip archive without one data.pkl")
        folder = pickles[0].removesuffix("/data.pkl")
        # Written since PyTorch 2.1.
        byte_order = f"{folder}/byteorder"
        if byte_order in archive.namelist() and archive.read(byte_order) != b"little":
            raise ValueError("it is not from a little-endian machine")
        tensors = _flat_state_dict(_evaluate(io.BytesIO(archive.read(pickles[0]))))
        described = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
        return tensors, {
            key: np.frombuffer(archive.read(f"{folder}/data/{key}"), storage.dtype)
            for key, storage in described.items()
        }


def _flat_state_dict(state: object) -> dict[str, _Tensor]:
    if not isinstance(state, dict):
        raise ValueError("it holds no dict")
    for name, value in state.items():
        if not isinstance(value, _Tensor):
            raise ValueError(f"its entry {name!r} is no tensor")
    return state


def _view(tensor: _Tensor, storages: dict[str, np.ndarray]) -> np.ndarray:
    """The tensor's array; every element it addresses is checked to lie in its storage."""
    _, offset, shape, strides = tensor
    storage = storages[tensor.storage.key]
    if storage.dtype != tensor.storage.dtype or storage.size != tensor.storage.length:
        raise ValueError(f"storage {tensor.storage.key} is not of the type and size announced")
    if len(shape) != len(strides):
        raise ValueError("a tensor's shape and strides do not fit together")
    elements, reach = 1, offset + 1
    for size, stride in zip(shape, strides, strict=True):
        elements *= size
        reach += (size - 1) * stride
    if elements == 0:
        return np.empty(shape, storage.dtype)
    if reach > storage.size or elements > storage.size:
        raise ValueError(f"a tensor reaches outside storage {tensor.storage.key}")
    return np.lib.stride_tricks.as_strided(
        storage[offset:], shape, [stride * storage.itemsize for stride in strides], writeable=False
    )


# --- What a pickle may name, and what is done instead of calling it. ----------------------------


def _ordered_dict() -> dict:
    return {}


def _size(sizes: object) -> tuple[int, ...]:
    if not isinstance(sizes, tuple) or len(sizes) > _MAX_DIMENSIONS:
        raise ValueError("a tensor's shape or strides are no tuple of sizes")
    if not all(isinstance(size, int) and size >= 0 for size in sizes):
        raise ValueError("a tensor's shape or strides have something else than sizes")
    return sizes


def _rebuild_tensor(
    storage: object, offset: object, shape: object, strides: object, *_: object
) -> _Tensor:
    if not isinstance(storage, _Storage) or not isinstance(offset, int) or offset < 0:
        raise ValueError("a tensor has no storage or no offset")
    return _Tensor(storage, offset, _size(shape), _size(strides))


def _rebuild_parameter(tensor: object, *_: object) -> object:
    return tensor


_CALLABLES: dict[str, Callable[..., object]] = {
    "collections.OrderedDict": _ordered_dict,
    "torch.Size": _size,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
}


def _find_global(module_and_name: str) -> object:
    """A storage's dtype, or the name of a stand-in; whatever else is named is refused."""
    name = module_and_name.replace(" ", ".")
    if name in _DTYPES:
        return _DTYPES[name]
    if name in _CALLABLES:
        return _CALLABLES[name]
    raise ValueError(f"it asks for {name}, which a state dict has no use for")


def _find_storage(identifier: object) -> _Storage:
    """Reads a persistent id: ("storage", type, key, device, count[, None])."""
    if not isinstance(identifier, tuple) or len(identifier) not in (5, 6):
        raise ValueError("a storage is described in an unknown way")
    tag, dtype, key, _, count = identifier[:5]
    # The sixth, in the old format, is a view of another storage; PyTorch stopped writing it in 0.4.
    is_view = identifier[5:] not in ((), (None,))
    if tag != "storage" or not isinstance(dtype, np.dtype) or is_view:
        raise ValueError("a storage is described in an unknown way")
    if not isinstance(key, str) or not isinstance(count, int) or count < 0:
        raise ValueError("a storage is described in an unknown way")
    return _Storage(key, dtype, count)


# --- The interpreter. ----------------------------------------------------------------------------

_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_LITERALS = frozenset(("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"))


def _evaluate(stream: BinaryIO) -> object:
    """The value of the pickle at the stream's position, which is left behind its end."""
    interpreter = _Interpreter()
    for opcode, argument, _ in pickletools.genops(stream):
        interpreter.step(opcode.name, argument)
    return interpreter.result()


class _Interpreter:
    """A stack machine for the operations that `torch.save` writes (pickle protocol 2).

    An operation moves what is on the stack or makes something of constant size, and dictionary
    keys are strings: no file can make it allocate far beyond its own size, or recurse.
    """

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def result(self) -> object:
        """What the pickle stands for, once all is carried out."""
        return self._pop(1)[0]

    def step(self, name: str, argument: Any) -> None:
        """Carries out one operation, named as in `pickletools`."""
        push = self._stack.append
        if name in _CONSTANTS:
            push(_CONSTANTS[name])
        elif name in _LITERALS:
            push(argument)
        elif name == "EMPTY_DICT":
            push({})
        elif name == "EMPTY_LIST":
            push([])
        elif name == "GLOBAL":
            push(_find_global(argument))
        elif name in ("BINPUT", "LONG_BINPUT"):
            self._memo[argument] = self._stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            push(self._memo[argument])
        elif name == "MARK":
            self._marks.append(len(self._stack))
        elif name not in ("PROTO", "STOP"):
            self._combine(name)

    def _combine(self, name: str) -> None:
        """The operations that take values off the stack."""
        push = self._stack.append
        match name:
            case "TUPLE":
                push(tuple(self._pop_to_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                push(tuple(self._pop(int(name[-1]))))
            case "APPEND":
                self._extend_list(self._pop(1))
            case "APPENDS":
                self._extend_list(self._pop_to_mark())
            case "SETITEM":
                self._fill_dict(self._pop(2))
            case "SETITEMS":
                self._fill_dict(self._pop_to_mark())
            case "BINPERSID":
                push(_find_storage(self._pop(1)[0]))
            case "REDUCE":
                # Nothing callable but the stand-ins above ever gets onto the stack.
                function, arguments = self._pop(2)
                push(function(*arguments))
            case "BUILD":
                # Attributes of the dict (torch's `_metadata`) are of no use here.
                self._pop(1)
            case _:
                raise ValueError(f"it has the operation {name}, which torch.save does not write")

    def _pop(self, count: int) -> list[Any]:
        if len(self._stack) < count:
            raise ValueError("its operations do not fit together")
        values = self._stack[-count:]
        del self._stack[-count:]
        return values

    def _pop_to_mark(self) -> list[Any]:
        start = self._marks.pop()
        values = self._stack[start:]
        del self._stack[start:]
        return values

    def _extend_list(self, values: list[Any]) -> None:
        if not isinstance(self._stack[-1], list):
            raise ValueError("it appends to what is no list")
        self._stack[-1].extend(values)

    def _fill_dict(self, keys_and_values: list[Any]) -> None:
        keys, values = keys_and_values[::2], keys_and_values[1::2]
        if not isinstance(self._stack[-1], dict) or not all(isinstance(key, str) for key in keys):
            raise ValueError("it has a dict with keys that are no strings")
        self._stack[-1].update(zip(keys, values, strict=True))
