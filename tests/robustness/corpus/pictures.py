"""Image files: damaged at random, malformed with care, too large, and strange but whole."""

import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image
from robustness.corpus.case import EITHER, READ, REFUSED, Case, cuts, flips

HEIGHT, WIDTH = 50, 70
EXTENSIONS = {"JPEG": "jpg", "PNG": "png", "GIF": "gif", "BMP": "bmp", "WEBP": "webp"}
ORIENTATION = 0x0112


def picture() -> Image.Image:
    """A smooth picture that looks otherwise each way round."""
    coarse = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    return Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def whole() -> dict[str, tuple[str, bytes]]:
    """Good files of all kinds: the kind and the content by name."""
    rgb = picture()
    grey, few = rgb.convert("L"), rgb.quantize(16)
    clear = rgb.copy()
    clear.putalpha(grey)
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    frames = {"save_all": True, "append_images": [few.rotate(90)], "duration": 20}
    return {
        "jpeg": ("JPEG", encoded(rgb, "JPEG")),
        "progressive jpeg": ("JPEG", encoded(rgb, "JPEG", progressive=True)),
        "grey jpeg": ("JPEG", encoded(grey, "JPEG")),
        "cmyk jpeg": ("JPEG", encoded(rgb.convert("CMYK"), "JPEG")),
        "png": ("PNG", encoded(rgb, "PNG")),
        "16-bit png": ("PNG", encoded(deep, "PNG")),
        "1-bit png": ("PNG", encoded(grey.convert("1"), "PNG")),
        "transparent png": ("PNG", encoded(clear, "PNG")),
        "palette png": ("PNG", encoded(few, "PNG", transparency=3)),
        "animated png": ("PNG", encoded(rgb, "PNG", save_all=True, append_images=[clear])),
        "gif": ("GIF", encoded(few, "GIF")),
        "transparent gif": ("GIF", encoded(few, "GIF", transparency=3)),
        "animated gif": ("GIF", encoded(few, "GIF", **frames)),
        "bmp": ("BMP", encoded(rgb, "BMP")),
        "palette bmp": ("BMP", encoded(few, "BMP")),
        "webp": ("WEBP", encoded(rgb, "WEBP")),
        "lossless webp": ("WEBP", encoded(clear, "WEBP", lossless=True)),
    }


WHOLE = whole()


