"""`keras-tl train` on all broken and strange images at once, and on a table of odd texts."""

import csv
import json

import hub_modules
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from robustness.corpus import pictures
from robustness.corpus.case import READ, REFUSED
from robustness.ending import assert_refused, deadline, listing
from robustness.test_odd_files import KINDS, NAMES
from tiny_encoder import write_tiny_bert

from keras_tl import cli
from keras_tl.backbones.load import load_backbone
from keras_tl.runs import Run

LABELS = ("0 good", "broken")
# Without what a training finds out by trying.
QUICK = ("--no-audit", "--engine", "tensorflow", "--feature-dtype", "float32")
# Cells in which there is something to read, and in which there is nothing.
ODD = {
    "a NUL": "a good\0film",
    "a megabyte of words": "good " * 200_000,
    "a word of a megabyte": "x" * 2**20,
    "quotes": "say \"good\" and 'bad'",
    "line ends": "good\nfilm\r\nvery\rbad",
    "lines of another kind": "good\u2028bad\u2029fine\x85",
    "letters from right to left": "\u05d8\u05d5\u05d1 \u202e doog",
    "emoji alone": "\U0001f600\U0001f1e9\U0001f1ea\U0001f469\u200d\U0001f4bb",
    "a letter with 1000 accents": "e" + "\u0301" * 1000,
    "a byte order mark": "\ufeffgood",
    "control characters": "\x1b[31mgood\x07",
    "markup": "<script>alert(1)</script>",
    "a formula": "=1+1",
    "delimiters": "a,b;c\td",
    "no characters": "\uffff\ufffe good",
    "the last character": "\U0010ffff good",
    "NA": "NA",
    "null": "null",
    "a number": "1e999",
    "special tokens": "[CLS] good [SEP] [MASK] [PAD]",
    "backslashes": "\\N \\x00 \\",
    "what is put in": "%s %n {0} {}",
    "no blanks": "\u597d\u7684\u7535\u5f71" * 50,
    "all of Latin": "".join(map(chr, range(1, 256))),
}
BLANK = {"nothing": "", "blanks": "  \t ", "NULs": "\0\0", "no width": "\u200b\ufeff"}
# What JSON has beside.
VALUES = ("\ud800 alone", "\udfff\ud800", 7, 1e400, True, ["a"], {"a": 1})


def name_of(number):
    return f"{number:03}-{pictures.CASES[number].name or 'x.gif'}"


def made(folder, numbers):
    """A class of good images, and one of some cases, odd names and what is no file."""
    for label in LABELS:
        (folder / label).mkdir(parents=True)
    random = np.random.default_rng(0)
    for number in range(60):
        pixels = random.normal((200, 60, 60) if number % 2 else (60, 60, 200), 40, (16, 16, 3))
        image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
        image.save(folder / LABELS[number % 2] / f"good {number}.png")
    for number in numbers:
        (folder / "broken" / name_of(number)).write_bytes(pictures.CASES[number].content)
    for name in NAMES.values():
        (folder / "broken" / name).write_bytes(pictures.WHOLE["png"][1])
    for number, make in enumerate(KINDS.values()):
        make(folder / "broken" / f"odd {number}.png")
    return folder


SOME, ALL = range(0, len(pictures.CASES), 5), range(len(pictures.CASES))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return made(tmp_path_factory.mktemp("photos"), SOME)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.weights.h5"
    load_backbone("TinyNet", weights=None).save_weights(path)
    return path


def trained(capfd, *arguments):
    """Runs a training to its end: the run."""
    out = arguments[arguments.index("--out") + 1]
    with deadline(240):
        assert cli.main([str(argument) for argument in arguments]) == 0
    assert "Traceback" not in capfd.readouterr().err
    return Run(out)


def options(weights, out):
    size = ["--backbone", "TinyNet", "--weights", weights, "--epochs", 1, "--fine-tune", "none"]
    return [*size, "--out", out, "--max-bad-fraction", 0.9]


def check_images(run, photos, numbers):
    """What is left out is listed with its reason, and all else is in a split."""
    reasons = {skipped["id"]: skipped["reason"] for skipped in run.metrics["skipped"]}
    for number in numbers:
        case, reason = pictures.CASES[number], reasons.get(f"broken/{name_of(number)}", "")
        assert not (reason and case.ends == READ) and (reason or case.ends != REFUSED), case.id
        assert case.said in reason and "\n" not in reason
    for number, label in enumerate(KINDS):
        assert f"broken/odd {number}.png" in reasons or label == "a folder"
    with run.path(Run.SPLITS).open(encoding="utf-8", newline="") as file:
        used = [row["id"] for row in csv.DictReader(file)]
    assert len(set(used)) == len(used) and not set(used) & set(reasons)
    files = {path.relative_to(photos).as_posix() for path in photos.glob("*/*")}
    folders = {f"broken/odd {number}.png" for number, label in enumerate(KINDS) if "fold" in label}
    assert set(used) | set(reasons) == files - folders
    assert {f"broken/{name}" for name in NAMES.values()} <= set(used)
    measured = pd.read_csv(run.path(Run.PREDICTIONS))["id"]
    assert set(measured) <= set(used) and len(measured) == run.metrics["images"]["test"]


