"""Elements of a page for a terminal: the same cells, without links."""

from __future__ import annotations

import io
from collections.abc import Iterable

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from harness_reports.page.elements import Answer, Cell, Table

__all__ = ["render_answers", "render_table"]

_STYLES = {"": "", "good": "green", "bad": "red", "muted": "dim"}


def render_table(table: Table, width: int, *, colour: bool, left_out: Iterable[str] = ()) -> str:
    """Renders a table in lines of at most `width` characters.

    Arguments:
        table: The table.
        width: Characters.
        colour: True if escape sequences for colours are understood.
        left_out: Names of columns that have no room in a terminal.
    """
    kept = [i for i, column in enumerate(table.columns) if column.name not in set(left_out)]
    drawn = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for index in kept:
        column = table.columns[index]
        justify = "right" if column.numeric else "left"
        drawn.add_column(column.name, justify=justify)  # type: ignore[arg-type]
    for row in table.rows:
        drawn.add_row(*(_text(row.cells[index]) for index in kept))
    stream = io.StringIO()
    Console(file=stream, width=width, force_terminal=colour, no_color=not colour).print(drawn)
    return "\n".join(line.rstrip() for line in stream.getvalue().strip("\n").splitlines())


def render_answers(answers: Iterable[Answer]) -> str:
    """A line for each answer, after its question."""
    return "\n".join(f"{answer.question} {' '.join(answer.sentences)}" for answer in answers)


def _text(cell: Cell) -> Text:
    # A Text is never read as markup.
    text = (
        cell.text.removesuffix(":").replace(" ± ", "\u00a0±\u00a0").replace(" = ", "\u00a0=\u00a0")
    )
    return Text(f"★ {text}" if cell.best else text, style=_STYLES[cell.tone])
