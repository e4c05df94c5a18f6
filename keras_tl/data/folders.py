"""A folder of class folders as a `Source`."""

import logging
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from keras_tl.data.labels import TASK_NAMES, first_few, refuse_unknown_classes
from keras_tl.data.source import SPLITS, Skipped, Source
from keras_tl.data.splits import SPLIT_ALIASES
from keras_tl.errors import InputError, did_you_mean

LOG = logging.getLogger("keras_tl")

IMAGE_EXTENSIONS = frozenset((".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp"))
# Photographs all the same: leaving them out counts as a loss, unlike a text file.
UNREAD_IMAGE_EXTENSIONS = frozenset(
    (".tif", ".tiff", ".heic", ".heif", ".avif", ".jp2", ".jxl", ".dng")
)
HIDDEN_NAMES = frozenset(("__macosx", "thumbs.db", "desktop.ini"))


class _Image(NamedTuple):
    path: Path
    class_name: str
    split: str


def from_folder(
    path: str | os.PathLike[str],
    *,
    task: str = "auto",
    class_names: Sequence[str] | None = None,
) -> Source:
    """Reads a folder that holds one folder of images for each class.

    Where every visible subfolder is called train, val (or valid, validation) or test, in any
    case, the class folders are looked for inside those, and the splits count as given. Class
    folders are walked recursively. Names starting with a dot, `__MACOSX`, `Thumbs.db` and
    `desktop.ini` are hidden; hidden and foreign files are listed in `skipped`. No file is opened.

    Args:
        path: The folder.
        task: "auto" or "single-label": folders can say nothing else.
        class_names: The classes to use, in this order (to evaluate a trained model: not all of
            them need to be there); None takes the folders' names, sorted.

    Returns:
        A source whose ids are paths relative to `path`, with forward slashes, and whose items
        are absolute paths, sorted by class and id within each split.

    Raises:
        InputError: There is no such folder, no class folders, fewer than two classes, a class
            without images, or another task was asked for.
    """
    root = _require_folder(Path(os.path.abspath(path)))
    _require_single_label(task)
    walk = _Walk(root)
    found, classes = _find_images(walk)
    counts = Counter(image.class_name for image in found)
    if class_names is None:
        _refuse_empty_classes(classes, counts)
        names = tuple(sorted(classes))
    else:
        refuse_unknown_classes(counts, class_names)
        names = tuple(class_names)
    index = {name: i for i, name in enumerate(names)}
    return Source(
        ids=np.array([walk.id(image.path) for image in found], dtype=object),
        items=[str(image.path) for image in found],
        labels=np.array([index[image.class_name] for image in found], np.int64),
        class_names=names,
        splits=np.array([image.split for image in found], dtype=object),
        given_splits=tuple(s for s in SPLITS if any(image.split == s for image in found)),
        skipped=tuple(walk.skipped),
    )


def list_images(path: str | os.PathLike[str]) -> tuple[list[str], tuple[Skipped, ...]]:
    """Lists every image file below a folder, without labels (to predict from).

    Args:
        path: The folder, walked recursively.

    Returns:
        The paths relative to `path`, with forward slashes, sorted; and what was passed over.

    Raises:
        InputError: There is no such folder.
    """
    root = _require_folder(Path(os.path.abspath(path)))
    walk = _Walk(root)
    return [walk.id(image) for image in walk.images_below(root)], tuple(walk.skipped)


