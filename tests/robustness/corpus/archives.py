"""Archives as TF-Hub handles: damaged, of something else, larger than they are, or leading out.

What a case is made of is a good SavedModel, which needs TensorFlow and is made once by the tests.
"""

import gzip
import io
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from robustness.corpus.case import EITHER, READ, REFUSED, cuts, flips
from robustness.corpus.models import nth
from robustness.corpus.modules import EMPTY_NODES, GRAPH, WEIGHTS, field

Files = dict[str, bytes]
# A file that nothing may write.
ELSEWHERE = str(Path(tempfile.gettempdir()).absolute() / "keras-tl-evil")


@dataclass(frozen=True)
class Archive:
    """An archive made of the files of a good module, by name; then it is a handle."""

    id: str
    pack: Callable[[Files], bytes]
    ends: str = REFUSED
    said: str = ""


def packed(files: Files, *more: tarfile.TarInfo | tuple[tarfile.TarInfo, bytes]) -> bytes:
    """A `.tar.gz` of files, and of members that are given as they are."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as made:
        for name, content in files.items():
            made.addfile(member(name, len(content)), io.BytesIO(content))
        for each in more:
            info, content = each if isinstance(each, tuple) else (each, b"")
            made.addfile(info, io.BytesIO(content))
    return gzip.compress(file.getvalue())


def member(
    name: str, size: int = 0, kind: bytes = tarfile.REGTYPE, to: str = ""
) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = size, kind, to
    return info


def with_members(*more: tarfile.TarInfo | tuple[tarfile.TarInfo, bytes]) -> Callable:
    return lambda files: packed(files, *more)


def unpacked(how: Callable[[bytes], bytes]) -> Callable[[Files], bytes]:
    """The archive with something done to what is in the gzip."""
    return lambda files: gzip.compress(how(gzip.decompress(packed(files))))


def header(name: bytes, size: int, kind: bytes = b"0", **fields: bytes) -> bytes:
    """The block before a member, its checksum right."""
    number = (
        b"%011o\0" % size if 0 <= size < 8**11 else b"\x80" + (size % 2**88).to_bytes(11, "big")
    )
    rest = {"mode": b"0000644\0", "mtime": b"%011o\0" % 0, "linkname": b"", **fields}
    before = name.ljust(100, b"\0") + rest["mode"] + b"0000000\0" * 2 + number + rest["mtime"]
    after = kind + rest["linkname"].ljust(100, b"\0") + b"ustar\00000" + bytes(247)
    checksum = sum(before) + sum(after) + 8 * ord(" ")
    return before + b"%06o\0 " % checksum + after


def blocks(content: bytes) -> bytes:
    return content + bytes(-len(content) % 512)


def pax(**records: str) -> bytes:
    """A header of records for the member that follows."""
    lines = b""
    for key, value in records.items():
        line = f" {key.replace('__', '.')}={value}\n".encode()
        length = len(line)
        while len(str(length)) + len(line) != length:
            length = len(str(length)) + len(line)
        lines += str(length).encode() + line
    return header(b"pax", len(lines), b"x") + blocks(lines)


def before_all(content: bytes) -> Callable[[Files], bytes]:
    return unpacked(lambda archive: content + archive)


def endless(before: bytes, size: int, block: bytes = bytes(512)) -> bytes:
    """A gzip of something, and then of one block again and again, made without packing it all."""
    count = 2**20 // len(block)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    start = packer.compress(before) + packer.flush(zlib.Z_FULL_FLUSH)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    megabyte = packer.compress(block * count) + packer.flush(zlib.Z_FULL_FLUSH)
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + start + megabyte * (size >> 20)


# Each is some megabytes, or less.
BOMBS = {
    "archive of weights of 8 GB": endless(header(WEIGHTS.encode(), 2**33), 2**33),
    "archive of a graph of 2 GB": endless(header(GRAPH.encode(), 2**31), 2**31),
    "archive of a name of 4 GB": endless(header(b"././@LongLink", 2**32, b"L"), 2**32),
    "archive of a header of 4 GB": endless(header(b"pax", 2**32, b"x"), 2**32),
    "archive of a common header of 4 GB": endless(header(b"pax", 2**32, b"g"), 2**32),
    "archive of 4 million empty files": endless(b"", 2**31, header(b"a", 0)),
    "archive of 4 million folders": endless(b"", 2**31, header(b"a", 0, b"5")),
    "archive of a link of 4 GB": endless(header(b"././@LongLink", 2**32, b"K"), 2**32),
    "archive of 8 million empty nodes": gzip.compress(
        header(GRAPH.encode(), len(EMPTY_NODES)) + blocks(EMPTY_NODES) + bytes(1024)
    ),
    "archive of 100 MB of zeros in gzips": gzip.compress(gzip.compress(bytes(10**8))),
}


def archives() -> Iterator[Archive]:
    for number in range(6):
        damage = nth(lambda content: cuts(content, 6), number)
        yield Archive(f"archive, cut off, place {number}", lambda f, d=damage: d(packed(f)))
        yield Archive(f"archive whose tar is cut off, place {number}", unpacked(damage), EITHER)
    for number in range(8):
        damage = nth(lambda content: flips(content, 8), number)
        yield Archive(f"archive, bits flipped, {number}", lambda f, d=damage: d(packed(f)), EITHER)
        damage = nth(lambda content: flips(content, 8, 0, 2048), number)
        yield Archive(f"archive whose tar has flipped bits, {number}", unpacked(damage), EITHER)
    yield from odd_archives()
    yield from escapes()


def odd_archives() -> Iterator[Archive]:
    contents = {
        "nothing": b"",
        "text": b"this is no archive",
        "html": b"<html>404</html>",
        "zeros": bytes(10_240),
        "random bytes": np.random.default_rng(0).bytes(10_000),
        "a gzip of nothing": gzip.compress(b""),
        "a gzip of text": gzip.compress(b"this is no tar"),
        "a gzip of zeros": gzip.compress(bytes(10_240)),
        "a gzip of a gzip": gzip.compress(packed({GRAPH: b""})),
        "a gzip's first bytes": b"\x1f\x8b",
        "a zip": b"PK\x05\x06" + bytes(18),
        "a graph": field(2, b""),
    }
    for label, content in contents.items():
        yield Archive(f"{label} called .tar.gz", lambda _, content=content: content)
    no_graph = "without saved_model.pb"
    yield Archive("archive of nothing", lambda _: packed({}), REFUSED, no_graph)
    yield Archive("archive of a text", lambda _: packed({"a": b"b"}), REFUSED, no_graph)
    yield Archive(
        "archive of a folder", lambda _: packed({}, member("a", kind=b"5")), said=no_graph
    )
    yield Archive("archive of an empty graph", lambda _: packed({GRAPH: b""}))
    yield Archive("archive of a TF1 module", lambda f: packed({"tfhub_module.pb": b"", **f}))
    yield Archive("archive without weights", lambda f: packed({GRAPH: f[GRAPH]}))
    whole: dict[str, Callable[[Files], bytes]] = {
        "archive that is not packed": lambda f: gzip.decompress(packed(f)),
        "archive of names with dots": lambda f: packed({f"./{n}": c for n, c in f.items()}),
        "archive of a folder in a folder": lambda f: packed(
            {f"a/b c/{n}": c for n, c in f.items()}
        ),
        "archive of names that go up and down": lambda f: packed(
            {f"a/../{n}": c for n, c in f.items()}
        ),
        "archive that has its files twice": lambda f: gzip.compress(
            gzip.decompress(packed(f))[:-1024].rstrip(b"\0") + bytes(4096)
        ),
        "archive with letters behind it": lambda f: packed(f) + bytes(100),
        "archive in two gzips": lambda f: (
            gzip.compress(gzip.decompress(packed(f))[:1000])
            + gzip.compress(gzip.decompress(packed(f))[1000:])
        ),
        "archive of a folder that nobody may read": with_members(member("closed", kind=b"5")),
        "archive with a name in emoji": with_members(member("\U0001f600 '\"\n.txt")),
        "archive with a file that may do all": with_members(_mode(member("all"), 0o7777)),
        "archive of the year 10^9": before_all(
            header(b"late", 0, mtime=b"\x80" + (3 * 10**16).to_bytes(11, "big"))
        ),
    }
    for label, pack in whole.items():
        yield Archive(label, pack, READ)


def _mode(info: tarfile.TarInfo, mode: int) -> tarfile.TarInfo:
    info.mode = mode
    return info


def escapes() -> Iterator[Archive]:
    """Archives that would write elsewhere, wait, or take what is not theirs."""
    evil = b"evil"
    for label, name in {
        "leads up": "../evil",
        "leads up in the middle": "a/../../evil",
        "leads up many times": "../" * 40 + ELSEWHERE.lstrip("/"),
        "is absolute": ELSEWHERE,
        "is absolute after dots": "./" * 3 + "/../../../evil",
        "has 300 bytes in a part": "n" * 300,
        "has 5000 bytes": "a/" * 2500 + "b",
        "has 200 levels": "a/" * 200 + "b",
        "has no letters": "",
        "is a dot": ".",
        "is two dots": "..",
    }.items():
        more = (member(name, len(evil)), evil)
        yield Archive(f"archive with a file whose name {label}", with_members(more))
    for label, target in {
        "that leads out": "../../evil",
        "to /etc/passwd": "/etc/passwd",
        "to /dev/zero": "/dev/zero",
        "to itself": "link",
        "within": "saved_model.pb",
        "to nothing": "",
    }.items():
        for kind, noun in ((tarfile.SYMTYPE, "link"), (tarfile.LNKTYPE, "hard link")):
            more = member("link", kind=kind, to=target)
            yield Archive(f"archive with a {noun} {label}", with_members(more))
    through = (member("up", kind=tarfile.SYMTYPE, to=".."), (member("up/evil", 4), evil))
    yield Archive("archive with a file behind a link", with_members(*through))
    graph = member(GRAPH, kind=tarfile.SYMTYPE, to="/etc/passwd")
    yield Archive("archive whose graph is a link", lambda _: packed({}, graph))
    for kind, noun in ((b"6", "pipe"), (b"3", "device"), (b"4", "disk"), (b"7", "block")):
        # A contiguous block is a file by another name.
        ends = READ if kind == b"7" else REFUSED
        yield Archive(f"archive with a {noun}", with_members(member("odd", kind=kind)), ends)
    odd: dict[str, bytes] = {
        "a NUL in a name": pax(path="a\0b") + header(b"a", 0),
        "a size that is no number": pax(size="many") + header(b"a", 0),
        "a size below nothing": header(b"a", -512),
        "a size of 2^80": header(b"a", 2**80),
        "a size of 2^60 in its records": pax(size=str(2**60)) + header(b"a", 0),
        "a size below nothing in its records": pax(size="-1024") + header(b"a", 0),
        "holes of a terabyte": pax(
            GNU__sparse__major="1", GNU__sparse__minor="0", GNU__sparse__realsize=str(2**40)
        )
        + header(b"a", 512)
        + blocks(b"0\n"),
        "holes that are no numbers": pax(GNU__sparse__map="0,many", GNU__sparse__size="7")
        + header(b"a", 0),
        "records that do not add up": header(b"pax", 10, b"x") + blocks(b"99 path=a\n"),
        "records of a length of nothing": header(b"pax", 10, b"x") + blocks(b"0 path=ab\n"),
        "headers upon headers": pax(comment="x") * 3000,
        "a long name without its member": header(b"././@LongLink", 4, b"L") + blocks(b"abc"),
        "a name that is no UTF-8": header(b"\xff\xfe", 0),
        "a kind that nobody knows": header(b"a", 0, b"Z"),
    }
    for label, content in odd.items():
        yield Archive(f"archive with {label}", before_all(content), EITHER)


ARCHIVES = [*archives()]
