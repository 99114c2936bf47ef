"""Holds nodes of a file to frozen dataclasses and puts every mistake in the one form.

The dataclasses of `harness.trial` and `harness.specs.resources` are the only definition of what is
accepted; pydantic enforces their annotations, and its complaints are mapped to places in the file.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError

from harness.errors import InputError, Problem
from harness.reading.nodes import Node, Place

__all__ = ["Problems", "overlay", "validate"]

_EXPECTED: Mapping[str, str] = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "dataclass_type": "a mapping",
}


class Problems:
    """Collects mistakes; each is kept once, in the order of the file."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, int, int, str], Problem] = {}

    def add(
        self,
        place: Place,
        message: str,
        *,
        known: Sequence[str] = (),
        found: str | None = None,
        fix: str | None = None,
    ) -> None:
        """Adds a mistake at a place."""
        key = (place.file, place.line, place.column, message)
        problem = place.problem(message, known=tuple(known), found=found, fix=fix)
        self._found.setdefault(key, problem)

    def extend(self, error: InputError, at: Place | None = None) -> None:
        """Adds mistakes that were found elsewhere, or in a text that stands at a place."""
        for problem in error.problems:
            where = (at.file, at.line, at.column) if at else (problem.place, 0, 0)
            self._found.setdefault((*where, problem.message), problem)

    def __bool__(self) -> bool:
        return bool(self._found)

    def raise_if_any(self) -> None:
        """Raises one InputError with all of them."""
        if self._found:
            files = list(dict.fromkeys(key[0] for key in self._found))
            order = sorted(self._found, key=lambda key: (files.index(key[0]), *key[1:3]))
            raise InputError([self._found[key] for key in order])


def overlay(base: Mapping[str, Any], over: Any) -> Any:  # noqa: ANN401
    """Deep-merges a plain mapping over another; anything but a mapping replaces it."""
    if not isinstance(over, Mapping):
        return over
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = overlay(below, value) if isinstance(below, Mapping) else value
    return merged


def validate(
    kind: Any,  # noqa: ANN401
    node: Node,
    what: str,
    problems: Problems,
    *,
    defaults: Mapping[str, Any] | None = None,
    hints: Mapping[str, str] | None = None,
) -> Any | None:  # noqa: ANN401
    """Turns a node into a value of type `kind`, or adds what is wrong with it and returns None.

    Arguments:
        kind: A frozen dataclass, or any annotation pydantic understands.
        node: What the user wrote.
        what: Its name in messages.
        problems: Where mistakes go.
        defaults: Plain values below the user's.
        hints: By unknown key: what to do about it.
    """
    plain = overlay(defaults or {}, node.plain())
    try:
        # In JSON mode strictness means: a list is a tuple, but text is no number.
        return _adapter(kind).validate_json(json.dumps(plain), strict=True)
    except ValidationError as error:
        groups: dict[int, list[_Complaint]] = {}
        for detail in error.errors(include_url=False):
            complaint = _locate(node, what, detail)
            groups.setdefault(id(complaint.node), []).append(complaint)
        for group in groups.values():
            _explain(kind, group, problems, hints or {})
        return None


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:  # noqa: ANN401
    return TypeAdapter(kind)


@dataclasses.dataclass(frozen=True)
class _Complaint:
    """One complaint of pydantic with the node it is about.

    Arguments:
        node: The innermost node on the way to it.
        name: What a user calls that node.
        path: Keys from the root to the node.
        rest: What is left of pydantic's location: a missing or unknown key, a branch of a union.
        detail: The complaint.
    """

    node: Node
    name: str
    path: tuple[str, ...]
    rest: tuple[int | str, ...]
    detail: Mapping[str, Any]


def _locate(node: Node, what: str, detail: Mapping[str, Any]) -> _Complaint:
    location: tuple[int | str, ...] = detail["loc"]
    name, path = what, []
    unknown_key = detail["type"] == "unexpected_keyword_argument" or "[key]" in location
    last = len(location) - (1 + ("[key]" in location)) if unknown_key else len(location)
    step = 0
    for step, part in enumerate((*location[:last], None)):  # noqa: B007
        if isinstance(part, str) and part in node.items():
            node, name = node.items()[part], part
            path.append(part)
        elif isinstance(part, int) and isinstance(node.value, tuple) and part < len(node.value):
            node = node.value[part]
        else:
            break
    return _Complaint(node, name, tuple(path), location[step:], detail)


