"""Plain text for terminals and pipes: aligned columns, counts, durations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = ["columns", "counted"]


def columns(rows: Iterable[Sequence[object]], header: Sequence[str] = ()) -> str:
    """Aligns rows of cells; None is an empty cell. The last column is not padded."""
    table = [["" if cell is None else str(cell) for cell in row] for row in rows]
    table = ([list(header)] if header else []) + table
    if not table:
        return ""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    )


def counted(number: int, noun: str) -> str:
    """`1 trial`, `2 trials`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
