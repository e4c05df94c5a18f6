"""Small files that would unpack to more than there is: how much memory a process takes for each."""

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from robustness.corpus import archives, models, pictures

from keras_tl.backbones.hub_archives import ALWAYS_ALLOWED, MOST_MEMBERS, unpack
from keras_tl.errors import InputError

TESTS = str(Path(__file__).parents[1])
# What a process may take beyond what it has when it begins, in MB.
MOST = 200
SECONDS = 5.0
MEASURE = f"""
import json, sys, time
from pathlib import Path
import keras
sys.path.insert(0, {TESTS!r})
from robustness.corpus import pictures
from robustness import test_bombs as here
from keras_tl.data.image_input import ImageInput
from keras_tl.data.inspection import _examiner
from keras_tl.backbones.hub import load_hub_backbone
from keras_tl.backbones.keras_archives import load_model
from keras_tl.backbones.weight_files import load_weights
from keras_tl.config_files import read_config
from keras_tl.errors import InputError
examiner = _examiner(ImageInput(size=16))
for _, content in pictures.WHOLE.values():
    examiner._examine_contents(content)

def peak(again=False):
    if again:
        open("/proc/self/clear_refs", "w").write("5")  # from here on
    status = open("/proc/self/status").read()
    return int(status.split("VmHWM:")[1].split()[0]) / 1000

def refused(read, path):
    try:
        read(path)
    except InputError as error:
        return str(error)

model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3, use_bias=False)])
readers = {{
    "settings": read_config,
    "module": load_hub_backbone,
    "model.keras": lambda path: load_model(Path(path)),
    "x.weights.h5": lambda path: load_weights(model, path),
}}
found = {{}}
for name, (kind, path) in json.loads(sys.argv[1]).items():
    before, started = peak(again=True), time.perf_counter()
    if kind in readers:
        reason = refused(readers[kind], path)
    else:
        reason = examiner._examine_contents(open(path, "rb").read()).reason
    found[name] = (reason, peak() - before, time.perf_counter() - started)
print(json.dumps(found))
"""


def bombs():
    """Name, kind and content, and whether it is refused."""
    for name, content in pictures.BOMBS.items():
        yield name, "image", content, True
    frame = pictures.gif_frame(30_000, 30_000)
    yield "gif of 4x4 with a frame of 900 megapixels", "image", pictures.gif((4, 4), frame), True
    frame = pictures.gif_frame(2000, 2000)
    many = pictures.gif((2000, 2000), *[frame] * 1000)
    yield "gif of 1000 frames of 4 megapixels", "image", many, False
    scans = pictures.jpeg_of_scans(9000, 9000, 2000)
    yield "jpeg of 81 megapixels in 2000 scans", "image", scans, True
    laughs = "".join(
        f"l{n}: &l{n} [{', '.join([f'*l{n - 1}' if n else 'ha'] * 9)}]\n" for n in range(10)
    )
    yield "settings of a billion laughs", "settings", laughs.encode(), True
    yield "settings of 20,000 lists", "settings", b"a: " + b"[" * 20_000, True
    for name, content in archives.BOMBS.items():
        yield name, "module", content, True
    for name, content in models.LARGE.items():
        yield name, "model.keras", content, True
    yield "model of two small layers", "model.keras", models.SMALL, False
    zeros = {"config.json": b"{}", "model.weights.h5": bytes(2**26)}
    packed = models.archive(zeros, models.zipfile.ZIP_DEFLATED)
    yield "model of 64 MB of zeros, packed", "model.keras", packed, True
    twice = models.linked_twice(40)
    yield "weights in groups that hold the next one twice", "x.weights.h5", twice, True
    often = models.named_often(1000)
    yield "weights of a layer of 1,000 names", "x.weights.h5", often, True


BOMBS = list(bombs())


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What became of each, in one process."""
    folder = tmp_path_factory.mktemp("bombs")
    (folder / "scratch").mkdir()
    files = {}
    for number, (name, kind, content, _) in enumerate(BOMBS):
        path = folder / str(number) / kind
        path.parent.mkdir()
        path.write_bytes(content)
        files[name] = (kind, str(path))
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, json.dumps(files)],
        capture_output=True,
        text=True,
        timeout=180,
        env=os.environ | {"TMPDIR": str(folder / "scratch")},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert not any((folder / "scratch").iterdir())
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(("name", "is_refused"), [(name, bad) for name, _, _, bad in BOMBS])
def test_a_bomb_takes_little_memory_and_time(name, is_refused, found):
    reason, megabytes, seconds = found[name]
    assert bool(reason) == is_refused, reason
    assert megabytes < MOST, f"{megabytes:.0f} MB"
    assert seconds < SECONDS, f"{seconds:.1f} s"


@pytest.mark.parametrize("name", archives.BOMBS)
def test_an_archive_that_expands_fills_no_disk(name, tmp_path):
    (tmp_path / "x.tar.gz").write_bytes(archives.BOMBS[name])
    folder = tmp_path / "unpacked"
    folder.mkdir()
    # One is small enough to be unpacked; its graph is what is refused.
    with suppress(InputError):
        unpack(tmp_path / "x.tar.gz", folder)
    found = [path.lstat() for path in folder.rglob("*")]
    assert sum(about.st_size for about in found) <= ALWAYS_ALLOWED and len(found) <= MOST_MEMBERS
