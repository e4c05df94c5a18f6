"""The same run in one process and in two, each of them on a core of its own.

    python benchmarks/processes.py --images 2000
    python benchmarks/processes.py --images 1200 --image-size 160 --batch-size 128

Made JPEGs of 256 px; EfficientNetLite0: a pass over all images, then the last four blocks are
fine-tuned on what it stored. "one" is one process, on core 0; "two" are the two processes of one
run (`--strategy multiworker`, over loopback), on core 0 and on core 1. The store is empty each
time, and the pass runs in TensorFlow, since the conversion for another engine would be counted. The
pass is timed as a whole, tracing included; of the fine-tuning the first epoch, in which TensorFlow
traces, is left out, and the median of the others counts. `--rounds` times, in turn; the best of
each counts.

Two cores seldom do twice what one does, even for programs that know nothing of each other: they
share caches, memory and heat, at times one core is a hyperthread of the other, or there are other
guests. So "two at once" is measured too: "one" on core 0 and again on core 1, at the same time, in
folders of their own; their figures are added up. No two processes of a run can be faster than that
ceiling, but for noise.

Exit code 1 where two are less than 1.7 times as fast as one.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
from photographs import make_folder

SETTINGS = {
    "augment": "none",
    "engine": "tensorflow",
    "epochs": 1,
    "fine-tune-epochs": 4,
    "test-fraction": 0.02,
    "val-fraction": 0.05,
}
WANTED = 1.7
ONE, TWO, CEILING = WAYS = ("one", "two", "two at once")


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def start(
    core: int, data: Path, folder: Path, settings: dict[str, object], place: list[str]
) -> subprocess.Popen[bytes]:
    """Starts a process of a run, on one core."""
    command = [sys.executable, "-m", "keras_tl", "train", str(data), "--out", str(folder / "run")]
    command += [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    environment = os.environ | {"KERAS_TL_CACHE": str(folder / "cache"), "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen(
        ["taskset", "-c", str(core), *command, "--no-audit", *place],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=None if core == 0 else subprocess.DEVNULL,
    )


def figures(run: Path) -> dict[str, float]:
    """Images a second of the pass and of fine-tuning."""
    metrics = json.loads((run / "metrics.json").read_text())
    head, _ = metrics["phases"]
    history = pd.read_csv(run / "history.csv")
    seconds = history.loc[history["phase"] == "fine-tuning", "seconds"].iloc[1:].median()
    return {
        "pass": head["images_through_frozen_prefix"] / head["seconds"]["passes"],
        "fine-tuning": float(metrics["images"]["train"] / seconds),
    }


def run(data: Path, folder: Path, way: str, settings: dict[str, object]) -> dict[str, float]:
    """Figures of one of the ways; of several runs their sum."""
    cores = range(1 if way == ONE else 2)
    folders = [folder / str(core if way == CEILING else 0) for core in cores]
    places: list[list[str]] = [["--strategy", "cpu"] for _ in cores]
    if way == TWO:
        workers = ",".join(f"127.0.0.1:{port}" for port in free_ports(2))
        several = ["--strategy", "multiworker", "--workers", workers, "--worker-index"]
        places = [[*several, str(core)] for core in cores]
    started = [start(core, data, folders[core], settings, places[core]) for core in cores]
    if any([process.wait() for process in started]):
        raise SystemExit("a process failed")
    found = [figures(own / "run") for own in dict.fromkeys(folders)]
    return {what: sum(each[what] for each in found) for what in found[0]}


def main() -> int:
    """Prints the figures of each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--fine-tune", default="4", help="blocks, or all")
    options = parser.parse_args()
    asked = ("image_size", "batch_size", "fine_tune")
    settings = SETTINGS | {name.replace("_", "-"): getattr(options, name) for name in asked}
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as name:
        data = make_folder(Path(name) / "data", options.images)
        for number in range(options.rounds):
            for way, rows in found.items():
                rows.append(run(data, Path(name) / f"{way} {number}", way, settings))
                print(
                    f"{way}:",
                    *(f"{name} {value:.1f}" for name, value in rows[-1].items()),
                    flush=True,
                )
    ratios = []
    for what in ("pass", "fine-tuning"):
        one, two, ceiling = (max(row[what] for row in found[way]) for way in WAYS)
        ratios.append(two / one)
        print(
            f"{what}: one {one:.1f} images/s, two {two:.1f}: {two / one:.2f} times; "
            f"two at once {ceiling / one:.2f} times, of which two are {two / ceiling:.0%}"
        )
    return int(min(ratios) < WANTED)


if __name__ == "__main__":
    sys.exit(main())
