"""What code of the user's own computes, as a digest.

The configuration of a layer says how it was made, not what its `call` does: that may be edited
while the configuration stays the same.
"""

import functools
import hashlib
import re
import sys
import types
from collections.abc import Iterator
from typing import Any

import numpy as np

PLAIN = bool | int | float | complex | str | bytes | range | slice | None | types.EllipsisType
EMPTY = types.CellType()
# Packages whose code belongs to their versions, wherever they are; so does what is installed.
LIBRARIES = {"keras", "keras_hub", "keras_tl", "numpy", "tensorflow", "tensorflow_text"}
LIBRARIES |= sys.stdlib_module_names
INSTALLED = re.compile(r"[\\/](site|dist)-packages[\\/]")


def code_digest(*objects: Any) -> str:
    """SHA-256 of what functions and classes do, and of the values and code that they name.

    Code of installed packages counts by its names alone, comments and places in a file do not
    count. Numbers, text, arrays and collections of them count as they are; what other objects hold
    does not.

    Args:
        *objects: Functions, classes and code.

    Returns:
        The digest in hexadecimal digits; "" if all is installed.
    """
    # Objects are kept, or another one could come to have the same `id`.
    seen: dict[int, Any] = {}
    parts = [part for each in objects for part in _parts(each, seen)]
    return hashlib.sha256(b"\n".join(parts)).hexdigest() if parts else ""


def _parts(found: Any, seen: dict[int, Any]) -> Iterator[bytes]:
    if isinstance(found, PLAIN):
        yield repr(found).encode()
    elif isinstance(found, np.ndarray | np.generic) and found.dtype != object:
        yield f"{found.dtype} {found.shape}".encode()
        yield hashlib.sha256(np.asarray(found).tobytes()).digest()
    elif id(found) not in seen:
        seen[id(found)] = found
        if isinstance(found, set | frozenset):
            # Their order differs from process to process.
            yield from sorted(b" ".join(_parts(each, dict(seen))) for each in found)
        elif isinstance(found, dict | list | tuple):
            yield f"{type(found).__name__} of {len(found)}".encode()
        for each in _within(found):
            yield from _parts(each, seen)


def _within(found: Any) -> Iterator[Any]:
    """What an object is made of, but for sets."""
    if isinstance(found, dict):
        yield from (each for item in found.items() for each in item)
    elif isinstance(found, list | tuple):
        yield from found
    elif isinstance(found, np.ndarray):
        yield found.tolist()
    elif isinstance(found, functools.partial):
        yield from (found.func, found.args, found.keywords)
    elif isinstance(found, property):
        yield from (found.fget, found.fset)
    elif isinstance(found, functools.cached_property):
        yield found.func
    elif isinstance(found, staticmethod | classmethod | types.MethodType):
        yield found.__func__
    elif isinstance(found, types.CodeType):
        # Neither line numbers nor the file.
        yield from (found.co_code, found.co_names, found.co_varnames, found.co_freevars)
        yield found.co_consts
    elif isinstance(found, types.FunctionType):
        # A lambda that Keras has loaded from a file passes for one of its own.
        if _is_own(found) or found.__name__ == "<lambda>":
            yield found.__code__
            yield from (found.__defaults__, found.__kwdefaults__)
            yield from _named(found)
            yield from (cell.cell_contents for cell in found.__closure__ or () if cell != EMPTY)
    elif isinstance(found, type):
        if _is_own(found):
            yield {name: value for name, value in vars(found).items() if _counts(name, value)}
            yield found.__mro__[1:]
    else:
        # Such as what `tf.function` and `functools.lru_cache` make.
        yield from (each for each in (getattr(found, "__wrapped__", None),) if each is not None)
        yield type(found)


def _is_own(found: Any) -> bool:
    """Whether code is of no installed package."""
    name = str(getattr(found, "__module__", None) or "builtins")
    file = getattr(sys.modules.get(name), "__file__", None) or ""
    is_known = name.partition(".")[0] in LIBRARIES or INSTALLED.search(file)
    return name == "__main__" or not is_known


def _counts(name: str, value: Any) -> bool:
    """Whether an attribute of a class is the user's: Python adds some."""
    return name[:2] != "__" or isinstance(value, types.FunctionType)


def _named(function: types.FunctionType) -> Iterator[Any]:
    """The globals that a function names; of the user's modules, what it may name in them."""
    names = set(_names(function.__code__))
    for name in sorted(names & function.__globals__.keys()):
        value = function.__globals__[name]
        if isinstance(value, types.ModuleType):
            held = vars(value) if _is_own(types.SimpleNamespace(__module__=value.__name__)) else {}
            yield from (held[each] for each in sorted(names & held.keys()))
        else:
            yield value
            if hasattr(value, "__qualname__"):
                yield f"{value.__module__}.{value.__qualname__}"


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)
