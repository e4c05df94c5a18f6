"""What a page is made of: sections of blocks. How they look is in the template."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from markupsafe import Markup


@dataclass(frozen=True)
class Text:
    """A paragraph.

    Attributes:
        text: What it says.
        tone: "" for text, "lead" for the sentence that says it all, "quiet" for explanations,
            "note" for what must not be passed over.
    """

    kind: ClassVar[str] = "text"
    text: str
    tone: str = ""


@dataclass(frozen=True)
class Figure:
    """One number, large.

    Attributes:
        label: What it is.
        value: The number as text.
        under: Its interval or unit, small.
    """

    label: str
    value: str
    under: str = ""


@dataclass(frozen=True)
class Figures:
    """Several numbers, large, side by side."""

    kind: ClassVar[str] = "figures"
    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class Key:
    """One entry of a chart's key: the colour's number, a name, whether the line is dashed."""

    color: int
    name: str
    dashed: bool = False


@dataclass(frozen=True)
class Chart:
    """A drawing.

    Attributes:
        title: Its heading.
        svg: The drawing, an SVG element.
        keys: What its colours mean.
        caption: What to see in it.
    """

    title: str
    svg: Markup
    keys: tuple[Key, ...] = ()
    caption: str = ""


@dataclass(frozen=True)
class Charts:
    """Drawings, side by side where there is room."""

    kind: ClassVar[str] = "charts"
    charts: tuple[Chart, ...]


@dataclass(frozen=True)
class Cell:
    """A table's cell.

    Attributes:
        text: What it says.
        under: A second line, small.
        shade: How dark it is, 0..1; None has no colour.
        good: The shade's colour: right or wrong.
        bar: Length of a bar behind the text, 0..1; None has none.
        span: Lower bound, value and upper bound of a figure in 0..1, drawn as a line.
    """

    text: str
    under: str = ""
    shade: float | None = None
    good: bool = True
    bar: float | None = None
    span: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class Table:
    """Rows of cells; names are at the left, figures right-aligned.

    Attributes:
        head: The columns' titles.
        rows: The cells.
        caption: What the table shows.
        look: "" or "heat", for a matrix of shades.
        names: How many columns at the left hold names.
    """

    kind: ClassVar[str] = "table"
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    look: str = ""
    names: int = 1


@dataclass(frozen=True)
class Picture:
    """An image, with what the model saw in it, or another one beside it.

    Attributes:
        image: The image as a data: URI.
        heat: The same with what decided shown as colour; "" where there is none.
        title: What the model said, or what there is to see.
        lines: The truth, and the image's name as the last one.
        beside: The other image; "" where there is none.
    """

    image: str
    heat: str
    title: str
    lines: tuple[str, ...]
    beside: str = ""


@dataclass(frozen=True)
class Gallery:
    """Pictures under a heading."""

    kind: ClassVar[str] = "gallery"
    title: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Span:
    """A stretch of a text.

    Attributes:
        text: What it says.
        weight: How much it speaks for what was decided, in -1..1; below 0 against it.
    """

    text: str
    weight: float = 0.0


@dataclass(frozen=True)
class Excerpt:
    """A part of a text.

    Attributes:
        spans: The part, in order.
        whole: All of the text, behind a click; "" where the spans are that.
        label: What it is, small; "" says nothing.
    """

    spans: tuple[Span, ...]
    whole: str = ""
    label: str = ""


@dataclass(frozen=True)
class Passage:
    """Texts, with what there is to say of them.

    Attributes:
        title: What the model said, or what there is to see.
        lines: The truth, and the text's name as the last one.
        excerpts: The texts, side by side where there is room.
    """

    title: str
    lines: tuple[str, ...]
    excerpts: tuple[Excerpt, ...]


@dataclass(frozen=True)
class Passages:
    """Passages under a heading."""

    kind: ClassVar[str] = "passages"
    title: str
    passages: tuple[Passage, ...]


@dataclass(frozen=True)
class Code:
    """Lines to copy."""

    kind: ClassVar[str] = "code"
    text: str
    title: str = ""


@dataclass(frozen=True)
class Details:
    """What opens on a click."""

    kind: ClassVar[str] = "details"
    title: str
    blocks: tuple["Block", ...]


Block: TypeAlias = Text | Figures | Charts | Table | Gallery | Passages | Code | Details


@dataclass(frozen=True)
class Section:
    """A part of a page.

    Attributes:
        title: Its heading.
        blocks: Its content.
    """

    title: str
    blocks: tuple[Block, ...]

    @property
    def anchor(self) -> str:
        """The name that links within the page use."""
        return "".join(c if c.isalnum() else "-" for c in self.title.lower())


def row(*texts: str) -> tuple[Cell, ...]:
    """A table row of plain cells."""
    return tuple(Cell(text) for text in texts)


# Of a share that is nearly all, or nearly nothing.
MOST_DIGITS = 6


def percent(share: float | None, digits: int = 1) -> str:
    """A share as per cent; "–" where there is none. Only all is 100 %, and only nothing 0 %."""
    if share is None or share != share:
        return "–"
    while 0 < share < 1 and round(100 * share, digits) in (0, 100) and digits < MOST_DIGITS:
        digits += 1
    shown, least = f"{100 * share:.{digits}f}", f"{10**-digits:.{digits}f}"
    if 0 < share < 1 and float(shown) in (0, 100):
        shown = f"< {least}" if share < 0.5 else f"> {100 - float(least):.{digits}f}"
    return f"{shown}\u00a0%"


def score(value: float | None) -> str:
    """A figure between 0 and 1; "–" where there is none."""
    return "–" if value is None or value != value else f"{value:.3f}"


def number(value: float | int | None) -> str:
    """A number in four significant digits or to the unit, a count in full; "–" for none."""
    if value is None or value != value:
        return "–"
    if isinstance(value, int):
        return f"{value:,}"
    # People read 54,094, not 5.409e+04.
    to_the_unit = 1e4 <= abs(value) < 1e12
    # 0 has no sign.
    return f"{value:,.0f}" if to_the_unit else f"{value + 0.0:,.4g}"


def seconds(value: float) -> str:
    """A time in the unit that fits it."""
    if value < 90:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
