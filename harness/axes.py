"""The axes of the grid: what each accepts, and how defaults, protocol and block combine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

from harness import backends, datasets
from harness.errors import DataError, InputError
from harness.protocols import protocol_defaults
from harness.solvers import ADAPTIVE_SOLVERS, FIXED_SOLVERS
from harness.trial import (
    AdaptiveSolver,
    Bound,
    DatasetRef,
    Evaluation,
    FixedSolver,
    GradientName,
    ModelSpec,
    Positive,
    PrecisionName,
    RegularizerName,
    SolverSpec,
    Training,
)
from harness.validation import Problems, validate
from harness.yaml_nodes import Node

__all__ = ["AXES", "MERGED", "Axes", "merge", "read_axis"]

Axes = Mapping[str, tuple[Any, ...]]
"""Checked values by axis."""

AXES = (
    *("dataset", "backend", "solver", "regularizer", "model", "training", "evaluation"),
    *("gradient", "precision", "seed"),
)
"""In this order the grid is walked, the seed fastest; only here does a list multiply."""
MERGED = ("model", "training", "evaluation")
"""Here a block's mapping is laid over that of `defaults`; elsewhere it replaces it."""

Regularizer = dict[RegularizerName, Positive]
Seed = Annotated[int, Bound(at_least=0)]


def merge(below: Node, over: Node) -> Node:
    """Lays a mapping over another, deeply; both keep their places. A solver is replaced whole."""
    if not (isinstance(below.value, dict) and isinstance(over.value, dict)):
        return over
    entries = dict(below.value)
    for key, node in over.value.items():
        entries[key] = merge(entries[key], node) if key in entries and key != "solver" else node
    return Node(entries, over.place, {**below.keys, **over.keys})


def read_axis(axis: str, node: Node, protocol: str | None, problems: Problems) -> Any | None:  # noqa: ANN401
    """Turns one entry of an axis into its value, or adds what is wrong and returns None.

    Arguments:
        axis: Name of the axis.
        node: The entry, defaults merged in.
        protocol: Supplies what the user left out.
        problems: Where mistakes go.
    """
    match axis:
        case "dataset":
            return _dataset(node, problems)
        case "backend":
            return _backend(node, problems)
        case "solver":
            return _solver(node, problems)
        case "regularizer":
            return _regularizer(node, problems)
        case "evaluation":
            return _evaluation(node, protocol, problems)
        case "model" | "training":
            kind = {"model": ModelSpec, "training": Training}[axis]
            defaults = protocol_defaults(protocol, axis)
            return validate(kind, node, axis, problems, defaults=defaults)
        case _:
            kinds = {"gradient": GradientName, "precision": PrecisionName, "seed": Seed}
            return validate(kinds[axis], node, axis, problems)


def _dataset(node: Node, problems: Problems) -> DatasetRef | None:
    if not isinstance(node.value, str):
        problems.add(node.place, f"'dataset' must be a name, found {node.kind()}")
        return None
    try:
        declared = datasets.declare(node.value)
    except InputError as error:
        for problem in error.problems:
            problems.add(
                node.place,
                problem.message,
                known=problem.known,
                found=problem.found,
                fix=problem.fix,
            )
        return None
    except DataError as error:
        problems.add(node.place, str(error))
        return None
    return DatasetRef(declared.name, declared.digest)


def _backend(node: Node, problems: Problems) -> str | None:
    if not isinstance(node.value, str):
        problems.add(node.place, f"'backend' must be a name, found {node.kind()}")
        return None
    known = backends.backend_names()
    if node.value not in known:
        problems.add(node.place, f"unknown backend '{node.value}'", known=known, found=node.value)
        return None
    return node.value


def _solver(node: Node, problems: Problems) -> SolverSpec | None:
    """A mapping with a name, or the bare name of an adaptive solver."""
    name_node = node.items().get("name") if isinstance(node.value, dict) else node
    if name_node is None:
        problems.add(node.place, "solver lacks 'name'", fix="add 'name: ...' here")
        return None
    name, known = name_node.value, (*ADAPTIVE_SOLVERS, *FIXED_SOLVERS)
    if not isinstance(name, str):
        problems.add(name_node.place, f"a solver's name must be text, found {name_node.kind()}")
        return None
    if name not in known:
        problems.add(name_node.place, f"unknown solver '{name}'", known=known, found=name)
        return None
    if name_node is node:
        if name in FIXED_SOLVERS:
            message = f"the fixed-step solver '{name}' needs a number of steps"
            problems.add(node.place, message, fix=f"write {{name: {name}, steps: 8}}")
            return None
        return AdaptiveSolver(name)
    value: SolverSpec | None
    if name in ADAPTIVE_SOLVERS:
        hints = {
            "steps": f"remove it, '{name}' chooses its steps by rtol and atol; "
            f"fixed-step solvers are {', '.join(FIXED_SOLVERS)}"
        }
        value = validate(
            AdaptiveSolver, node, f"the adaptive solver '{name}'", problems, hints=hints
        )
    else:
        advice = (
            f"remove it, '{name}' takes equal steps; "
            f"adaptive solvers are {', '.join(ADAPTIVE_SOLVERS)}"
        )
        hints = dict.fromkeys(("rtol", "atol", "first_step", "norm", "max_steps"), advice)
        value = validate(
            FixedSolver, node, f"the fixed-step solver '{name}'", problems, hints=hints
        )
    return value


def _regularizer(node: Node, problems: Problems) -> Regularizer | None:
    if node.value == "none":
        return {}
    if not isinstance(node.value, dict):
        problems.add(
            node.place,
            f"'regularizer' must be none or a mapping of names to weights, found {node.kind()}",
            fix="write none, or for example {rnode.kinetic: 0.01}",
        )
        return None
    value: Regularizer | None = validate(Regularizer, node, "regularizer", problems)
    return None if value is None else dict(sorted(value.items()))


def _evaluation(node: Node, protocol: str | None, problems: Problems) -> Evaluation | None:
    solver_node = node.items().get("solver")
    solver = None
    if solver_node is not None:
        # A union is told apart by the solver's name, as on the axis.
        node = replace(
            node, value={key: item for key, item in node.items().items() if key != "solver"}
        )
        if solver_node.value is not None:
            solver = _solver(solver_node, problems)
    value: Evaluation | None = validate(
        Evaluation,
        node,
        "evaluation",
        problems,
        defaults=protocol_defaults(protocol, "evaluation"),
    )
    return None if value is None else replace(value, solver=solver)
