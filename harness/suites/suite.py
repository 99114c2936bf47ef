"""Suite files: YAML to checked values, all mistakes of a file and its includes in one pass."""

from __future__ import annotations

import errno
import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import InputError
from harness.metrics.definitions import RECORDED
from harness.reading.nodes import Node, Place
from harness.reading.validation import Problems, validate
from harness.reading.yaml import read_yaml
from harness.specs.bounds import STRICT
from harness.specs.resources import Resources
from harness.suites.entries import Block, read_blocks
from harness.suites.filters import Filter, parse_filter
from harness.suites.limits import Budget, Gate, Timing
from harness.trial import AXES

__all__ = ["KEYS", "NAME", "ExcludeEntry", "Exclusion", "PlacedGate", "Suite", "load_suite"]

KEYS = (
    *("name", "description", "include", "defaults", "trials"),
    *("exclude", "gates", "resources", "budget", "timing"),
)
NAME = re.compile(r"[a-z0-9-]+")


@dataclass(frozen=True)
class ExcludeEntry:
    """An entry of `exclude` as it is written."""

    __pydantic_config__ = STRICT

    when: str
    reason: str


@dataclass(frozen=True)
class Exclusion:
    """Trials that are skipped, and why."""

    when: Filter
    reason: str
    place: Place


@dataclass(frozen=True)
class PlacedGate:
    """A gate and where it was written."""

    gate: Gate
    when: Filter
    place: Place


@dataclass(frozen=True)
class Suite:
    """A checked suite file.

    Arguments:
        name: Its name.
        description: What it is for.
        place: Where the file begins.
        included: The suites it includes; their trials come first, made by their own defaults and
            resources.
        blocks: Its own trials.
        exclusions: Hold for its own and the included trials.
        gates: Hold for its own and the included trials.
        resources: Of its own trials.
        budget: What it may spend.
        timing: How backends are timed side by side after the trials; None times nothing.
    """

    name: str
    description: str
    place: Place
    included: tuple[Suite, ...] = ()
    blocks: tuple[Block, ...] = ()
    exclusions: tuple[Exclusion, ...] = ()
    gates: tuple[PlacedGate, ...] = ()
    resources: Resources = field(default_factory=Resources)
    budget: Budget | None = None
    timing: Timing | None = None

    def all_gates(self) -> tuple[PlacedGate, ...]:
        """Its gates after those of the suites it includes."""
        inherited = tuple(gate for suite in self.included for gate in suite.all_gates())
        return inherited + self.gates


def load_suite(path: Path) -> Suite:
    """Reads and checks a suite file and the files it includes.

    Raises:
        InputError: With every mistake that was found, in all files.
    """
    problems = Problems()
    suite = _load(path, str(path), (), problems)
    problems.raise_if_any()
    if suite is None:
        raise AssertionError("a suite without problems was not built")
    return suite


def _load(path: Path, shown: str, chain: tuple[str, ...], problems: Problems) -> Suite | None:
    try:
        node = read_yaml(path, shown)
    except InputError as error:
        problems.extend(error)
        return None
    if not isinstance(node.value, dict):
        problems.add(
            node.place, f"a suite is a mapping of keys to values, found {node.kind()}", known=KEYS
        )
        return None
    for key, place in node.keys.items():
        if key not in KEYS:
            problems.add(place, f"unknown key '{key}' in the suite", known=KEYS, found=key)
    return _Reader(node, path, (*chain, os.path.realpath(path)), problems).suite()


