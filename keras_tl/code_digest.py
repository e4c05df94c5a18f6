"""What code of the user's own computes, as a digest.

The configuration of a layer says how it was made, not what its `call` does: that may be edited
while the configuration stays the same.
"""

import hashlib
import types
from collections.abc import Iterator
from typing import Any

# Packages whose code belongs to their version.
LIBRARIES = ("builtins", "keras", "keras_hub", "keras_tl", "numpy", "tensorflow", "tensorflow_text")
EMPTY = types.CellType()
PLAIN = bool | int | float | complex | str | bytes | None | types.EllipsisType


def code_digest(*objects: Any) -> str:
    """SHA-256 of what functions and classes do, and of what they name in their own package.

    Code of `LIBRARIES` does not count, nor do comments and places in a file. Of values that code
    names, numbers and text count.

    Args:
        *objects: Functions and classes.

    Returns:
        The digest in hexadecimal digits; "" if all is of libraries.
    """
    parts = list(_parts(objects, set()))
    return hashlib.sha256(b"\n".join(parts)).hexdigest() if parts else ""


def _parts(objects: Any, seen: set[int]) -> Iterator[bytes]:
    for found in objects:
        found = getattr(found, "__func__", found)
        found = getattr(found, "__wrapped__", found)
        if isinstance(found, property):
            yield from _parts((found.fget, found.fset), seen)
        elif isinstance(found, PLAIN | tuple | frozenset):
            yield _plain(found)
        elif id(found) not in seen and _package(found) not in LIBRARIES:
            seen.add(id(found))
            if isinstance(found, type):
                own = {name: value for name, value in vars(found).items() if name[:2] != "__"}
                yield repr(sorted(own)).encode()
                methods = [found.__dict__[n] for n in ("__init__", "__call__") if n in vars(found)]
                yield from _parts((*own.values(), *methods, *found.__mro__[1:]), seen)
            elif isinstance(found, types.FunctionType):
                yield from _code(found.__code__)
                yield from _parts(_named(found), seen)


def _package(found: Any) -> str:
    return str(getattr(found, "__module__", None) or "builtins").partition(".")[0]


def _plain(value: Any) -> bytes:
    """A value as text, the same in every process; nothing of what it may hold beside plain ones."""
    if isinstance(value, tuple):
        return b"(" + b",".join(map(_plain, value)) + b")"
    if isinstance(value, frozenset):
        return b"{" + b",".join(sorted(map(_plain, value))) + b"}"
    return repr(value).encode() if isinstance(value, PLAIN) else b""


def _code(code: types.CodeType) -> Iterator[bytes]:
    """Instructions, names and constants, of functions within it too."""
    yield code.co_code
    yield _plain((code.co_names, code.co_varnames, code.co_freevars))
    for constant in code.co_consts:
        yield from _code(constant) if isinstance(constant, types.CodeType) else (_plain(constant),)


def _named(function: types.FunctionType) -> list[Any]:
    """What a function names, encloses or has for defaults: values, and code of its package."""
    names, cells = set(_names(function.__code__)), function.__closure__ or ()
    values = [v for name, v in sorted(function.__globals__.items()) if name in names]
    values += [cell.cell_contents for cell in cells if cell != EMPTY]
    values += [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    own = _package(function)
    return [v for v in values if isinstance(v, PLAIN | tuple | frozenset) or _package(v) == own]


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)
