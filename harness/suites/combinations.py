"""Holds all combinations of a grid to the rules of what can go together.

`harness.suites.spec_rules` has the rules that hold whatever the data, `harness.suites.data_rules`
those about the data.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from harness.reading.nodes import Node, Place
from harness.reading.validation import Problems
from harness.suites.data_rules import DATA_RULES
from harness.suites.spec_rules import SPEC_RULES

__all__ = ["check_combinations"]


def check_combinations(
    axes: Mapping[str, Sequence[Any]],
    nodes: Mapping[str, Sequence[Node]],
    place: Place,
    problems: Problems,
) -> None:
    """Adds what is impossible in a grid.

    Arguments:
        axes: Checked values by axis; None where a value was wrong.
        nodes: What the user wrote, by axis.
        place: The block, for an axis that the user left out.
        problems: Where complaints go.
    """
    for names, rule in (*SPEC_RULES, *DATA_RULES):
        choices = [
            tuple(zip(axes[name], nodes[name], strict=True))
            if name in axes
            else ((_ABSENT.get(name), Node({}, place)),)
            for name in names
        ]
        for combination in itertools.product(*choices):
            values = [value for value, _ in combination]
            if any(value is None for value in values):
                continue
            written = dict(zip(names, (node for _, node in combination), strict=True))
            for complaint in rule(*values):
                axis, *path = complaint.path
                problems.add(
                    _place(written[axis], path),
                    complaint.message,
                    known=complaint.known,
                    fix=complaint.fix,
                )


_ABSENT: Mapping[str, Any] = {"regularizer": {}, "precision": "float32"}
"""Values of axes that a block may leave out and that are not always filled in."""


def _place(node: Node, path: Sequence[str]) -> Place:
    """Of the innermost node on a path that the user wrote."""
    for key in path:
        if key not in node.items():
            break
        node = node.items()[key]
    return node.place
