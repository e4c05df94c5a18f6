"""Folders of SavedModels as TF-Hub handles: damaged, without some of their files, with odd ones.

What a case is made of is a good SavedModel, which needs TensorFlow and is made once by the tests.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from robustness.corpus.case import EITHER, READ, REFUSED, cuts, flips
from robustness.corpus.models import Damage, instead, nth

GRAPH, INDEX = "saved_model.pb", "variables/variables.index"
WEIGHTS, VOCABULARY = "variables/variables.data-00000-of-00001", "assets/vocab.txt"
FINGERPRINT = "fingerprint.pb"


@dataclass(frozen=True)
class Folder:
    """A good module's folder, and what is done to it; then it is a handle."""

    id: str
    change: Callable[[Path], None]
    ends: str = REFUSED
    module: str = "image"
    said: str = ""


def damaged(name: str, damage: Damage) -> Callable[[Path], None]:
    """One of the files is another."""

    def change(folder: Path) -> None:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(damage(path.read_bytes() if path.exists() else b""))

    return change


def gone(*names: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for name in names:
            path = folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return change


def in_place_of(name: str, make: Callable[[Path], None]) -> Callable[[Path], None]:
    """What is no file, or no folder, has the name of one."""

    def change(folder: Path) -> None:
        gone(name)(folder)
        make(folder / name)

    return change


def sparse(size: int) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.touch()
        os.truncate(path, size)

    return make


def link(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


KINDS: dict[str, Callable[[Path], None]] = {
    "a pipe": lambda path: os.mkfifo(path),
    "a link to a pipe": lambda path: (os.mkfifo(path.parent / "pipe"), link("pipe")(path))[1],
    "a link to itself": lambda path: path.symlink_to(path),
    "a link to nothing": link("nothing"),
    "a link to /dev/zero": link("/dev/zero"),
    "a link to /proc/self/mem": link("/proc/self/mem"),
    "a folder": lambda path: path.mkdir(),
    "a file of 3 TB without content": sparse(3 * 2**40),
}


def varint(number: int) -> bytes:
    low, rest = number & 127, number >> 7
    return bytes([low | 128]) + varint(rest) if rest else bytes([low])


def field(number: int, content: bytes) -> bytes:
    """A field of a protocol buffer that holds bytes."""
    return varint(number << 3 | 2) + varint(len(content)) + content


# A megabyte of these takes fifty in memory.
EMPTY_NODES = field(2, field(2, field(1, b"") * 2**23))


def graphs() -> Iterator[Folder]:
    """Folders whose graph is another file."""
    for number in range(6):
        damage = nth(lambda content: cuts(content, 6), number)
        # An empty graph, or one of a few bytes, is one of TensorFlow 1.
        yield Folder(f"{GRAPH}, cut off, place {number}", damaged(GRAPH, damage))
    for number in range(12):
        damage = nth(lambda content: flips(content, 12), number)
        yield Folder(f"{GRAPH}, bits flipped, seed {number}", damaged(GRAPH, damage), EITHER)
        damage = nth(lambda content: flips(content, 12, 0, 400), number)
        yield Folder(
            f"{GRAPH}, bits flipped at its start, {number}", damaged(GRAPH, damage), EITHER
        )
    contents = {
        "nothing": b"",
        "text": b"this is no graph",
        "html": b"<html>404</html>",
        "a git-lfs pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        "zeros": bytes(10_000),
        "random bytes": np.random.default_rng(0).bytes(10_000),
        "a zip": b"PK\x03\x04" + bytes(100),
        "a graph of no fields": field(2, b""),
        "two graphs": field(2, b"") * 2,
        "messages within messages": _nested(2000),
        "a length of 2^60": b"\x12" + varint(2**60) + b"abc",
        "a number without end": b"\x08" + b"\xff" * 1000,
        "8 million empty nodes": EMPTY_NODES,
        "8 million empty graphs": field(2, b"") * 2**23,
    }
    for label, content in contents.items():
        yield Folder(f"{GRAPH} with {label}", damaged(GRAPH, instead(content)))


def _nested(depth: int) -> bytes:
    """Attributes in attributes: of a graph, its node, its attribute, a function, its attribute."""
    content = b""
    for _ in range(depth):
        content = field(2, field(2, field(10, content)))[:]
    return field(2, field(2, field(1, field(5, field(2, content)))))


def folders() -> Iterator[Folder]:
    yield from graphs()
    for name, module in ((INDEX, "image"), (WEIGHTS, "image"), (VOCABULARY, "text")):
        bad = EITHER if name == VOCABULARY else REFUSED
        for number in range(4):
            damage = nth(lambda content: cuts(content, 4), number)
            yield Folder(f"{name}, cut off, place {number}", damaged(name, damage), bad, module)
        for number in range(6):
            damage = nth(lambda content: flips(content, 6), number)
            yield Folder(f"{name}, bits flipped, {number}", damaged(name, damage), EITHER, module)
        for label, content in (("nothing", b""), ("zeros", bytes(4096)), ("text", b"no weights")):
            change = damaged(name, instead(content))
            yield Folder(f"{name} with {label}", change, bad, module)
    for name, module in (
        (GRAPH, "image"),
        (INDEX, "image"),
        (WEIGHTS, "image"),
        (FINGERPRINT, "image"),
        (VOCABULARY, "text"),
    ):
        for label, make in KINDS.items():
            yield Folder(f"{name} that is {label}", in_place_of(name, make), REFUSED, module)
        # Without its fingerprint a module is as good.
        ends = READ if name == FINGERPRINT else REFUSED
        yield Folder(f"no {name}", gone(name), ends, module)
    for name, module in (("variables", "image"), ("assets", "text")):
        for label in ("a pipe", "a link to itself", "a link to nothing", "a link to /dev/zero"):
            change = in_place_of(name, KINDS[label])
            yield Folder(f"{name} that is {label}", change, REFUSED, module)
        yield Folder(f"no {name}", gone(name), REFUSED, module)
    yield from odd_folders()


def odd_folders() -> Iterator[Folder]:
    everything = gone(GRAPH, FINGERPRINT, "variables")
    put = damaged
    debug = "debug/saved_model_debug_info.pb"
    changes: dict[str, tuple[Callable[[Path], None], str, str]] = {
        "nothing": (everything, REFUSED, "without saved_model.pb"),
        "a TF1 module": (put("tfhub_module.pb", instead(b"\x08\x03")), REFUSED, "TF1 Hub format"),
        "a graph in text": (
            lambda folder: (folder / GRAPH).rename(folder / "saved_model.pbtxt"),
            REFUSED,
            "without saved_model.pb",
        ),
        "a damaged fingerprint": (put(FINGERPRINT, instead(b"\xff" * 99)), REFUSED, ""),
        "an empty fingerprint": (put(FINGERPRINT, instead(b"")), READ, ""),
        "a fingerprint of 3 MB": (put(FINGERPRINT, instead(bytes(3 * 2**20))), REFUSED, "MiB"),
        "damaged debug information": (put(debug, instead(b"\xff" * 99)), REFUSED, ""),
        "debug information that is a pipe": (
            lambda folder: ((folder / "debug").mkdir(), os.mkfifo(folder / debug))[1],
            REFUSED,
            "neither a file nor a folder",
        ),
        "other files beside": (put("README.md", instead(b"# Read me")), READ, ""),
        "a pipe beside": (lambda folder: os.mkfifo(folder / "pipe"), READ, ""),
        "a link to all files beside": (lambda folder: (folder / "up").symlink_to("/"), READ, ""),
        "a link to all files among its assets": (
            lambda folder: link("/")(folder / "assets" / "up"),
            READ,
            "",
        ),
        "an asset that nothing needs": (put("assets/more.txt", instead(b"more")), READ, ""),
        "an asset of an odd name": (put("assets/a\nb \U0001f600'\".txt", instead(b"x")), READ, ""),
    }
    for label, (change, ends, said) in changes.items():
        yield Folder(f"module with {label}", change, ends, "image", said)


FOLDERS = [*folders()]
