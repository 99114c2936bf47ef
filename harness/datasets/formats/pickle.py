"""Reads the legacy pickles of the field as data: nothing is imported, nothing is called.

Two public datasets exist only as pickles of Python 2: GAS (a pandas table) and Frey Faces (a numpy
array). A pickle is a program for a small stack machine that may call anything, so this is such a
machine without the calls: a name outside the closed table `KNOWN` is refused as soon as it
appears, a name inside it stays a name, and a call becomes a `Called`, which is read as the array
or table it stands for. The arguments of opcodes are decoded by the standard library's
`pickletools`.
"""

from __future__ import annotations

import codecs
import io
import pickletools
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path

from harness.datasets.formats.pickled_arrays import NUMPY, Called, Name, Reader, RefusedPickle
from harness.datasets.formats.pickled_tables import PANDAS
from harness.errors import DataError

__all__ = ["read_pickle"]

LARGEST = 1 << 30
"""Bytes; the pickle of GAS has 0.2 GB."""

KNOWN = {**NUMPY, **PANDAS}
"""The closed table: every name that a pickle may contain, and how a call of it is read."""

_OPCODES = {opcode.code.encode("latin-1"): opcode for opcode in pickletools.opcodes}
# Opcodes that push their own argument, a number or a string.
_LITERALS = frozenset(
    {
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
        *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    }
)
# Opcodes that push a value of their own, a container anew each time.
_CONSTANTS: Mapping[str, Callable[[], object]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_TUPLE": tuple,
}


def read_pickle(dataset: str, path: Path) -> object:
    """Reads a pickle of plain data without running it.

    Strings of Python 2 are decoded as Latin-1.

    Arguments:
        dataset: Name of the dataset, for messages.
        path: The file.

    Returns:
        Numbers, strings, bytes, lists, tuples, dicts and numpy arrays; a pandas table is a dict of
        its columns, in their order.

    Raises:
        DataError: The file is damaged, or asks for anything that is not plain data.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise RefusedPickle(f"has more than {LARGEST >> 20} MB")
        return Reader(KNOWN).read(_Machine(io.BytesIO(path.read_bytes())).run())
    except RefusedPickle as error:
        remedy = ""
        if "pandas" in str(error):
            remedy = (
                ". It was pickled by a pandas whose tables are not known here: take the published "
                "file, or write it with an older pandas"
            )
        raise DataError(
            f"dataset '{dataset}': {path.name} {error}; nothing in it was executed{remedy}"
        ) from error
    # The machine pops what a damaged program never pushed, and indexes what is no container.
    except (
        *(OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError),
        *(MemoryError, RecursionError),
    ) as error:
        raise DataError(
            f"dataset '{dataset}': {path.name} is damaged or cut short; fetch it again"
        ) from error


class _Machine:
    """The stack machine of a pickle.

    Arguments:
        stream: The whole file in memory, so that no announced length can exceed it.
    """

    def __init__(self, stream: io.BytesIO) -> None:
        self._stream = stream
        self._stack: list[object] = []
        self._marks: list[int] = []
        self._memo: dict[int, object] = {}

    def run(self) -> object:
        """Runs up to STOP and returns what it leaves."""
        while code := self._stream.read(1):
            opcode = _OPCODES[code]
            if opcode.name == "STOP":
                return self._stack.pop()
            argument: object = None
            if opcode.name == "STRING":
                quoted = pickletools.read_stringnl(self._stream, decode=False)
                # Python 2 wrote the escaped bytes of its strings.
                argument = codecs.escape_decode(quoted)[0].decode("latin-1")
            elif opcode.arg is not None:
                argument = opcode.arg.reader(self._stream)
            if opcode.name in _LITERALS:
                self._stack.append(argument)
            elif opcode.name in _CONSTANTS:
                self._stack.append(_CONSTANTS[opcode.name]())
            else:
                self._move(opcode.name, argument)
        raise ValueError("no STOP")

    def _move(self, opcode: str, argument: object) -> None:
        """Opcodes that move what is on the stack, to the memo and back; then all others."""
        stack = self._stack
        match opcode:
            case "PROTO" | "FRAME":
                pass
            case "MARK":
                self._marks.append(len(stack))
            case "POP_MARK":
                self._marked()
            case "POP":
                stack.pop()
            case "DUP":
                stack.append(stack[-1])
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self._memo[_integer(argument)] = stack[-1]
            case "MEMOIZE":
                self._memo[len(self._memo)] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(self._memo[_integer(argument)])
            case _:
                self._contain(opcode, argument)

    def _contain(self, opcode: str, argument: object) -> None:
        """Opcodes that make containers and fill them; then all others."""
        stack = self._stack
        match opcode:
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                count = int(opcode[-1])
                stack[-count:] = [tuple(stack[-count:])]
            case "TUPLE":
                stack.append(tuple(self._marked()))
            case "LIST":
                stack.append(self._marked())
            case "DICT":
                items = self._marked()
                stack.append({})
                self._set_items(items)
            case "APPEND":
                self._append([stack.pop()])
            case "APPENDS":
                self._append(self._marked())
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                self._set_items([key, value])
            case "SETITEMS":
                self._set_items(self._marked())
            case _:
                self._call(opcode, argument)

    def _call(self, opcode: str, argument: object) -> None:
        """Opcodes that name something or call it; all others are refused."""
        stack = self._stack
        match opcode:
            case "GLOBAL":
                module, _, name = str(argument).partition(" ")
                stack.append(_known(module, name))
            case "STACK_GLOBAL":
                name, module = str(stack.pop()), str(stack.pop())
                stack.append(_known(module, name))
            case "REDUCE" | "NEWOBJ" | "NEWOBJ_EX":
                # Python 3.4 gave every object keyword arguments, always none.
                if opcode == "NEWOBJ_EX" and stack.pop() != {}:
                    raise RefusedPickle("makes an object from keyword arguments")
                arguments, function = stack.pop(), stack.pop()
                stack.append(_called(function, arguments))
            case "BUILD":
                state, built = stack.pop(), stack[-1]
                if not isinstance(built, Called) or built.state is not None:
                    raise RefusedPickle("sets the state of something that is not data")
                built.state = state
            case _:
                raise RefusedPickle(f"uses the opcode {opcode}, which plain data do not need")

    def _marked(self) -> list[object]:
        """Takes what lies above the topmost mark."""
        start = self._marks.pop()
        items = self._stack[start:]
        del self._stack[start:]
        return items

    def _append(self, items: list[object]) -> None:
        target = self._stack[-1]
        if not isinstance(target, list):
            raise RefusedPickle("appends to something that is not a list")
        target.extend(items)

    def _set_items(self, items: list[object]) -> None:
        target = self._stack[-1]
        if not isinstance(target, dict):
            raise RefusedPickle("sets items of something that is not a dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, Hashable) or isinstance(key, Called | Name):
                raise RefusedPickle("has a dict whose keys are not plain data")
            target[key] = value


def _known(module: str, name: str) -> Name:
    full = f"{module}.{name}"
    if full not in KNOWN:
        raise RefusedPickle(f"asks for '{full}', which is not data")
    return Name(full)


def _called(function: object, arguments: object) -> Called:
    if not isinstance(function, Name) or not isinstance(arguments, tuple):
        raise RefusedPickle("calls something that is not a name")
    return Called(function.full, arguments)


def _integer(argument: object) -> int:
    if not isinstance(argument, int):
        raise ValueError("a memo key that is no number")
    return argument
