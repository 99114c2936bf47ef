"""The axes of the grid: what each accepts, and how defaults, protocol and block combine."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, get_args

from harness import backends
from harness.datasets import registry as datasets
from harness.errors import DataError, InputError
from harness.reading.nodes import Node
from harness.reading.validation import Problems, validate
from harness.solvers import ADAPTIVE_SOLVERS, FIXED_SOLVERS, LIBRARY_SOLVERS
from harness.specs.own_data import OwnData
from harness.suites.presets import Preset
from harness.trial import (
    AdaptiveSolver,
    DatasetRef,
    Evaluation,
    FixedSolver,
    FlowMatching,
    LibrarySolver,
    MaximumLikelihood,
    ObjectiveName,
    ObjectiveSpec,
    Positive,
    RegularizerName,
    SolverSpec,
    Trial,
    annotations_of,
)

__all__ = ["MERGED", "VALUES", "Axes", "dataset_name", "merge", "read_axis"]

Axes = Mapping[str, tuple[Any, ...]]
"""Checked values by axis."""

MERGED = ("model", "training", "evaluation")
"""Here a block's mapping is laid over that of `defaults`; elsewhere it replaces it."""

LIBRARY_SOLVER = re.compile(rf"({'|'.join(sorted(LIBRARY_SOLVERS, reverse=True))}):\w+")
"""What `library` of a solver looks like."""

Regularizer = dict[RegularizerName, Positive]
VALUES: Mapping[str, Any] = {**annotations_of(Trial), "regularizer": Regularizer}
"""By axis, the annotation of its values: that of the trial's field, but a dict where that is any
mapping, since pydantic makes a dict."""


def merge(below: Node, over: Node) -> Node:
    """Lays a mapping over another, deeply; both keep their places. A solver is replaced whole."""
    if not (isinstance(below.value, dict) and isinstance(over.value, dict)):
        return over
    entries = dict(below.value)
    for key, node in over.value.items():
        entries[key] = merge(entries[key], node) if key in entries and key != "solver" else node
    return Node(entries, over.place, {**below.keys, **over.keys})


def read_axis(axis: str, node: Node, preset: Preset, problems: Problems) -> Any | None:  # noqa: ANN401
    """Turns one entry of an axis into its value, or adds what is wrong and returns None.

    Arguments:
        axis: Name of the axis.
        node: The entry, defaults merged in.
        preset: Supplies what the user left out (`harness.suites.presets`).
        problems: Where mistakes go.
    """
    match axis:
        case "dataset":
            return _dataset(node, problems)
        case "backend":
            return _backend(node, problems)
        case "solver":
            return _solver(node, preset, problems)
        case "regularizer":
            return _regularizer(node, problems)
        case "evaluation":
            return _evaluation(node, preset, problems)
        case "objective":
            return _objective(node, problems)
        case _:
            return validate(VALUES[axis], node, axis, problems, defaults=preset.get(axis))


def dataset_name(node: Node, problems: Problems) -> str | None:
    """The name that an entry gives: a text, or a mapping that says how an own file is prepared."""
    if isinstance(node.value, str):
        return node.value
    if not isinstance(node.value, dict):
        problems.add(
            node.place, f"'dataset' must be a name or a mapping with one, found {node.kind()}"
        )
        return None
    own: OwnData | None = validate(OwnData, node, "dataset", problems)
    return None if own is None else own.dataset


def _dataset(node: Node, problems: Problems) -> DatasetRef | None:
    name = dataset_name(node, problems)
    if name is None:
        return None
    try:
        declared = datasets.declare(name)
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


def _solver(node: Node, preset: Preset, problems: Problems) -> SolverSpec | None:
    """A mapping with a name or a library, or the bare name of an adaptive solver."""
    if "library" in node.items():
        return _library_solver(node, problems)
    name_node = node.items().get("name") if isinstance(node.value, dict) else node
    if name_node is None:
        fix = "add 'name: ...' here, or 'library: ...' for a solver of torchdiffeq or diffrax"
        problems.add(node.place, "solver lacks 'name'", fix=fix)
        return None
    name, known = name_node.value, (*ADAPTIVE_SOLVERS, *FIXED_SOLVERS)
    if not isinstance(name, str):
        problems.add(name_node.place, f"a solver's name must be text, found {name_node.kind()}")
        return None
    if name not in known:
        remedy = f'write {{library: "{name}"}}' if LIBRARY_SOLVER.fullmatch(name) else None
        message = f"unknown solver '{name}'"
        problems.add(name_node.place, message, known=known, found=name, fix=remedy)
        return None
    if name in FIXED_SOLVERS:
        return _fixed_solver(name, node, problems)
    if name_node is node:
        node = Node({"name": node}, node.place)
    hints = {
        "steps": f"remove it, '{name}' chooses its steps by rtol and atol; "
        f"fixed-step solvers are {', '.join(FIXED_SOLVERS)}"
    }
    what, defaults = f"the adaptive solver '{name}'", preset.get("solver", {})
    value: AdaptiveSolver | None = validate(
        AdaptiveSolver, node, what, problems, hints=hints, defaults=defaults
    )
    return value


