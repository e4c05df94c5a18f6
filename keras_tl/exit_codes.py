"""How a command or recipe ends: an error in one line, and an exit code that says its kind."""

import os
import sys
from collections.abc import Callable

from keras_tl.errors import AuditError, InputError, KerasTLError, LostWorkerError

BAD_INPUT, FAILED_CHECK, SERIOUS, TRY_AGAIN = 2, 1, 3, 75
# By the convention of shells: 128 plus the signal.
INTERRUPTED, BROKEN_PIPE = 130, 141


def exit_code_of(run: Callable[[], int | None], name: str) -> int:
    """Runs a program and prints errors raised on purpose as one line on standard error.

    Args:
        run: The program; may return an exit code.
        name: The program's name, with which the line begins.

    Returns:
        The exit code; see `keras_tl.cli.main`.
    """
    try:
        return run() or 0
    except KerasTLError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return _code_of(error)
    except BrokenPipeError:
        # `| head` has seen enough. Otherwise Python would complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"{name}: {where}{error.strerror or error}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return INTERRUPTED


def _code_of(error: KerasTLError) -> int:
    if isinstance(error, AuditError):
        return SERIOUS
    if isinstance(error, LostWorkerError):
        return TRY_AGAIN
    return BAD_INPUT if isinstance(error, InputError) else FAILED_CHECK
