"""Reads the `setups` of a file of `papers/` into conditions (`harness_reports.published.setups`).

    setups:
      tabular:
        common: {solver.name: dopri5, solver.rtol: {at_most: 1e-6}}
        datasets:
          power: {model.hidden: [60, 60, 60]}

A condition is one accepted value, or a mapping of `any_of`, `at_least`, `at_most` and `otherwise`.
Those of a dataset replace common ones of the same name.
"""

from __future__ import annotations

from collections.abc import Mapping

from harness.reading.nodes import Node, Place
from harness.reading.validation import Problems, validate
from harness_reports.published.paper_forms import ConditionForm, SetupForm
from harness_reports.published.setups import Condition, Setup, known_names

__all__ = ["SetupReader"]


class SetupReader:
    """Gives the conditions of one file, and notes what is wrong with them.

    Arguments:
        forms: The set-ups by name.
        node: The file.
        problems: Where mistakes go.
    """

    def __init__(self, forms: Mapping[str, SetupForm], node: Node, problems: Problems) -> None:
        self._problems = problems
        self._nodes = node.items()["setups"] if forms else None
        self._used: set[str] = set()
        self._common: dict[str, dict[str, Condition]] = {}
        self._datasets: dict[str, dict[str, dict[str, Condition]]] = {}
        for name in forms:
            parts = self._entries(name)
            self._common[name] = self._read(parts.get("common"))
            single = parts["datasets"].items() if "datasets" in parts else {}
            self._datasets[name] = {key: self._read(below) for key, below in single.items()}

    def conditions(self, name: str, dataset: str, place: Place) -> Setup | None:
        """The conditions of a named set-up on a dataset; `place` is where it was named."""
        if name not in self._common:
            known = sorted(self._common)
            self._problems.add(place, f"unknown set-up '{name}'", known=known, found=name)
            return None
        self._used.add(name)
        single = self._datasets[name]
        if single and dataset not in single:
            self._problems.add(place, f"the set-up '{name}' does not say what '{dataset}' needs")
        return tuple({**self._common[name], **single.get(dataset, {})}.values())

    def note_unused(self) -> None:
        """Notes the set-ups that no row names."""
        for name in self._common.keys() - self._used:
            if self._nodes is not None:
                self._problems.add(self._nodes.keys[name], f"no row names the set-up '{name}'")

    def _entries(self, name: str) -> dict[str, Node]:
        return self._nodes.items()[name].items() if self._nodes is not None else {}

    def _read(self, node: Node | None) -> dict[str, Condition]:
        conditions: dict[str, Condition] = {}
        if node is None:
            return conditions
        for name, below in node.items().items():
            if name not in known_names():
                self._problems.add(
                    node.keys[name],
                    f"no spec has a value '{name}'",
                    known=sorted(known_names()),
                    found=name,
                )
            elif below.items():
                form: ConditionForm | None = validate(ConditionForm, below, name, self._problems)
                if form is not None:
                    accepted = tuple(map(_plain, form.any_of))
                    conditions[name] = Condition(
                        name, accepted, form.at_least, form.at_most, form.otherwise
                    )
            else:
                conditions[name] = Condition(name, (_plain(below.plain()),))
        return conditions


def _plain(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value
