"""Peak anonymous memory and time of a job at 1, 4 and 16 times as many images.

    python benchmarks/memory.py --images 500

Each size is a job in a process of its own: JPEGs of 64 px are inspected, pass through the frozen
part of EfficientNetLite0 at 64 px, and a head is trained on what was stored, for five epochs. The
anonymous memory (RssAnon, what cannot be read again from a file; memory-mapped features are not
in it) is looked at 50 times a second. The engine is converted before, in a run not counted,
and all sizes use it.

Exit code 1 where the peak grows by more than 10 %, or the seconds an image do from 4 to 16 times
(what happens once in a process is in them, so they fall).
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from photographs import CLASSES, make_folder

SIZE, BATCH, EPOCHS = 64, 32, 5
TIMES = (1, 4, 16)
LIMIT = 1.1


@dataclass
class Job:
    """What one size took: peak bytes, seconds of the pass and the training, images, steps."""

    peak: int
    passes: float
    training: float
    images: int
    steps: int


def job(folder: str, store: str) -> dict[str, float]:
    """Runs in the process that is looked at."""
    import keras_tl as ktl
    from keras_tl.engines import selection

    # So few small images would else run in TensorFlow, and the many in the engine.
    selection.WORTH_CONVERTING_SECONDS = 0.0
    data = ktl.prepare(folder, image_size=SIZE, augment="none", val_fraction=0.2, test_fraction=0.0)
    model = ktl.build_image_model(
        "EfficientNetLite0", outputs=CLASSES, weights=None, image_size=SIZE
    )
    result = ktl.run_phases(
        model,
        [ktl.Phase(ktl.freezing.All(), EPOCHS, 1e-3)],
        data.train,
        data.val,
        batch_size=BATCH,
        feature_store=ktl.FeatureStore(store, dtype="float16"),
        verbose=0,
    )
    return {
        **result.phases[0].seconds,
        "images": sum(done.computed for done in result.phases[0].passes),
        "steps": EPOCHS * (len(data.train) // BATCH),
    }


def watched(folder: Path, store: Path) -> Job:
    """Runs `job` in another process and looks at its memory."""
    command = [sys.executable, __file__, "--run", str(folder), str(store)]
    peak = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            peak = max(peak, anonymous(process.pid))
            time.sleep(0.02)
        assert process.stdout
        facts = json.loads(process.stdout.read().splitlines()[-1])
    return Job(peak, **facts)


def anonymous(pid: int) -> int:
    """Bytes of a process's anonymous memory now; 0 when it has ended."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return 1024 * int(line.split()[1])
    return 0


def main() -> None:
    """Runs the three sizes and prints a row for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=500, help="at 1 time (%(default)s)")
    parser.add_argument("--run", nargs=2, metavar=("FOLDER", "STORE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        print(json.dumps(job(*options.run)))
        return
    print("| images | peak MB | / first | pass ms/image | head ms/step |\n" + "| --- " * 5 + "|")
    jobs: list[Job] = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        watched(make_folder(root / "first", 400, (63, SIZE)), root / "store")
        for index, times in enumerate(TIMES):
            # Another height gives other files, so that no size finds its images in the store.
            photos = make_folder(root / str(times), times * options.images, (SIZE + index, SIZE))
            done = watched(photos, root / "store")
            jobs.append(done)
            print(
                f"| {done.images} | {done.peak / 1e6:.0f} | {done.peak / jobs[0].peak:.2f}"
                f" | {1e3 * done.passes / done.images:.2f}"
                f" | {1e3 * done.training / done.steps:.2f} |",
                flush=True,
            )
    slower = (jobs[2].passes / jobs[2].images) / (jobs[1].passes / jobs[1].images)
    print(f"seconds an image of the pass, {TIMES[2]} times / {TIMES[1]} times: {slower:.2f}")
    if max(done.peak for done in jobs) > LIMIT * jobs[0].peak or slower > LIMIT:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
