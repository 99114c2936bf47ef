"""The `trials` of a suite: blocks of axes over defaults, turned into grids of checked values."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from harness.reading.nodes import Node, Place
from harness.reading.validation import Problems
from harness.specs.resources import Resources
from harness.suites.axes import MERGED, Axes, dataset_name, merge, read_axis
from harness.suites.combinations import check_combinations
from harness.suites.data_rules import declared
from harness.suites.presets import PROTOCOLS, DataKind, kind_of, preset
from harness.trial import AXES

__all__ = ["Block", "read_blocks"]

REQUIRED = ("dataset", "backend", "solver")

_Entries = Mapping[str, tuple[Node, ...]]
_Key = TypeVar("_Key")


@dataclass(frozen=True)
class Block:
    """One entry of `trials`, defaults merged in.

    Arguments:
        grids: All axes of one grid multiply. There is one for each protocol that the block's
            `training` names and each kind of dataset, since these change the defaults of others.
    """

    grids: tuple[Axes, ...]


def read_blocks(
    trials: Node | None, defaults: Node | None, resources: Resources, problems: Problems
) -> tuple[Block, ...]:
    """Reads the blocks under `trials`; what is wrong is added to `problems`.

    Some values are only possible with the right `resources`.

    Defaults are checked even where every block overrides them.
    """
    below = _entries_of(defaults, "defaults", problems)
    for axis, nodes in below.items():
        for node in nodes:
            read_axis(axis, node, {}, problems)
    if trials is None:
        return ()
    if not isinstance(trials.value, tuple):
        problems.add(trials.place, f"'trials' must be a list of blocks, found {trials.kind()}")
        return ()
    if not trials.value:
        problems.add(trials.place, "'trials' is an empty list: there is nothing to run")
    return tuple(_block(node, below, resources, problems) for node in trials.value)


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


def _block(node: Node, below: _Entries, resources: Resources, problems: Problems) -> Block:
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
    return Block(_grids(merged, node.place, resources, problems))


def _grids(
    entries: _Entries, place: Place, resources: Resources, problems: Problems
) -> tuple[Axes, ...]:
    """One grid for each run of datasets of one kind and of training entries with one protocol."""
    empty = (Node({}, place),)
    filled = {**entries, **{axis: entries.get(axis, empty) for axis in MERGED}}
    grids = []
    for kind, data in _runs(filled.get("dataset", ()), _kind) or [("table", ())]:
        for protocol, training in _runs(filled["training"], _protocol):
            nodes = {**filled, "training": training, **({"dataset": data} if data else {})}
            defaults = preset(protocol, kind)
            axes = {
                axis: tuple(read_axis(axis, node, defaults, problems) for node in nodes[axis])
                for axis in AXES
                if axis in nodes
            }
            check_combinations(
                {**axes, "resources": (resources,)}, {**nodes, "resources": empty}, place, problems
            )
            grids.append(axes)
    return tuple(grids)


def _runs(
    nodes: tuple[Node, ...], key: Callable[[Node], _Key]
) -> list[tuple[_Key, tuple[Node, ...]]]:
    """Nodes that follow each other and have one key, with that key."""
    return [(value, tuple(run)) for value, run in itertools.groupby(nodes, key)]


def _kind(dataset: Node) -> DataKind:
    """The kind of a dataset; one that is wrong is reported when the entry is read."""
    return kind_of(declared(dataset_name(dataset, Problems())))


def _protocol(training: Node) -> str | None:
    """The protocol a training entry names; a wrong one is reported when the entry is read."""
    node = training.items().get("protocol")
    name = node.value if node is not None else None
    return name if isinstance(name, str) and name in PROTOCOLS else None
