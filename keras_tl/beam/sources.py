"""Items of a data set as a Beam collection, found by the workers in any of Beam's filesystems."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import PurePosixPath
from typing import Any

import apache_beam as beam
from apache_beam.io import fileio
from apache_beam.io.filesystem import FileMetadata
from apache_beam.io.filesystems import FileSystems
from apache_beam.pvalue import AsSingleton

from keras_tl.data.folders import HIDDEN_NAMES, IMAGES, TEXTS, FileKind, are_splits, place_of
from keras_tl.data.inspection import too_large
from keras_tl.data.open import TFDS_PREFIX, refuse_columns, refuse_encoding
from keras_tl.data.streams import Item, Stream, files_of, is_listing, open_listing
from keras_tl.errors import InputError


def open_items(data: str, *, text_column: str | None = None, **columns: Any) -> beam.PTransform:
    """Opens a folder, a table or a list; see `keras_tl.data.streams.open_stream`.

    Args:
        data: Its path, or its address in a filesystem of Beam's ("gs://bucket/photos"). What
            `keras_tl.data.streams.is_listing` says is a table or a list, anything else a folder.
        text_column: The column of texts; the data are texts where it is given.
        **columns: The others.

    Returns:
        From a pipeline to a collection of `Item`. Images, and texts that are files, are not read.

    Raises:
        InputError: There is no such data, or a table cannot be read.
    """
    if data.startswith(TFDS_PREFIX):
        fix = "Write them to a folder or a table first."
        raise InputError("a folder, a table or a list for a pipeline", repr(data), fix)
    refuse_encoding(columns.get("encoding", "utf-8"), text_column)
    data = data if "://" in data else os.path.abspath(data)
    if is_listing(data):
        opened = partial(FileSystems.open, data)
        stream = open_listing(data, opened, text_column=text_column, **columns)
        try:
            stream.count()
        except OSError as error:
            received = f"{data!r}, which cannot be read"
            raise InputError("a table or a list", received, "Check the path.") from error
        return ListedItems(stream)
    named = ("path_column", "label_column", "split_column", "id_column")
    refuse_columns({name: columns[name] for name in named if name in columns}, "a folder")
    kind = TEXTS if text_column else IMAGES
    if "://" not in data:
        # Beam follows no links here.
        stream = Stream(data, kind is TEXTS, partial(files_of, data, kind))
        if next(iter(stream), None) is None:
            raise _nothing(data, kind)
        return ListedItems(stream)
    folder = FolderItems(data.rstrip("/"), kind)
    folder.check()
    return folder


class ListedItems(beam.PTransform):
    """Items of a table, a list or a folder of this machine, which one worker goes through.

    Args:
        stream: The items.
    """

    def __init__(self, stream: Stream):
        super().__init__()
        self._stream = stream

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection:
        """See `open_items`."""
        return pipeline | beam.Create([self._stream]) | beam.FlatMap(iter)


class FolderItems(beam.PTransform):
    """The files below an address, labelled as `keras_tl.data.folders.from_folder` does.

    Args:
        root: The address, without a slash at its end.
        kind: Which files are items.
    """

    def __init__(self, root: str, kind: FileKind):
        super().__init__()
        self._root, self._kind = root, kind
        # Escapes characters of a name that have a meaning in patterns.
        self._pattern = "".join(f"[{c}]" if c in "*?[" else c for c in root) + "/**"

    def check(self) -> None:
        """Refuses an empty folder.

        Raises:
            InputError: It is empty.
        """
        found = FileSystems.match([self._pattern], limits=[1])[0].metadata_list
        if not found:
            raise _nothing(self._root, self._kind)

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection:
        """See `open_items`."""
        files = (
            pipeline
            | beam.Create([self._pattern])
            | fileio.MatchAll(fileio.EmptyMatchTreatment.DISALLOW)
            | "Name" >> beam.FlatMap(_named, self._root)
        )
        in_splits = (
            files
            | "Outermost" >> beam.FlatMap(_outermost)
            | beam.Distinct()
            | beam.combiners.ToList()
            | "AreSplits" >> beam.Map(are_splits)
        )
        return files | "Item" >> beam.FlatMap(_item, self._kind, AsSingleton(in_splits))


def _nothing(folder: str, kind: FileKind) -> InputError:
    received = f"{folder!r}, in which there is none"
    return InputError(f"a folder of {kind.noun}s", received, "Check the path.")


def _named(file: FileMetadata, root: str) -> Iterator[tuple[str, str, int]]:
    """A file's path below the folder, its address and its size, unless it is hidden.

    A file whose name is not UTF-8 gets no address; its path is made readable, for the list of
    skipped items.
    """
    name = file.path.replace(os.sep, "/").removeprefix(root.replace(os.sep, "/")).lstrip("/")
    hidden = (part.startswith(".") or part.lower() in HIDDEN_NAMES for part in name.split("/"))
    if not name or file.path.endswith("/") or any(hidden):
        return
    readable = name.encode("utf-8", "backslashreplace").decode()
    yield readable, file.path if readable == name else "", file.size_in_bytes


def _outermost(file: tuple[str, str, int]) -> Iterator[str]:
    first, slash, _ = file[0].partition("/")
    if slash and file[1]:
        yield first


def _item(file: tuple[str, str, int], kind: FileKind, in_splits: bool) -> Iterator[Item]:
    name, address, size = file
    if not address:
        yield Item(name, "", reason="name is not valid UTF-8")
        return
    extension = PurePosixPath(name).suffix.lower()
    label, split = place_of(name, in_splits)
    if extension in kind.unread:
        reason = f"{kind.noun} format {extension} is not read"
        yield Item(name, address, label, split, reason)
    elif extension in kind.extensions:
        yield Item(name, address, label, split, too_large(size))
