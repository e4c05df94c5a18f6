"""What share of planted trouble the audit finds, how many false alarms it gives, how long it takes.

    python benchmarks/audit.py cells
    python benchmarks/audit.py photographs --images 2000
    python benchmarks/audit.py speed --images 20000
    python benchmarks/audit.py texts --images 20000

`cells` takes the 2,624 solar cells of ELPV (the extra `demo`), those in class "defective" or
"functional" where the annotators were sure; `photographs` makes pictures by code: noise with the
spectrum of natural images, and in front of it one kind of shape for each of five classes. Both are
divided at random into given splits (70, 15, 15 %). Then, each on images of its own:

- wrong labels: one in twenty (`--wrong`) gets the label of another class, and so does each copy
  under another label, below;
- copies, a hundred of each kind: equal files and altered ones (encoded anew, half the size,
  brighter, mirrored, cropped by 5 %, in turn) in the same split and class, in another split, and
  under another label;
- twenty of each: dark (an eighth of the light), blurred (a Gaussian of 4 % of the side), of one
  colour, and cut off in the middle of the file.

Printed are, for each kind of finding: planted, found, and what else was found. What else is found
in the cells is in part true: neighbours in a module look alike, and one module was photographed
again; and all images of one colour are one image. Last the splits that `prepare` makes of the same
images without given ones: how many of the altered copies lie in another split than their
originals, without the audit and with it.

`speed` makes JPEGs of 256 x 256 pixels and times each step of the audit, twice: first with an
empty cache, then with what is remembered.

`texts` makes letters (see `made_texts.py`), alters copies of a tenth of them in five ways in turn,
and prints what share of the copies is found, what else is found, and how long it takes.
"""

import argparse
import io
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps

