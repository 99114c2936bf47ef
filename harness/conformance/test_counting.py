"""Evaluations counted by hand, the library engine, and that `supports` needs no framework."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from harness.conformance.cases import Case, make_trial
from harness.conformance.inputs import agree, evaluate, gradient_of, inputs, take_step
from harness.conformance.plugin import OpenModel
from harness.interface import Backend
from harness.trial import AdaptiveSolver, FixedSolver, SolverSpec

CASE = Case("concatsquash", "tanh", "hutchinson", "dopri5", "direct", "linear")

LOOSE: dict[str, Any] = {"rtol": 0.5, "atol": 0.5}
BY_HAND: list[tuple[SolverSpec, int, int]] = [
    # Solver, attempted steps, evaluations: each number counted by hand.
    (FixedSolver("euler", 5), 5, 5),
    (FixedSolver("midpoint", 5), 5, 10),
    (FixedSolver("rk4_38", 2), 2, 8),
    (AdaptiveSolver("dopri5", **LOOSE, first_step="whole"), 1, 7),
    (AdaptiveSolver("tsit5", **LOOSE, first_step="whole"), 1, 7),
    (AdaptiveSolver("bosh3", **LOOSE, first_step="whole"), 1, 4),
    # 0.25, then ten times as much, cut to land: f(y0), 2 x 6.
    (AdaptiveSolver("dopri5", **LOOSE, first_step=0.25), 2, 13),
]


@pytest.mark.parametrize(
    ("solver", "attempts", "evaluations"), BY_HAND, ids=[solver.name for solver, *_ in BY_HAND]
)
def test_evaluations(
    solver: SolverSpec, attempts: int, evaluations: int, backend: Backend, open_model: OpenModel
) -> None:
    """Zero arrays make dz/dt and the divergence 0: no step has an error, and none is rejected."""
    trial = make_trial(CASE, backend.name)
    model = open_model(trial)
    end = "block0/sqrt_end_time"
    model.load_arrays({k: v if k == end else 0 * v for k, v in model.arrays().items()})
    batch, control = inputs(trial, "evaluate")
    nfe = evaluate(model, batch, replace(control, solver=solver), "log_prob", "encode").nfe
    assert (nfe.forward, nfe.accepted, nfe.rejected) == ((evaluations,), (attempts,), (0,))


ENGINES: list[tuple[Any, float]] = [
    # The same steps, so only rounding differs.
    (FixedSolver("rk4_38", 3), 1e-12),
    # Other rules for landing on the end; both are within some multiples of the tolerance.
    (AdaptiveSolver("dopri5", rtol=1e-8, atol=1e-8), 1e-6),
]


@pytest.mark.parametrize(("solver", "tolerance"), ENGINES, ids=["rk4_38", "dopri5"])
def test_the_library_engine_equals_the_native_one(
    solver: SolverSpec, tolerance: float, backend: Backend, open_model: OpenModel
) -> None:
    runs = []
    for engine in ("native", "library"):
        trial = replace(make_trial(CASE, backend.name), solver=solver, engine=engine)
        model = open_model(trial)
        report = take_step(model, *inputs(trial))
        runs.append((report.loss, gradient_of(model.state())))
    agree(runs[1][0], runs[0][0], tolerance, "loss")
    assert runs[0][1].keys() == runs[1][1].keys()
    for name, value in runs[0][1].items():
        assert np.any(value), name
        agree(runs[1][1][name], value, tolerance, name)


def test_supports_imports_no_framework(backend: Backend) -> None:
    program = (
        "import sys, json\n"
        "from harness.backends import get_backend\n"
        "from harness.conformance.cases import covering_cases, make_trial\n"
        f"backend = get_backend({backend.name!r})\n"
        "for case in covering_cases():\n"
        "    backend.supports(make_trial(case, backend.name))\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    loaded = set(json.loads(done.stdout))
    assert not loaded & {"torch", "jax", "torchdiffeq", "diffrax", "equinox", "optax"}
