"""What the calls in a legacy pickle stand for: numpy's arrays, read by hand.

`harness.datasets.formats.pickle` hands over a tree of plain values, `Name` and `Called`; each
known call is read as the array that the library of the time would have made of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = [
    "NUMPY",
    "Array",
    "Called",
    "Meaning",
    "Name",
    "Reader",
    "RefusedPickle",
    "not_data",
    "whole",
]

Array = npt.NDArray[Any]


class RefusedPickle(Exception):
    """A pickle asks for something that is not plain data."""


@dataclass(frozen=True)
class Name:
    """A name that the pickle would have imported."""

    full: str


@dataclass(eq=False)
class Called:
    """A call that the pickle would have made, and the state it would have set."""

    name: str
    arguments: tuple[object, ...]
    state: object = None


Meaning: TypeAlias = "Callable[[Reader, Called], object]"
"""Reads a call as what it stands for."""


class Reader:
    """Reads each object of a tree once, however often the pickle refers to it.

    Arguments:
        known: How a call of each permitted name is read.
    """

    def __init__(self, known: Mapping[str, Meaning]) -> None:
        self.known = known
        self._done: dict[int, object] = {}
        self._open: set[int] = set()

    def read(self, value: object) -> object:
        """A value with every call in it read as what it stands for.

        Raises:
            RefusedPickle: A name stands where data should, or a container holds itself.
        """
        if not isinstance(value, list | tuple | dict | Called):
            if isinstance(value, Name):
                raise RefusedPickle(f"holds the name '{value.full}' where data should be")
            return bytes(value) if isinstance(value, bytearray) else value
        place = id(value)
        if place not in self._done:
            if place in self._open:
                raise RefusedPickle("holds a container that contains itself")
            self._open.add(place)
            self._done[place] = self._read_new(value)
            self._open.remove(place)
        return self._done[place]

    def _read_new(self, value: list[object] | tuple[object, ...] | dict[Any, Any] | Called) -> Any:  # noqa: ANN401
        match value:
            case list():
                return [self.read(item) for item in value]
            case tuple():
                return tuple(self.read(item) for item in value)
            case dict():
                return {self.read(key): self.read(item) for key, item in value.items()}
            case Called():
                return self.known[value.name](self, value)


def not_data(reader: Reader, called: Called) -> object:
    """The meaning of names that occur as arguments only: classes."""
    raise RefusedPickle(f"calls '{called.name}', which makes no data")


def _bytes(reader: Reader, called: Called) -> bytes:
    """`_codecs.encode(text, 'latin1')`: how Python 3 writes bytes for Python 2."""
    text, encoding = called.arguments
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise RefusedPickle("encodes something that is not bytes")
    return text.encode("latin-1")


def _range(reader: Reader, called: Called) -> range:
    start, stop, step = called.arguments
    return range(whole(start), whole(stop), 1 if step is None else whole(step))


def _dtype(value: object) -> np.dtype[Any]:
    """`dtype('f8', 0, 1)` with state (version, byte order, ...): a plain number or an object."""
    if not isinstance(value, Called) or value.name != "numpy.dtype":
        raise RefusedPickle("has an array without a number type")
    code, state = value.arguments[0], value.state
    if not isinstance(code, str) or not re.fullmatch(r"[biufO][0-9]{0,2}", code):
        raise RefusedPickle("has an array of a type that is not a number")
    order = state[1] if isinstance(state, tuple) else "="
    if order not in ("<", ">", "|", "="):
        raise RefusedPickle("has an array of an unknown byte order")
    return np.dtype("O") if code[0] == "O" else np.dtype(f"{order}{code}")


def _raw(reader: Reader, value: object) -> bytes:
    data = reader.read(value)
    data = data.encode("latin-1") if isinstance(data, str) else data
    if not isinstance(data, bytes):
        raise RefusedPickle("has an array whose content is not bytes")
    return data


def _filled(raw: bytes, dtype: np.dtype[Any], shape: object, order: str) -> Array:
    if dtype.hasobject or not isinstance(shape, tuple):
        raise RefusedPickle("has an array of objects where numbers should be")
    flat = np.frombuffer(raw, dtype)
    sides = tuple(whole(side) for side in shape)
    if min(sides, default=0) < 0:
        raise ValueError("a negative side")
    rows: Array = flat.reshape(sides, order="F" if order == "F" else "C")
    return rows.astype(dtype.newbyteorder("="), copy=False)


def _array(reader: Reader, called: Called) -> object:
    """`_reconstruct(ndarray, (0,), 'b')` and its state; an array of objects becomes a list."""
    if called.arguments[0] != Name("numpy.ndarray") or not isinstance(called.state, tuple):
        raise RefusedPickle("has an array without content, or of another class")
    _, shape, dtype, fortran, data = called.state
    if not (element := _dtype(dtype)).hasobject:
        return _filled(_raw(reader, data), element, shape, "F" if fortran else "C")
    if not isinstance(data, list) or shape != (len(data),):
        raise RefusedPickle("has an array of objects that is not a plain list")
    return reader.read(data)


def _buffer(reader: Reader, called: Called) -> Array:
    """`_frombuffer(bytes, dtype, shape, order)`, protocol 5."""
    data, dtype, shape, order = called.arguments
    return _filled(_raw(reader, data), _dtype(dtype), shape, str(order))


def _scalar(reader: Reader, called: Called) -> object:
    dtype, data = called.arguments
    return _filled(_raw(reader, data), _dtype(dtype), (1,), "C")[0].item()


def whole(value: object) -> int:
    """A value that must be a whole number."""
    if not isinstance(value, int):
        raise TypeError("not a whole number")
    return value


def _instance(reader: Reader, called: Called) -> object:
    """`_reconstructor(class, object, None)`: protocols 0 and 1 make objects so."""
    kind = called.arguments[0]
    if not isinstance(kind, Name):
        raise RefusedPickle("makes an object of no class")
    return reader.known[kind.full](reader, Called(kind.full, (), called.state))


NUMPY: Mapping[str, Meaning] = {
    "numpy.dtype": not_data,
    "numpy.ndarray": not_data,
    **dict.fromkeys(("__builtin__.object", "builtins.object"), not_data),
    **dict.fromkeys(("__builtin__.slice", "builtins.slice"), _range),
    **dict.fromkeys(("copy_reg._reconstructor", "copyreg._reconstructor"), _instance),
    "_codecs.encode": _bytes,
    **{f"numpy.{core}.multiarray._reconstruct": _array for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray.scalar": _scalar for core in ("core", "_core")},
    **{f"numpy.{core}.numeric._frombuffer": _buffer for core in ("core", "_core")},
}
"""Names of pickled arrays and of Python's own helpers, of Python 2 and 3 and numpy 1 and 2."""
