"""The `trials` of a suite: blocks of axes over defaults, turned into grids of checked values."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

from harness.axes import AXES, MERGED, Axes, merge, read_axis
from harness.protocols import PROTOCOLS
from harness.validation import Problems
from harness.yaml_nodes import Node, Place

__all__ = ["Block", "read_blocks"]

REQUIRED = ("dataset", "backend", "solver")

_Entries = Mapping[str, tuple[Node, ...]]


@dataclass(frozen=True)
class Block:
    """One entry of `trials`, defaults merged in.

    Arguments:
        grids: All axes of one grid multiply. There is one grid for each protocol that the block's
            `training` names, since a protocol changes the defaults of other axes.
    """

    grids: tuple[Axes, ...]


def read_blocks(
    trials: Node | None, defaults: Node | None, problems: Problems
) -> tuple[Block, ...]:
    """Reads the blocks under `trials`; what is wrong is added to `problems`.

    Defaults are checked even where every block overrides them.
    """
    below = _entries_of(defaults, "defaults", problems)
    for axis, nodes in below.items():
        for node in nodes:
            read_axis(axis, node, None, problems)
    if trials is None:
        return ()
    if not isinstance(trials.value, tuple):
        problems.add(trials.place, f"'trials' must be a list of blocks, found {trials.kind()}")
        return ()
    if not trials.value:
        problems.add(trials.place, "'trials' is an empty list: there is nothing to run")
    return tuple(_block(node, below, problems) for node in trials.value)


def _entries_of(node: Node | None, what: str, problems: Problems) -> _Entries:
    """The entries of each axis in a mapping, one where no list multiplies."""
    if node is None:
        return {}
    if not isinstance(node.value, dict):
        message = f"{what} must be a mapping of axes, found {node.kind()}"
        problems.add(node.place, message, known=AXES)
        return {}
    entries = {}
    for key, item in node.value.items():
        if key not in AXES:
            message = f"unknown key '{key}' in {what}"
            problems.add(node.keys[key], message, known=AXES, found=key)
        elif isinstance(item.value, tuple):
            entries[key] = item.value
            if not item.value:
                problems.add(
                    item.place,
                    f"'{key}' is an empty list: the grid has no trials",
                    fix="name at least one value, or remove the key",
                )
        else:
            entries[key] = (item,)
    return entries


def _block(node: Node, below: _Entries, problems: Problems) -> Block:
    over = _entries_of(node, "a block of trials", problems)
    merged: dict[str, tuple[Node, ...]] = {}
    for axis in AXES:
        if axis in MERGED and axis in below and axis in over:
            merged[axis] = tuple(merge(b, o) for b in below[axis] for o in over[axis])
        elif axis in below or axis in over:
            merged[axis] = over[axis] if axis in over else below[axis]
        elif axis in REQUIRED and isinstance(node.value, dict):
            problems.add(
                node.place,
                f"the block names no {axis}",
                fix=f"add '{axis}: ...' to the block or to defaults",
            )
    return Block(_grids(merged, node.place, problems))


def _grids(entries: _Entries, place: Place, problems: Problems) -> tuple[Axes, ...]:
    """One grid for each run of training entries with the same protocol."""
    empty = (Node({}, place),)
    filled = {axis: entries.get(axis, empty) for axis in MERGED}
    grids = []
    for protocol, training in itertools.groupby(filled["training"], _protocol):
        nodes = {**entries, **filled, "training": tuple(training)}
        grids.append(
            {
                axis: tuple(read_axis(axis, node, protocol, problems) for node in nodes[axis])
                for axis in AXES
                if axis in nodes
            }
        )
    return tuple(grids)


def _protocol(training: Node) -> str | None:
    """The protocol a training entry names; a wrong one is reported when the entry is read."""
    node = training.items().get("protocol")
    name = node.value if node is not None else None
    return name if isinstance(name, str) and name in PROTOCOLS else None
