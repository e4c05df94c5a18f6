import hashlib
import io
import logging
import os
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_tl.data import inspection
from keras_tl.data.arrays import from_arrays
from keras_tl.data.decoding import ImageInput, check, decode
from keras_tl.data.folders import from_folder
from keras_tl.data.inspection import inspect
from keras_tl.data.source import Skipped, Source
from keras_tl.errors import InputError

INPUT = ImageInput(size=16, max_pixels=100_000)


def encoded(kind="JPEG", seed=0, size=(32, 24)):
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def huge_png():
    """A PNG whose header claims 60000 x 60000 pixels; it holds none of them."""
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)

    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    ends = chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + ends


BAD = {
    "empty.jpg": (b"", "empty file"),
    "text.jpg": (b"<html>no image</html>", "not an image (starts with b'<html>no')"),
    "short.jpg": (encoded()[:400], "JPEG that is truncated"),
    "header.jpg": (encoded()[:3], "JPEG that is truncated"),
    "short.png": (encoded("PNG")[:400], "PNG that is truncated"),
    "short.bmp": (encoded("BMP")[:400], "BMP that is truncated"),
    "short.webp": (encoded("WEBP")[:100], "WebP that is truncated"),
    "huge.png": (huge_png(), "3600 megapixels, over the limit of 0.1"),
}


def write(folder, files):
    for name, contents in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(contents)


def good_files(count=4):
    return {f"{c}/{i}.jpg": encoded(seed=10 * ord(c) + i) for c in "ab" for i in range(count)}


def test_all_good(tmp_path):
    files = good_files()
    write(tmp_path, files)
    source = inspect(from_folder(tmp_path), INPUT)
    assert source.ids.tolist() == sorted(files)
    expected = [hashlib.sha256(files[name]).hexdigest() for name in source.ids]
    assert source.hashes.tolist() == expected
    assert source.skipped == ()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "WEBP"])
def test_content_counts_not_the_name(kind):
    source = from_arrays([encoded(kind), encoded()], [0, 1], ids=["misnamed.jpg", "x.jpg"])
    assert len(inspect(source, INPUT)) == 2


def test_bad_files_are_left_out_with_their_reasons(tmp_path, caplog):
    write(tmp_path, good_files() | {f"a/{name}": contents for name, (contents, _) in BAD.items()})
    before = from_folder(tmp_path)
    source = inspect(before, INPUT, max_bad_fraction=0.5)
    assert source.ids.tolist() == sorted(good_files())
    assert source.labels.tolist() == [0] * 4 + [1] * 4
    reasons = {skip.id: skip.reason for skip in source.skipped}
    assert set(reasons) == {f"a/{name}" for name in BAD}
    for name, (_, reason) in BAD.items():
        assert reasons[f"a/{name}"].startswith(reason)
    assert all(skip.bad for skip in source.skipped)
    assert "8 of 16 images are bad" in caplog.text and "and 3 more" in caplog.text


def test_passing_here_is_passing_in_the_pipeline():
    contents = [bad for bad, _ in BAD.values() if bad] + [encoded(kind) for kind in ("PNG", "JPEG")]
    source = from_arrays(contents, [0, 1] * 4 + [0])
    kept = set(inspect(source, INPUT, max_bad_fraction=1.0).ids)
    for name, item in zip(source.ids, contents, strict=True):
        if name in kept:
            assert decode(tf.constant(item), INPUT).shape == (16, 16, 3)
        else:
            with pytest.raises(tf.errors.InvalidArgumentError):
                decode(tf.constant(item), INPUT)
    assert kept == {"7", "8"}


