"""Memory and time of each step at 12,500, 50,000 and 200,000 small images, or with 10,000 classes.

    python benchmarks/load.py --work FOLDER
    python benchmarks/load.py --work FOLDER --classes 10000 --images 20000

The images are made once, into `--work`: JPEGs and every fourth a PNG, 32 to 64 pixels a side, in
class folders and in a CSV file. Each is a random smooth field with grain on a field of its class.
One in 53 is a copy of another one of its class: an equal file, or in turn encoded anew, brighter or
mirrored. A smaller size takes the first of the images (hard links), and has a cache of its own.

Each step is a process of its own, as a user would start it:

- audit: `keras-tl audit --no-labels` of the folder.
- train: `keras-tl train` of the CSV file with EfficientNetLite0 at 32 px: splits, features, a probe
  of the labels, the head for three epochs, measuring, export and report. Of what the audit saw
  nothing is remembered: the paths are others. The seconds of its parts are those of metrics.json.
- evaluate: `keras-tl evaluate` on the folder.
- predict: `keras-tl predict --format csv` of the folder.

Anonymous memory (RssAnon of the process and its children, what cannot be read again from a file) is
looked at 20 times a second. Time is given as seconds, and as seconds of processor, which say the
same on a machine that others use too. Exit code 1 where a step fails, where its peak grows by more
than `--kilobytes` an image beside the smallest size, or where its seconds of processor an image do
by more than a half from the second size on (what happens once in a process is in them: they fall).
"""

import argparse
import io
import json
import os
import resource
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

SIZES = (12_500, 50_000, 200_000)
# The first is a prime, so that no copy is of a copy.
COPY_EVERY, PNG_EVERY, CHUNK = 53, 4, 2_000
STEPS = ("audit", "train", "evaluate", "predict")
SLOWER = 1.5
BACKBONE = "EfficientNetLite0"
WAYS = ("equal", "anew", "brighter", "mirrored")
# Of what a run leaves, what might be large.
FILES = ("report.html", "metrics.json", "predictions.csv", "splits.csv", "model.json", "audit.json")


@dataclass(frozen=True)
class Step:
    """What a step took.

    Attributes:
        name: Its name.
        images: How many images there were.
        seconds: How long it took.
        processor: Seconds of processor.
        peak: Bytes of anonymous memory at most.
        code: What its process ended with.
    """

    name: str
    images: int
    seconds: float
    processor: float
    peak: int
    code: int


def image(number: int, classes: int) -> Image.Image:
    """An image of class `number % classes`: its class's field, its own, and grain."""
    rng = np.random.default_rng([7, number])
    of_class = np.random.default_rng([8, number % classes]).uniform(0, 255, (4, 4, 3))
    height, width = (int(side) for side in rng.integers(32, 65, 2))
    own = rng.uniform(0, 255, (7, 7, 3))
    grain = rng.normal(0, 5, (height, width, 1))
    mixed = 0.45 * smooth(of_class, width, height) + 0.55 * smooth(own, width, height) + grain
    return Image.fromarray(np.clip(mixed, 0, 255).astype(np.uint8))


def smooth(field: np.ndarray, width: int, height: int) -> np.ndarray:
    """A coarse field of colours, enlarged."""
    coarse = Image.fromarray(field.astype(np.uint8))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.float32)


def content(number: int, classes: int) -> bytes:
    """The file of an image, or of its copy of the image `classes` before, in the same class."""
    if number % COPY_EVERY or number < classes:
        return encoded(image(number, classes), number)
    way, of = WAYS[number // COPY_EVERY % len(WAYS)], number - classes
    original = image(of, classes)
    if way == "anew":
        return encoded(original, 1, quality=60)
    if way == "brighter":
        return encoded(ImageEnhance.Brightness(original).enhance(1.15), of)
    return encoded(ImageOps.mirror(original) if way == "mirrored" else original, of)


def encoded(picture: Image.Image, number: int, quality: int = 90) -> bytes:
    """Its JPEG, or its PNG for every fourth number."""
    file = io.BytesIO()
    kind = "JPEG" if number % PNG_EVERY else "PNG"
    picture.save(file, kind, **({"quality": quality} if kind == "JPEG" else {"compress_level": 1}))
    return file.getvalue()


def name_of(number: int, classes: int) -> str:
    """An image's path in the folder."""
    extension = "jpg" if number % PNG_EVERY else "png"
    return f"class_{number % classes:05d}/{number:07d}.{extension}"


def make_chunk(folder: str, start: int, end: int, classes: int) -> None:
    """Writes the images from `start` to before `end`, where they are not there."""
    for number in range(start, end):
        path = Path(folder) / name_of(number, classes)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content(number, classes))


def make(folder: Path, images: int, classes: int) -> Path:
    """Fills a folder with images; the same arguments give the same files."""
    starts = range(0, images, CHUNK)
    with ProcessPoolExecutor(os.cpu_count()) as workers:
        for start in starts:
            workers.submit(make_chunk, str(folder), start, min(start + CHUNK, images), classes)
    return folder


