"""The same run in one process and in two, each of them on a core of its own.

    python benchmarks/processes.py --images 2000
    python benchmarks/processes.py --images 1200 --image-size 160 --batch-size 128

Made JPEGs of 256 px; EfficientNetLite0: a pass over all images, then the last four blocks are
fine-tuned on what it stored. One process has core 0; of two (`--strategy multiworker`, over
loopback) one has core 0 and one core 1. The store is empty each time, and the pass runs in
TensorFlow, since the conversion for another engine would be counted. The pass is timed as a whole,
tracing included; of the fine-tuning the first epoch, in which TensorFlow traces, is left out, and
the median of the others counts. `--rounds` times, in turn; the best counts.

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


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def run(data: Path, folder: Path, processes: int, settings: dict[str, object]) -> dict[str, float]:
    """Images a second of the pass and of fine-tuning."""
    workers = ",".join(f"127.0.0.1:{port}" for port in free_ports(processes))
    command = [sys.executable, "-m", "keras_tl", "train", str(data), "--out", str(folder / "run")]
    command += [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    command.append("--no-audit")
    several = ["--strategy", "multiworker", "--workers", workers, "--worker-index"]
    environment = os.environ | {"KERAS_TL_CACHE": str(folder / "cache"), "CUDA_VISIBLE_DEVICES": ""}
    started = [
        subprocess.Popen(
            ["taskset", "-c", str(index), *command]
            + ([*several, str(index)] if processes > 1 else []),
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=None if index == 0 else subprocess.DEVNULL,
        )
        for index in range(processes)
    ]
    if any([process.wait() for process in started]):
        raise SystemExit("a process failed")
    metrics = json.loads((folder / "run" / "metrics.json").read_text())
    head, _ = metrics["phases"]
    history = pd.read_csv(folder / "run" / "history.csv")
    seconds = history.loc[history["phase"] == "fine-tuning", "seconds"].iloc[1:].median()
    computed = head["images_through_frozen_prefix"]
    return {
        "pass": computed / head["seconds"]["passes"],
        "fine-tuning": metrics["images"]["train"] / seconds,
    }


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
    found: dict[int, list[dict[str, float]]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as name:
        data = make_folder(Path(name) / "data", options.images)
        for number in range(options.rounds):
            for processes, rows in found.items():
                folder = Path(name) / f"{processes}-{number}"
                folder.mkdir()
                rows.append(run(data, folder, processes, settings))
                print(processes, rows[-1], flush=True)
    ratios = []
    for what in ("pass", "fine-tuning"):
        one, two = (max(row[what] for row in found[n]) for n in (1, 2))
        ratios.append(two / one)
        print(f"{what}: {one:.1f} and {two:.1f} images/s, {two / one:.2f} times")
    return int(min(ratios) < WANTED)


if __name__ == "__main__":
    sys.exit(main())
