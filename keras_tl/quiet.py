"""Suppresses output of other libraries that none of their settings suppresses."""

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any


def load_quietly(name: str) -> Any:
    """Imports a module that works with TensorFlow.

    What TensorFlow's C++ code logs while it is loaded obeys no setting, so it is discarded.
    """
    with quiet():
        return import_module(name)


@contextmanager
def quiet() -> Iterator[None]:
    """Discards the process's error output, also that of C++ code, and ignores warnings.

    Errors that are raised are not touched.
    """
    sys.stderr.flush()
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)
