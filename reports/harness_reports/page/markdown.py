"""The report as Markdown: the same tables, for terminals, pull requests and plain text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from harness_reports.page.elements import (
    Block,
    Cell,
    Chart,
    Column,
    Facts,
    Page,
    Paragraph,
    Pictures,
    Table,
)

__all__ = ["render_markdown", "render_table", "render_text"]

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~])")


def render_markdown(page: Page) -> str:
    """Renders the page; what the HTML file folds stands at the end of both."""
    parts = [f"# {render_text(page.title)}", render_text(page.lead)]
    parts += [
        f"**{render_text(a.question)}** {render_text(' '.join(a.sentences))}" for a in page.answers
    ]
    parts.append(_facts(page.facts))
    for section in page.sections:
        parts.append(f"## {render_text(section.title)}")
        parts.extend(text for block in section.blocks for text in _block(block))
    return "\n\n".join(part for part in parts if part) + "\n"


def _block(block: Block) -> Iterator[str]:
    match block:
        case Table():
            yield f"### {render_text(block.caption)}"
            yield render_table(block)
            if block.note:
                yield render_text(block.note)
        case Paragraph():
            yield render_text(block.text)
        case Facts():
            yield _facts(block)
        case Chart():
            yield f"### {render_text(block.title)}"
            yield f"![{render_text(block.title)}](figures/{block.id}.svg)"
            yield render_text(block.caption)
        case Pictures():
            yield f"### {render_text(block.title)}"
            yield "\n".join(
                f"![{render_text(panel.label)}](figures/{panel.id}.png)" for panel in block.panels
            )
            scale = f" Colour scale from {block.ramp[0]} to {block.ramp[1]}." if block.ramp else ""
            yield render_text(block.caption + scale)


def _facts(facts: Facts) -> str:
    return "\n".join(f"- {render_text(term)}: {render_text(text)}" for term, text in facts.items)


def render_table(table: Table) -> str:
    """Renders a table without its caption."""
    lines = [
        _line(_head(column) for column in table.columns),
        _line("---:" if column.numeric else "---" for column in table.columns),
        *(_line(_cell(cell) for cell in row.cells) for row in table.rows),
    ]
    return "\n".join(lines)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _head(column: Column) -> str:
    return render_text(f"{column.name} ({column.unit})" if column.unit else column.name)


def _cell(cell: Cell) -> str:
    if cell.code:
        # Inside backticks a backslash is itself; a bar still ends the cell.
        return f"`{cell.text}`".replace("|", "\\|")
    # Links alone are statements; after a text they are a list of its parts.
    between = " " if cell.text else "; "
    words = [cell.text, between.join(link.text for link in cell.links)]
    text = render_text(" ".join(word for word in words if word))
    return f"**★ {text}**" if cell.best else text


def render_text(text: str) -> str:
    """Renders plain text, which keeps no line breaks."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))
