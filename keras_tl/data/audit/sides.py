"""Height and width of an image as its header gives them, without decoding."""

import io
import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

# JPEG segments that give the picture's size: SOF0 to SOF15 without DHT, JPG and DAC.
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def sides_of(item: Any) -> tuple[int, int]:
    """Reads an image's sides.

    Args:
        item: A file's path, encoded bytes, or decoded pixels `[height, width, channels]`.

    Returns:
        Height and width before EXIF turns them, at least 1; (0, 0) where the header is not
        understood.
    """
    if isinstance(item, np.ndarray):
        return item.shape[0], item.shape[1]
    if isinstance(item, bytes):
        return _from_header(io.BytesIO(item))
    with Path(item).open("rb") as file:
        return _from_header(file)


def _from_header(file: BinaryIO) -> tuple[int, int]:
    head = file.read(32)
    if len(head) < 26:
        return 0, 0
    if head[:3] == b"\xff\xd8\xff":
        return _jpeg(file)
    if head[:8] == b"\x89PNG\r\n\x1a\n":
        width, height = struct.unpack(">II", head[16:24])
    elif head[:4] == b"GIF8":
        width, height = struct.unpack("<HH", head[6:10])
    elif head[:2] == b"BM":
        width, height = struct.unpack("<ii", head[18:26])
    elif head[:4] == b"RIFF" and head[8:12] == b"WEBP" and len(head) > 29:
        width, height = _webp(head)
    else:
        return 0, 0
    return abs(height), abs(width)


def _jpeg(file: BinaryIO) -> tuple[int, int]:
    """Steps from segment to segment up to the one that gives the size."""
    file.seek(2)
    while file.read(1) == b"\xff":
        marker = file.read(1)
        while marker == b"\xff":  # padding
            marker = file.read(1)
        segment = file.read(2)
        if len(segment) < 2 or not marker:
            break
        if marker[0] in _JPEG_FRAMES:
            frame = file.read(5)
            return struct.unpack(">HH", frame[1:5]) if len(frame) == 5 else (0, 0)
        file.seek(max(struct.unpack(">H", segment)[0] - 2, 0), io.SEEK_CUR)
    return 0, 0


def _webp(head: bytes) -> tuple[int, int]:
    """Width and height by the first chunk: developers.google.com/speed/webp/docs/riff_container."""

    def number(start: int, length: int) -> int:
        return int.from_bytes(head[start : start + length], "little")

    if head[12:16] == b"VP8X":
        return number(24, 3) + 1, number(27, 3) + 1
    if head[12:16] == b"VP8L":
        packed = number(21, 4)
        return packed % 2**14 + 1, (packed >> 14) % 2**14 + 1
    return number(26, 2) % 2**14, number(28, 2) % 2**14
