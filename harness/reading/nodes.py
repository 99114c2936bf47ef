"""A YAML document as a tree of plain values, each with its place in the file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.errors import Problem

__all__ = ["Node", "Place", "Scalar", "split_lines"]

Scalar = None | bool | int | float | str

SHOWN_WIDTH = 90

_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")


def split_lines(text: str) -> tuple[str, ...]:
    """Lines as YAML counts them."""
    return tuple(_BREAK.split(text))


@dataclass(frozen=True)
class Place:
    """A stretch of text in a file.

    Arguments:
        file: The file as the user named it.
        lines: All lines of the file.
        line: 1-based.
        column: 1-based, in characters.
        width: In characters.
    """

    file: str
    lines: tuple[str, ...] = field(repr=False)
    line: int
    column: int
    width: int = 1

    @property
    def text(self) -> str:
        """The line it begins in."""
        return self.lines[self.line - 1] if self.line <= len(self.lines) else ""

    @classmethod
    def at(cls, file: str, text: str, position: int) -> Place:
        """The place of the character `position` of a file with this text."""
        before = _BREAK.split(text[:position])
        return cls(file, split_lines(text), len(before), len(before[-1]) + 1)

    def problem(
        self,
        message: str,
        *,
        known: tuple[str, ...] = (),
        found: str | None = None,
        fix: str | None = None,
    ) -> Problem:
        """Returns a problem at this place, with the line cut to what fits on a screen."""
        text = "".join(c if c.isprintable() else " " for c in self.text)
        start = max(0, self.column - 1 - SHOWN_WIDTH // 2) if len(text) > SHOWN_WIDTH else 0
        shown = text[start : start + SHOWN_WIDTH]
        column = self.column - start
        return Problem(
            place=f"{self.file}:{self.line}:{self.column}",
            message=message,
            source=shown,
            column=column,
            width=max(1, min(self.width, len(shown) - column + 1)),
            known=known,
            found=found,
            fix=fix,
        )


@dataclass(frozen=True, eq=False)
class Node:
    """A value and where it stands.

    Arguments:
        value: A scalar, a tuple of nodes (sequence) or a dict of nodes (mapping).
        place: Where the value stands.
        keys: Where the keys of a mapping stand.
        size: Number of nodes in the tree, aliases expanded.
        depth: Nesting of collections.
    """

    value: Scalar | tuple[Node, ...] | dict[str, Node]
    place: Place
    keys: Mapping[str, Place] = field(default_factory=dict)
    size: int = 1
    depth: int = 0

    def plain(self) -> Any:  # noqa: ANN401
        """The value as None, bool, int, float, str, list and dict."""
        if isinstance(self.value, tuple):
            return [item.plain() for item in self.value]
        if isinstance(self.value, dict):
            return {key: item.plain() for key, item in self.value.items()}
        return self.value

    def items(self) -> dict[str, Node]:
        """The entries of a mapping; empty for anything else."""
        return self.value if isinstance(self.value, dict) else {}

    def kind(self) -> str:
        """What the value is, in a user's words."""
        match self.value:
            case None:
                return "nothing"
            case bool():
                return f"{str(self.value).lower()}"
            case int() | float():
                return f"the number {self.value}"
            case str():
                text = self.value if len(self.value) <= 40 else self.value[:37] + "..."
                return f"the text {text!r}"
            case tuple():
                return "a list"
            case _:
                return "a mapping"
