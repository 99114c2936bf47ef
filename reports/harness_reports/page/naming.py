"""Short names of settings: the full text is said once, and tables and charts stay narrow."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

__all__ = ["SHORTENED", "breakable", "short_names"]


def short_names(axis: str, labels: Iterable[str]) -> dict[str, str]:
    """Maps full labels of an axis to short ones that still tell them apart.

    A solver becomes its first word and a regularizer loses its weights, unless two labels would
    then read the same: these stay as they are.

    Example:
        >>> short_names("solver", ["dopri5 rtol=1e-05 atol=1e-05", "rk4_38 steps=8"])
        {'dopri5 rtol=1e-05 atol=1e-05': 'dopri5', 'rk4_38 steps=8': 'rk4_38'}
    """
    full = list(dict.fromkeys(labels))
    shorten = _SHORTEN.get(axis, breakable)
    short = [shorten(label) for label in full]
    return {
        label: name if short.count(name) == 1 else breakable(label)
        for label, name in zip(full, short, strict=True)
    }


def breakable(label: str) -> str:
    """A label with blanks around the plus signs that join its parts, so that lines can break."""
    return re.sub(r"\+(?=[a-z])", " + ", label)


def _first_word(label: str) -> str:
    return label.split(maxsplit=1)[0]


def _without_weights(label: str) -> str:
    return " + ".join(part.partition("=")[0] for part in breakable(label).split(" + "))


_SHORTEN: Mapping[str, Callable[[str], str]] = {
    "solver": _first_word,
    "regularizer": _without_weights,
}

SHORTENED = tuple(_SHORTEN)
"""Axes with long labels: tables have a column for each, and give the full text once, below."""
