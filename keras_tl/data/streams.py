"""Items of a data set one after the other, for data sets whose list alone is large.

Training holds a `Source`: every name and label at once. Code that only computes something for each
item reads a `Stream` instead, which can be iterated repeatedly, always in the same order.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from keras_tl.data.folders import (
    IMAGES,
    TEXTS,
    FileKind,
    are_splits,
    place_of,
    require_utf8,
    top_folders,
    walk_files,
)
from keras_tl.data.frames import refuse_leaving
from keras_tl.data.open import TFDS_PREFIX, open_data, refuse_columns, refuse_encoding
from keras_tl.data.source import Source
from keras_tl.data.table_rows import Columns, Row, named, opened_text, read_rows
from keras_tl.data.tables import JSON_EXTENSIONS, SPLIT_COLUMN
from keras_tl.data.texts import is_blank, read_text_file, text_item
from keras_tl.errors import InputError

LIST_EXTENSIONS = (".txt", ".lst")
_LISTINGS = (".csv", ".tsv", *JSON_EXTENSIONS, *LIST_EXTENSIONS)


@dataclass(frozen=True)
class Item:
    """One item, not read yet.

    Attributes:
        id: Its name: a path relative to the data, a line, or what an id column says.
        content: What to read: an image's path (`str`), encoded image (`bytes`) or pixels (uint8
            `[height, width, channels]`); a tuple of texts.
        label: Its label, as the data have it; None where it has none.
        split: "train", "val", "test", or None.
        reason: Why it cannot be used; "" where nothing is known against it.
    """

    id: str
    content: Any
    label: str | None = None
    split: str | None = None
    reason: str = ""


@dataclass(frozen=True)
class Stream:
    """Items that are found anew in each iteration.

    Attributes:
        name: What the items come from.
        texts: Whether they are texts.
        find: Finds them.
    """

    name: str
    texts: bool
    find: Callable[[], Iterator[Item]]

    def __iter__(self) -> Iterator[Item]:
        return self.find()

    def count(self) -> int:
        """How many items there are, found by going through them once.

        Raises:
            InputError: There is none, or a table has a line that cannot be read.
        """
        found = sum(1 for _ in self)
        if not found:
            noun = "texts" if self.texts else "images"
            raise InputError(noun, f"none in {self.name}", "Check the path.")
        return found


Data: TypeAlias = str | os.PathLike[str] | Source | Sequence[str]


def is_listing(data: Data) -> bool:
    """Whether data of this name are a table or a list; at an address, by how it ends."""
    if not isinstance(data, str | os.PathLike):
        return False
    name = os.fspath(data)
    named_so = name.lower().endswith(_LISTINGS) and not os.path.isdir(name)
    return named_so or os.path.isfile(name)


def open_stream(
    data: Data,
    *,
    path_column: str = "path",
    text_column: str | None = None,
    label_column: str = "label",
    split_column: str = SPLIT_COLUMN,
    id_column: str | None = None,
    pair: bool = False,
    encoding: str = "utf-8",
) -> Stream:
    """Opens items by what the name of the data says they are.

    Args:
        data: Images: a folder, whose class folders are labels where it has any; a table with a
            column of paths; a list (`.txt`, a path a line); or paths in a Python list. Texts,
            where there is a `text_column`: a folder or a table. Both: "tfds:NAME" or a `Source`,
            which are held in memory.
        path_column: Tables of images: the column of paths, relative to the table.
        text_column: The column of texts, or several; for a folder it only says that it holds texts.
        label_column: Tables: the column of labels, or several; "label" need not be there.
        split_column: Tables: the column of splits; "split" need not be there, nor hold splits.
        id_column: Tables of texts: the column of ids; None names the lines.
        pair: Texts: whether two columns are a pair.
        encoding: Texts: of the file or the files.

    Returns:
        The items. A row that is there twice is two items.

    Raises:
        InputError: There is no such data, or its path is no UTF-8.
    """
    if isinstance(data, Source):
        return Stream("the source", data.texts > 0, partial(_of_source, data))
    refuse_encoding(encoding, text_column)
    named = {"path_column": path_column, "label_column": label_column, "id_column": id_column}
    named |= {"split_column": split_column}
    if not isinstance(data, str | os.PathLike):
        refuse_columns(named, "a list")
        paths = [str(path) for path in data]
        return Stream("the list", False, lambda: (Item(path, path) for path in paths))
    name, texts = os.fspath(data), text_column is not None
    if name.startswith(TFDS_PREFIX):
        refuse_columns(named, "a data set of TFDS")
        how: dict[str, Any] = {"text_column": text_column, "pair": pair}
        return Stream(name, texts, partial(_of_source, open_data(name, **how)))
    require_utf8(name)
    if Path(name).is_dir():
        refuse_columns(named, "a folder")
        kind = TEXTS if texts else IMAGES
        return Stream(name, texts, partial(_of_folder, name, kind, encoding))
    if not Path(name).is_file():
        raise InputError("a folder or a file", f"{name!r}, which does not exist", "Check the path.")
    how_read: dict[str, Any] = {"path_column": path_column, "text_column": text_column}
    how_read |= {"label_column": label_column, "split_column": split_column, "pair": pair}
    how_read |= {"id_column": id_column, "encoding": encoding}
    return open_listing(name, partial(_open, name), **how_read)


def open_listing(
    name: str,
    open_file: Callable[[], BinaryIO],
    *,
    path_column: str = "path",
    text_column: str | None = None,
    label_column: str = "label",
    split_column: str = SPLIT_COLUMN,
    id_column: str | None = None,
    pair: bool = False,
    encoding: str = "utf-8",
) -> Stream:
    """Opens the items that one file names: a table, or a list of images.

    Args:
        name: The file's path or address.
        open_file: Opens it.
        path_column: See `open_stream`.
        text_column: See `open_stream`.
        label_column: See `open_stream`.
        split_column: See `open_stream`.
        id_column: See `open_stream`.
        pair: See `open_stream`.
        encoding: See `open_stream`.

    Returns:
        The items.
    """
    texts = text_column is not None
    if name.lower().endswith(LIST_EXTENSIONS) and not texts:
        return Stream(name, False, partial(_of_list, name, open_file))
    columns = Columns(
        named(text_column) if text_column else (path_column,),
        named(label_column),
        split_column,
        id_column if texts else None,
    )
    if pair and len(columns.items) != 2:
        fix = "Name two: --text-column title,body."
        raise InputError("two text columns for a pair", ", ".join(columns.items), fix)
    rows = partial(read_rows, open_file, name, columns, encoding=encoding)
    as_item = partial(text_row, pair=pair) if texts else partial(image_row, table=name)
    return Stream(name, texts, partial(_of_rows, rows, as_item))


def text_row(row: Row, *, pair: bool) -> Item:
    """The item of a row of texts; one in which nothing can be seen is bad."""
    texts = text_item(row.cells, pair)
    reason = "no text" if all(map(is_blank, texts)) else ""
    return Item(row.id, texts, row.label, row.split, reason)


def image_row(row: Row, *, table: str) -> Item:
    """The item of a row that names an image file.

    Args:
        row: The row, whose cell is a path, absolute or relative to the table's folder.
        table: The table's own path or address.

    Raises:
        InputError: There is no path, or a relative one leaves the table's folder.
    """
    cell = str(row.cells[0] or "").strip()
    if not cell:
        raise InputError("a path in every row", f"none in {row.id} of {table!r}", "Fill it in.")
    is_address = "://" in table
    root = table.rpartition("/")[0] if is_address else os.path.dirname(os.path.abspath(table))
    if "://" not in cell:
        refuse_leaving(cell, root, row.id)
    path = located(cell, table)
    is_inside = "://" not in path and Path(path).is_relative_to(root)
    name = Path(path).relative_to(root).as_posix() if is_inside else path
    return Item(cell if is_address else name, path, row.label, row.split)


def located(path: str, beside: str) -> str:
    """Where a path that a file names is: taken as it is, or relative to the file's folder.

    Args:
        path: The path, or the address of a file ("gs://bucket/a.jpg").
        beside: The path or the address of the file that names it.
    """
    if "://" in path:
        return path
    if "://" in beside:
        return f"{beside.rpartition('/')[0]}/{path}"
    return os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(beside)), path))


def files_of(folder: str, kind: FileKind) -> Iterator[Item]:
    """The items of a folder; texts are not read yet, and their content is a path."""
    root, in_splits = Path(os.path.abspath(folder)), are_splits(top_folders(folder))
    for found in walk_files(root, kind):
        label, split = place_of(found.id, in_splits)
        yield Item(found.id, str(root / found.id), label, split, found.reason)


def _of_folder(folder: str, kind: FileKind, encoding: str) -> Iterator[Item]:
    for item in files_of(folder, kind):
        yield _read_text(item, encoding) if kind is TEXTS and not item.reason else item


def _read_text(item: Item, encoding: str) -> Item:
    text, reason = read_text_file(item.content, encoding)
    reason = reason or ("no text" if is_blank(text) else "")
    return Item(item.id, (text,), item.label, item.split, reason)


def _open(name: str) -> BinaryIO:
    return open(name, "rb")


def _of_rows(rows: Callable[[], Iterator[Row]], as_item: Callable[[Row], Item]) -> Iterator[Item]:
    yield from map(as_item, rows())


def _of_list(name: str, open_file: Callable[[], BinaryIO]) -> Iterator[Item]:
    with opened_text(open_file, name, "utf-8") as lines:
        for line in lines:
            if path := line.strip():
                yield Item(path, located(path, name))


def _of_source(source: Source) -> Iterator[Item]:
    for i in range(len(source)):
        label = _label(source, i) if source.class_names else None
        yield Item(str(source.ids[i]), source.items[i], label, str(source.splits[i]) or None)
    yield from (Item(s.id, "", reason=s.reason) for s in source.skipped if s.bad)


def _label(source: Source, index: int) -> str:
    """A label as a table would have it."""
    values = source.labels[index]
    if source.task == "single-label":
        return source.class_names[values]
    if source.task == "multi-label":
        present = zip(source.class_names, values, strict=True)
        return "|".join(name for name, there in present if there)
    return ",".join(str(value) for value in values.tolist())
