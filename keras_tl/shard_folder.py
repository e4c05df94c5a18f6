"""A folder of shards that is filled one shard at a time, and resumed after a kill.

    extract.json              what was computed, of what, with what; `complete` when it is all there
    embeddings-00000.parquet  the items, in their order, so many in each shard
    skipped.csv               what could not be read, and why; written at the end
    progress/00000.json       one for each whole shard, until the end

A shard is written under a temporary name and renamed, then its file in `progress`: if that exists,
so does the shard. It holds a SHA-256 of what is known of the items before they are read, texts
included, which shows whether the data have changed since.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, TextIO, TypeVar

from keras_tl.data.streams import Item
from keras_tl.errors import InputError, in_one_line
from keras_tl.files import (
    atomic_file,
    atomic_write_text,
    csv_writer,
    has_others,
    remove_leftovers,
)
from keras_tl.locks import LOCK, Hold
from keras_tl.setting_values import in_utf8
from keras_tl.shard_formats import Columns, ShardFormat
from keras_tl.versions import versions

INDEX = "extract.json"
SKIPPED = "skipped.csv"
PROGRESS = "progress"
FORMAT_VERSION = 1
T = TypeVar("T")


@dataclass(frozen=True)
class ShardFacts:
    """What is known of a shard.

    Attributes:
        file: Its name.
        items: How many items it has.
        skipped: Ids of the items that could not be read, with the reasons.
        sha256: Of both, see `items_digest`.
        computed_in: The engine; "" where nothing could be read.
    """

    file: str
    items: int
    skipped: list[tuple[str, str]]
    sha256: str
    computed_in: str


class ShardFolder:
    """The folder of an extraction; nobody else fills it until `close`.

    Args:
        path: The folder; it is made.
        name: What files of shards are called.
        form: Their format.
        settings: JSON-ready facts that decide what is in the shards. A folder that is resumed must
            have the same.

    Raises:
        InputError: The folder is whole, has other settings or other files, or is being filled.
    """

    def __init__(self, path: str | Path, name: str, form: ShardFormat, settings: dict[str, Any]):
        self.path = Path(path)
        in_utf8("out", str(path))
        self._name, self._form = name, form
        self._settings = json.loads(json.dumps(settings))
        # Checked before anything is written there, and again once the folder is locked.
        self._before()
        self.path.mkdir(parents=True, exist_ok=True)
        self._hold = Hold(self.path / LOCK, shared=False, fix="Choose another --out.")
        if not self._hold.alone:
            fix = "Wait for it, or choose another --out."
            raise InputError("a folder of its own", f"{self.path}, which is being filled", fix)
        try:
            self._begin()
        except BaseException:
            (self.path / LOCK).unlink(missing_ok=True)
            self.close()
            raise

    def done(self, number: int) -> ShardFacts | None:
        """What is known of a whole shard; None if it is still to be made, or its file is gone.

        Raises:
            InputError: Its file in `progress` is damaged.
        """
        path = self._progress(number)
        found = _read(path, _shard_facts) if path.is_file() else None
        return found if found and (self.path / found.file).is_file() else None

    def pass_over(self, items: Iterator[Item], shard_items: int) -> int:
        """Skips the items of the whole shards at the folder's beginning.

        Args:
            items: All items.
            shard_items: How many items each shard was made of.

        Returns:
            How many shards there are.

        Raises:
            InputError: They were made of other items.
        """
        number = 0
        while found := self.done(number):
            if found.sha256 != items_digest(islice(items, shard_items)):
                raise InputError(
                    f"the items that {found.file} in {self.path} was made of",
                    "others: the data have changed since",
                    "Delete the folder to begin anew.",
                )
            number += 1
        return number

    def write(
        self,
        number: int,
        columns: Columns,
        read: list[Item],
        skipped: list[Item],
        computed_in: str,
    ) -> None:
        """Writes a shard.

        Args:
            number: Its number.
            columns: What is in it.
            read: The items of the rows, in order.
            skipped: The items that could not be read, with the reason.
            computed_in: The engine.
        """
        file = f"{self._name}-{number:05}{self._form.ending}"
        with atomic_file(self.path / file) as aside:
            self._form.write(columns, aside)
        left_out = [(item.id, item.reason) for item in skipped]
        digest = items_digest([*read, *skipped])
        facts = ShardFacts(file, len(read), left_out, digest, computed_in)
        atomic_write_text(self._progress(number), json.dumps(asdict(facts)))

    def finish(self, count: int) -> dict[str, Any]:
        """Writes the list of what was skipped and the index, and ends.

        Args:
            count: How many shards there are; others are of data that were longer once.

        Returns:
            The index.
        """
        shards = []
        with atomic_file(self.path / SKIPPED) as aside, _written(aside) as file:
            rows = csv_writer(file)
            rows.writerow(("id", "reason"))
            for number in range(count):
                found = _read(self._progress(number), _shard_facts)
                rows.writerows(found.skipped)
                shards.append({**asdict(found), "skipped": len(found.skipped)})
        kept = {shard["file"] for shard in shards}
        for path in self.path.glob(f"{self._name}-*{self._form.ending}"):
            if path.name not in kept:
                path.unlink()
        engines = dict.fromkeys(shard["computed_in"] for shard in shards if shard["computed_in"])
        self._facts |= {
            "items": sum(shard["items"] for shard in shards),
            "skipped": sum(shard["skipped"] for shard in shards),
            "computed_in": ", ".join(engines),
            "shards": shards,
        }
        self._write_index(complete=True)
        shutil.rmtree(self.path / PROGRESS)
        (self.path / LOCK).unlink(missing_ok=True)
        self.close()
        return json.loads((self.path / INDEX).read_text(encoding="utf-8"))

    def close(self) -> None:
        """Lets others fill the folder, even while a traceback keeps this object alive."""
        self._hold.release()

    def _begin(self) -> None:
        before = self._before()
        remove_leftovers(self.path)
        # Versions at the first start: what decides outputs is in the settings.
        self._facts = before or {"versions": versions()}
        if not before:
            self._write_index(complete=False)
        (self.path / PROGRESS).mkdir(exist_ok=True)
        remove_leftovers(self.path / PROGRESS)

    def _before(self) -> dict[str, Any] | None:
        """What a stopped extraction noted in the folder; None if the folder is new."""
        fix = "Choose another --out."
        if self.path.exists() and not self.path.is_dir():
            raise InputError("a folder", f"the file {self.path}", fix)
        index = self.path / INDEX
        if not index.is_file():
            if self.path.is_dir() and has_others(self.path, LOCK):
                received = f"{self.path}, which has other things in it"
                raise InputError("a new folder", received, fix)
            return None
        complete, settings, made_with = _read(index, _index_facts)
        if complete:
            raise InputError("a new folder", f"{self.path}, which is complete", fix)
        now, then = _flat(self._settings), _flat(settings)
        others = [n for n in sorted({*now, *then}) if now.get(n) != then.get(n)]
        if others:
            raise InputError(
                f"the settings of what was begun in {self.path}",
                ", ".join(f"{n} {now.get(n)!r} (it has {then.get(n)!r})" for n in others),
                "Give the same, or delete the folder to begin anew.",
            )
        return {"versions": made_with}

    def _progress(self, number: int) -> Path:
        return self.path / PROGRESS / f"{number:05}.json"

    def _write_index(self, complete: bool) -> None:
        facts = {
            "format_version": FORMAT_VERSION,
            "complete": complete,
            "settings": self._settings,
            **self._facts,
        }
        text = json.dumps(facts, indent=2, ensure_ascii=False)
        atomic_write_text(self.path / INDEX, text + "\n")


def items_digest(items: Iterable[Item]) -> str:
    """SHA-256 of the ids, labels, splits and texts of items, whatever their order."""
    digest = hashlib.sha256()
    for line in sorted(map(_line, items)):
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()


def _line(item: Item) -> str:
    texts = item.content if isinstance(item.content, tuple) else None
    return json.dumps((item.id, item.label, item.split, texts))


def _read(path: Path, how: Callable[[Any], T]) -> T:
    """Reads a file of the folder's own as JSON.

    Raises:
        InputError: It is not as it was written.
    """
    try:
        return how(json.loads(path.read_text(encoding="utf-8")))
    except (LookupError, RecursionError, TypeError, ValueError) as error:
        reason = in_one_line(error)
        fix = "Delete the folder to begin anew."
        raise InputError(f"{path} as it was written", f"another ({reason})", fix) from error


def _index_facts(found: Any) -> tuple[bool, dict[str, Any], dict[str, Any]]:
    """Whether all is there, the settings, and the versions of packages."""
    complete, settings, made_with = (found[name] for name in ("complete", "settings", "versions"))
    for value, kind in ((complete, bool), (settings, dict), (made_with, dict)):
        _require(value, kind)
    return complete, settings, made_with


def _shard_facts(found: Any) -> ShardFacts:
    facts = ShardFacts(**found)
    for value, kind in zip(asdict(facts).values(), (str, int, list, str, str), strict=True):
        _require(value, kind)
    return replace(facts, skipped=[(_require(n, str), _require(r, str)) for n, r in facts.skipped])


def _require(value: Any, kind: type[T]) -> T:
    if not isinstance(value, kind):
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return value


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings by name, those in groups as "group.name"."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        inner = _flat(value) if isinstance(value, dict) else {}
        found |= {f"{name}.{key}": each for key, each in inner.items()} or {name: value}
    return found


def _written(path: Path) -> TextIO:
    return path.open("w", encoding="utf-8", errors="backslashreplace", newline="")
