"""Reads YAML 1.2 into nodes.

The parser is ruamel.yaml's; the meaning of plain scalars is the core schema of YAML 1.2.2,
section 10.3.2: `1e-5` is a number, `10:30` and `on` are text. Tags and recursive aliases are
refused, depth and size are bounded, so no file can exhaust memory or the stack.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.reader import ReaderError

from harness.errors import InputError, Problem
from harness.reading.nodes import Node, Place, Scalar, split_lines

__all__ = ["parse_yaml", "read_yaml"]

MAX_BYTES = 1_000_000
MAX_DEPTH = 50
MAX_NODES = 100_000
MAX_INTEGER = 2**64

_NULL = re.compile(r"null|Null|NULL|~|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL: Mapping[str, float] = {
    **{f"{sign}{word}": math.inf for sign in ("", "+") for word in (".inf", ".Inf", ".INF")},
    **{f"-{word}": -math.inf for word in (".inf", ".Inf", ".INF")},
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
}


def read_yaml(path: Path, shown: str | None = None) -> Node:
    """Reads a file.

    Arguments:
        path: The file.
        shown: Its name in messages; the path itself by default.

    Raises:
        InputError: It cannot be read or is not a YAML document of the accepted kind.
    """
    name = shown or str(path)
    try:
        # Pipes and devices do not say how long they are.
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
        if len(raw) > MAX_BYTES:
            raise InputError(
                [Problem(name, f"the file is larger than {MAX_BYTES:,} bytes; is it a suite?")]
            )
    except FileNotFoundError:
        siblings = tuple(sorted(p.name for p in path.parent.glob("*.yaml")))
        raise InputError(
            [Problem(name, "no such file", known=siblings, found=path.name)]
        ) from None
    except IsADirectoryError:
        raise InputError([Problem(name, "a folder, not a file")]) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InputError([Problem(name, f"cannot be read: {reason}")]) from None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode("utf-8-sig", errors="replace")
        place = Place.at(name, raw.decode("utf-8-sig", errors="replace"), len(before))
        message = f"not UTF-8: byte 0x{raw[error.start]:02x}"
        raise InputError([place.problem(message, fix="save the file as UTF-8")]) from None
    return parse_yaml(text, name)


def parse_yaml(text: str, name: str) -> Node:
    """Parses one YAML document.

    Arguments:
        text: The document.
        name: Name of the file in messages.

    Raises:
        InputError: With every problem up to the first syntax error.
    """
    return _Composer(text, name).compose()


class _Stop(Exception):
    """Parsing cannot go on; the last problem says why."""


@dataclass
class _Open:
    """A collection whose end has not been read yet."""

    event: Any
    anchor: str | None
    children: list[Node] = field(default_factory=list)


class _Composer:
    def __init__(self, text: str, name: str) -> None:
        self._text, self._name = text, name
        self._lines = split_lines(text)
        self._problems: list[tuple[int, int, Problem]] = []
        self._anchors: dict[str, Node | None] = {}
        self._open: list[_Open] = []
        self._size = 0
        self._root: Node | None = None

    def compose(self) -> Node:
        try:
            for event in self._events():
                self._take(event)
        except _Stop:
            pass
        if self._problems:
            self._problems.sort(key=lambda item: item[:2])
            raise InputError([problem for *_, problem in self._problems])
        if self._root is None:
            message = "the file is empty; a suite needs at least `name` and `trials`"
            raise InputError([Problem(self._name, message)])
        return self._root

    def _events(self) -> Iterator[Any]:
        last = Place(self._name, self._lines, 1, 1)
        try:
            for event in YAML(typ="safe", pure=True).parse(self._text):
                last = self._place(event.start_mark, event.end_mark)
                yield event
        except MarkedYAMLError as error:
            places = [self._place(m, m) for m in (error.problem_mark, error.context_mark) if m]
            # What is never closed is found missing at the end of the file: show its beginning.
            place = next((p for p in places if p.text.strip()), last)
            parts = [part for part in (error.context, error.problem) if part]
            self._fail(place, f"YAML syntax error: {', '.join(parts)}")
        except ReaderError as error:
            place = Place.at(self._name, self._text, error.position)
            code = ord(self._text[error.position])
            self._fail(place, f"YAML syntax error: the character U+{code:04X} is not allowed")
        except (YAMLError, ValueError, OverflowError, LookupError, AttributeError) as error:
            # The parser's own slips on malformed escapes and directives.
            self._fail(last, f"YAML syntax error near here: {error}")

    def _take(self, event: Any) -> None:  # noqa: ANN401
        kind = type(event).__name__
        if kind == "DocumentStartEvent" and self._root is not None:
            self._fail(self._place(event.start_mark, event.end_mark), "a second document begins")
        if kind in {"ScalarEvent", "SequenceStartEvent", "MappingStartEvent"} and event.tag:
            place = self._place(event.start_mark, event.end_mark)
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            self._add(place, f"the tag {tag} is not allowed", fix="remove the tag")
        match kind:
            case "ScalarEvent":
                node = Node(self._scalar(event), self._place(event.start_mark, event.end_mark))
                self._anchor(event.anchor, node)
                self._append(node)
            case "SequenceStartEvent" | "MappingStartEvent":
                if len(self._open) >= MAX_DEPTH:
                    place = self._place(event.start_mark, event.end_mark)
                    self._fail(place, f"nested deeper than {MAX_DEPTH} levels")
                self._anchor(event.anchor, None)
                self._open.append(_Open(event, event.anchor))
            case "SequenceEndEvent" | "MappingEndEvent":
                self._close(self._open.pop(), event)
            case "AliasEvent":
                self._append(self._resolve(event))

    def _resolve(self, event: Any) -> Node:  # noqa: ANN401
        place = self._place(event.start_mark, event.end_mark)
        name = event.anchor
        if name not in self._anchors:
            known = tuple(self._anchors)
            self._fail(place, f"no anchor '&{name}' before this alias", known=known, found=name)
        node = self._anchors[name]
        if node is None:
            self._fail(place, f"the alias '*{name}' contains itself")
        if len(self._open) + node.depth > MAX_DEPTH:
            self._fail(place, f"nested deeper than {MAX_DEPTH} levels, aliases expanded")
        return node

    def _close(self, opened: _Open, end: Any) -> None:  # noqa: ANN401
        place = self._place(opened.event.start_mark, end.end_mark)
        children = opened.children
        size = 1 + sum(child.size for child in children)
        depth = 1 + max((child.depth for child in children), default=0)
        if type(opened.event).__name__ == "SequenceStartEvent":
            node = Node(tuple(children), place, size=size, depth=depth)
        else:
            entries, keys = self._entries(children)
            node = Node(entries, place, keys, size, depth)
        self._anchor(opened.anchor, node)
        self._append(node, counted=True)

    def _entries(self, children: list[Node]) -> tuple[dict[str, Node], dict[str, Place]]:
        entries: dict[str, Node] = {}
        keys: dict[str, Place] = {}
        for key, value in zip(children[::2], children[1::2], strict=True):
            if not isinstance(key.value, str):
                fix = None
                if isinstance(key.value, int) and not value.place.width:
                    fix = "write decimals with a point, as in 0.001: a comma ends a value"
                self._add(key.place, f"a key must be text, found {key.kind()}", fix=fix)
            elif key.value in entries:
                first = keys[key.value].line
                self._add(
                    key.place,
                    f"duplicate key '{key.value}', first in line {first}",
                    fix="keep one of the two",
                )
            else:
                # Nothing after the colon has no place of its own.
                empty = value.place.width == 0
                entries[key.value] = replace(value, place=key.place) if empty else value
                keys[key.value] = key.place
        return entries, keys

    def _append(self, node: Node, counted: bool = False) -> None:
        self._size += 1 if counted else node.size
        if self._size > MAX_NODES:
            self._fail(node.place, f"more than {MAX_NODES:,} values, aliases expanded")
        if self._open:
            self._open[-1].children.append(node)
        else:
            self._root = node

    def _anchor(self, name: str | None, node: Node | None) -> None:
        if name is not None:
            self._anchors[name] = node

    def _scalar(self, event: Any) -> Scalar:  # noqa: ANN401
        text: str = event.value
        place = self._place(event.start_mark, event.end_mark)
        if any(0xD800 <= ord(c) <= 0xDFFF for c in text):
            self._add(place, "half of a surrogate pair is not a character")
            return ""
        if not event.implicit[0]:
            return text
        try:
            return _plain_scalar(text)
        except ValueError:
            self._add(place, "a number with too many digits")
            return 0

    def _place(self, start: Any, end: Any) -> Place:  # noqa: ANN401
        width = end.column - start.column
        if end.line > start.line:
            line = self._lines[start.line] if start.line < len(self._lines) else ""
            width = len(line.rstrip()) - start.column
        return Place(self._name, self._lines, start.line + 1, start.column + 1, max(0, width))

    def _add(
        self,
        place: Place,
        message: str,
        *,
        known: tuple[str, ...] = (),
        found: str | None = None,
        fix: str | None = None,
    ) -> None:
        problem = place.problem(message, known=known, found=found, fix=fix)
        self._problems.append((place.line, place.column, problem))

    def _fail(
        self, place: Place, message: str, known: tuple[str, ...] = (), found: str | None = None
    ) -> NoReturn:
        self._add(place, message, known=known, found=found)
        raise _Stop


def _plain_scalar(text: str) -> Scalar:
    if _NULL.fullmatch(text):
        return None
    if _BOOL.fullmatch(text):
        return text.lower() == "true"
    if _INT.fullmatch(text):
        value = int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
        if abs(value) >= MAX_INTEGER:
            raise ValueError(text)
        return value
    if _FLOAT.fullmatch(text):
        return float(text)
    return _SPECIAL.get(text, text)