def _explain(
    kind: Any,  # noqa: ANN401
    group: Sequence[_Complaint],
    problems: Problems,
    hints: Mapping[str, str],
) -> None:
    """Adds the complaints about one node: unknown and missing keys, or a wrong value."""
    wrong = []
    for complaint in group:
        node, name, rest = complaint.node, complaint.name, complaint.rest
        match complaint.detail["type"]:
            case "unexpected_keyword_argument":
                known = _fields(kind, complaint.path)
                key = str(rest[0])
                problems.add(
                    node.keys[key],
                    f"unknown key '{key}' in {name}",
                    known=known,
                    found=None if key in hints else key,
                    fix=hints.get(key),
                )
            case "literal_error" if rest and rest[-1] == "[key]":
                key, known = str(rest[0]), _literals(complaint)
                problems.add(node.keys[key], f"unknown {name} '{key}'", known=known, found=key)
            case "missing":
                problems.add(
                    node.place, f"{name} lacks '{rest[0]}'", fix=f"add '{rest[0]}: ...' here"
                )
            case _:
                wrong.append(complaint)
    if wrong:
        _wrong_value(wrong, problems)


def _wrong_value(group: Sequence[_Complaint], problems: Problems) -> None:
    node, name = group[0].node, group[0].name
    number = isinstance(node.value, int | float) and not isinstance(node.value, bool)
    limits = [c.detail["ctx"]["error"] for c in group if c.detail["type"] == "value_error"]
    if limits and number:
        problems.add(node.place, f"'{name}' {limits[0]}, found {node.value}")
        return
    literals = [word for complaint in group for word in _literals(complaint)]
    kinds = [_EXPECTED.get(c.detail["type"]) for c in group]
    expected = list(dict.fromkeys(kind for kind in kinds if kind))
    if literals and isinstance(node.value, str):
        accepted = f"; it may also be {' or '.join(expected)}" if expected else ""
        message = f"unknown {name} '{node.value}'{accepted}"
        problems.add(node.place, message, known=literals, found=node.value)
        return
    expected = ([f"one of {', '.join(literals)}"] if literals else []) + expected
    if not expected:
        expected = [str(group[0].detail["msg"])]
    problems.add(
        node.place,
        f"'{name}' must be {' or '.join(expected)}, found {node.kind()}",
        fix=_as_number(node) if any("number" in word for word in expected) else None,
    )


def _as_number(node: Node) -> str | None:
    """How to write what looks like a number, in YAML 1.2."""
    value, place = node.value, node.place
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return f"write {int(value)}"
    if not isinstance(value, str):
        return None
    if place.text[place.column - 1 : place.column] in ("'", '"'):
        return "remove the quotes" if _is_number(value) else None
    if re.fullmatch(r"\d+:[0-5]?\d", value):
        whole, sixtieths = map(int, value.split(":"))
        return f"write one number, {whole + sixtieths / 60:g} or {60 * whole + sixtieths}"
    plain = value.replace("_", "") if _is_number(value) else value.replace(",", ".")
    return f"write {plain}" if _is_number(plain) else None


def _literals(complaint: _Complaint) -> list[str]:
    """The accepted values, out of pydantic's "'a', 'b' or 'c'" or "1, 2 or 3"."""
    if complaint.detail["type"] != "literal_error":
        return []
    return re.findall(r"[^', ]+(?=')|-?\d+(?=,| or|$)", complaint.detail["ctx"]["expected"])


def _fields(kind: Any, path: Sequence[str]) -> list[str]:  # noqa: ANN401
    """Field names of the dataclass that stands at `path` below the dataclass `kind`."""
    kinds = _dataclasses(kind)
    for key in path:
        hints = [typing.get_type_hints(each) for each in kinds]
        kinds = [member for hint in hints if key in hint for member in _dataclasses(hint[key])]
    return list(dict.fromkeys(field.name for each in kinds for field in dataclasses.fields(each)))


def _dataclasses(kind: Any) -> list[type]:  # noqa: ANN401
    """The dataclasses in an annotation: itself, members of a union, items of a tuple."""
    if dataclasses.is_dataclass(kind):
        return [kind] if isinstance(kind, type) else []
    return [member for part in typing.get_args(kind) for member in _dataclasses(part)]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
