"""What code of the user's own computes, as a digest.

The configuration of a layer says how it was made, not what its `call` does: that may be edited
while the configuration stays the same.
"""

import functools
import hashlib
import sys
import sysconfig
import types
from collections.abc import Iterator
from typing import Any

import numpy as np

PLAIN = bool | int | float | complex | str | bytes | None | types.EllipsisType
EMPTY = types.CellType()
# Packages that are installed; their code belongs to their versions.
INSTALLED = tuple(sysconfig.get_paths()[kind] for kind in ("stdlib", "purelib", "platlib"))


def code_digest(*objects: Any) -> str:
    """SHA-256 of what functions and classes do, and of the values and code that they name.

    Code of installed packages does not count, nor do comments and places in a file. Numbers, text,
    arrays and collections of them count as they are; what other objects hold does not.

    Args:
        *objects: Functions and classes.

    Returns:
        The digest in hexadecimal digits; "" if all is installed.
    """
    seen: set[int] = set()
    parts = [part for each in objects for part in _parts(each, seen)]
    return hashlib.sha256(b"\n".join(parts)).hexdigest() if parts else ""


def _parts(found: Any, seen: set[int]) -> Iterator[bytes]:
    if isinstance(found, PLAIN):
        yield repr(found).encode()
    elif isinstance(found, np.ndarray):
        yield f"{found.dtype} {found.shape} {found.tolist()}".encode()
    elif id(found) not in seen:
        seen.add(id(found))
        if isinstance(found, set | frozenset):
            # Their order differs from process to process.
            yield from sorted(b" ".join(_parts(each, seen)) for each in found)
        for each in _within(found):
            yield from _parts(each, seen)


def _within(found: Any) -> Iterator[Any]:
    """What an object is made of, but for sets."""
    if isinstance(found, dict):
        yield from (each for item in found.items() for each in item)
    elif isinstance(found, list | tuple):
        yield from found
    elif isinstance(found, functools.partial):
        yield from (found.func, found.args, found.keywords)
    elif isinstance(found, property):
        yield from (found.fget, found.fset)
    elif isinstance(found, staticmethod | classmethod | types.MethodType):
        yield found.__func__
    elif isinstance(found, types.CodeType):
        # Neither line numbers nor the file.
        yield from (found.co_code, found.co_names, found.co_varnames, found.co_freevars)
        yield found.co_consts
    elif isinstance(found, types.FunctionType) and _is_own(found):
        yield found.__code__
        yield from (found.__defaults__, found.__kwdefaults__)
        yield from _named(found)
        yield from (cell.cell_contents for cell in found.__closure__ or () if cell != EMPTY)
    elif isinstance(found, type) and _is_own(found):
        own = {name: value for name, value in vars(found).items() if _counts(name, value)}
        yield from (own, found.__mro__[1:])


def _is_own(found: Any) -> bool:
    """Whether code is of no installed package."""
    name = str(getattr(found, "__module__", None) or "builtins")
    file = getattr(sys.modules.get(name), "__file__", None) or ""
    is_known = name.partition(".")[0] in ("keras_tl", *sys.stdlib_module_names)
    return name == "__main__" or not (is_known or file.startswith(INSTALLED))


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


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)
