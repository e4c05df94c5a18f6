"""The pages in a real browser: nothing overflows, nothing fails, every image loads."""

import html
import json
import re
import shutil
import subprocess

import pytest
from run_folders import make_run, make_text_run

from keras_tl.reporting.comparison import write_comparison
from keras_tl.reporting.page import write_report

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# Appended to a copy of a page: says what it measured to the page around it.
PROBE = r"""<script>
addEventListener("load", () => {
  const page = document.documentElement;
  document.querySelectorAll("details").forEach((each) => each.setAttribute("open", ""));
  const broken = [...document.images].filter((image) => !image.naturalWidth).length;
  const wide = [...document.querySelectorAll("section, p, svg, figure")].filter(
    (each) => each.getBoundingClientRect().right > page.clientWidth + 1).length;
  const cut = [...document.querySelectorAll(".scroll")].filter(
    (each) => each.scrollWidth > each.clientWidth + 1).map(
    (each) => each.innerText.slice(0, 40).replace(/[;,\s]+/g, " ")).join("/");
  parent.postMessage({width: page.clientWidth, scroll: page.scrollWidth, broken, wide, cut,
    images: document.images.length, errors: window.failures}, "*");
});
</script>"""
WATCH = """<script>window.failures = [];
addEventListener("error", (event) => window.failures.push(String(event.message)), true);
</script>"""
# A window cannot be as narrow as a phone, a frame can.
FRAME = """<!doctype html><body style="margin:0"><pre id="found"></pre>
<iframe src="{name}" style="border:0;width:{width}px;height:900px"></iframe>
<script>addEventListener("message", (event) => {{
  document.getElementById("found").textContent = Object.entries(event.data).join(";");
}});</script>"""


@pytest.fixture(scope="module")
def browser():
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.fail(f"A browser is needed: one of {', '.join(BROWSERS)} (apt-get install chromium)")
    return found


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    long_name = "a_class_name_without_a_single_blank_" * 5
    tasks = {
        "single-label": ("cat", "<b>dog</b>", long_name),
        "multi-label": tuple(f"label {i}" for i in range(18)),
        "regression": ("depth", long_name),
    }
    runs = {
        task: make_run(folder / task, task=task, names=names, noise=2.0)
        for task, names in tasks.items()
    }
    export(runs["single-label"])
    found = {task: write_report(made.run) for task, made in runs.items()}
    texts = make_text_run(folder / "texts", names=("ham", "<b>spam</b>"), pair=True, noise=2.0)
    found["texts"] = write_report(texts.run, source=texts.source)
    other = make_run(folder / "other", names=tasks["single-label"], seed=3)
    both = [runs["single-label"].run, other.run]
    found["comparison"] = write_comparison(both, folder / "comparison.html")
    return found


def export(made):
    """What an export of eight bits leaves, whose comparison has the most to say."""
    facts = {
        "format": "litert",
        "precision": "int8",
        "bytes": 4_000_000,
        "milliseconds": {"one_thread": 8.25, "all_cores": 4.5, "cores": 2},
        "compared": {"images": 500, "agreement": 0.98, "accuracy": 0.91, "keras_accuracy": 0.92},
    }
    folder = made.run.folder / "litert-int8"
    folder.mkdir()
    (folder / "export.json").write_text(json.dumps(facts), encoding="utf-8")
    made.info.write(folder)


def look(browser, page, width, folder, *, planted=""):
    """What a page measures in a frame of that width; `planted` is added to its body."""
    text = page.read_text(encoding="utf-8")
    text = text.replace("<head>", f"<head>{WATCH}").replace("</body>", f"{planted}{PROBE}</body>")
    (folder / "page.html").write_text(text, encoding="utf-8")
    frame = folder / "frame.html"
    frame.write_text(FRAME.format(name="page.html", width=width), encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    options += [
        f"--user-data-dir={folder / 'browser'}",
        "--window-size=1300,900",
        "--hide-scrollbars",
    ]
    options += ["--virtual-time-budget=4000", "--enable-logging=stderr", "--dump-dom"]
    done = subprocess.run(
        [browser, *options, frame.as_uri()], capture_output=True, text=True, timeout=120
    )
    said = re.search(r'<pre id="found">([^<]+)</pre>', done.stdout)
    assert said, done.stderr[-2000:]
    found = dict(part.split(",", 1) for part in html.unescape(said.group(1)).split(";"))
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return {**found, "console": console}


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1200])
@pytest.mark.parametrize(
    "name", ["single-label", "multi-label", "regression", "texts", "comparison"]
)
def test_a_page_fits_and_loads(browser, pages, name, width, tmp_path):
    found = look(browser, pages[name], width, tmp_path)
    assert int(found["width"]) == width
    assert int(found["scroll"]) <= width
    assert (found["broken"], found["wide"], found["errors"], found["console"]) == ("0", "0", "", [])
    if name in ("single-label", "regression"):
        assert int(found["images"]) >= 12
    if width == 1200:
        # On a telephone a wide table scrolls, and a shadow says so; here there is room.
        assert found["cut"] == ""


@pytest.mark.slow
def test_what_is_looked_for_is_seen(browser, pages, tmp_path):
    planted = (
        '<p style="width:600px">wide</p><img src="data:image/png;base64,AA==">'
        '<div class="scroll"><i style="display:block;width:2000px">cut off</i></div>'
        "<script>console.error('bad'); nothing.at.all</script>"
    )
    found = look(browser, pages["single-label"], 390, tmp_path, planted=planted)
    assert int(found["scroll"]) > 390
    assert found["broken"] == "1" and int(found["wide"]) >= 1 and "cut off" in found["cut"]
    assert "nothing is not defined" in found["errors"] and len(found["console"]) >= 2
