"""Decoding and resizing of photographs of about 1 megapixel, against torchvision's DataLoader.

    python benchmarks/input_pipeline.py --torch-python OTHER_VENV/bin/python

makes JPEGs of several shapes (noise of all scales, quality 90) in a temporary folder. Two programs
then read them in turn, three times each after one pass that is not counted: `Samples.images` of
keras_tl, and torchvision's DataLoader with two workers over an ImageFolder with PIL's decoder and
antialiased resizing. Both give uint8 batches of 32 images of 224 x 224. The clock runs from a
pass's first batch to its last. What starting a pass takes is printed apart: TensorFlow optimizes
its graph in about half a second, torchvision keeps its workers. Imports count nowhere. Printed are
the medians, the ratios, and each program's peak memory (resident, added up over its processes,
which share some of it). On a machine that does other work, too, processor time is the figure that
it disturbs least.
"""

import argparse
import importlib.util
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

SHAPES = ((1024, 1024), (1200, 900), (900, 1200), (1152, 864), (864, 1152), (1280, 800))
SIZE, BATCH, WORKERS, ROUNDS = 224, 32, 2, 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=512, help="how many (default: %(default)s)")
    parser.add_argument("--shapes", nargs="+", help="WIDTHxHEIGHT instead of the six shapes")
    parser.add_argument("--torch-python", help="an interpreter that has torchvision")
    parser.add_argument("--run", choices=READERS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run:
        serve(READERS[args.run](args.folder))
        return
    asked = (shape.split("x") for shape in args.shapes or ())
    shapes = [(int(width), int(height)) for width, height in asked] or list(SHAPES)
    with tempfile.TemporaryDirectory() as folder:
        make_images(Path(folder), args.images, shapes)
        compare(folder, {"keras_tl": sys.executable, **torch_interpreter(args.torch_python)})


def torch_interpreter(given: str | None) -> dict[str, str]:
    if given:
        return {"torchvision": given}
    if importlib.util.find_spec("torchvision"):
        return {"torchvision": sys.executable}
    print("torchvision is left out: give --torch-python an interpreter that has it.")
    return {}


def make_images(folder: Path, count: int, shapes: list[tuple[int, int]]) -> None:
    """Writes JPEGs into two class folders."""
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(0)
    pictures = [picture(random, *shape) for shape in shapes]
    for number in range(count):
        # Rolled, so that no two files of a shape are the same.
        image = Image.fromarray(np.roll(pictures[number % len(shapes)], 8 * number, axis=1))
        path = folder / str(number % 2) / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        image.save(path, quality=90)


def picture(random: Any, width: int, height: int) -> Any:
    """Noise of all scales, the coarse strong and the fine weak: uint8 [height, width, 3]."""
    import numpy as np
    from PIL import Image

    pixels = np.full((height, width, 3), 128.0)
    for octave in range(8):
        sides = (-(-height // 2**octave), -(-width // 2**octave))
        noise = random.normal(0, 2 + 1.6 * octave, (*sides, 3)).clip(-128, 127) + 128
        coarse = Image.fromarray(noise.astype(np.uint8))
        pixels += np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)) - 128.0
    return pixels.clip(0, 255).astype(np.uint8)


def compare(folder: str, interpreters: dict[str, str]) -> None:
    """Lets the programs read the folder in turn, and prints what they say."""
    programs = {name: start(python, name, folder) for name, python in interpreters.items()}
    for name in programs:
        one_pass(programs[name])
    said: dict[str, list[tuple[float, ...]]] = {name: [] for name in programs}
    for _ in range(ROUNDS):
        for name, program in programs.items():
            said[name].append(one_pass(program))
    for program in programs.values():
        program.communicate()
    rates, seconds = {}, {}
    for name, rounds in said.items():
        columns = zip(*rounds, strict=True)
        rates[name], seconds[name], first, peak = map(statistics.median, columns)
        print(f"{name:12}{rates[name]:7.1f} images/s, {1000 * seconds[name]:.2f} ms of processor")
        print(f"{'':12}time each, {first:.2f} s to the first batch, {peak:.0f} MB at most")
    if len(rates) == 2:
        ours, theirs = rates
        print(f"{'ratio':12}{rates[ours] / rates[theirs]:7.2f} by images/s,", end=" ")
        print(f"{seconds[theirs] / seconds[ours]:.2f} by processor time")


def start(python: str, name: str, folder: str) -> subprocess.Popen:
    command = [python, __file__, "--run", name, "--folder", folder]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def one_pass(program: subprocess.Popen) -> tuple[float, ...]:
    """Images per second, processor seconds of each, seconds to the first batch, megabytes."""
    assert program.stdin and program.stdout
    program.stdin.write("\n")
    program.stdin.flush()
    return tuple(map(float, program.stdout.readline().split()))


def serve(one_pass: Callable[[], Iterator[int]]) -> None:
    """Makes a pass for each line of the standard input."""
    for _ in sys.stdin:
        asked = time.perf_counter()
        sizes = one_pass()
        next(sizes)
        began, used = time.perf_counter(), processor_seconds()
        images = sum(sizes)
        rate = images / (time.perf_counter() - began)
        each = (processor_seconds() - used) / images
        print(rate, each, began - asked, peak_megabytes(), flush=True)


def processes() -> list[Path]:
    children = [child.pid for child in multiprocessing.active_children()]
    return [Path(f"/proc/{pid}") for pid in (os.getpid(), *children)]


def processor_seconds() -> float:
    """What this process and its children used so far (user and system)."""
    # The name, in brackets, may hold spaces; the times are the 14th and the 15th field.
    fields = [(process / "stat").read_text().rpartition(")")[2].split() for process in processes()]
    ticks = sum(int(field[11]) + int(field[12]) for field in fields)
    return ticks / os.sysconf("SC_CLK_TCK")


def peak_megabytes() -> float:
    lines = [line for p in processes() for line in (p / "status").read_text().splitlines()]
    return sum(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def read_with_keras_tl(folder: str) -> Callable[[], Iterator[int]]:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import numpy as np

    from keras_tl.data.decoding import ImageInput
    from keras_tl.data.folders import from_folder
    from keras_tl.data.pipeline import Samples

    samples = Samples(from_folder(folder), ImageInput(size=SIZE))
    dataset = samples.images(np.arange(len(samples))).batch(BATCH).prefetch(2)
    return lambda: (len(batch) for batch in dataset.as_numpy_iterator())


def read_with_torchvision(folder: str) -> Callable[[], Iterator[int]]:
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import Compose, PILToTensor, Resize

    transform = Compose([Resize((SIZE, SIZE), antialias=True), PILToTensor()])
    images = ImageFolder(folder, transform)
    loader = DataLoader(images, BATCH, num_workers=WORKERS, persistent_workers=True)
    return lambda: (len(batch) for batch, _ in loader)


READERS = {"keras_tl": read_with_keras_tl, "torchvision": read_with_torchvision}

if __name__ == "__main__":
    main()