def damaged_jpegs(count=240):
    """JPEGs of several kinds, each cut off or with up to three bits flipped, seeded."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (6, 8, 3)).astype(np.uint8)
    picture = Image.fromarray(pixels).resize((70, 50), Image.Resampling.BICUBIC)
    whole = []
    for options in ({}, {"progressive": True}, {"subsampling": 0, "restart_marker_blocks": 4}):
        for mode in ("RGB", "L"):
            file = io.BytesIO()
            picture.convert(mode).save(file, "JPEG", **options)
            whole.append(file.getvalue())
    for number in range(count):
        contents = bytearray(whole[number % len(whole)])
        if number % 4 == 0:
            yield bytes(contents[: random.integers(2, len(contents))])
            continue
        for _ in range(random.integers(1, 4)):
            contents[random.integers(2, len(contents))] ^= 1 << random.integers(8)
        yield bytes(contents)


def is_good(function, contents):
    try:
        function(tf.constant(contents))
    except tf.errors.InvalidArgumentError:
        return False
    return True


def in_a_graph(function):
    return tf.function(lambda contents: function(contents, INPUT)).get_concrete_function(
        tf.TensorSpec([], tf.string)
    )


def test_damaged_jpegs_are_judged_as_the_pipeline_does():
    as_here, as_there = in_a_graph(check), in_a_graph(decode)
    files = list(damaged_jpegs())
    here = [is_good(as_here, contents) for contents in files]
    there = [is_good(as_there, contents) for contents in files]
    assert here == there
    assert 60 < sum(there) < 180
    # What reads no more than a header would take many of the bad ones.
    by_header = [is_good(tf.io.extract_jpeg_shape, contents) for contents in files]
    assert sum(by_header) > sum(there) + 20


def test_too_many_bad_ones_stop_before_training():
    source = from_arrays([encoded(seed=i) for i in range(9)] + [b""], [0, 1] * 5)
    assert len(inspect(source, INPUT, max_bad_fraction=0.1)) == 9
    with pytest.raises(InputError, match=r"at most 9% bad.*1 of 10: '9' \(empty.*--max-bad-fract"):
        inspect(source, INPUT, max_bad_fraction=0.09)


def test_what_the_source_skipped_counts():
    images = [encoded(seed=i) for i in range(8)]
    skipped = (Skipped("gone", "file not found"), Skipped("notes.txt", "foreign", bad=False))
    whole = from_arrays(images, [0, 1] * 4)
    source = Source(whole.ids, images, whole.labels, whole.class_names, skipped=skipped)
    assert inspect(source, INPUT, max_bad_fraction=0.12).skipped == skipped
    with pytest.raises(InputError, match=r"1 of 9: 'gone' \(file not found\)"):
        inspect(source, INPUT, max_bad_fraction=0.11)


def test_class_without_items_is_refused():
    source = from_arrays([encoded(seed=i) for i in range(9)] + [b"?"], ["x"] * 9 + ["y"])
    with pytest.raises(InputError, match="none in 'y'"):
        inspect(source, INPUT)


def test_nothing_left_is_refused():
    with pytest.raises(InputError, match="2 bad ones"):
        inspect(from_arrays([b"", b"x"], [0, 1]), INPUT, max_bad_fraction=1.0)


def test_unlabelled_items():
    source = Source(np.array(["p", "q"], object), [encoded(), b""], np.zeros(2, np.int64), ())
    assert inspect(source, INPUT, max_bad_fraction=1.0).ids.tolist() == ["p"]


def test_files_that_cannot_be_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "big.jpg").write_bytes(encoded() + bytes(2**20))
    (tmp_path / "good.jpg").write_bytes(encoded())
    names = ["good.jpg", "pipe.jpg", "big.jpg", "gone.jpg", "good.jpg/x"]
    ids = np.array(names, object)
    source = Source(ids, [str(tmp_path / name) for name in names], np.zeros(5, np.int64), ())
    inspected = inspect(source, INPUT, max_bad_fraction=1.0, max_file_bytes=2**20)
    assert inspected.ids.tolist() == ["good.jpg"]
    assert [skip.reason for skip in inspected.skipped] == [
        "not a regular file",
        "file of 1 MiB, too large",
        "file not found",
        "unreadable: Not a directory",
    ]


def test_pixels_are_hashed_with_their_shape():
    flat, tall = np.zeros((2, 8, 1), np.uint8), np.zeros((8, 2, 1), np.uint8)
    source = inspect(from_arrays([flat, tall, flat.copy()], [0, 1, 0]), INPUT)
    assert source.hashes[0] == source.hashes[2] != source.hashes[1]
    large = np.zeros((1000, 101, 1), np.uint8)
    source = inspect(from_arrays([flat, tall, large], [0, 1, 0]), INPUT, max_bad_fraction=0.5)
    assert source.skipped == (Skipped("2", "0.101 megapixels, over the limit of 0.1"),)


def test_long_passes_report_progress(monkeypatch, caplog):
    monkeypatch.setattr(inspection, "SECONDS_BETWEEN_REPORTS", 0.0)
    with caplog.at_level(logging.INFO, "keras_tl"):
        inspect(from_arrays([encoded(), encoded(seed=1)], [0, 1]), INPUT)
    assert "Looked through 2 of 2 images" in caplog.text


def test_faults_of_the_program_are_not_taken_for_bad_files(monkeypatch):
    def broken(self, items):
        raise MemoryError("planted")

    monkeypatch.setattr(inspection._Examiner, "examine_all", broken)
    with pytest.raises(MemoryError, match="planted"):
        inspect(from_arrays([encoded(), encoded()], [0, 1]), INPUT)


@pytest.mark.parametrize("fraction", [-0.1, 1.1, float("nan")])
def test_fraction_is_checked(fraction):
    with pytest.raises(InputError, match="from 0 to 1"):
        inspect(from_arrays([encoded(), encoded()], [0, 1]), INPUT, max_bad_fraction=fraction)
