"""What the docs name is there: every public name in the reference, every method's home."""

import re
from pathlib import Path
from pkgutil import resolve_name

import pytest

import keras_tl

ROOT = Path(__file__).parents[2]
# A public name that is a module is described by what is in it.
MODULES = {
    "backbones": "keras_tl.backbones.registry.get",
    "freezing": "keras_tl.freezing",
    "plans": "keras_tl.plans",
    "schedules": "keras_tl.training.schedules",
}
_METHOD = re.compile(r"^\|.*?\| `(keras_tl[\w.]+)` \| (.+) \|$", re.M)


def described():
    """The dotted paths that the reference describes."""
    texts = [page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "api").glob("*.md")]
    return {path for text in texts for path in re.findall(r"^::: (\S+)$", text, re.M)}


def test_every_public_name_is_in_the_reference():
    public = {MODULES.get(name, f"{home}.{name}") for name, home in keras_tl._HOMES.items()}
    assert not public - described()


@pytest.mark.parametrize("path", sorted(described()))
def test_what_the_reference_describes_exists(path):
    assert resolve_name(path).__doc__


def test_every_method_is_where_its_row_says():
    text = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    rows = _METHOD.findall(text)
    assert len(rows) > 20
    for path, source in rows:
        assert resolve_name(path) is not None
        assert re.search(r"\d{4}|Keras", source), f"{path} has no year: {source}"
    names = re.findall(r"^\| ([^|]+) \|", text, re.M)
    assert len(names) == len(set(names))


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_links_between_files_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    assert all((ROOT / link).exists() for link in links), links
