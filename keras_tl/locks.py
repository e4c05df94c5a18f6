"""Locks between processes, and within one; those of a killed process are released."""

import os
import weakref
from pathlib import Path

from keras_tl.errors import InputError

try:
    import fcntl
except ImportError:  # On Windows, where mapped files cannot be removed anyway.
    fcntl = None  # type: ignore[assignment]


# The name of a folder's lock.
LOCK = ".lock"
# How often a file that its last holder has removed is made again. Some network file systems cannot
# tell whether an open file is the one at its path.
TRIES = 20


class Hold:
    """A lock on a file, held until `release` or until the object is gone.

    Args:
        path: The lock's file; it is made, with its folder, and stays.
        shared: Whether to share the lock if others have it; if False, this object then goes
            without.
        fix: What to do where there can be no lock.

    Attributes:
        alone: Whether this object alone has the lock, until `share` or `release`.

    Raises:
        InputError: The file cannot be made or locked.
    """

    def __init__(
        self,
        path: Path,
        *,
        shared: bool = True,
        fix: str = "Set KERAS_TL_CACHE to another folder.",
    ):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            for left in reversed(range(TRIES)):
                self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
                self.release = weakref.finalize(self, os.close, self._descriptor)
                self.alone = self._taken_alone(shared)
                if not left or _is_at(path, self._descriptor):
                    break
                # Its last holder removed the file before it was locked here.
                self.release()
        except OSError as error:
            raise InputError(
                f"a folder that can be written, {path.parent}",
                error.strerror or str(error),
                fix,
            ) from error

    def share(self) -> None:
        """Lets others have it too."""
        if fcntl:
            fcntl.flock(self._descriptor, fcntl.LOCK_SH)
        self.alone = False

    def _taken_alone(self, shared: bool) -> bool:
        if not fcntl:
            return True
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if shared:
                fcntl.flock(self._descriptor, fcntl.LOCK_SH)
            return False
        return True


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether an open file is the one that is at a path now."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def in_use(path: Path) -> bool:
    """Whether anybody holds the lock of a file."""
    hold = Hold(path, shared=False)
    hold.release()
    return not hold.alone
