"""Whether backpropagation through a solve fits the memory at hand: an estimate, framework-free.

It decides `gradient: auto` (docs/numerics.md, 6) and errs towards too much: mode `checkpoint`
costs one more evaluation for each that mode `direct` keeps, running out of memory costs the trial.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from harness.architecture.transforms import Shape, blocks_of
from harness.solvers import TABLEAUX
from harness.trial import (
    AdaptiveSolver,
    FixedSolver,
    GradientName,
    LibrarySolver,
    SolverSpec,
    Trial,
)

__all__ = ["SHARE", "affordable_gradients", "kept_bytes"]

SHARE = 0.5
"""Part of the memory at hand that `direct` may fill; arrays, moments and data have the rest."""
EVALUATIONS = 300
"""Bound on the evaluations of an adaptive solve, a block: FFJORD's flows take 50 to 200 at the
paper's tolerances."""
_LIBRARY_STAGES = 8
"""Bound on the stages of a library's fixed-step method."""

_FULL_JACOBIAN = frozenset(
    {"ffjord.jdiag", "ffjord.jfrob", "ffjord.joffdiag", "released.jdiag", "released.joffdiag"}
)
_NO_JACOBIAN = frozenset(
    {"ffjord.l1", "ffjord.l2", "kinetic_sum", "rnode.kinetic", "steer", "tpr"}
)


def affordable_gradients(
    trial: Trial, event_shape: Shape, at_hand: int | None
) -> tuple[GradientName, ...]:
    """Gradient modes, the best first; a backend may not support one for a trial.

    `direct` is best if what it keeps fits its share of `at_hand` bytes. If it does not, or they
    are not known, `checkpoint` and `adjoint` need little.
    """
    if at_hand is None or kept_bytes(trial, event_shape) > SHARE * at_hand:
        return "checkpoint", "adjoint", "direct"
    return "direct", "checkpoint", "adjoint"


def kept_bytes(trial: Trial, event_shape: Shape) -> int:
    """Bytes that one training step keeps in mode `direct`: a bound.

    An evaluation keeps, for every output of a layer, 4 numbers and 2 more for each tangent that
    goes along, and the weights once. That is 1.05 to 2.4 times what the torch backend keeps (the
    storage of all saved tensors, nine models with each kind of trace, layers and penalties).

    Raises:
        BackendError: The model does not fit data of this shape.
    """
    item = 8 if trial.precision == "float64" else 4
    evaluations = _evaluations(trial.solver)
    kept = 0
    for block in blocks_of(trial.model, event_shape):
        outputs = sum(math.prod(layer.outputs) for layer in block.layers)
        weights = sum(
            layer.inputs[0] * layer.outputs[0] * layer.kernel**2 for layer in block.layers
        )
        tangents = _tangents(trial, math.prod(block.shape))
        kept += evaluations * (trial.training.batch * outputs * (4 + 2 * tangents) + weights)
    return kept * item


def _evaluations(solver: SolverSpec) -> int:
    if isinstance(solver, FixedSolver):
        return TABLEAUX[solver.name].evaluations(solver.steps, heuristic=False)
    if isinstance(solver, LibrarySolver) and solver.steps is not None:
        return solver.steps * _LIBRARY_STAGES
    if isinstance(solver, AdaptiveSolver):
        most = TABLEAUX[solver.name].evaluations(solver.max_steps, heuristic=True)
        return min(EVALUATIONS, most)
    return EVALUATIONS


def _tangents(trial: Trial, dimensions: int) -> int:
    """Products with the Jacobian that an evaluation takes."""
    names: Iterable[str] = trial.regularizer
    whole = trial.training.trace == "exact" or not _FULL_JACOBIAN.isdisjoint(names)
    tangents = dimensions if whole else 1
    for name in names:
        if name.startswith("taylor_"):
            tangents += int(name.removeprefix("taylor_"))
        elif name not in _FULL_JACOBIAN | _NO_JACOBIAN:
            tangents += 1
    return tangents
