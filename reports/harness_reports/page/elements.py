"""What a report is made of: plain values that HTML and Markdown render alike.

Every number is formatted once, into a `Cell`; no renderer formats numbers, so the two files cannot
disagree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

__all__ = [
    "Answer",
    "Axis",
    "Block",
    "Cell",
    "Chart",
    "Column",
    "Facts",
    "Link",
    "Page",
    "Panel",
    "Paragraph",
    "Pictures",
    "Row",
    "Section",
    "Table",
    "Tone",
    "absent",
]

Tone = Literal["", "good", "bad", "muted"]


@dataclass(frozen=True)
class Link:
    """A reference to an anchor of the same page."""

    text: str
    anchor: str


@dataclass(frozen=True)
class Cell:
    """One entry of a table.

    Arguments:
        text: What is printed.
        best: Printed bold and with a star, since not every reader can see the weight of a font.
        tone: Colour that repeats what the words say.
        code: Printed in a fixed-width font.
        links: Follow the text, separated by spaces.
        value: What a reader sorts the column by, where the text alone would sort wrongly.
        copied: A text that a button beside the cell copies, such as the path of a record.
    """

    text: str
    best: bool = False
    tone: Tone = ""
    code: bool = False
    links: tuple[Link, ...] = ()
    value: float | None = None
    copied: str = ""


def absent(words: str = "not run") -> Cell:
    """The cell of a number that is not there, with the reason."""
    return Cell(words, tone="muted")


@dataclass(frozen=True)
class Column:
    """A column: its name, the unit below it, and how it is set.

    Arguments:
        name: Heading.
        unit: Unit of all its numbers, or None.
        numeric: Set flush right.
        heading: Its cells name the row.
        narrow: Its cells never break into lines.
        wide: Its cells hold sentences, and keep room for them.
    """

    name: str
    unit: str | None = None
    numeric: bool = False
    heading: bool = False
    narrow: bool = False
    wide: bool = False


@dataclass(frozen=True)
class Row:
    """A row; `opens_group` sets it off from the row above, `id` is its anchor if it has one."""

    cells: tuple[Cell, ...]
    opens_group: bool = False
    id: str = ""


@dataclass(frozen=True)
class Table:
    """A table with its caption above and its reading instructions below.

    Arguments:
        id: Anchor.
        caption: Its heading.
        columns: From left to right.
        rows: From top to bottom.
        note: How to read it.
        sortable: A reader may sort it by a column and filter its rows.
    """

    id: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    note: str | None = None
    sortable: bool = False


@dataclass(frozen=True)
class Paragraph:
    """Running text; `tone` sets off a warning."""

    text: str
    tone: Tone = ""


@dataclass(frozen=True)
class Facts:
    """Terms and what they are."""

    items: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Chart:
    """A Vega-Lite chart.

    Arguments:
        id: Anchor and file name.
        title: Heading.
        spec: Vega-Lite specification with its data inside.
        caption: How to read it; also its description for who cannot see it.
    """

    id: str
    title: str
    spec: Mapping[str, Any]
    caption: str


@dataclass(frozen=True)
class Axis:
    """An axis of a picture: its name and the values at its ends."""

    name: str
    low: float
    high: float


@dataclass(frozen=True)
class Panel:
    """One picture of a row.

    Arguments:
        id: File name.
        label: What it shows.
        png: The picture.
        pixelated: Drawn at its own size, a value a square of pixels.
        axes: Horizontal and vertical axis, if it has any.
    """

    id: str
    label: str
    png: bytes
    pixelated: bool = False
    axes: tuple[Axis, Axis] | None = None


@dataclass(frozen=True)
class Pictures:
    """Panels on one common scale.

    Arguments:
        id: Anchor.
        title: Heading.
        panels: Side by side.
        caption: How to read them.
        ramp: Values at the dark and the bright end of the colour scale, or None.
    """

    id: str
    title: str
    panels: tuple[Panel, ...]
    caption: str
    ramp: tuple[str, str] | None = None


Block = Table | Paragraph | Facts | Chart | Pictures


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it; `folded` hides it until a reader opens it."""

    id: str
    title: str
    blocks: tuple[Block, ...]
    folded: bool = False


@dataclass(frozen=True)
class Answer:
    """A question that readers come with, and its answer in sentences."""

    question: str
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Page:
    """The whole report.

    Arguments:
        title: Name of the suite.
        lead: Its description.
        answers: What a reader wants to know first.
        facts: The line of facts under the title.
        sections: In order.
    """

    title: str
    lead: str
    answers: tuple[Answer, ...]
    facts: Facts
    sections: tuple[Section, ...]
