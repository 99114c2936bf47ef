"""The models the kit runs: a pairwise covering set of what a trial can ask for."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import astuple, dataclass
from typing import Any, get_args

from harness.interface import DataInfo
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

__all__ = [
    "SIZE",
    "Case",
    "all_cases",
    "all_pairs",
    "coverage",
    "covering_cases",
    "data_of",
    "make_trial",
    "pairs_of",
]

SIZE = 3
"""Examples of a batch. Trials say so, because a backend may compile for that size alone."""

IMAGE = (1, 4, 4)
EVENT_SHAPES = {"convolution": IMAGE, "linear": (3,)}
MODELS: Mapping[str, Mapping[str, Any]] = {
    # Both are narrowest after their second layer, so a bottleneck has layers on both sides.
    "convolution": {"hidden": (3, 2), "strides": (2, 1, -2)},
    "linear": {"hidden": (5, 4)},
}


@dataclass(frozen=True)
class Case:
    """One combination of the axes of the kit."""

    layer: LayerName
    nonlinearity: NonlinearityName
    trace: TraceName
    solver: str
    gradient: GradientName
    form: str

    def __str__(self) -> str:
        parts = (self.layer, self.nonlinearity, self.trace, self.solver, self.gradient, self.form)
        return "-".join(parts)

    @property
    def adaptive(self) -> bool:
        """Whether the solver chooses its steps."""
        return self.solver in ADAPTIVE_SOLVERS


AXES: tuple[tuple[Any, ...], ...] = (
    get_args(LayerName),
    get_args(NonlinearityName),
    get_args(TraceName),
    tuple(sorted({*FIXED_SOLVERS, *ADAPTIVE_SOLVERS})),
    # `auto` is resolved before a model is opened.
    tuple(mode for mode in get_args(GradientName) if mode != "auto"),
    tuple(EVENT_SHAPES),
)


def all_cases() -> list[Case]:
    """Returns the full product of the axes."""
    return [Case(*values) for values in itertools.product(*AXES)]


def pairs_of(case: tuple[Any, ...]) -> set[tuple[int, Any, int, Any]]:
    """All pairs of values of two axes that occur in a case."""
    return {(i, a, j, b) for (i, a), (j, b) in itertools.combinations(enumerate(case), 2)}


def all_pairs() -> dict[tuple[int, Any, int, Any], None]:
    """All pairs of values of two axes, in the order of the axes."""
    return dict.fromkeys(
        (i, a, j, b)
        for (i, first), (j, second) in itertools.combinations(enumerate(AXES), 2)
        for a in first
        for b in second
    )


def coverage(cases: Iterable[Case]) -> float:
    """The share of all pairs that occurs in the cases."""
    seen = {pair for case in cases for pair in pairs_of(astuple(case))}
    return len(seen) / len(all_pairs())


def covering_cases(supported: Callable[[Case], bool] = lambda case: True) -> list[Case]:
    """Returns a set of cases in which every pair of values of two axes occurs that can.

    Greedy: of all supported cases with the first pair that is still missing, the one with the
    most missing pairs.

    Arguments:
        supported: Whether a case can be had. A pair without a supported case is left out.
    """
    missing = all_pairs()
    chosen: list[Case] = []
    while missing:
        i, a, j, b = next(iter(missing))
        axes = [*AXES]
        axes[i], axes[j] = (a,), (b,)
        product = (case for case in itertools.product(*axes) if supported(Case(*case)))
        best = max(product, key=lambda case: len(pairs_of(case) & missing.keys()), default=None)
        if best is None:
            missing.pop((i, a, j, b))
            continue
        for pair in pairs_of(best):
            missing.pop(pair, None)
        chosen.append(Case(*best))
    return chosen


def solver_spec(case: Case) -> SolverSpec:
    """Few steps: what is expected is the discrete solution, at any tolerance.

    Only the adjoint is compared with a solution that it approximates, hence takes small steps.
    """
    fine = case.gradient == "adjoint"
    if case.adaptive:
        tolerance = 1e-6 if fine else 1e-3
        return AdaptiveSolver(case.solver, rtol=tolerance, atol=tolerance)
    return FixedSolver(case.solver, steps=16 if fine else 3)


def make_trial(
    case: Case,
    backend: str,
    *,
    regularizer: Mapping[RegularizerName, float] | None = None,
    **model: Any,  # noqa: ANN401
) -> Trial:
    """Builds the float64 trial of a case: one block of a small net with a trained end time.

    Arguments:
        case: The case.
        backend: Name of the backend.
        regularizer: Weights by name.
        model: Fields of `ModelSpec` that differ.
    """
    spec = {
        "layer": case.layer,
        "nonlinearity": case.nonlinearity,
        "end_time": EndTime(0.7, "trained"),
        **MODELS[case.form],
        **model,
    }
    probes = 3 if case.trace == "hutch++" else 1
    return Trial(
        dataset=DatasetRef("conformance", "none"),
        backend=backend,
        solver=solver_spec(case),
        model=ModelSpec(**spec),
        regularizer=regularizer or {},
        training=Training(trace=case.trace, batch=SIZE, probes=probes),
        evaluation=Evaluation(trace=case.trace, batch=SIZE, probes=probes),
        gradient=case.gradient,
        precision="float64",
    )


def data_of(trial: Trial) -> DataInfo:
    """What the model of a trial of the kit knows of its data."""
    posterior = trial.model.posterior
    if posterior is not None:
        # One of the posteriors stands for the other likelihood.
        levels = posterior.amortization == "hyper"
        return DataInfo("conformance", IMAGE, "categorical" if levels else "bernoulli")
    form = "linear" if trial.model.strides is None else "convolution"
    return DataInfo("conformance", EVENT_SHAPES[form])
