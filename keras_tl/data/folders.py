"""A folder of class folders as a `Source`."""

import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from keras_tl.data.label_cells import as_class_names, composed
from keras_tl.data.labels import TASK_NAMES, by_label, first_few, refuse_unknown_classes
from keras_tl.data.source import SPLITS, Skipped, Source
from keras_tl.data.splits import SPLIT_ALIASES
from keras_tl.errors import InputError, did_you_mean

log = logging.getLogger("keras_tl")

IMAGE_EXTENSIONS = frozenset((".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp"))
# Photographs that cannot be read here: unlike a text file, leaving one out counts as a loss.
UNREAD_IMAGE_EXTENSIONS = frozenset(
    (".tif", ".tiff", ".heic", ".heif", ".avif", ".jp2", ".jxl", ".dng")
)
HIDDEN_NAMES = frozenset(("__macosx", "thumbs.db", "desktop.ini"))


@dataclass(frozen=True)
class FileKind:
    """What files of a folder are items.

    Attributes:
        noun: What an item is.
        extensions: Extensions of the items' files, in lower case.
        unread: Extensions of items that cannot be read: leaving them out is a loss.
    """

    noun: str
    extensions: frozenset[str]
    unread: frozenset[str] = frozenset()


IMAGES = FileKind("image", IMAGE_EXTENSIONS, UNREAD_IMAGE_EXTENSIONS)
TEXTS = FileKind("text", frozenset((".txt", ".text")))


class _Found(NamedTuple):
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

    Where every visible subfolder is called as a split is (`keras_tl.data.splits.SPLIT_ALIASES`),
    in any case, the class folders are looked for inside those, and the splits count as given. Class
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
    return class_folders(path, IMAGES, task=task, class_names=class_names)


