"""The sections of a report as Markdown: what can be said without pictures."""

import re
from collections.abc import Sequence

from keras_tl.reporting.blocks import Block, Cell, Code, Details, Figures, Section, Table, Text

# What Markdown gives a meaning to (an underscore: not inside a word), and what would begin a tag
# or an entity of HTML.
_SPECIAL = re.compile(r"([\\`*<>|\[\]~&]|(?<!\w)_|_(?!\w))")
# At the start of a line, what begins a heading, a quotation or an item of a list.
_LEADING = re.compile(r"^(\d*)([#+.)-])(?=[\s#]|$)")


def markdown(section: Section) -> str:
    """Writes a section as Markdown (the GitHub flavour, for its tables).

    Args:
        section: Its charts and pictures are left out.

    Returns:
        A heading of the second level and what is below it; every text is escaped.
    """
    parts = [f"## {plain(section.title)}", *map(_block, section.blocks)]
    return "\n\n".join(part for part in parts if part) + "\n"


def plain(text: str) -> str:
    """Text that Markdown shows as it is, in one line."""
    escaped = _SPECIAL.sub(r"\\\1", " ".join(text.split()))
    return _LEADING.sub(r"\1\\\2", escaped)


def fenced(code: str, language: str = "") -> str:
    """Code between fences longer than any in it."""
    longest = max(map(len, re.findall(r"`+", code)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{code}\n{fence}"


def _block(block: Block) -> str:
    if isinstance(block, Text):
        return f"**{plain(block.text)}**" if block.tone == "note" else plain(block.text)
    if isinstance(block, Figures):
        cells = [[Cell(f.label), Cell(f.value), Cell(f.under)] for f in block.figures]
        return _table(["figure", "value", "95 % interval"], cells, names=1)
    if isinstance(block, Table):
        table = _table(block.head, block.rows, block.names)
        return f"{table}\n\n{plain(block.caption)}".rstrip()
    if isinstance(block, Code):
        return (
            f"{plain(block.title)}:\n\n{fenced(block.text)}" if block.title else fenced(block.text)
        )
    if isinstance(block, Details):
        inner = "\n\n".join(filter(None, map(_block, block.blocks)))
        return f"{plain(block.title)}:\n\n{inner}"
    return ""


def _table(head: Sequence[str], rows: Sequence[Sequence[Cell]], names: int) -> str:
    marks = ["---" if column < names else "---:" for column in range(len(head))]
    lines = [[plain(title) for title in head], marks]
    lines += [[_cell(cell) for cell in cells] for cells in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(cell: Cell) -> str:
    return plain(f"{cell.text} ({cell.under})" if cell.under else cell.text)
