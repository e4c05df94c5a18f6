"""Every fenced block of README.md and docs/ is run, page by page, as its reader would."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pages
import pytest
from PIL import Image

from keras_tl import cli
from keras_tl.backbones import applications, registry

ROOT = Path(__file__).parents[2]
PAGES = {
    path.relative_to(ROOT).as_posix(): path
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
}
# The first pages of a new reader; the others are slow tests.
FIRST = ("docs/index.md", "docs/start/install.md")
# Runs that a page has trained, by the arguments; the next one that asks for the same gets a copy.
TRAINED: dict[tuple[str, ...], Path] = {}


def run_command(arguments):
    """The command line's exit code, also where it stops at a wrong option."""
    key = tuple(arguments)
    trains = key[:2] == ("train", "photos") and "--out" in key
    out = Path(key[key.index("--out") + 1]) if trains else Path()
    if key in TRAINED:
        shutil.copytree(TRAINED[key], out)
        return 0
    try:
        code = cli.main(arguments)
    except SystemExit as stopped:
        return stopped.code
    if trains and code == 0:
        TRAINED[key] = out.absolute()
    return code


def photograph(random, hue):
    """A grainy picture with a soft blob of one colour."""
    y, x = np.mgrid[0:200, 0:260] / 200
    middle = random.uniform(0.3, 0.7, 2)
    blob = np.exp(-((y - middle[0]) ** 2 + (x - middle[1]) ** 2) / random.uniform(0.02, 0.08))
    grain = random.normal(0, 12, (200, 260, 3))
    pixels = 110 + 40 * x[..., None] + grain + blob[..., None] * (np.array(hue) - 110)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def stories(count):
    """A table of so many stories, true and fake by turns."""
    yield "title,text,label\n"
    for i in range(count):
        if i % 2:
            yield f"Miracle {i},You will not believe what happened next to doctor {i}!,fake\n"
        else:
            yield f"Council meets,The council approved item {i} of its budget on Monday.,true\n"


@pytest.fixture
def readers_folder(tmp_path, monkeypatch):
    """What the pages say a reader has: photographs, and some to predict; tables of stories."""
    random = np.random.default_rng(0)
    hues = {"cat": (230, 150, 60), "dog": (60, 110, 220)}
    for folder, each in (("photos", 14), ("more-labelled-photos", 3)):
        for name, hue in hues.items():
            (tmp_path / folder / name).mkdir(parents=True)
            for index in range(each):
                path = tmp_path / folder / name / f"{name}-{index:02}.jpg"
                photograph(random, hue).save(path, quality=92)
    (tmp_path / "new-photos").mkdir()
    for index, hue in enumerate(hues.values()):
        photograph(random, hue).save(tmp_path / "new-photos" / f"{index}.jpg")
    photograph(random, hues["dog"]).save(tmp_path / "photo.jpg")
    for name, count in (("news.csv", 40), ("stories.csv", 4)):
        (tmp_path / name).write_text("".join(stories(count)), encoding="utf-8")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def no_downloads(monkeypatch):
    """The ImageNet weights that Keras would download are random ones here."""
    for row in applications.ROWS:

        def factory(*, weights, row=row, **options):
            return row.factory(weights=None, **options)

        monkeypatch.setitem(registry._SPECS, row.name, dataclasses.replace(row, factory=factory))
    known = set(registry._SPECS)
    yield
    # A page may have registered a backbone of its own.
    for name in set(registry._SPECS) - known:
        del registry._SPECS[name]


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[] if n.startswith(FIRST) else [pytest.mark.slow]) for n in PAGES],
)
def test_every_block_of_a_page_runs(name, readers_folder, no_downloads):
    pages.run_page(PAGES[name].read_text(encoding="utf-8"), name, run_command)


def test_nothing_is_excepted_that_is_not_there():
    texts = [path.read_text(encoding="utf-8") for path in PAGES.values()]
    code = [block.code for text in texts for block in pages.blocks(text)]
    for start in pages.NOT_RUN:
        assert any(start in each for each in code), f"no page has {start!r} any more"


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ("```python\nimport keras_tl as ktl\nktl.Phase(ktl.freezing.Al(), 1, 1e-3)\n```", "Al"),
        ("```sh\nkeras-tl backbones\nkeras-tl backbones mobilnet\n```", "exit code 2, not 0"),
        ("```sh\nkeras-tl backbones --pattern x\n```", "exit code 2, not 0"),
        ("```sh\nkeras-tl backbones   # exit code 3\n```", "exit code 0, not 3"),
        ("```sh\nrm photo.jpg\n```", "neither run nor named"),
        ("```\nkeras-tl backbones\n```", "language ''"),
        ("1. In a list:\n\n    ```python\n    wrong()\n    ```", "wrong"),
    ],
)
def test_a_planted_fault_is_found(block, said, readers_folder):
    page = f"# Title\n\n```python\nanswer = 42\n```\n\n{block}\n"
    with pytest.raises((pages.PageError, AttributeError, NameError), match=said):
        pages.run_page(page, "planted.md", run_command)


def test_blocks_share_a_namespace_and_lines_are_the_pages():
    page = "```python\nanswer = 42\n```\n\ntext\n\n```python\nassert answer == 42\n1 / 0\n```\n"
    with pytest.raises(ZeroDivisionError) as stopped:
        pages.run_page(page, "shared.md", run_command)
    assert stopped.traceback[-1].lineno + 1 == 9
