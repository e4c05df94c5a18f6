"""From a TF-Hub handle to a folder with a SavedModel."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from keras_tl.backbones.hub_archives import unpack
from keras_tl.errors import InputError, in_one_line

# Prefix of a TF-Hub module's name, before its handle, or an encoder's two, "A+B".
HUB = "hub:"
SAVED_MODEL = "saved_model.pb"
# A file that only the TF1 Hub format has.
TF1_MODULE = "tfhub_module.pb"
URLS = ("http://", "https://")
OTHER_WAY = "Or download the module's .tar.gz on its page, and give that file or its folder."


def parted(handle: str) -> tuple[str, str]:
    """Splits "ENCODER+PREPROCESSOR", but not at a plus sign within a path.

    Args:
        handle: One handle, or two.

    Returns:
        The two; for a single handle, that and "".
    """
    signs = [place for place, sign in enumerate(handle) if sign == "+"]
    if not signs or _path(handle):
        return handle, ""
    pairs = [(handle[:place], handle[place + 1 :]) for place in signs]
    there = (pair for pair in pairs if all(end.startswith(URLS) or _path(end) for end in pair))
    return next(there, pairs[0])


@contextmanager
def resolved(handle: str | Path) -> Iterator[Path]:
    """Finds the folder that a handle stands for.

    Args:
        handle: The folder of a SavedModel; a `.tar.gz` of one; or a URL that the package
            tensorflow-hub resolves (tfhub.dev, a model on kaggle.com, any `.tar.gz`). What was
            downloaded before lies in `TFHUB_CACHE_DIR`, and needs neither network nor package.

    Yields:
        The folder; that of an archive is removed when the block ends.

    Raises:
        InputError: There is no such folder or file, it is no archive of a SavedModel, or the
            download failed.
    """
    path = _local(str(handle))
    if path is None:
        yield _cached(str(handle)) or _download(str(handle))
    elif path.is_dir():
        yield path
    else:
        # Messages name files in this folder, so its name begins with the archive's.
        with tempfile.TemporaryDirectory(prefix=f"{path.name[:40]}-") as folder:
            yield _extract(path, Path(folder))


def _local(handle: str) -> Path | None:
    """The folder or file that a handle names; None for a URL."""
    path = _path(handle)
    if path or handle.startswith(URLS):
        return path
    raise InputError(
        "a TF-Hub handle: the folder or .tar.gz of a SavedModel, or its URL",
        f"{handle[:200]!r}, which is none of them",
        "Check the path.",
    )


def _path(handle: str) -> Path | None:
    """The folder or file that a handle names, if there is one."""
    # A "~user" may not exist, and a URL may not be a possible file name.
    with suppress(OSError, RuntimeError):
        path = Path(handle).expanduser()
        if path.is_dir() or path.is_file():
            return path
    return None


def _extract(archive: Path, folder: Path) -> Path:
    """Unpacks an archive, and finds the SavedModel in it."""
    unpack(archive, folder)
    names = (SAVED_MODEL, TF1_MODULE)
    found = sorted(path.parent for name in names for path in folder.rglob(name))
    if not found:
        fix = "Give the archive that is on a module's page, or a folder."
        raise InputError("a .tar.gz of a SavedModel", f"{archive} without {SAVED_MODEL}", fix)
    return found[0]


def _cached(handle: str) -> Path | None:
    """What tensorflow-hub downloaded before: https://www.tensorflow.org/hub/caching."""
    cache = os.environ.get("TFHUB_CACHE_DIR") or Path(tempfile.gettempdir()) / "tfhub_modules"
    folder = Path(cache) / hashlib.sha1(handle.encode()).hexdigest()
    known = any((folder / name).is_file() for name in (SAVED_MODEL, TF1_MODULE))
    return folder if known else None


def _download(handle: str) -> Path:
    # Takes seconds to import, and fails where setuptools has no pkg_resources any more.
    try:
        import tensorflow_hub
    except ImportError as error:
        raise InputError(
            "the package tensorflow-hub, to download a module",
            f"none that can be imported ({error})",
            f"Run: pip install tensorflow-hub tf_keras 'setuptools<82'. {OTHER_WAY}",
        ) from error
    import tensorflow as tf

    try:
        return Path(tensorflow_hub.resolve(handle))
    except (OSError, ValueError, RuntimeError, tf.errors.OpError) as error:
        reason = in_one_line(error, 500)
        fix = f"Try again later. {OTHER_WAY}"
        raise InputError(f"to download {handle}", reason, fix) from error
