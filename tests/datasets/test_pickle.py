"""Legacy pickles: read as data, never run."""

from __future__ import annotations

import os
import pickle
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.datasets.formats.pickle import read_pickle
from harness.errors import DataError


@dataclass(frozen=True)
class Call:
    """A call that a pickle asks for: `name(*arguments)`, then its state."""

    name: str
    arguments: tuple[Any, ...] = ()
    state: Any = None
    new: bool = False


@dataclass(frozen=True)
class Global:
    name: str


def python2(value: Any) -> bytes:  # noqa: ANN401
    """Writes a value as Python 2 does in protocol 2: texts and arrays as byte strings."""
    match value:
        case None:
            return b"N"
        case bool():
            return b"\x88" if value else b"\x89"
        case int():
            return b"J" + struct.pack("<i", value)
        case float():
            return b"G" + struct.pack(">d", value)
        case str() | bytes():
            raw = value.encode("latin-1") if isinstance(value, str) else value
            short = len(raw) < 256
            return (
                b"U" + bytes([len(raw)]) if short else b"T" + struct.pack("<i", len(raw))
            ) + raw
        case tuple():
            return b"(" + b"".join(map(python2, value)) + b"t"
        case list():
            return b"](" + b"".join(map(python2, value)) + b"e"
        case dict():
            return (
                b"}(" + b"".join(python2(item) for pair in value.items() for item in pair) + b"u"
            )
        case Global():
            module, _, name = value.name.rpartition(".")
            return f"c{module}\n{name}\n".encode()
        case Call():
            made = python2(Global(value.name)) + python2(value.arguments)
            made += b"\x81" if value.new else b"R"
            return made if value.state is None else made + python2(value.state) + b"b"
        case np.ndarray():
            return python2(array(value))
    raise TypeError(type(value))


def array(x: Any) -> Call:  # noqa: ANN401
    fortran = x.flags.f_contiguous and not x.flags.c_contiguous
    if x.dtype == object:
        code, state, content = "O8", (3, "|", None, None, None, -1, -1, 63), list(x)
    else:
        code, state = x.dtype.str[1:], (3, x.dtype.str[0], None, None, None, -1, -1, 0)
        content = x.tobytes("F" if fortran else "C")
    dtype = Call("numpy.dtype", (code, 0, 1), state)
    start = (Global("numpy.ndarray"), (0,), "b")
    return Call("numpy.core.multiarray._reconstruct", start, (1, x.shape, dtype, fortran, content))


def frame_of_2017(**columns: Any) -> bytes:  # noqa: ANN401
    """A table as pandas 0.20 pickles it, each number type in a block of its own."""
    names, rows = list(columns), len(next(iter(columns.values())))
    kinds = sorted({column.dtype.str for column in columns.values()})
    blocks = []
    for kind in kinds:
        places = [i for i, name in enumerate(names) if columns[name].dtype.str == kind]
        contiguous = places == list(range(places[0], places[-1] + 1))
        span = Call("__builtin__.slice", (places[0], places[-1] + 1, 1))
        values = np.stack([columns[names[place]] for place in places])
        # pandas keeps the result of a selection of rows column by column.
        values = np.asfortranarray(values)
        blocks.append(
            {"values": values, "mgr_locs": span if contiguous else np.array(places, "<i8")}
        )
    module = "pandas.core.indexes"
    items = Call(
        f"{module}.base._new_Index",
        (Global(f"{module}.base.Index"), {"data": np.array(names, object), "name": None}),
    )
    index = Call(
        f"{module}.base._new_Index",
        (Global(f"{module}.numeric.Int64Index"), {"data": np.arange(rows)[::-1], "name": None}),
    )
    axes = [items, index]
    contents = [block["values"] for block in blocks]
    manager = Call(
        "pandas.core.internals.BlockManager",
        state=(
            axes,
            contents,
            [items] * len(blocks),
            {"0.14.1": {"axes": axes, "blocks": blocks}},
        ),
        new=True,
    )
    state = {"_data": manager, "_typ": "dataframe", "_metadata": []}
    table = Call("pandas.core.frame.DataFrame", state=state, new=True)
    return b"\x80\x02" + python2(table) + b"."


@pytest.fixture
def read(tmp_path: Path) -> Callable[[bytes], Any]:
    def write_and_read(content: bytes) -> Any:  # noqa: ANN401
        path = tmp_path / "legacy.pkl"
        path.write_bytes(content)
        return read_pickle("gas", path)

    return write_and_read


X = np.random.Generator(np.random.PCG64(0)).normal(size=(7, 3))


def test_a_table_of_pandas_in_python_2(read: Callable[[bytes], Any]) -> None:
    columns = {"Time": X[:, 0], "Meth": np.arange(7) * 3, "R1": X[:, 1], "R2": X[:, 2]}
    table = read(frame_of_2017(**columns))
    assert list(table) == list(columns)
    for name, column in columns.items():
        np.testing.assert_array_equal(table[name], column)
        assert table[name].dtype == column.dtype


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_table_of_the_pandas_installed_here(protocol: int, read: Callable[[bytes], Any]) -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(X, columns=pandas.Index(["Time", "Eth", "R1"], dtype=object))
    table["count"] = np.arange(7)
    sample = table.sample(frac=0.6, random_state=0)
    found = read(pickle.dumps(sample, protocol))
    assert {name: column.tolist() for name, column in found.items()} == sample.to_dict("list")