class _Reader:
    """Reads one file; `chain` holds the real paths of the files that led here, itself last."""

    def __init__(self, node: Node, path: Path, chain: tuple[str, ...], problems: Problems) -> None:
        self._node, self._path, self._chain, self._problems = node, path, chain, problems
        self._keys = node.items()

    def suite(self) -> Suite:
        resources = self._part("resources", Resources) or Resources()
        return Suite(
            name=self._name(),
            description=self._text("description"),
            place=self._node.place,
            included=self._included(self._keys.get("include")),
            blocks=self._blocks(resources),
            exclusions=tuple(self._each("exclude", self._exclusion)),
            gates=tuple(self._each("gates", self._gate)),
            resources=resources,
            budget=self._part("budget", Budget),
            timing=self._part("timing", Timing),
        )

    def _name(self) -> str:
        node = self._keys.get("name")
        if node is None:
            self._problems.add(
                self._node.place, "the suite lacks 'name'", fix="add 'name: my-suite' at the top"
            )
            return ""
        if not isinstance(node.value, str) or not NAME.fullmatch(node.value):
            self._problems.add(
                node.place,
                f"'name' must be lower-case letters, digits and hyphens, found {node.kind()}",
            )
        return str(node.value)

    def _text(self, key: str) -> str:
        node = self._keys.get(key)
        if node is None:
            return ""
        if not isinstance(node.value, str):
            self._problems.add(node.place, f"'{key}' must be text, found {node.kind()}")
        return str(node.value)

    def _part(self, key: str, kind: type) -> Any:  # noqa: ANN401
        node = self._keys.get(key)
        return None if node is None else validate(kind, node, key, self._problems)

    def _each(self, key: str, read: Callable[[Node], Any | None]) -> list[Any]:
        """The entries of a list under `key`, read one by one; those with mistakes are left out."""
        node = self._keys.get(key)
        if node is None:
            return []
        if not isinstance(node.value, tuple):
            self._problems.add(node.place, f"'{key}' must be a list, found {node.kind()}")
            return []
        values = [read(item) for item in node.value]
        return [value for value in values if value is not None]

    def _included(self, node: Node | None) -> tuple[Suite, ...]:
        if node is None:
            return ()
        suites = []
        for item in node.value if isinstance(node.value, tuple) else (node,):
            if not isinstance(item.value, str):
                self._problems.add(item.place, f"'include' must name a file, found {item.kind()}")
                continue
            path = self._path.parent / item.value
            if not _can_be(path):
                self._problems.add(item.place, "no file can have this name")
                continue
            if os.path.realpath(path) in self._chain:
                start = self._chain.index(os.path.realpath(path))
                names = [Path(real).name for real in self._chain[start:]]
                cycle = " -> ".join([*names, path.name])
                self._problems.add(item.place, f"the files include each other: {cycle}")
                continue
            if not os.path.isfile(path):
                known = sorted(p.name for p in path.parent.glob("*.yaml") if p != self._path)
                self._problems.add(
                    item.place,
                    f"no such file '{item.value}'",
                    known=known,
                    found=path.name,
                    fix="paths are relative to the file that includes",
                )
                continue
            suite = _load(path, os.path.normpath(path), self._chain, self._problems)
            suites += [suite] if suite else []
        return tuple(suites)

    def _blocks(self, resources: Resources) -> tuple[Block, ...]:
        trials = self._keys.get("trials")
        if trials is None and "include" not in self._keys:
            self._problems.add(
                self._node.place,
                "the suite lacks 'trials'",
                fix="add a list of blocks, each with the axes to multiply",
            )
        return read_blocks(trials, self._keys.get("defaults"), resources, self._problems)

    def _exclusion(self, node: Node) -> Exclusion | None:
        value = validate(ExcludeEntry, node, "an exclusion", self._problems)
        if value is None:
            return None
        when = self._filter(node.items()["when"])
        return None if when is None else Exclusion(when, value.reason, node.place)

    def _gate(self, node: Node) -> PlacedGate | None:
        gate: Gate | None = validate(Gate, node, "a gate", self._problems)
        if gate is None:
            return None
        names = {"metric": gate.metric, "below": gate.below}
        for key, name in names.items():
            if isinstance(name, str) and name not in RECORDED:
                self._problems.add(
                    node.items()[key].place,
                    f"unknown metric '{name}'",
                    known=RECORDED,
                    found=name,
                )
        if isinstance(gate.below, float) and not math.isfinite(gate.below):
            self._problems.add(
                node.items()["below"].place, f"'below' must be finite, found {gate.below}"
            )
        when = self._filter(node.items()["when"])
        return None if when is None else PlacedGate(gate, when, node.place)

    def _filter(self, node: Node) -> Filter | None:
        place = node.place
        try:
            return parse_filter(str(node.value), f"{place.file}:{place.line}:{place.column}", AXES)
        except InputError as error:
            self._problems.extend(error, place)
            return None


def _can_be(path: Path) -> bool:
    """False for what no file can be called, by its length or its characters."""
    try:
        path.stat()
    except ValueError:
        return False
    except OSError as error:
        return error.errno != errno.ENAMETOOLONG
    return True
