"""The errors that keras_tl raises, in one grammar: expected, received, how to mend it."""

import difflib
from collections.abc import Iterable


class KerasTLError(Exception):
    """Base of every error that keras_tl raises on purpose.

    The message is one sentence in one grammar, so that a command can print it as one line.

    Args:
        expected: What was expected, as a noun phrase ("a folder of class folders").
        received: What was received instead.
        fix: What to do about it, as a sentence.

    Attributes:
        parts: These three.
    """

    def __init__(self, expected: str, received: str, fix: str):
        super().__init__(sentence(expected, received, fix))
        self.parts = expected, received, fix


class InputError(KerasTLError, ValueError):
    """Something the user gave cannot be used; commands end with exit code 2."""


class AuditError(InputError):
    """A strict audit found something serious in the data; commands end with exit code 3."""


class CheckError(KerasTLError, RuntimeError):
    """A check of keras_tl's own failed (freezing, export); commands end with exit code 1."""


class LostWorkerError(KerasTLError, RuntimeError):
    """Another process of a training is gone; commands end with exit code 75, "try again"."""


def sentence(expected: str, received: str, fix: str) -> str:
    """The one line of an error, also used for warnings of input that may be right."""
    text = f"Expected {expected}, received {received}. {fix}"
    # Names of files and classes may have line breaks in them.
    return " ".join(text.splitlines())


def in_one_line(error: BaseException, most: int = 200) -> str:
    """The message of another library's error, on one line, cut to `most` characters."""
    return " ".join(str(error).split())[:most] or type(error).__name__


def did_you_mean(name: str, known: Iterable[str], fallback: str = "") -> str:
    """Suggests near misses of a mistyped name.

    Args:
        name: The name that was not found.
        known: The names that exist.
        fallback: What to return if no name is near.

    Returns:
        A sentence, "Did you mean MobileNetV2?", or `fallback`.
    """
    by_lower = {candidate.lower(): candidate for candidate in known}
    near = difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.6)
    if not near:
        return fallback
    return f"Did you mean {' or '.join(by_lower[match] for match in near)}?"