@pytest.mark.parametrize("dtype", ["u1", "<i4", ">f8", "<f2", "?"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_an_array_of_python_2(dtype: str, order: Any, read: Callable[[bytes], Any]) -> None:  # noqa: ANN401
    x = np.asarray(np.arange(200).reshape(20, 10) % 7, dtype, order=order)
    found = read(b"\x80\x02" + python2([x]) + b".")
    np.testing.assert_array_equal(found[0], x)
    assert found[0].dtype == x.dtype.newbyteorder("=")


def test_an_array_in_text_form(read: Callable[[bytes], Any]) -> None:
    """Protocol 0 of Python 2, the form of the Frey Faces: content as an escaped string."""
    text = (
        b"(lp0\ncnumpy.core.multiarray\n_reconstruct\np1\n(cnumpy\nndarray\np2\n(I0\ntp3\nS'b'\n"
        b"tRp4\n(I1\n(I2\nI3\ntcnumpy\ndtype\n(S'u1'\nI0\nI1\ntR(I3\nS'|'\nNNNI-1\nI-1\nI0\ntb"
        b"I00\nS'\\x00\\n\\xffab\\''\ntba."
    )
    np.testing.assert_array_equal(read(text)[0], [[0, 10, 255], [97, 98, 39]])


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_containers(protocol: int, read: Callable[[bytes], Any]) -> None:
    shared = [1, 2.5]
    value = {"a": (1, -(10**30), None, True), 3: [shared, shared, []], "é": b"\x00\xff", (): {}}
    assert read(pickle.dumps(value, protocol)) == value


class Exploit:
    def __init__(self, call: Callable[..., Any], *arguments: Any) -> None:  # noqa: ANN401
        self._call = call, arguments

    def __reduce__(self) -> Any:  # noqa: ANN401
        return self._call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("call", [os.system, os.mkdir, eval, getattr])
def test_code_is_refused_and_not_executed(
    call: Callable[..., Any],
    protocol: int,
    tmp_path: Path,
    read: Callable[[bytes], Any],
) -> None:
    target = tmp_path / "executed"
    argument = {os.system: f"mkdir {target}", os.mkdir: str(target)}.get(
        call, f"__import__('os').mkdir({str(target)!r})"
    )
    content = pickle.dumps([1, Exploit(call, argument)], protocol)
    with pytest.raises(DataError, match=r"legacy\.pkl asks for '.*'.* nothing in it was executed"):
        read(content)
    assert not target.exists()
    if call in (os.system, os.mkdir):
        pickle.loads(content)
        assert target.exists(), "the pickle of this test is harmless"


NAMED = b"cnumpy\nndarray\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        # Attributes of permitted names are not permitted.
        (b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__init__\x93.", "asks for"),
        (b"\x80\x04\x8c\x05numpy\x8c\x04load\x93.", r"asks for 'numpy\.load'"),
        (b"cos\nsystem\n.", r"asks for 'os\.system'"),
        (b"(ios\nsystem\n.", "opcode INST"),
        (b"(" + NAMED + b"o.", "opcode OBJ"),
        (b"\x82\x01.", "opcode EXT1"),
        (b"Pid\n.", "opcode PERSID"),
        (b"\x97.", "opcode NEXT_BUFFER"),
        (NAMED + b".", r"holds the name 'numpy\.ndarray'"),
        (NAMED + b")R.", r"calls 'numpy\.ndarray', which makes no data"),
        (NAMED + b"}b.", "sets the state of something"),
        (NAMED + b"]R.", "calls something that is not a name"),
        (b"})R.", "calls something that is not a name"),
        (NAMED + b"K\x01a.", "appends to something"),
        (NAMED + b"K\x01K\x02s.", "sets items of something"),
        (b"}" + NAMED + b"K\x02s.", "keys are not plain"),
        (b"}]K\x02s.", "keys are not plain"),
        (b"]q\x00h\x00a.", "contains itself"),
        (b"c_codecs\nencode\nU\x01aU\x05rot13\x86R.", "encodes something"),
        (b"\x80\x02" + python2(Call("numpy.dtype", ("f8",))) + b".", "makes no data"),
        (b"\x80\x02" + python2(np.array([[1, 2]], object)) + b".", "array of objects"),
    ],
)
def test_what_is_not_data_is_refused(
    content: bytes, message: str, read: Callable[[bytes], Any]
) -> None:
    with pytest.raises(DataError, match=message + ".*; nothing in it was executed"):
        read(content)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b".",
        b"a",
        b"K",
        b"]",
        b"\xff.",
        b"t.",
        b"0.",
        b"h\x05.",
        b"(K\x01u.",
        # Lengths that no file of this size can hold.
        b"B\xff\xff\xff\x7fabc.",
        b"\x8e" + b"\xff" * 7 + b"\x7fabc.",
        b"\x8b\xff\xff\xff\x7f\x01.",
        b"\x80\x02" + python2(Call("__builtin__.slice", (1, 2))) + b".",
        b"\x80\x02" + python2(array(X)).replace(b"f8", b"f3") + b".",
        b"(" * 100_000 + b"t" * 100_000 + b".",
    ],
)
def test_damaged_pickles(content: bytes, read: Callable[[bytes], Any]) -> None:
    with pytest.raises(DataError, match=r"legacy\.pkl is damaged or cut short"):
        read(content)


def test_any_cut_and_any_flipped_byte_is_an_error_or_data(read: Callable[[bytes], Any]) -> None:
    content = frame_of_2017(Time=X[:, 0], Meth=np.arange(7), R1=X[:, 1])
    rng = np.random.Generator(np.random.PCG64(0))
    for length in rng.integers(len(content), size=60):
        with pytest.raises(DataError):
            read(content[:length])
    for place in rng.integers(len(content), size=200):
        flipped = bytearray(content)
        flipped[place] ^= 1 << int(rng.integers(8))
        try:
            read(bytes(flipped))
        except DataError:
            continue


def test_a_large_index_of_the_memo_costs_no_memory(read: Callable[[bytes], Any]) -> None:
    assert read(b"]r\xff\xff\xff\xff.") == []