def png_chunk(name: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(name + data)
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", checksum)


def png(width: int, height: int, *, depth: int = 8, colour: int = 2, between: bytes = b"") -> bytes:
    """A PNG of zeros whose checksums are right, of whatever size."""
    row = 1 + (width * depth * {0: 1, 2: 3, 4: 2, 6: 4}[colour] + 7) // 8
    packer = zlib.compressobj(9)
    # A bomb that is refused by its header need not have all its rows.
    rows = height if row * height < 2**26 else 1
    parts = [packer.compress(bytes(min(row, 2**20))) for _ in range(rows)]
    parts.append(packer.flush())
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = png_chunk(b"IHDR", header) + between + png_chunk(b"IDAT", b"".join(parts))
    return b"\x89PNG\r\n\x1a\n" + chunks + png_chunk(b"IEND", b"")


def png_flips(count: int) -> Iterator[tuple[str, bytes]]:
    """PNGs with flipped bits and right checksums, which the decoder does not turn away at once."""
    content = WHOLE["palette png"][1]
    for label, flipped in flips(content, count, 16):
        chunks, at = [], 8
        while at + 12 <= len(content):
            length = struct.unpack_from(">I", content, at)[0]
            body = flipped[at + 8 : at + 8 + length]
            chunks.append(png_chunk(content[at + 4 : at + 8], body))
            at += 12 + length
        yield label, content[:8] + b"".join(chunks)


def gif_frame(width: int, height: int, index: int = 1) -> bytes:
    """A frame of one colour, packed as LZW packs best: each code is a run one pixel longer."""
    clear, end, longest = 4, 5, 2**12
    packed, bits, length = bytearray(), 0, 0
    size, code, left = 3, end + 1, width * height

    def put(value: int) -> None:
        nonlocal bits, length
        bits |= value << length
        length += size
        while length >= 8:
            packed.append(bits & 255)
            bits >>= 8
            length -= 8

    put(clear)
    run = 1
    while left:
        run = min(run, left)
        put(index if run == 1 else end - 1 + run)
        left -= run
        code += run > 1
        run += 1
        size += code == 2**size and size < 12
        if code == longest:
            put(clear)
            size, code, run = 3, end + 1, 1
    put(end)
    packed += bits.to_bytes(4, "little")
    blocks = [packed[i : i + 255] for i in range(0, len(packed), 255)]
    data = b"".join(bytes([len(block)]) + block for block in blocks) + b"\0"
    return b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02" + data


def gif(canvas: tuple[int, int], *frames: bytes) -> bytes:
    """A GIF of four colours."""
    table = bytes((0, 0, 0, 200, 60, 20, 0, 0, 0, 0, 0, 0))
    return b"GIF89a" + struct.pack("<HHBBB", *canvas, 0x81, 0, 0) + table + b"".join(frames) + b";"


def jpeg_of_size(width: int, height: int, kind: str = "jpeg") -> bytes:
    """A JPEG whose header says another size."""
    content = WHOLE[kind][1]
    marker = b"\xff\xc2" if kind == "progressive jpeg" else b"\xff\xc0"
    at = content.index(marker)
    return content[: at + 5] + struct.pack(">HH", height, width) + content[at + 9 :]


def jpeg_of_scans(width: int, height: int, scans: int) -> bytes:
    """A progressive JPEG that goes over its pixels again and again, a few bytes each time."""
    content = jpeg_of_size(width, height, "progressive jpeg")
    last = content.rindex(b"\xff\xda")
    return content[:last] + content[last:-2] * scans + b"\xff\xd9"


def webp_of_size(width: int, height: int) -> bytes:
    """An extended WebP whose canvas is said to be of that size."""
    lossy = WHOLE["webp"][1]
    canvas = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    chunk = b"VP8X" + struct.pack("<I", 10) + bytes(4) + canvas
    return b"RIFF" + struct.pack("<I", len(lossy) - 8 + len(chunk)) + b"WEBP" + chunk + lossy[12:]


def bmp_of_size(width: int, height: int, kind: str = "bmp") -> bytes:
    content = WHOLE[kind][1]
    return content[:18] + struct.pack("<ii", width, height) + content[26:]


def damaged() -> Iterator[Case]:
    for label, (kind, content) in WHOLE.items():
        name = f"x.{EXTENSIONS[kind]}"
        for how, cut in cuts(content, 6):
            # Of an animation the first frame is enough.
            ends = EITHER if label.startswith("animated") else REFUSED
            yield Case(f"{label}, {how}", cut, ends, name)
        for how, flipped in flips(content, 6, 2, 64):
            yield Case(f"header of a {label}, {how}", flipped, EITHER, name)
        for how, flipped in flips(content, 4, 64):
            yield Case(f"{label}, {how}", flipped, EITHER, name)
    for how, flipped in png_flips(24):
        yield Case(f"png with right checksums, {how}", flipped, EITHER, "x.png")


BOMBS = {
    "png of 60000x60000": png(60000, 60000),
    "png of 4294967295x4294967295": png(2**32 - 1, 2**32 - 1),
    "png of 1x2147483647": png(1, 2**31 - 1),
    "1-bit png of 100000x100000": png(100000, 100000, depth=1, colour=0),
    "gif of 65535x65535": gif((65535, 65535), gif_frame(4, 4)),
    "jpeg of 65500x65500": jpeg_of_size(65500, 65500),
    "progressive jpeg of 65500x65500": jpeg_of_size(65500, 65500, "progressive jpeg"),
    "webp of 16777216x16777216": webp_of_size(2**24, 2**24),
    "bmp of 2147483647x2147483647": bmp_of_size(2**31 - 1, 2**31 - 1),
    "palette bmp of 2147483647x2": bmp_of_size(2**31 - 1, 2, "palette bmp"),
    "bmp of 40000x-40000": bmp_of_size(40000, -40000),
}


def malformed() -> Iterator[Case]:
    jpeg, a_png = WHOLE["jpeg"][1], WHOLE["png"][1]
    a_gif, bmp, webp = WHOLE["gif"][1], WHOLE["bmp"][1], WHOLE["webp"][1]
    for label, content in BOMBS.items():
        kind = label.split(" of ")[0].split()[-1]
        name = f"x.{EXTENSIONS[kind.upper()]}"
        yield Case(f"bomb: {label}", content, REFUSED, name, "megapixels, over the limit")
    large = gif((4, 4), gif_frame(20, 20)).replace(
        b"," + struct.pack("<HHHH", 0, 0, 20, 20), b"," + struct.pack("<HHHH", 0, 0, 65535, 65535)
    )
    yield Case("bomb: gif of 4x4 with a frame of 65535x65535", large, REFUSED, "x.gif")
    texts = {
        "nothing": b"",
        "a line feed": b"\n",
        "text": b"not an image at all",
        "html": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
        "json": b'{"error": "not found"}',
        "pdf": b"%PDF-1.7\n1 0 obj",
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        "tiff": encoded(picture(), "TIFF"),
        "ico": encoded(picture(), "ICO"),
        "jpeg 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(40),
        "heic": b"\0\0\0\x18ftypheic" + bytes(40),
        "zip": b"PK\x03\x04" + bytes(40),
        "zeros": bytes(5000),
        "a git-lfs pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
        "random bytes": np.random.default_rng(0).bytes(5000),
    }
    for label, content in texts.items():
        said = "not an image" if content else "empty file"
        yield Case(f"{label} called .jpg", content, REFUSED, "x.jpg", said)
    signatures = {"jpg": b"\xff\xd8\xff", "png": a_png[:8], "gif": b"GIF89a", "bmp": b"BM"}
    for extension, content in (*signatures.items(), ("webp", b"RIFF\0\0\0\0WEBP")):
        name, said = f"x.{extension}", "truncated, corrupt"
        yield Case(f"nothing but a {extension}'s signature", content, REFUSED, name, said)
        padded = content + bytes(500)
        yield Case(f"zeros behind a {extension}'s signature", padded, REFUSED, f"x.{extension}")
        padded = content + b"\xff" * 500
        yield Case(f"ones behind a {extension}'s signature", padded, REFUSED, f"x.{extension}")
    width_0 = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 0, 5, 8, 2, 0, 0, 0))
    frames = {"save_all": True, "append_images": [picture().rotate(90)]}
    made = {
        "png without pixels": a_png[:33] + png_chunk(b"IEND", b""),
        "png without a header": a_png[:8] + a_png[33:],
        "png of no width": a_png[:8] + width_0 + a_png[33:],
        "png of 3 bits": png(8, 8, depth=3, colour=0),
        "png with a wrong checksum": a_png[:29] + b"\0\0\0\0" + a_png[33:],
        "gif without a frame": gif((10, 10)),
        "gif of no width": gif((0, 10), gif_frame(1, 1).replace(b"\1\0\1\0", b"\0\0\1\0")),
        "jpeg without pixels": jpeg[: jpeg.index(b"\xff\xda")] + b"\xff\xd9",
        "jpeg without tables": jpeg[:20] + jpeg[jpeg.index(b"\xff\xc0") :],
        "jpeg of no height": jpeg_of_size(70, 0),
        "jpeg of no width": jpeg_of_size(0, 50),
        "bmp of no width": bmp_of_size(0, 50),
        "bmp of a negative width": bmp_of_size(-70, 50),
        "bmp of height -2147483648": bmp_of_size(70, -(2**31)),
        "bmp larger than its file": bmp_of_size(3000, 3000),
        "palette bmp larger than its file": bmp_of_size(3000, 3000, "palette bmp"),
        "1-bit bmp": encoded(picture().convert("1"), "BMP"),
        "run-length bmp": WHOLE["palette bmp"][1][:30] + b"\1" + WHOLE["palette bmp"][1][31:],
        "bmp of an old header": bmp[:14] + struct.pack("<I", 12) + bmp[18:],
        "animated webp": encoded(picture(), "WEBP", **frames),
        "webp of another canvas": webp_of_size(700, 500),
        "webp without pixels": webp[:12] + b"VP8 \0\0\0\0",
    }
    for label, content in made.items():
        kind = next(word for word in label.split() if word.upper() in EXTENSIONS)
        yield Case(label, content, REFUSED, f"x.{EXTENSIONS[kind.upper()]}")
    first, second = gif_frame(70, 50, 1), gif_frame(70, 50, 2)
    # The pixels end with their first frame.
    yield Case("gif cut off in its second frame", gif((70, 50), first, second)[:-20], EITHER)
    yield Case("gif of 2000 frames", gif((70, 50), first, second * 2000), READ, "x.gif")
    yield Case("gif with letters behind it", a_gif + b"trailing" * 99, READ, "x.gif")