def _fixed_solver(name: str, node: Node, problems: Problems) -> FixedSolver | None:
    if not isinstance(node.value, dict):
        message = f"the fixed-step solver '{name}' needs a number of steps"
        problems.add(node.place, message, fix=f"write {{name: {name}, steps: 8}}")
        return None
    adaptive = ", ".join(ADAPTIVE_SOLVERS)
    advice = f"remove it, '{name}' takes equal steps; adaptive solvers are {adaptive}"
    what, hints = f"the fixed-step solver '{name}'", _of_adaptive(FixedSolver, advice)
    value: FixedSolver | None = validate(FixedSolver, node, what, problems, hints=hints)
    return value


def _library_solver(node: Node, problems: Problems) -> LibrarySolver | None:
    advice = "remove it: a solver of a library runs under the library's own control"
    what, hints = "a solver of a library", _of_adaptive(LibrarySolver, advice)
    value: LibrarySolver | None = validate(LibrarySolver, node, what, problems, hints=hints)
    if value is None:
        return None
    if not LIBRARY_SOLVER.fullmatch(value.library):
        problems.add(
            node.items()["library"].place,
            f"'library' must be torchdiffeq:<name> or diffrax:<Name>, found '{value.library}'",
            fix='write for example {library: "torchdiffeq:adaptive_heun"} or '
            '{library: "diffrax:Kvaerno5"}',
        )
        return None
    library, _, name = value.library.partition(":")
    known = LIBRARY_SOLVERS[library]
    if name not in known:
        problems.add(
            node.items()["library"].place,
            f"{library} has no solver '{name}' for these equations",
            known=known,
            found=name,
        )
        return None
    return value


def _of_adaptive(kind: type, advice: str) -> dict[str, str]:
    """The advice for every key that adaptive solvers have and `kind` does not."""
    return dict.fromkeys(
        annotations_of(AdaptiveSolver).keys() - annotations_of(kind).keys(), advice
    )


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


def _evaluation(node: Node, preset: Preset, problems: Problems) -> Evaluation | None:
    solver_node = node.items().get("solver")
    solver = None
    if solver_node is not None:
        # A union is told apart by the solver's name, as on the axis.
        node = replace(
            node, value={key: item for key, item in node.items().items() if key != "solver"}
        )
        if solver_node.value is not None:
            solver = _solver(solver_node, preset, problems)
    if isinstance(solver, AdaptiveSolver) and solver.first_step == "warm":
        problems.add(
            solver_node.items()["first_step"].place if solver_node else node.place,
            "an evaluation has no step before it, so no warm first step",
            known=("heuristic", "whole"),
            fix="remove it; a training solver that is warm takes the heuristic in evaluation",
        )
    defaults = preset.get("evaluation", {})
    value: Evaluation | None = validate(
        Evaluation, node, "evaluation", problems, defaults=defaults
    )
    return None if value is None else replace(value, solver=solver)


def _objective(node: Node, problems: Problems) -> ObjectiveSpec | None:
    """A mapping with a name, or the bare name."""
    name_node = node.items().get("name") if isinstance(node.value, dict) else node
    known = get_args(ObjectiveName)
    if name_node is None:
        problems.add(node.place, "objective lacks 'name'", known=known, fix="add 'name: ...' here")
        return None
    name = name_node.value
    if name not in known:
        text = name if isinstance(name, str) else None
        what = f"unknown objective '{name}'" if text else _no_name(name_node)
        problems.add(name_node.place, what, known=known, found=text)
        return None
    if name_node is node:
        node = Node({"name": node}, node.place)
    kind = FlowMatching if name == "flow_matching" else MaximumLikelihood
    hints = dict.fromkeys(
        annotations_of(FlowMatching).keys() - annotations_of(kind).keys(),
        "remove it, or write name: flow_matching",
    )
    what = f"the objective '{name}'"
    value: ObjectiveSpec | None = validate(kind, node, what, problems, hints=hints)
    return value


def _no_name(node: Node) -> str:
    return f"an objective's name must be text, found {node.kind()}"