def link(all_images: Path, folder: Path, images: int, classes: int) -> Path:
    """A folder of the first images, and a CSV file of them beside it."""
    lines = ["path,label"]
    for number in range(images):
        name = name_of(number, classes)
        path = folder / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            os.link(all_images / name, path)
        lines.append(f"{folder.name}/{name},{path.parent.name}")
    table = folder.with_suffix(".csv")
    table.write_text("\n".join(lines) + "\n")
    return table


def command(name: str, folder: Path, run: Path) -> list[str]:
    """What a user would type for a step."""
    small = ["--backbone", BACKBONE, "--image-size", "32"]
    train = ["train", str(folder.with_suffix(".csv")), *small, "--out", str(run), "--epochs", "3"]
    return {
        "audit": ["audit", str(folder), "--no-labels", "--json", str(run.with_suffix(".json"))],
        "train": [*train, "--fine-tune", "none", "--augment", "none"],
        "evaluate": ["evaluate", str(run), str(folder)],
        "predict": ["predict", str(run), str(folder), "--format", "csv"],
    }[name]


def watched(name: str, images: int, arguments: list[str], cache: Path, log: Path) -> Step:
    """Runs a command of keras-tl and looks at its memory."""
    environment = os.environ | {"KERAS_TL_CACHE": str(cache)}
    peak, started, before = 0, time.monotonic(), processor_seconds()
    with log.open("wb") as file:
        whole = [sys.executable, "-m", "keras_tl", *arguments]
        process = subprocess.Popen(whole, stdout=file, stderr=file, env=environment)
        while process.poll() is None:
            peak = max(peak, sum(map(anonymous, family(process.pid))))
            time.sleep(0.05)
    seconds, processor = time.monotonic() - started, processor_seconds() - before
    return Step(name, images, seconds, processor, peak, process.returncode)


def processor_seconds() -> float:
    """Seconds of processor of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def family(pid: int) -> list[int]:
    """A process and its children, theirs included."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [one for child in task.read_text().split() for one in family(int(child))]
        except OSError:
            continue  # it has ended
    return found


def anonymous(pid: int) -> int:
    """Bytes of a process's anonymous memory now; 0 when it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))


def failures(done: list[Step], kilobytes: float) -> list[str]:
    """What is not as it should be, in a line each."""
    found = [f"{step.name} of {step.images:,} ended with {step.code}" for step in done if step.code]
    for name in STEPS:
        steps = [step for step in done if step.name == name]
        for step in steps[1:]:
            grown = (step.peak - steps[0].peak) / (step.images - steps[0].images) / 1e3
            if grown > kilobytes:
                found.append(f"{name}: {grown:.1f} KB more memory an image at {step.images:,}")
        for less, more in pairwise(steps[1:]):
            ratio = more.processor / more.images / (less.processor / less.images)
            if ratio > SLOWER:
                found.append(f"{name}: {ratio:.2f} times the processor an image at {more.images:,}")
    return found


def tell_of(run: Path, images: int) -> None:
    """Prints the seconds of a training's parts and the sizes of its files."""
    if not (run / "metrics.json").is_file():
        return
    seconds = json.loads((run / "metrics.json").read_text())["seconds"]
    print(f"train at {images:,}: " + ", ".join(f"{k} {v:.0f} s" for k, v in seconds.items()))
    files = [(name, run / name) for name in FILES if (run / name).is_file()]
    told = ", ".join(f"{name} {path.stat().st_size / 1e6:.1f} MB" for name, path in files)
    print(f"files at {images:,}: {told}", flush=True)


def main() -> None:
    """Makes the images, runs the steps at each size, and prints a row for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for images and runs")
    parser.add_argument("--images", type=int, nargs="+", default=list(SIZES), help="sizes")
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS))
    parser.add_argument("--kilobytes", type=float, default=4.0, help="of memory an image")
    options = parser.parse_args()
    work = options.work / f"{options.classes}-classes"
    all_images = make(work / "all", max(options.images), options.classes)
    print("| step | images | seconds | of processor | ms of it an image | peak MB |")
    print("| --- " * 6 + "|", flush=True)
    done: list[Step] = []
    for images in options.images:
        folder = work / f"first-{images}"
        link(all_images, folder, images, options.classes)
        run = work / f"run-{images}"
        for name in options.steps:
            log = work / f"{name}-{images}.log"
            step = watched(name, images, command(name, folder, run), work / f"cache-{images}", log)
            done.append(step)
            print(
                f"| {name} | {images:,} | {step.seconds:.0f} | {step.processor:.0f}"
                f" | {1e3 * step.processor / images:.2f} | {step.peak / 1e6:.0f} |"
                + f" code {step.code}, see {log}"
                * bool(step.code),
                flush=True,
            )
        tell_of(run, images)
    if wrong := failures(done, options.kilobytes):
        raise SystemExit("\n".join(wrong))


if __name__ == "__main__":
    main()