def class_folders(
    path: str | os.PathLike[str],
    kind: FileKind,
    *,
    task: str = "auto",
    class_names: Sequence[str] | None = None,
) -> Source:
    """As `from_folder`, for files of any kind.

    Args:
        path: The folder.
        kind: What files are items.
        task: See `from_folder`.
        class_names: See `from_folder`.

    Returns:
        A source like that of `from_folder`.

    Raises:
        InputError: As of `from_folder`.
    """
    root = _require_folder(Path(os.path.abspath(path)))
    _require_single_label(task)
    walk = _Walk(root, kind)
    found, classes = _find_files(walk)
    wanted = as_class_names(class_names)
    given = by_label(wanted)
    class_of = [given(file.class_name) or file.class_name for file in found]
    counts = Counter(class_of)
    if wanted is None:
        _refuse_empty_classes(classes, counts, kind)
        names = tuple(sorted(classes))
    else:
        refuse_unknown_classes(counts, wanted)
        names = wanted
    index = {name: i for i, name in enumerate(names)}
    return Source(
        ids=np.array([walk.id(file.path) for file in found], dtype=object),
        items=[str(file.path) for file in found],
        labels=np.array([index[name] for name in class_of], np.int64),
        class_names=names,
        splits=np.array([file.split for file in found], dtype=object),
        given_splits=tuple(s for s in SPLITS if any(file.split == s for file in found)),
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
    walk = _Walk(root, IMAGES)
    return [walk.id(image) for image in walk.files_below(root)], tuple(walk.skipped)


def walk_files(path: str | os.PathLike[str], kind: FileKind) -> Iterator[Skipped]:
    """Finds every file of a kind below a folder, one after the other.

    Nothing is held but the names in one folder at a time. As for `from_folder`, a folder that
    several class folders link to is walked in each of them.

    Args:
        path: The folder, walked recursively: the files of a folder, then its folders, by name.
        kind: What files are wanted.

    Yields:
        Paths relative to `path`, with forward slashes, each with why it is bad, or "". What is
        merely foreign or hidden is passed over.

    Raises:
        InputError: There is no such folder.
    """
    walk = _Walk(_require_folder(Path(os.path.abspath(path))), kind)
    class_depth = 2 if are_splits(top_folders(path)) else 1
    visited: set[str] = set()
    waiting = [walk.root]
    while waiting:
        folder = waiting.pop()
        if len(folder.relative_to(walk.root).parts) <= class_depth:
            visited.clear()
        real = os.path.realpath(folder)
        leads_up = folder != walk.root and walk.real_root.is_relative_to(real)
        if real in visited or leads_up:
            continue
        visited.add(real)
        folders, files = walk.look(folder)
        yield from (Skipped(walk.id(file), "") for file in files)
        yield from (skipped for skipped in walk.skipped if skipped.bad)
        walk.skipped.clear()
        waiting.extend(reversed(folders))


def top_folders(path: str | os.PathLike[str]) -> list[str]:
    """Names of the visible folders directly in a folder."""
    root = _require_folder(Path(os.path.abspath(path)))
    return [folder.name for folder in _Walk(root, IMAGES).look(root)[0]]


def are_splits(names: Sequence[str]) -> bool:
    """Whether folders of these names divide a data set, rather than being its classes."""
    return bool(names) and all(name.lower() in SPLIT_ALIASES for name in names)


def place_of(name: str, in_splits: bool) -> tuple[str | None, str | None]:
    """The class and the split that a file's folders give it, see `from_folder`.

    Args:
        name: The file's path relative to the data, with forward slashes.
        in_splits: Whether the outermost folders are splits.

    Returns:
        The class and the split, each None where no folder gives one.
    """
    folders = name.split("/")[:-1]
    split = SPLIT_ALIASES[folders.pop(0).lower()] if in_splits and folders else None
    return (folders[0] if folders else None), split


class _Walk:
    """Looks into folders and notes what is passed over."""

    def __init__(self, root: Path, kind: FileKind):
        self.root = root
        self.kind = kind
        self.real_root = Path(os.path.realpath(root))
        self.skipped: list[Skipped] = []

    def id(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def skip(self, path: Path, reason: str, bad: bool = False) -> None:
        # Names that are not UTF-8 contain surrogates, which cannot be written to a file.
        readable = self.id(path).encode("utf-8", "backslashreplace").decode()
        self.skipped.append(Skipped(readable, reason, bad))

    def look(self, folder: Path) -> tuple[list[Path], list[Path]]:
        """The visible folders and the wanted files directly in a folder, each sorted."""
        folders: list[Path] = []
        files: list[Path] = []
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
            elif self._is_wanted(path):
                files.append(path)
        return folders, files

    def _is_wanted(self, path: Path) -> bool:
        extension, noun = path.suffix.lower(), self.kind.noun
        if extension in self.kind.unread:
            self.skip(path, f"{noun} format {extension} is not read", bad=True)
        elif extension not in self.kind.extensions:
            article = "an" if noun == "image" else "a"
            self.skip(path, f"not {article} {noun} file ({extension or 'no extension'})")
        elif not os.path.isfile(path):
            self.skip(path, "broken link" if path.is_symlink() else "not a regular file", bad=True)
        else:
            return True
        return False

    def files_below(self, folder: Path) -> list[Path]:
        """Every wanted file in a folder and the folders below it, sorted by id."""
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
            folders, files = self.look(current)
            found.extend(files)
            waiting.extend(folders)
        return sorted(found, key=self.id)


def _is_utf8(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def require_utf8(path: str | os.PathLike[str]) -> None:
    """Refuses data whose absolute path is not UTF-8, which no TensorFlow op could open.

    Args:
        path: The folder or the file.

    Raises:
        InputError: The path is not UTF-8.
    """
    whole = os.path.abspath(path)
    if not _is_utf8(whole):
        raise InputError("data at a path in UTF-8", repr(whole), "Rename or move them.")


def _require_folder(root: Path) -> Path:
    require_utf8(root)
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


def _find_files(walk: _Walk) -> tuple[list[_Found], set[str]]:
    """Every file with its class and split, and the names of all class folders."""
    folders, loose = walk.look(walk.root)
    split_of = {folder: SPLIT_ALIASES.get(folder.name.lower(), "") for folder in folders}
    if 1 < sum(map(bool, split_of.values())) < len(folders):
        names = ", ".join(sorted(folder.name for folder in folders if not split_of[folder]))
        log.warning("Taking train, test and the like for classes, because of %s beside them", names)
    if not folders or not all(split_of.values()):
        return _find_classes(walk, walk.root, folders, loose, "")
    if len(set(split_of.values())) < len(folders):
        names = ", ".join(folder.name for folder in folders)
        raise InputError("one folder for each split", names, "Merge those that mean the same.")
    _skip_loose(walk, loose)
    found: list[_Found] = []
    classes: set[str] = set()
    for folder, split in sorted(split_of.items(), key=lambda item: SPLITS.index(item[1])):
        files, names_here = _find_classes(walk, folder, *walk.look(folder), split)
        found.extend(files)
        classes.update(names_here)
    return found, classes


def _find_classes(
    walk: _Walk, parent: Path, folders: list[Path], loose: list[Path], split: str
) -> tuple[list[_Found], set[str]]:
    """The files of the class folders directly in `parent`, and the classes."""
    if not folders:
        raise InputError(
            f"a folder for each class inside {str(parent)!r}",
            f"{len(loose)} {walk.kind.noun}s directly in it" if loose else "no folders",
            f"Put the {walk.kind.noun}s of each class into a folder of the class's name.",
        )
    _skip_loose(walk, loose)
    found = [
        _Found(path, composed(folder.name), split)
        for folder in folders
        for path in walk.files_below(folder)
    ]
    return found, {composed(folder.name) for folder in folders}


def _skip_loose(walk: _Walk, loose: list[Path]) -> None:
    for path in loose:
        walk.skip(path, f"{walk.kind.noun} outside a class folder", bad=True)


def _refuse_empty_classes(classes: set[str], counts: Counter[str], kind: FileKind) -> None:
    empty = sorted(classes - set(counts))
    if empty:
        raise InputError(
            f"{kind.noun}s in every class folder",
            f"none in {first_few([repr(name) for name in empty])}",
            f"Add {kind.noun}s ({', '.join(sorted(kind.extensions))}), or delete the folder.",
        )
    if len(classes) < 2:
        raise InputError(
            "at least two class folders",
            f"one, {min(classes)!r}",
            "Add a folder for another class: one class leaves nothing to tell apart.",
        )
