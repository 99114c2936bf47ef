"""The filter grammar of `-k`, `exclude.when` and `gates.when`.

    expression  = conjunction { "|" conjunction }
    conjunction = factor { "&" factor }
    factor      = "!" factor | "(" expression ")" | field ("=" | "!=") value      ("==" is "=")

A value is a word without blanks and `&|()`, or quoted; `*` in it stands for any text. Fields are
the axes of a trial, `id` and `state`; one that has several names (a solver is `dopri5` and
`dopri5 rtol=1e-05 atol=1e-05`) equals a value if any of them does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from harness.errors import InputError, Problem
from harness.labels import label
from harness.trial import AXES, Trial

__all__ = ["FIELDS", "Fields", "Filter", "fields_of", "parse_filter"]

Fields = Mapping[str, tuple[str, ...]]
FIELDS = (*AXES, "id", "state")
MAX_DEPTH = 50

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<field>[A-Za-z_]+)\s*(?P<op>!=|==?)\s*
        (?:"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<bare>[^\s&|()"']+))
        |(?P<sign>[&|()!])
    )\s*""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class Filter:
    """A parsed expression.

    Arguments:
        text: As it was written.
        matches: Tells whether fields (`fields_of`) satisfy it.
    """

    text: str
    matches: Callable[[Fields], bool]


def fields_of(trial: Trial, state: str | None = None) -> dict[str, tuple[str, ...]]:
    """Returns what a filter can ask of a trial, except its `id`, which costs more to compute."""
    fields: dict[str, tuple[str, ...]] = {k: (text,) for k, text in label(trial).items()}
    fields["solver"] = (trial.solver.name, *fields["solver"])
    if state is not None:
        fields["state"] = (state,)
    return fields


def parse_filter(text: str, place: str = "-k", known: tuple[str, ...] = FIELDS) -> Filter:
    """Parses an expression.

    Arguments:
        text: The expression.
        place: Where it was written, for messages.
        known: Fields that may be asked.

    Raises:
        InputError: It is malformed or asks for an unknown field.
    """
    return Filter(text, _Parser(text, place, known).parse())


@dataclass(frozen=True)
class _Token:
    kind: str
    column: int
    width: int
    field: str = ""
    value: str = ""


class _Parser:
    def __init__(self, text: str, place: str, known: tuple[str, ...]) -> None:
        self._text, self._place, self._known = text, place, known
        self._tokens = list(self._scan())
        self._next = 0
        self._depth = 0

    def parse(self) -> Callable[[Fields], bool]:
        if not self._tokens:
            raise self._error("an empty filter", 1, 1)
        result = self._expression()
        if self._next < len(self._tokens):
            token = self._tokens[self._next]
            raise self._error("expected '&', '|' or the end here", token.column, token.width)
        return result

    def _scan(self) -> Iterator[_Token]:
        position = 0
        while position < len(self._text.rstrip()):
            match = _TOKEN.match(self._text, position)
            if match is None:
                column = position + 1
                raise self._error(
                    "expected field=value or field!=value here", column, len(self._text) - position
                )
            if match["sign"]:
                yield _Token(match["sign"], match.start("sign") + 1, 1)
            else:
                column, width = match.start("field") + 1, len(match["field"])
                if match["field"] not in self._known:
                    raise self._error(
                        f"unknown field '{match['field']}'",
                        column,
                        width,
                        known=self._known,
                        found=match["field"],
                    )
                value = next(
                    match[g] for g in ("double", "single", "bare") if match[g] is not None
                )
                yield _Token(match["op"], column, width, match["field"], value)
            position = match.end()

    def _expression(self) -> Callable[[Fields], bool]:
        parts = [self._conjunction()]
        while self._accept("|"):
            parts.append(self._conjunction())
        return parts[0] if len(parts) == 1 else lambda fields: any(p(fields) for p in parts)

    def _conjunction(self) -> Callable[[Fields], bool]:
        parts = [self._factor()]
        while self._accept("&"):
            parts.append(self._factor())
        return parts[0] if len(parts) == 1 else lambda fields: all(p(fields) for p in parts)

    def _factor(self) -> Callable[[Fields], bool]:
        if self._next >= len(self._tokens):
            raise self._error("expected field=value at the end", len(self._text) + 1, 1)
        token = self._tokens[self._next]
        self._next += 1
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._error(f"nested deeper than {MAX_DEPTH} levels", token.column, 1)
        try:
            if token.kind == "!":
                inner = self._factor()
                return lambda fields: not inner(fields)
            if token.kind == "(":
                inner = self._expression()
                if not self._accept(")"):
                    raise self._error("this parenthesis is never closed", token.column, 1)
                return inner
        finally:
            self._depth -= 1
        if not token.field:
            raise self._error("expected field=value here", token.column, token.width)
        return _comparison(token)

    def _accept(self, kind: str) -> bool:
        matches = self._next < len(self._tokens) and self._tokens[self._next].kind == kind
        self._next += matches
        return matches

    def _error(
        self,
        message: str,
        column: int,
        width: int,
        known: tuple[str, ...] = (),
        found: str | None = None,
    ) -> InputError:
        fix = None if known else 'write it like "backend=jax & dataset!=bsds300"'
        text = self._text if self._text.isprintable() else repr(self._text)
        return InputError([Problem(self._place, message, text, column, width, known, found, fix)])


def _comparison(token: _Token) -> Callable[[Fields], bool]:
    field, negated = token.field, token.kind == "!="
    if "*" in token.value:
        pattern = re.compile(".*".join(map(re.escape, re.split(r"\*+", token.value))))
        return lambda fields: any(map(pattern.fullmatch, fields[field])) != negated
    value = token.value
    return lambda fields: (value in fields[field]) != negated