class _Walk:
    """Looks into folders and notes what is passed over."""

    def __init__(self, root: Path):
        self.root = root
        self.real_root = Path(os.path.realpath(root))
        self.skipped: list[Skipped] = []

    def id(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def skip(self, path: Path, reason: str, bad: bool = False) -> None:
        # Names that are no UTF-8 come with surrogates, which no file could be written with.
        readable = self.id(path).encode("utf-8", "backslashreplace").decode()
        self.skipped.append(Skipped(readable, reason, bad))

    def look(self, folder: Path) -> tuple[list[Path], list[Path]]:
        """The visible folders and the image files directly in a folder, each sorted."""
        folders: list[Path] = []
        images: list[Path] = []
        try:
            names = sorted(os.listdir(folder))
        except OSError as error:
            self.skip(folder, f"unreadable folder: {error.strerror}", bad=True)
            return [], []
        for path in (folder / name for name in names):
            if path.name.startswith(".") or path.name.lower() in HIDDEN_NAMES:
                self.skip(path, "hidden")
            elif not _is_utf8(path.name):
                self.skip(path, "name is not valid UTF-8", bad=True)
            elif os.path.isdir(path):
                folders.append(path)
            elif self._is_image(path):
                images.append(path)
        return folders, images

    def _is_image(self, path: Path) -> bool:
        extension = path.suffix.lower()
        if extension in UNREAD_IMAGE_EXTENSIONS:
            self.skip(path, f"image format {extension} is not read", bad=True)
        elif extension not in IMAGE_EXTENSIONS:
            self.skip(path, f"not an image file ({extension or 'no extension'})")
        elif not os.path.isfile(path):
            self.skip(path, "broken link" if path.is_symlink() else "not a regular file", bad=True)
        else:
            return True
        return False

    def images_below(self, folder: Path) -> list[Path]:
        """Every image file in a folder and the folders below it, sorted by id."""
        found: list[Path] = []
        visited: set[Path] = set()
        waiting = [folder]
        while waiting:
            current = waiting.pop()
            real = Path(os.path.realpath(current))
            leads_up = current != self.root and self.real_root.is_relative_to(real)
            if real in visited or leads_up:
                self.skip(current, "link to a folder that is visited already")
                continue
            visited.add(real)
            folders, images = self.look(current)
            found.extend(images)
            waiting.extend(folders)
        return sorted(found, key=self.id)


def _is_utf8(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _require_folder(root: Path) -> Path:
    if root.is_dir():
        return root
    if root.exists():
        raise InputError("a folder", f"the file {str(root)!r}", "Give the folder that holds it.")
    raise InputError("a folder", f"{str(root)!r}, which does not exist", "Check the path.")


def _require_single_label(task: str) -> None:
    if task in ("auto", "single-label"):
        return
    if task in TASK_NAMES:
        raise InputError(
            "task auto or single-label for a folder of class folders",
            repr(task),
            "Give such labels in a CSV with the columns path,label.",
        )
    hint = did_you_mean(task, TASK_NAMES, "Choose auto or single-label.")
    raise InputError("a task's name", repr(task), hint)


def _find_images(walk: _Walk) -> tuple[list[_Image], set[str]]:
    """Every image with its class and split, and the names of all class folders."""
    folders, loose = walk.look(walk.root)
    split_of = {folder: SPLIT_ALIASES.get(folder.name.lower(), "") for folder in folders}
    if 1 < sum(map(bool, split_of.values())) < len(folders):
        names = ", ".join(sorted(folder.name for folder in folders if not split_of[folder]))
        LOG.warning("Taking train, test and the like for classes, because of %s beside them", names)
    if not folders or not all(split_of.values()):
        return _find_classes(walk, walk.root, folders, loose, "")
    if len(set(split_of.values())) < len(folders):
        names = ", ".join(folder.name for folder in folders)
        raise InputError("one folder for each split", names, "Merge those that mean the same.")
    _skip_loose(walk, loose)
    found: list[_Image] = []
    classes: set[str] = set()
    for folder, split in sorted(split_of.items(), key=lambda item: SPLITS.index(item[1])):
        images, names_here = _find_classes(walk, folder, *walk.look(folder), split)
        found.extend(images)
        classes.update(names_here)
    return found, classes


def _find_classes(
    walk: _Walk, parent: Path, folders: list[Path], loose: list[Path], split: str
) -> tuple[list[_Image], set[str]]:
    """The images of the class folders directly in `parent`, and the classes."""
    if not folders:
        raise InputError(
            f"a folder for each class inside {str(parent)!r}",
            f"{len(loose)} images directly in it" if loose else "no folders",
            "Put the images of each class into a folder of the class's name.",
        )
    _skip_loose(walk, loose)
    found = [
        _Image(path, folder.name, split) for folder in folders for path in walk.images_below(folder)
    ]
    return found, {folder.name for folder in folders}


def _skip_loose(walk: _Walk, loose: list[Path]) -> None:
    for path in loose:
        walk.skip(path, "image outside a class folder", bad=True)


def _refuse_empty_classes(classes: set[str], counts: Counter[str]) -> None:
    empty = sorted(classes - set(counts))
    if empty:
        raise InputError(
            "images in every class folder",
            f"none in {first_few([repr(name) for name in empty])}",
            f"Add images ({', '.join(sorted(IMAGE_EXTENSIONS))}), or delete the folder.",
        )
    if len(classes) < 2:
        raise InputError(
            "at least two class folders",
            f"one, {min(classes)!r}",
            "Add a folder for another class: one class leaves nothing to tell apart.",
        )