CLASSES, SIDE = 5, 256
COPIES, ODD = 100, 20
SPLITS, SHARES = ("train", "val", "test"), (0.7, 0.15, 0.15)
WAYS: dict[str, Callable[[Image.Image], bytes]] = {
    "encoded anew": lambda image: encoded(image, 50),
    "half the size": lambda image: encoded(image.resize((image.width // 2, image.height // 2))),
    "brighter": lambda image: encoded(ImageEnhance.Brightness(image).enhance(1.2)),
    "mirrored": lambda image: encoded(ImageOps.mirror(image)),
    "cropped": lambda image: encoded(image.crop(inner(image, 0.05))),
}
SPOILED: dict[str, Callable[[Image.Image], bytes]] = {
    "dark": lambda image: encoded(image.point(lambda value: value // 8)),
    "blurred": lambda image: encoded(image.filter(ImageFilter.GaussianBlur(image.width / 25))),
    "blank": lambda image: encoded(Image.new("RGB", image.size, (90, 80, 70))),
    "unreadable": lambda image: encoded(image)[: len(encoded(image)) // 2],
}


@dataclass
class Planted:
    """Images with trouble planted in them.

    Attributes:
        contents: Encoded images.
        labels: Names of their classes.
        splits: Names of their splits.
        truth: For each kind of finding the sets of images that it should name.
        copies: Of each altered copy the original's place and its own.
    """

    contents: list[bytes]
    labels: list[str]
    splits: list[str]
    truth: dict[str, set[frozenset[str]]] = field(default_factory=dict)
    copies: list[tuple[int, int]] = field(default_factory=list)

    def expect(self, kind: str, *items: int) -> None:
        """Notes that a finding should name these images together."""
        self.truth.setdefault(kind, set()).add(frozenset(name_of(i) for i in items))

    def add(self, content: bytes, label: str, split: str) -> int:
        """Adds an image and returns its place."""
        self.contents.append(content)
        self.labels.append(label)
        self.splits.append(split)
        return len(self.contents) - 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("cells", "photographs", "speed", "texts"))
    parser.add_argument("--images", type=int, default=2000, help="how many are made")
    parser.add_argument("--wrong", type=float, default=0.05, help="share of wrong labels")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    if args.what == "speed":
        speed(args.images)
        return
    if args.what == "texts":
        compare_texts(args.images, args.seed)
        return
    contents, labels = cells() if args.what == "cells" else photographs(args.images)
    planted = plant(contents, labels, args.wrong, np.random.default_rng(args.seed))
    print_found(planted)
    print_divided(planted)


def plant(
    contents: list[bytes], labels: list[str], wrong: float, rng: np.random.Generator
) -> Planted:
    """Spoils some images, mislabels some and copies some, each but once."""
    splits = rng.choice(SPLITS, len(contents), p=SHARES).tolist()
    planted = Planted(list(contents), list(labels), splits)
    names = sorted(set(labels))
    free = iter(rng.permutation(len(contents)).tolist())
    for _ in range(round(wrong * len(contents))):
        item = next(free)
        planted.labels[item] = other(names, labels[item], rng)
        planted.expect("wrong-label", item)
    for kind, spoil in SPOILED.items():
        for item in (next(free) for _ in range(ODD)):
            planted.contents[item] = spoil(opened(contents[item]))
            planted.expect(kind, item)
    for altered in (False, True):
        for how in ("same", "split", "label"):
            for number, item in enumerate(next(free) for _ in range(COPIES)):
                copy(planted, item, number if altered else None, how, names, rng)
    return planted


def copy(
    planted: Planted,
    item: int,
    way: int | None,
    how: str,
    names: list[str],
    rng: np.random.Generator,
) -> None:
    """Adds a copy of an image, and what should be said of it."""
    content, label, split = planted.contents[item], planted.labels[item], planted.splits[item]
    if way is not None:
        content = list(WAYS.values())[way % len(WAYS)](opened(content))
    if how == "split":
        split = other(SPLITS, split, rng)
    if how == "label":
        label = other(names, label, rng)
    new = planted.add(content, label, split)
    prefix = "" if way is None else "near-"
    planted.expect(f"{prefix}duplicates", item, new)
    if how == "split":
        planted.expect(f"{prefix}leak", item, new)
    if how == "label":
        planted.expect(f"{prefix}two-labels", item, new)
        planted.expect("wrong-label", new)
    if way is not None:
        planted.copies.append((item, new))


def print_found(planted: Planted) -> None:
    from keras_tl.auditing import audit

    findings = {finding.kind: finding for finding in audit(source_of(planted), verbose=0).findings}
    print("| finding | planted | found | share | found beside |\n| --- | --- | --- | --- | --- |")
    for kind, wanted in planted.truth.items():
        sets = findings[kind].sets if kind in findings else ()
        said = {frozenset(names) for names in sets}
        hits = len(wanted & said)
        row = (kind, len(wanted), hits, f"{hits / len(wanted):.0%}", len(said - wanted))
        print("| " + " | ".join(map(str, row)) + " |")
    for kind in sorted(set(findings) - set(planted.truth)):
        print(f"| {kind} | 0 | | | {len(findings[kind].sets)} |")


def print_divided(planted: Planted) -> None:
    """How many altered copies a split divides from their originals."""
    from keras_tl.data.prepare import prepare

    readable = [i for i in range(len(planted.contents)) if unspoiled(planted, i)]
    for audit in (False, True):
        source = source_of(planted, readable, splits=False)
        data = prepare(source, audit=audit)
        split_of = dict(zip(data.source.ids, data.source.splits, strict=True))
        divided = sum(split_of[name_of(i)] != split_of[name_of(j)] for i, j in planted.copies)
        share = f"{divided} of {len(planted.copies)} altered copies apart from their originals"
        print(f"{'with' if audit else 'without'} the audit: {share}")
        if data.seen:
            names = data.seen.groups.names
            sizes = np.unique(names[names != ""], return_counts=True)[1]
            too_large = [len(group) for group in data.seen.groups.too_large]
            print(f"largest group {sizes.max(initial=0)}, over the limit: {too_large}")


def unspoiled(planted: Planted, item: int) -> bool:
    return frozenset([name_of(item)]) not in planted.truth["unreadable"]


def source_of(planted: Planted, chosen: list[int] | None = None, splits: bool = True) -> Any:
    from keras_tl.data.arrays import from_arrays

    chosen = list(range(len(planted.contents))) if chosen is None else chosen
    return from_arrays(
        [planted.contents[i] for i in chosen],
        [planted.labels[i] for i in chosen],
        ids=[name_of(i) for i in chosen],
        splits=[planted.splits[i] for i in chosen] if splits else None,
    )


def cells() -> tuple[list[bytes], list[str]]:
    from keras_tl.recipes.solar_cells import read_cells

    table = read_cells()
    table = table[table["probability"].isin([0.0, 1.0])]
    labels = ["defective" if p else "functional" for p in table["probability"]]
    return [Path(path).read_bytes() for path in table["path"]], labels


def photographs(count: int) -> tuple[list[bytes], list[str]]:
    labels = [f"shape {i % CLASSES}" for i in range(count)]
    return [encoded(photograph(i, i % CLASSES)) for i in range(count)], labels


def photograph(seed: int, kind: int) -> Image.Image:
    """Noise whose spectrum falls as that of natural images, with shapes of one kind in front."""
    rng = np.random.default_rng(seed)
    rows, columns = np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None]
    fall = 1 / np.maximum(np.hypot(rows, columns), 1 / SIDE) ** 1.3
    planes = []
    for _ in range(3):
        plane = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(SIDE, SIDE))) * fall, (SIDE, SIDE))
        planes.append(rng.uniform(60, 190) + 35 * (plane - plane.mean()) / plane.std())
    image = Image.fromarray(np.clip(np.stack(planes, -1), 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(rng.integers(2, 5)):
        (x, y), size = rng.uniform(0, 200, 2), rng.uniform(30, 90)
        colour = tuple(int(value) for value in rng.integers(0, 256, 3))
        shape(draw, kind, x, y, size, colour)
    return image


def shape(
    draw: ImageDraw.ImageDraw, kind: int, x: float, y: float, size: float, colour: tuple[int, ...]
) -> None:
    box = (x, y, x + size, y + size)
    if kind < 2:
        (draw.ellipse, draw.rectangle)[kind](box, fill=colour)
    elif kind == 2:
        draw.polygon([(x, y + size), (x + size, y + size), (x + size / 2, y)], fill=colour)
    elif kind == 3:
        draw.ellipse(box, outline=colour, width=8)
    else:
        draw.line(box, fill=colour, width=8)
        draw.line((x + size, y, x, y + size), fill=colour, width=8)


def speed(count: int) -> None:
    import photographs as made

    with tempfile.TemporaryDirectory() as folder:
        os.environ["KERAS_TL_CACHE"] = f"{folder}/cache"
        made.make_folder(Path(folder) / "images", count, (SIDE, SIDE))
        time.sleep(3)  # files that were written a moment ago are not remembered
        for title in ("first", "again"):
            steps = list(timed_steps(f"{folder}/images"))
            total = sum(seconds for _, seconds in steps)
            told = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in steps)
            print(f"{title}: {told}; {total:.0f} s in all", flush=True)


def timed_steps(folder: str) -> Iterator[tuple[str, float]]:
    from keras_tl.auditing import findings_on_labels, plain_features
    from keras_tl.config import TrainConfig
    from keras_tl.data import augment
    from keras_tl.data.audit.judging import judge, look_through
    from keras_tl.data.audit.looks import look
    from keras_tl.data.image_input import ImageInput
    from keras_tl.data.inspection import inspect
    from keras_tl.data.open import open_data
    from keras_tl.data.prepare import ImageData

    started = time.perf_counter()

    def lap(name: str) -> tuple[str, float]:
        nonlocal started
        now = time.perf_counter()
        taken, started = now - started, now
        return name, taken

    image_input = ImageInput()
    source = inspect(open_data(folder), image_input)
    yield lap("opening and inspecting")
    look(source, image_input)
    yield lap("looking")
    seen = look_through(source, image_input)
    judge(source, seen)
    yield lap("comparing all with all")
    data = ImageData(source, image_input, augment.get("none"))
    features = plain_features(TrainConfig("", ""), data, verbose=0)
    yield lap("a backbone's features")
    findings_on_labels(features, source, seen)
    yield lap("judging labels")


def compare_texts(count: int, seed: int) -> None:
    import made_texts as made

    from keras_tl.data.audit.text_judging import audit_texts
    from keras_tl.data.texts import from_texts

    rng = np.random.default_rng(seed)
    originals = made.texts(count * 10 // 11, seed)
    ways = list(made.WAYS)
    copies = [
        made.WAYS[ways[i % len(ways)]](originals[i], rng) for i in range(count - len(originals))
    ]
    labels = rng.integers(0, 2, count).tolist()
    source = from_texts([*originals, *copies], labels)
    started = time.perf_counter()
    findings = {finding.kind: finding for finding in audit_texts(source).findings}
    print(f"{count:,} texts in {time.perf_counter() - started:.1f} s")
    said = {frozenset(s) for k in ("duplicates", "near-duplicates") for s in findings[k].sets}
    pairs = [frozenset(source.ids[[i, len(originals) + i]]) for i in range(len(copies))]
    for number, way in enumerate(ways):
        planted = set(pairs[number :: len(ways)])
        print(f"{way}: {len(planted & said)} of {len(planted)} found")
    print(f"found beside: {len(said - set(pairs))}")


def encoded(image: Image.Image, quality: int = 90) -> bytes:
    file = io.BytesIO()
    image.convert("RGB").save(file, "JPEG", quality=quality)
    return file.getvalue()


def opened(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content)).convert("RGB")


def inner(image: Image.Image, share: float) -> tuple[int, int, int, int]:
    """A box without `share` of each side, more of it cut off at the left and the top."""
    left, top = round(image.width * share * 0.7), round(image.height * share * 0.6)
    return (
        left,
        top,
        left + round(image.width * (1 - share)),
        top + round(image.height * (1 - share)),
    )


def other(names: Any, name: str, rng: np.random.Generator) -> str:
    return str(rng.choice([candidate for candidate in names if candidate != name]))


def name_of(item: int) -> str:
    return f"{item:05d}"


if __name__ == "__main__":
    main()
