"""torch and jax compute the same experiment: same arrays, batches and probes in, same numbers out.

Each backend runs in a process of its own; the bars are those of docs/numerics.md, section 11.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, get_args

import numpy as np
import pytest
from parity_cases import FLOAT32, TRIALS

from harness.solvers import TABLEAUX
from harness.trial import (
    AdaptiveSolver,
    CouplingName,
    FlowMatching,
    GradientName,
    LayerName,
    NonlinearityName,
    PathName,
    RegularizerName,
    TraceName,
)

# The first test runs everything.
pytestmark = pytest.mark.timeout(1800)

_WORKER = Path(__file__).parent / "parity_worker.py"

Results = Mapping[str, np.ndarray]
ALL = [("float64", case) for case in TRIALS] + [("float32", case) for case in FLOAT32]
every_case = pytest.mark.parametrize(("precision", "case"), ALL)


@cache
def _folder() -> Path:
    """Runs both backends in both precisions, all at once, and returns where the results are."""
    folder = Path(mkdtemp())
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "JAX_PLATFORMS": "cpu",
        # Compiles faster, as the Makefile says, and what it compiles runs briefly.
        "XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false "
        "--xla_cpu_parallel_codegen_split_count=1",
    }
    processes = {}
    for backend, precision in itertools.product(("jax", "torch"), ("float64", "float32")):
        command = [sys.executable, str(_WORKER), backend, precision, str(folder)]
        with (folder / f"{backend}-{precision}.txt").open("w") as errors:
            process = subprocess.Popen(command, env=environment, stderr=errors)
        processes[f"{backend}-{precision}"] = process
    try:
        # A process waits for the other backend's: all end when one has failed.
        while any(process.poll() is None for process in processes.values()):
            for name, process in processes.items():
                said = (folder / f"{name}.txt").read_text()
                assert not process.poll(), f"{name}: {said[-3000:]}"
            time.sleep(0.5)
    finally:
        for process in processes.values():
            process.kill()
            process.wait()
    return folder


@cache
def _load(name: str) -> Results:
    with np.load(_folder() / f"{name}.npz") as stored:
        return {key: stored[key] for key in stored.files}


def _pair(precision: str, case: str) -> tuple[dict[str, Any], dict[str, Any]]:
    results = []
    for backend in ("torch", "jax"):
        prefix = f"{case}:"
        found = _load(f"{backend}-{precision}")
        results.append(
            {k.removeprefix(prefix): v for k, v in found.items() if k.startswith(prefix)}
        )
    return results[0], results[1]


def _relative(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.max(np.abs(a - b)) / max(1.0, float(np.max(np.abs(a)))))


def test_the_cases_have_everything_that_is_shared() -> None:
    models = [trial.model for trial in TRIALS.values()]
    forms = {(model.layer, model.strides is None) for model in models}
    assert forms == {(layer, form) for layer in get_args(LayerName) for form in (True, False)}
    assert {model.nonlinearity for model in models} == set(get_args(NonlinearityName))
    assert {trial.solver.name for trial in TRIALS.values()} == set(TABLEAUX)
    names = {name for trial in TRIALS.values() for name in trial.regularizer}
    assert names == set(get_args(RegularizerName))
    training = [trial.training for trial in TRIALS.values()]
    assert {t.trace for t in training} == set(get_args(TraceName))
    assert {t.probes for t in training} == {1, 2, 3, 6}
    assert {t.draws for t in training} == {1, 10}
    assert {t.optimizer.name for t in training} == {"adam", "adam_eps_hat", "adamax", "adamw"}
    solvers = [t.solver for t in TRIALS.values() if isinstance(t.solver, AdaptiveSolver)]
    assert {s.first_step for s in solvers} == {"heuristic", "warm", "whole"}
    assert {s.backward_first_step for s in solvers} == {"forward", "heuristic"}
    assert {s.regularizers_in_norm for s in solvers} == {True, False}
    assert {s.end for s in solvers} == {"interpolate", "stop"}
    assert {s.log_volume_in_state for s in solvers} == {True, False}
    gradients = {trial.gradient for trial in TRIALS.values()}
    assert gradients == set(get_args(GradientName)) - {"auto"}
    assert {s.adjoint_norm for s in solvers} == {"full", "seminorm"}
    amortizations = {model.posterior.amortization for model in models if model.posterior}
    assert amortizations == {"bias", "hyper", "low_rank", "plain"}
    objectives = [trial.objective for trial in TRIALS.values()]
    matching = [each for each in objectives if isinstance(each, FlowMatching)]
    assert {each.path for each in matching} == set(get_args(PathName))
    assert {each.coupling for each in matching} == set(get_args(CouplingName))


@every_case
def test_initial_arrays_are_identical(precision: str, case: str) -> None:
    torch, jax = _pair(precision, case)
    names = {name for name in torch if name.startswith("initial/")}
    assert names == {name for name in jax if name.startswith("initial/")}
    assert len(names) > 3
    for name in names:
        assert torch[name].dtype == jax[name].dtype == precision
        assert torch[name].tobytes() == jax[name].tobytes(), name


@every_case
def test_log_prob(precision: str, case: str) -> None:
    torch, jax = _pair(precision, case)
    bar = 1e-10 if precision == "float64" else 1e-5
    assert _relative(torch["log_prob"], jax["log_prob"]) < bar


@every_case
def test_gradients(precision: str, case: str) -> None:
    torch, jax = _pair(precision, case)
    bar = 1e-10 if precision == "float64" else 1e-4
    names = [name for name in torch if name.startswith("gradient/")]
    assert names
    scale = max(float(np.max(np.abs(torch[name]))) for name in names)
    for name in names:
        assert np.max(np.abs(torch[name] - jax[name])) < bar * scale, name


@every_case
def test_twenty_training_steps(precision: str, case: str) -> None:
    torch, jax = _pair(precision, case)
    bar = 1e-11 if precision == "float64" else 1e-5
    difference = np.abs(torch["loss"] - jax["loss"])
    assert np.all(difference <= bar * np.maximum(1, np.abs(torch["loss"]))), difference.max()
    trained = [name for name in torch if name.startswith("trained/")]
    assert any(np.any(torch[k] != torch[k.replace("trained/", "initial/")]) for k in trained)
    for counts in ("nfe_forward", "nfe_backward"):
        equal = (torch[counts] == jax[counts]).all(axis=1)
        assert equal[0]
        assert equal.mean() >= (1.0 if precision == "float64" else 0.95), counts
    for name in ("warm/forward", "warm/backward"):
        assert (name in torch) == (name in jax)
        if name in torch and precision == "float64":
            np.testing.assert_array_equal(torch[name], jax[name])


@every_case
@pytest.mark.parametrize(("trained_in", "evaluated_in"), [("torch", "jax"), ("jax", "torch")])
def test_arrays_are_portable(
    precision: str, case: str, trained_in: str, evaluated_in: str
) -> None:
    own = _load(f"{trained_in}-{precision}")[f"{case}:trained_log_prob"]
    other = _load(f"{evaluated_in}-{precision}-ported")[f"{case}:log_prob"]
    assert _relative(own, other) < (1e-10 if precision == "float64" else 1e-5)
