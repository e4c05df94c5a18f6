"""What `keras-tl predict` is given for a model of texts: texts, files, tables, standard input."""

import io
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from keras_tl.data.folders import TEXTS
from keras_tl.data.labels import first_few
from keras_tl.data.source import Skipped, Source
from keras_tl.data.tables import JSON_EXTENSIONS, decoded
from keras_tl.data.texts import from_text_csv, from_texts, is_blank
from keras_tl.errors import InputError

STANDARD_INPUT = "-"
TABLES = (".csv", ".tsv", *JSON_EXTENSIONS)
ENDINGS = (".txt", *TABLES)
SHOWN_CHARACTERS = 60


def texts_of(
    arguments: Sequence[str],
    text_column: str,
    *,
    pair: bool = False,
    encoding: str = "utf-8",
    id_column: str | None = None,
) -> Source:
    """Reads the texts that a command line names.

    Args:
        arguments: Each is "-" (standard input, a text a line), the path of a table (see
            `keras_tl.data.tables.read_table`), of another file (one text), of a folder (its
            `.txt` files, those in folders below it too), or else a text.
        text_column: The tables' column of texts, or several separated by commas.
        pair: Whether the model takes pairs of texts, which only tables have.
        encoding: Of files and of standard input.
        id_column: The tables' column of ids; None names the lines.

    Returns:
        The texts, without labels, in their order; blank texts are listed as skipped. With several
        arguments, the lines of a table are named with its path before them.

    Raises:
        InputError: A file is not there or cannot be read, or there is no text.
    """
    several = len(arguments) > 1
    how: dict[str, Any] = {"pair": pair, "encoding": encoding}
    sources, blank = [], []
    for argument in arguments:
        if Path(argument).suffix.lower() in TABLES and os.path.isfile(argument):
            sources.append(_read_table(argument, text_column, id_column, several, **how))
        elif (source := _read(argument, text_column, **how)) is not None:
            sources.append(source)
        else:
            blank.append(Skipped(argument, "no text"))
    if not sources:
        received = f"{len(blank)} without any ({first_few([skip.id for skip in blank])})"
        raise InputError("texts in which something can be seen", received, "Give other files.")
    found = Source.joined(sources)
    return replace(found, skipped=(*found.skipped, *blank))


def _read_table(
    path: str, text_column: str, id_column: str | None, several: bool, **how: Any
) -> Source:
    """The texts of a table. Its labels and splits are not used, so they need not be valid."""
    columns: dict[str, Any] = {"label_column": None, "split_column": None, "id_column": id_column}
    source = from_text_csv(path, text_column, **columns, **how)
    if not several or id_column is not None:
        return source
    skipped = tuple(replace(each, id=f"{path} {each.id}") for each in source.skipped)
    return replace(source, ids=f"{path} " + source.ids, skipped=skipped)


def _read(argument: str, text_column: str, pair: bool, encoding: str) -> Source | None:
    """The texts of an argument that is no table; None of a file or folder without any."""
    if is_blank(argument):
        fix = "Write what it says between the quotes."
        raise InputError("a text in which something can be seen", repr(argument), fix)
    if pair:
        fix = f"Write them to a table with the columns {text_column}."
        raise InputError("a table of pairs of texts", repr(_short(argument)), fix)
    if argument == STANDARD_INPUT:
        return _lines(decoded(sys.stdin.buffer.read(), encoding, "standard input"))
    path = Path(argument)
    # The functions of `os.path` return False, rather than raise, for a text too long for a name.
    if os.path.isfile(path) or os.path.isdir(path):
        files = _text_files(path) if os.path.isdir(path) else [path]
        texts = [decoded(file.read_bytes(), encoding, str(file)) for file in files]
        if all(map(is_blank, texts)):
            return None
        return from_texts(texts, ids=list(map(str, files)))
    if path.suffix.lower() in ENDINGS and not any(map(str.isspace, argument)):
        raise InputError("a file, a text or -", repr(argument), "There is no such file.")
    return from_texts([argument], ids=[_short(argument)])


def _lines(text: str) -> Source:
    """One text per line; blank lines are skipped, but counted."""
    lines = {f"line {i}": line for i, line in enumerate(io.StringIO(text, newline=None), 1)}
    texts = {name: line.rstrip("\n") for name, line in lines.items() if line.strip()}
    if not texts:
        raise InputError("a text a line from standard input", "none", "Write some to it.")
    return from_texts(list(texts.values()), ids=list(texts))


def _text_files(folder: Path) -> list[Path]:
    found = (file for file in folder.rglob("*") if file.suffix.lower() in TEXTS.extensions)
    files = sorted(file for file in found if file.is_file())
    if not files:
        raise InputError(f"texts in the folder {str(folder)!r}", "no .txt file", "Check the path.")
    return files


def _short(text: str) -> str:
    """The beginning of a text, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= SHOWN_CHARACTERS else f"{line[: SHOWN_CHARACTERS - 3]}..."
