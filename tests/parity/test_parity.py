"""torch and jax compute the same experiment: same arrays, batches and probes in, same numbers out.

Each backend runs in a process of its own; the bars are those of docs/numerics.md, section 7.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pytest
from parity_cases import CASES, FLOAT32_CASES

_WORKER = Path(__file__).parent / "parity_worker.py"

Results = Mapping[str, np.ndarray]
ALL = [("float64", case) for case in CASES] + [("float32", case) for case in FLOAT32_CASES]


@cache
def _run(backend: str, precision: str, arrays_of: str | None = None) -> tuple[Path, Results]:
    out = Path(mkdtemp()) / f"{backend}-{precision}.npz"
    command = [sys.executable, str(_WORKER), backend, precision, str(out)]
    if arrays_of:
        command.append(str(_run(arrays_of, precision)[0]))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(out) as stored:
        return out, {key: stored[key] for key in stored.files}


def _pair(precision: str, case: str) -> tuple[dict[str, Any], dict[str, Any]]:
    results = []
    for backend in ("torch", "jax"):
        prefix = f"{case}:"
        found = _run(backend, precision)[1]
        results.append({k.removeprefix(prefix): v for k, v in found.items() if prefix in k})
    return results[0], results[1]


def _relative(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.max(np.abs(a - b)) / max(1.0, float(np.max(np.abs(a)))))


@pytest.mark.parametrize(("precision", "case"), ALL)
def test_initial_arrays_are_identical(precision: str, case: str) -> None:
    torch, jax = _pair(precision, case)
    names = {name for name in torch if name.startswith("initial/")}
    assert names == {name for name in jax if name.startswith("initial/")}
    assert len(names) > 3
    for name in names:
        assert torch[name].dtype == jax[name].dtype == precision
        assert torch[name].tobytes() == jax[name].tobytes(), name


@pytest.mark.parametrize(("precision", "case"), ALL)
def test_log_prob(precision: str, case: str) -> None:
    torch, jax = _pair(precision, case)
    bar = 1e-10 if precision == "float64" else 1e-5
    assert _relative(torch["log_prob"], jax["log_prob"]) < bar


@pytest.mark.parametrize(("precision", "case"), ALL)
def test_gradients(precision: str, case: str) -> None:
    torch, jax = _pair(precision, case)
    bar = 1e-10 if precision == "float64" else 1e-4
    names = [name for name in torch if name.startswith("gradient/")]
    assert names
    scale = max(float(np.max(np.abs(torch[name]))) for name in names)
    for name in names:
        assert np.max(np.abs(torch[name] - jax[name])) < bar * scale, name


@pytest.mark.parametrize(("precision", "case"), ALL)
def test_twenty_training_steps(precision: str, case: str) -> None:
    torch, jax = _pair(precision, case)
    bar = 1e-11 if precision == "float64" else 1e-5
    difference = np.abs(torch["loss"] - jax["loss"])
    assert np.all(difference <= bar * np.maximum(1, np.abs(torch["loss"])))
    assert torch["trained_log_prob"].mean() > torch["log_prob"].mean()
    for counts in ("nfe_forward", "nfe_backward"):
        equal = (torch[counts] == jax[counts]).all(axis=1)
        assert equal[0]
        assert equal.mean() >= (1.0 if precision == "float64" else 0.95), counts


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize(("trained_in", "evaluated_in"), [("torch", "jax"), ("jax", "torch")])
def test_arrays_are_portable(precision: str, trained_in: str, evaluated_in: str) -> None:
    own = _run(trained_in, precision)[1]
    other = _run(evaluated_in, precision, trained_in)[1]
    bar = 1e-10 if precision == "float64" else 1e-5
    names = [name for name in own if name.endswith(":trained_log_prob")]
    assert len(names) == len(CASES if precision == "float64" else FLOAT32_CASES)
    for name in names:
        assert _relative(own[name], other[name]) < bar, name
