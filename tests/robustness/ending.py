"""How a command must end that is given something broken, and what must not happen meanwhile."""

import faulthandler
import signal
import sys
from contextlib import contextmanager
from pathlib import Path

from keras_tl import cli


class HangError(BaseException):
    """No `except` of the program's own catches it."""


# Each case is done in milliseconds; what takes so long hangs.
SECONDS = 30


@contextmanager
def deadline(seconds=SECONDS):
    """Raises in Python code that does not end; kills the process where C++ code does not."""

    def hangs(*_):
        raise HangError(f"no end after {seconds} s")

    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(seconds)
    faulthandler.dump_traceback_later(2 * seconds, exit=True, file=sys.__stderr__)
    try:
        yield
    except HangError as error:
        raise AssertionError(str(error)) from error
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def ended(capsys, *arguments):
    """Runs a command: its exit code, and what it said on stderr."""
    capsys.readouterr()
    with deadline():
        try:
            code = cli.main([str(argument) for argument in arguments])
        except SystemExit as stopped:
            code = stopped.code
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return code, said


def assert_refused(capsys, *arguments, said=""):
    """A command must end with exit code 2 and one line, which is returned."""
    code, line = ended(capsys, *arguments)
    assert code == 2, line
    assert line.startswith("keras-tl: ") and line.count("\n") == 1 and line.endswith("\n"), line
    assert len(line) < 2000 and said in line, line
    return line


def listing(folder):
    """Every file, link and folder below a folder, with the size and time of each."""
    facts = {}
    for path in Path(folder).rglob("*"):
        about = path.lstat()
        facts[path.relative_to(folder).as_posix()] = (about.st_size, about.st_mtime_ns)
    return facts
