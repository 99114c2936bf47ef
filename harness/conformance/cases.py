"""The models the kit runs: a pairwise covering set of what a trial can ask for."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import get_args

from harness.solvers import ADAPTIVE_SOLVERS, FIXED_SOLVERS
from harness.trial import (
    AdaptiveSolver,
    DatasetRef,
    EndTime,
    Evaluation,
    FixedSolver,
    GradientName,
    LayerName,
    ModelSpec,
    NonlinearityName,
    RegularizerName,
    SolverSpec,
    TraceName,
    Training,
    Trial,
)

__all__ = ["DIM", "Case", "all_cases", "covering_cases", "make_trial", "tolerance_of"]

DIM = 3
LOOSER = {"bosh3": 1e-7, "elu": 1e-7, "relu": 1e-4}
"""Tolerances of cases that take too many steps at 1e-9: a third-order pair, and functions whose
second (elu) or first (relu) derivative jumps, and with it the divergence's slope or value."""


@dataclass(frozen=True)
class Case:
    """One combination of the axes of the kit."""

    layer: str
    nonlinearity: str
    trace: str
    solver: str
    gradient: str

    def __str__(self) -> str:
        return "-".join((self.layer, self.nonlinearity, self.trace, self.solver, self.gradient))


AXES: tuple[tuple[str, ...], ...] = (
    get_args(LayerName),
    get_args(NonlinearityName),
    get_args(TraceName),
    tuple(sorted({*FIXED_SOLVERS, *ADAPTIVE_SOLVERS})),
    get_args(GradientName),
)


def all_cases() -> list[Case]:
    """Returns the full product of the axes."""
    return [Case(*values) for values in itertools.product(*AXES)]


def covering_cases() -> list[Case]:
    """Returns a set of cases in which every pair of values of two axes occurs (greedy).

    Nonlinearity and solver alone need not meet: all that a solver sees is a field, and the pairs
    of six by eight values would triple the cases.
    """
    pairs = [pair for pair in itertools.combinations(range(len(AXES)), 2) if pair != (1, 3)]
    open_pairs = {(i, j, a, b) for i, j in pairs for a in AXES[i] for b in AXES[j]}
    chosen: list[Case] = []
    product = list(itertools.product(*AXES))
    while open_pairs:
        best = max(product, key=lambda v: sum((i, j, v[i], v[j]) in open_pairs for i, j in pairs))
        open_pairs -= {(i, j, best[i], best[j]) for i, j in pairs}
        chosen.append(Case(*best))
    return chosen


def tolerance_of(case: Case) -> float:
    """Tolerance at which the kit runs a case under an adaptive solver."""
    return max(LOOSER.get(case.solver, 1e-9), LOOSER.get(case.nonlinearity, 1e-9))


def solver_spec(case: Case) -> SolverSpec:
    """An accurate setting of a solver: the tests compare with exact values."""
    if case.solver in ADAPTIVE_SOLVERS:
        tolerance = tolerance_of(case)
        return AdaptiveSolver(case.solver, rtol=tolerance, atol=tolerance, max_steps=20_000)
    return FixedSolver(case.solver, steps=8)


def make_trial(
    case: Case,
    backend: str,
    *,
    blocks: int = 1,
    regularizer: Sequence[RegularizerName] = (),
    seed: int = 0,
) -> Trial:
    """Builds the float64 trial of a case: a 7-6 net on `DIM` features with a trained end time."""
    trial = Trial(
        dataset=DatasetRef("conformance", "none"),
        backend=backend,
        solver=solver_spec(case),
        model=ModelSpec(
            layer=case.layer,  # type: ignore[arg-type]
            hidden=(7, 6),
            nonlinearity=case.nonlinearity,  # type: ignore[arg-type]
            blocks=blocks,
            end_time=EndTime(0.7, "trained"),
        ),
        regularizer=dict.fromkeys(regularizer, 0.1),
        training=Training(trace=case.trace),  # type: ignore[arg-type]
        gradient=case.gradient,  # type: ignore[arg-type]
        precision="float64",
        seed=seed,
    )
    return replace(trial, evaluation=Evaluation(trace=trial.training.trace))
