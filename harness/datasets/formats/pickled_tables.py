"""Tables of pandas in a legacy pickle, read by hand: pandas 0.15 and later.

Layouts: until pandas 0.16 the state of a table is its block manager, since then a dict that holds
it. Until pandas 1.2 the manager has a state with the key '0.14.1', since then the arguments of its
constructor say the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

import numpy as np

from harness.datasets.formats.pickled_arrays import (
    Array,
    Called,
    Meaning,
    Name,
    Reader,
    RefusedPickle,
    not_data,
    whole,
)

__all__ = ["PANDAS"]


def _index(reader: Reader, called: Called) -> object:
    """`_new_Index(class, {...})`: the labels of an axis."""
    kind, parts = called.arguments
    if not isinstance(kind, Name) or not isinstance(parts, dict):
        raise RefusedPickle("has an index that is not labels")
    if kind.full.endswith("RangeIndex"):
        return range(*(whole(parts[key]) for key in ("start", "stop", "step")))
    return reader.read(parts["data"])


def _block(reader: Reader, called: Called) -> dict[str, object]:
    values, place, _ = called.arguments
    return {"values": reader.read(values), "mgr_locs": reader.read(place)}


def _manager(reader: Reader, called: Called) -> dict[str, object]:
    """The blocks of a table: `values` [columns, rows] and the places of these columns."""
    if called.arguments:
        blocks, axes = (reader.read(argument) for argument in called.arguments[:2])
        return {"blocks": blocks, "axes": axes}
    if not isinstance(called.state, tuple) or len(called.state) < 4:
        raise RefusedPickle("holds a table of pandas before 0.15, whose layout is not known")
    content = reader.read(called.state[3])
    if not isinstance(content, dict) or not isinstance(content["0.14.1"], dict):
        raise TypeError("no blocks")
    return content["0.14.1"]


def _frame(reader: Reader, called: Called) -> dict[str, Array]:
    """A table as {name: column}; until pandas 0.16 its state was the manager itself."""
    state = called.state
    if isinstance(state, dict):
        state = state.get("_mgr") or state.get("_data")
    manager = reader.read(state)
    if not isinstance(manager, dict) or not _is_sequence(manager["axes"]):
        raise TypeError("no axes")
    names, rows = manager["axes"]
    columns: dict[int, Array] = {}
    for block in manager["blocks"]:
        values, places = block["values"], block["mgr_locs"]
        if not isinstance(values, np.ndarray) or values.shape != (len(places), len(rows)):
            raise RefusedPickle("holds a table with a column that is not numbers")
        columns |= {int(place): column for place, column in zip(places, values, strict=True)}
    if sorted(columns) != list(range(len(names))) or len(set(names)) != len(names):
        raise ValueError("columns and names do not match")
    return {str(name): columns[place] for place, name in enumerate(names)}


def _is_sequence(value: object) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, list | tuple)


_INDEX_MODULES = ("pandas.core.index", "pandas.indexes", "pandas.core.indexes")
_INDEX_CLASSES = (
    *("Index", "base.Index", "RangeIndex", "range.RangeIndex"),
    *(f"{where}{kind}64Index" for where in ("", "numeric.") for kind in ("Int", "UInt", "Float")),
)

PANDAS: Mapping[str, Meaning] = {
    **dict.fromkeys(("pandas.core.frame.DataFrame", "pandas.DataFrame"), _frame),
    "pandas.core.internals.BlockManager": _manager,
    "pandas.core.internals.managers.BlockManager": _manager,
    "pandas._libs.internals._unpickle_block": _block,
    "pandas.core.index._new_Index": _index,
    "pandas.indexes.base._new_Index": _index,
    "pandas.core.indexes.base._new_Index": _index,
    **dict.fromkeys(("pandas.Index", "pandas.RangeIndex"), not_data),
    **{f"{m}.{kind}": not_data for m in _INDEX_MODULES for kind in _INDEX_CLASSES},
}
"""Names of a pickled table, of all its versions."""
