"""Counted evaluations against the tableau; purity of `supports`."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import Literal

import pytest

from harness.conformance.cases import Case, make_trial
from harness.conformance.inputs import evaluate, inputs
from harness.conformance.plugin import OpenModel, Subject
from harness.interface import Backend
from harness.solvers import TABLEAUX
from harness.trial import AdaptiveSolver, FixedSolver

SMOOTH = Case("concatsquash", "tanh", "hutchinson", "dopri5", "adjoint")


def test_nfe_follows_the_tableau(subject: Subject) -> None:
    batch, control = inputs(subject.trial, "evaluate")
    nfe = evaluate(subject.model, batch, control, "log_prob", "encode").nfe
    solver = subject.trial.solver
    tableau = TABLEAUX[solver.name]
    adaptive = isinstance(solver, AdaptiveSolver)
    assert len(nfe.forward) == len(nfe.accepted) == len(nfe.rejected) == 2
    assert nfe.backward == ()
    for forward, accepted, rejected in zip(nfe.forward, nfe.accepted, nfe.rejected, strict=True):
        assert forward == tableau.evaluations(accepted + rejected, heuristic=adaptive)
        if isinstance(solver, FixedSolver):
            assert (accepted, rejected) == (solver.steps, 0)
        else:
            assert accepted >= 1


def test_backward_nfe_belongs_to_the_adjoint(subject: Subject) -> None:
    report = subject.model.train_step(*inputs(subject.trial)).fetch()
    if subject.case.gradient == "adjoint":
        assert len(report.nfe.backward) == 2
        assert min(report.nfe.backward) >= TABLEAUX[subject.case.solver].stages - 1
    else:
        assert report.nfe.backward == ()


@pytest.mark.parametrize("first_step", ["whole", 0.25, "heuristic"])
def test_first_step_is_counted(
    first_step: Literal["heuristic", "whole"] | float, backend: Backend, open_model: OpenModel
) -> None:
    trial = make_trial(SMOOTH, backend.name)
    assert isinstance(trial.solver, AdaptiveSolver)
    solver = replace(trial.solver, rtol=1e-2, atol=1e-2, first_step=first_step)
    batch, control = inputs(trial, "evaluate")
    nfe = evaluate(open_model(trial), batch, replace(control, solver=solver), "log_prob").nfe
    attempted = nfe.accepted[0] + nfe.rejected[0]
    expected = TABLEAUX["dopri5"].evaluations(attempted, heuristic=first_step == "heuristic")
    assert nfe.forward[0] == expected
    if first_step == "whole":
        assert attempted == 1


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