def strange() -> Iterator[Case]:
    """What is unusual and whole."""
    kinds = dict.fromkeys(EXTENSIONS)
    for label, (kind, content) in WHOLE.items():
        yield Case(label, content, READ, f"x.{EXTENSIONS[kind]}")
        if kind in kinds:
            del kinds[kind]
            for other in EXTENSIONS:
                if other != kind:
                    yield Case(f"{label} called .{other}", content, READ, f"x.{EXTENSIONS[other]}")
    jpeg, a_png, webp = WHOLE["jpeg"][1], WHOLE["png"][1], WHOLE["webp"][1]
    for kind, extension in EXTENSIONS.items():
        for sides in ((1, 1), (1, 2000), (2000, 1), (1, 16000), (16000, 1), (3, 2)):
            line = picture().resize(sides)
            name = f"{kind.lower()} of {sides[0]}x{sides[1]} pixels"
            yield Case(name, encoded(line, kind), READ, f"x.{extension}")
    for kind in ("JPEG", "PNG", "GIF", "BMP"):
        line = encoded(picture().resize((1, 20000)), kind)
        yield Case(f"{kind.lower()} of 1x20000 pixels", line, READ, f"x.{EXTENSIONS[kind]}")
    bomb = zlib.compress(bytes(50_000_000), 1)
    text = png_chunk(b"zTXt", b"comment\0\0" + bomb)
    profile = png_chunk(b"iCCP", b"profile\0\0" + bomb)
    segments = b"".join(b"\xff\xe2" + struct.pack(">H", 60002) + bytes(60000) for _ in range(40))
    made = {
        "jpeg with letters behind it": jpeg + b"trailing" * 99,
        "two jpegs in one file": jpeg + WHOLE["grey jpeg"][1],
        "jpeg with 40 foreign segments": jpeg[:2] + segments + jpeg[2:],
        "jpeg with a thumbnail's exif": encoded(picture(), "JPEG", exif=_looping_exif()),
        "png with letters behind it": a_png + b"trailing" * 99,
        "png with 50 MB of packed text": a_png[:33] + text + a_png[33:],
        "png with a packed colour profile of 50 MB": a_png[:33] + profile + a_png[33:],
        "webp with letters behind it": webp + b"trailing" * 100,
        "webp with an unknown chunk": webp[:4]
        + struct.pack("<I", len(webp) + 8)
        + webp[8:]
        + b"WHAT\x08\0\0\0abcdefgh",
    }
    for label, content in made.items():
        kind = next(w for w in label.replace("jpegs", "jpeg").split() if w.upper() in EXTENSIONS)
        yield Case(label, content, READ, f"x.{EXTENSIONS[kind.upper()]}")


def _looping_exif() -> bytes:
    """EXIF whose directory says that the next one is itself."""
    entry = struct.pack("<HHIHH", ORIENTATION, 3, 1, 1, 0)
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + entry + struct.pack("<I", 8)


def turned() -> dict[str, bytes]:
    """Photographs with each EXIF orientation, in all kinds that have it."""
    found = {}
    for kind, options in (("JPEG", {}), ("PNG", {}), ("WEBP", {"lossless": True})):
        for orientation in range(1, 9):
            exif = Image.Exif()
            exif[ORIENTATION] = orientation
            content = encoded(picture(), kind, exif=exif, **options)
            found[f"{kind.lower()} of orientation {orientation}"] = content
    return found


TURNED = turned()
CASES = [*damaged(), *malformed(), *strange()]