# Before `small_decoder` is asked for, which stays for the module.
@pytest.mark.slow
def test_all_of_them_train_with_all_that_a_training_does(weights, tmp_path, capfd):
    """The audit, an engine of the machine's choice, the export's own decoder, and prediction."""
    photos = made(tmp_path / "photos", ALL)
    run = trained(capfd, "train", photos, *options(weights, tmp_path / "run"))
    check_images(run, photos, ALL)
    found = json.loads(run.path(Run.AUDIT).read_text())
    assert found["findings"]
    with deadline(240):
        predicted = tmp_path / "predicted.csv"
        assert cli.main(["predict", str(run.folder), str(photos), "--out", str(predicted)]) == 0
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.slow
def test_images_train_whatever_lies_beside_them(photos, weights, tmp_path, capfd, small_decoder):
    before = listing(photos)
    run = trained(capfd, "train", photos, *options(weights, tmp_path / "run"), *QUICK)
    check_images(run, photos, SOME)
    assert listing(photos) == before
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_class_of_broken_images_ends_a_training_in_one_line(photos, weights, tmp_path, capsys):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / LABELS[0]).symlink_to(photos / LABELS[0])
    (tmp_path / "data" / "bad").mkdir()
    (tmp_path / "data" / "bad" / "x.png").write_bytes(b"bad")
    given = options(weights, tmp_path / "run")
    assert_refused(capsys, "train", tmp_path / "data", *given, said="bad")
    assert not (tmp_path / "run").exists()


def test_too_many_bad_images_end_a_training_in_one_line(photos, weights, tmp_path, capsys):
    given = [*options(weights, tmp_path / "run")[:-1], 0.1]
    assert_refused(capsys, "train", photos, *given, said="at most 10% bad images")
    assert not any(tmp_path.iterdir())


# Texts


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return write_tiny_bert(tmp_path_factory.mktemp("encoder") / "bert")


def rows(*more):
    """Rows of good texts, then of odd ones, then of others."""
    words = (("good", "great", "fine"), ("bad", "poor", "awful"))
    good = [f"the film was {words[n % 2][n % 3]}, {n}" for n in range(60)]
    return [(text, "xy"[i % 2]) for i, text in enumerate([*good, *ODD.values(), *more])]


def text_options(backbone, out):
    read = ["--text-column", "text", "--backbone", backbone, "--max-tokens", 16]
    return [*read, "--out", out, "--epochs", 1, "--fine-tune", "none"]


def check_texts(run, table, read):
    """All but blank texts are in a split, by the line in which they begin."""
    skipped = {skipped["id"] for skipped in run.metrics["skipped"]}
    used = pd.read_csv(run.path(Run.SPLITS))["id"]
    assert len(used) == read and used.is_unique and not skipped & set(used)
    assert len(skipped) == len(BLANK)
    assert sum(run.metrics["images"].values()) == read
    assert run.path(Run.REPORT).stat().st_size < 10**6
    assert [path.name for path in table.parent.iterdir()] == [table.name]


@pytest.mark.slow
def test_texts_train_whatever_is_in_their_cells(tmp_path, capfd):
    (tmp_path / "data").mkdir()
    module = hub_modules.publish(hub_modules.TextModule(tmp_path), tmp_path / "module")
    table = tmp_path / "data" / "texts.csv"
    with table.open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows(*BLANK.values())])
    run = trained(capfd, "train", table, *text_options(f"hub:{module}", tmp_path / "run"), *QUICK)
    check_texts(run, table, 60 + len(ODD))


@pytest.mark.slow
def test_values_of_json_train_with_all_that_a_training_does(encoder, tmp_path, capfd):
    (tmp_path / "data").mkdir()
    table = tmp_path / "data" / "texts.jsonl"
    lines = [{"text": text, "label": label} for text, label in rows(*VALUES, *BLANK.values())]
    table.write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = trained(capfd, "train", table, *text_options(encoder, tmp_path / "run"))
    check_texts(run, table, 60 + len(ODD) + len(VALUES))
    # Blank texts are passed over, which is told by the exit code.
    with deadline(120):
        assert cli.main(["predict", str(run.folder), str(table), "--format", "json"]) == 2
    said = capfd.readouterr()
    assert len(json.loads(said.out)) == 60 + len(ODD) + len(VALUES) and "Traceback" not in said.err


def test_half_a_character_in_a_csv_is_one_line(encoder, tmp_path, capsys):
    table = tmp_path / "texts.csv"
    table.write_bytes(b"text,label\ngood \xed\xa0\x80,x\nbad,y\n")
    given = text_options(encoder, tmp_path / "run")
    assert_refused(capsys, "train", table, *given, said="(line 2)")
    assert not (tmp_path / "run").exists()
