"""The store's remote copy in a bucket: TensorFlow's own gs://, and a server on loopback for it."""

import re

import numpy as np
import pytest
from bucket_server import can_be_served, serving
from PIL import Image
from processes import told_by

from keras_tl.backbones.load import load_backbone

ITEMS = 31
# Runs images through a frozen prefix; notes their rows, and how many images were computed.
PASSING = f"""
import json
import logging
import keras
import numpy as np
from keras_tl import freezing, frozen_prefix
from keras_tl.builders.image import build_image_model
from keras_tl.data.arrays import from_arrays
from keras_tl.data.image_input import ImageInput
from keras_tl.data.pipeline import Samples
from keras_tl.exit_codes import exit_code_of
from keras_tl.feature_cache import FeatureStore
from keras_tl.training.passes import PrefixPass
logging.basicConfig()
keras.utils.set_random_seed(1)
model = build_image_model("TinyNet", outputs=2, weights=None)
freezing.All().apply(model)
store = FeatureStore("store", dtype="float32")
running = PrefixPass(frozen_prefix.split(model).prefix, store, engine="tensorflow", verbose=0)
images = np.random.default_rng(0).integers(0, 255, ({ITEMS}, 16, 16, 3)).astype("uint8")
labels = np.arange({ITEMS}) % 2

def run(parts):
    for part in np.array_split(np.arange({ITEMS}), parts):
        running.features(Samples(from_arrays(images[part], labels[part]), ImageInput(size=16)))
    found = running.features(Samples(from_arrays(images, labels), ImageInput(size=16)))
    np.savez("rows.npz", *found.gather(np.arange({ITEMS})))
    print(json.dumps(sum(each.computed for each in running.passes)))

sys.exit(exit_code_of(lambda: run(int(sys.argv[1])), "passing"))
"""
TRAIN = """
from keras_tl import cli
from keras_tl.training.passes import PrefixPass

def computes(*_):
    raise AssertionError("the prefix computes")

PrefixPass._compute = computes
sys.exit(cli.main(["train", *sys.argv[1:]]))
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not can_be_served(), reason="no openssl, which makes the certificate"),
]


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """An empty bucket, which the processes of this test keep their features in."""
    with serving(tmp_path) as bucket:
        for name, value in bucket.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("KERAS_TL_CACHE_REMOTE", "gs://bucket/store")
        yield bucket


def passing(folder, parts=1):
    """Runs `PASSING` with an empty store: how many images it computed, and what it warned of."""
    [(computed, log)] = told_by(PASSING, [parts], folder, 1)
    return int(computed), [line for line in log.splitlines() if ":keras_tl:" in line]


def rows(folder):
    """The rows that a process read, float32."""
    with np.load(folder / "0" / "rows.npz") as file:
        [found] = file.values()
    assert found.dtype == np.float32 and len(found) == ITEMS and found.std() > 0
    return found


def stored(folder):
    """Content of the files of a process's own store that the bucket is to have, by their names."""
    root = folder / "0" / "store"
    paths = [path for path in root.rglob("*") if path.suffix in (".bin", ".json")]
    return {f"store/features/{path.relative_to(root)}": path.read_bytes() for path in paths}


def test_another_process_reads_to_the_bit_what_the_first_one_computed(bucket, tmp_path):
    """Also where neither may know what the bucket itself is, as with a role for objects alone."""
    bucket.refused = {"bucket"}
    assert passing(tmp_path / "first", parts=3) == (ITEMS, [])
    sent = dict(bucket.objects)
    assert len(sent) == 6 and sent == stored(tmp_path / "first")
    assert passing(tmp_path / "second") == (0, [])
    assert rows(tmp_path / "second").tobytes() == rows(tmp_path / "first").tobytes()
    assert bucket.objects == sent == stored(tmp_path / "second")


def test_what_is_damaged_or_lacks_in_the_bucket_is_named_and_computed_again(bucket, tmp_path):
    passing(tmp_path / "first", parts=3)
    damaged, lacking, _ = (name for name in sorted(bucket.objects) if name.endswith(".0.bin"))
    whole = bucket.objects[damaged]
    bucket.objects[damaged] = whole[:-1] + bytes([whole[-1] ^ 1])
    del bucket.objects[lacking]
    computed, lines = passing(tmp_path / "second")
    assert computed in (20, 21) and len(lines) == 2
    folder, _, file = lacking.rpartition("/")
    shard = f"A damaged shard at gs://bucket/{folder}, {file.removesuffix('.0.bin')}, is not used"
    assert sum(shard in line for line in lines) == 1
    again = f"is computed again: {damaged.rpartition('/')[2]} has another checksum"
    assert sum(again in line for line in lines) == 1
    # Another size of batch may round otherwise, so not to the bit.
    np.testing.assert_allclose(rows(tmp_path / "second"), rows(tmp_path / "first"), atol=1e-6)
    # What was computed again was sent, under another name.
    assert passing(tmp_path / "third")[0] == 0


def test_what_was_cut_short_is_removed_a_day_later(bucket, tmp_path):
    passing(tmp_path / "first")
    folder = next(iter(bucket.objects)).rpartition("/")[0]
    old, new = (f"{folder}/{name}.0.bin.0123.aside" for name in ("old", "new"))
    bucket.objects |= {old: b"half", new: b"half"}
    bucket.ages |= {old: 1.1, new: 0.9}
    assert passing(tmp_path / "second") == (0, [])
    assert old not in bucket.objects and new in bucket.objects


def test_a_bucket_that_cannot_be_listed_any_more_is_told(bucket, tmp_path):
    bucket.refused_after["list"] = 1  # what sees whether the bucket can be used
    computed, [line] = passing(tmp_path / "run")
    assert computed == ITEMS and line.endswith("This run goes on without it.") and "403" in line


@pytest.mark.parametrize("refused", ["write", "list"])
def test_what_is_refused_is_one_line_before_anything_is_computed(
    refused, bucket, three_colors, tmp_path
):
    for index, (image, label) in enumerate(zip(*three_colors, strict=True)):
        path = tmp_path / "photos" / "abc"[label] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    bucket.refused = {refused}
    weights = tmp_path / "tiny.weights.h5"
    load_backbone("TinyNet", weights=None).save_weights(weights)
    options = [tmp_path / "photos", "--backbone", "TinyNet", "--weights", weights, "--no-audit"]
    options += ["--epochs", "2", "--fine-tune", "none", "--out", "run"]
    [(_, said)] = told_by(TRAIN, options, tmp_path / "train", 1, code=2)
    [line] = [line for line in said.splitlines() if "KERAS_TL_CACHE_REMOTE" in line]
    assert "to be a folder that can be read and written" in line and "Traceback" not in said
    assert re.search(r"received gs://bucket/store/features \(.*403", line) and not bucket.objects
