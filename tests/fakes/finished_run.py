"""A run folder as a suite leaves it, with invented but fixed numbers.

Two datasets x two backends x two solvers x two regularizers x two seeds; some trials failed, one
was not run, two were skipped. Timings of the digits shared the machine.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from harness.planning.plan import Gate, Plan, PlannedTrial, Resources
from harness.records.frame import history, load
from harness.trial import (
    AdaptiveSolver,
    DatasetRef,
    FixedSolver,
    ModelSpec,
    SolverSpec,
    Training,
    Trial,
    encode,
)

DATASETS = {"8gaussians": 2, "digits": 64}
SOLVERS: tuple[SolverSpec, ...] = (AdaptiveSolver("dopri5"), FixedSolver("rk4_38", 8))
REGULARIZERS: tuple[dict[Any, float], ...] = ({}, {"rnode.kinetic": 0.01, "rnode.jacobian": 0.01})
FAILURES = {
    ("8gaussians", "jax", "rk4_38", 1, 1): (
        "diverged",
        "the solve left the finite numbers at step 412",
    ),
    ("digits", "torch", "dopri5", 0, 1): ("timeout", "stopped after 30.0 minutes"),
    ("digits", "jax", "dopri5", 1, 0): (
        "out_of_memory",
        "the process was killed at 16.0 GiB | twice",
    ),
    ("digits", "jax", "dopri5", 1, 1): ("error", "ValueError: <script>alert('x')</script>"),
}
NOT_RUN = ("digits", "torch", "rk4_38", 1, 1)
SKIPPED = "jax: gradient 'direct' needs fixed steps"
STARTED_MS = 1_763_900_000_000


@dataclass(frozen=True)
class Records:
    """A run root and the plan whose trials it holds."""

    root: Path
    plan: Plan


@pytest.fixture(scope="session")
def records(tmp_path_factory: pytest.TempPathFactory) -> Records:
    return write_records(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="session")
def root(records: Records) -> Path:
    return records.root


@pytest.fixture(scope="session")
def plan(records: Records) -> Plan:
    return records.plan


@pytest.fixture(scope="session")
def frame(root: Path) -> pd.DataFrame:
    return load(root)


@pytest.fixture(scope="session")
def curves(root: Path, plan: Plan) -> pd.DataFrame:
    return history(root, [planned.trial.id for planned in plan.trials])


def write_records(root: Path) -> Records:
    planned = []
    for index, (key, trial) in enumerate(trials()):
        if key == NOT_RUN:
            planned.append(PlannedTrial(trial, "to_run", None, Resources()))
            continue
        write_trial(root, trial, index, FAILURES.get(key, ("ok", None)))
        planned.append(PlannedTrial(trial, "finished", None, Resources()))
    for seed in (0, 1):
        trial = replace(planned[0].trial, backend="jax", gradient="direct", seed=seed)
        planned.append(PlannedTrial(trial, "skipped", SKIPPED, Resources()))
    gates = (
        Gate("dataset=8gaussians", "test_nll", "gaussian_nll", 0.05),
        Gate("dataset=digits", "test_bits_per_dim", 2.4),
    )
    plan = Plan(
        "synthetic", "Invented records for the tests of the report.", tuple(planned), gates
    )
    return Records(root, plan)


def trials() -> Iterator[tuple[tuple[str, str, str, int, int], Trial]]:
    axes = itertools.product(DATASETS, ("torch", "jax"), SOLVERS, (0, 1), (0, 1))
    for dataset, backend, solver, regularizer, seed in axes:
        trial = Trial(
            dataset=DatasetRef(dataset, f"sha256:{dataset}-1"),
            backend=backend,
            solver=solver,
            model=ModelSpec(hidden=(64, 64)),
            regularizer=REGULARIZERS[regularizer],
            training=Training(iterations=1000),
            seed=seed,
        )
        yield (dataset, backend, solver.name, regularizer, seed), trial


def write_trial(root: Path, trial: Trial, index: int, outcome: tuple[str, str | None]) -> None:
    rng = np.random.default_rng([trial.seed, index])
    status, message = outcome
    folder = root / "trials" / trial.id
    attempt = folder / f"attempt-{index:08x}"
    attempt.mkdir(parents=True)
    spec = {"schema_version": 1, "trial_id": trial.id, "trial": encode(trial), "resources": {}}
    (folder / "spec.json").write_text(json.dumps(spec))
    last = 1000 if status == "ok" else 410
    lines = list(curve(trial, rng, last))
    (attempt / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if status == "ok":
        shape = "[8, 8]" if trial.dataset.name == "digits" else "null"
        place = attempt / "samples.safetensors"
        save_file(samples(trial, rng), place, {"image_shape": shape})
    result = {
        "schema_version": 1,
        "trial_id": trial.id,
        "status": status,
        "message": message,
        "metrics": metrics(trial, lines[-1]["val_nll"]) if status == "ok" else {},
        "timing": timing(trial, rng),
        "nfe": nfe(trial, rng),
        "memory": {"peak_host_bytes": int(rng.uniform(3e8, 9e8)), "peak_device_bytes": None},
        "environment": environment(trial),
        "attempts": 1,
        "attempt_id": attempt.name.removeprefix("attempt-"),
        "finished_ms": STARTED_MS + index,
    }
    (folder / "result.json").write_text(json.dumps(result))


def curve(trial: Trial, rng: np.random.Generator, last: int) -> Iterator[dict[str, Any]]:
    low, high = (2.0, 5.5) if trial.dataset.name == "8gaussians" else (95.0, 235.0)
    regularized = 1.01 if trial.regularizer else 1.0
    for step in range(10, last + 1, 10):
        level = (low + (high - low) * math.exp(-step / 150)) * regularized
        line = {"step": step, "timestamp_ms": STARTED_MS + step, "train_s": step * 0.02}
        nll = level * (1 + 0.01 * float(rng.standard_normal()))
        forward = 26.0 if trial.solver.name == "dopri5" else 32.0
        yield {
            **line,
            "loss": nll,
            "nll": nll,
            "nfe_forward": forward + 6 * round(step / 400),
            "nfe_backward": forward,
            "lr": 1e-3,
        }
        if step % 50 == 0 or step == last:
            yield {**line, "val_nll": level * (1 + 0.004 * float(rng.standard_normal()))}


def metrics(trial: Trial, level: float) -> dict[str, dict[str, Any]]:
    dimensions = DATASETS[trial.dataset.name]
    gaussian = 2.838 if dimensions == 2 else 2.45 * 64 * math.log(2)
    found: dict[str, dict[str, Any]] = {
        "test_nll": {"value": level * 1.002, "unit": "nats", "n": 5000, "sem": 0.011},
        "val_nll": {"value": level, "unit": "nats", "n": 5000},
        "train_nll": {"value": level * 0.999, "unit": "nats", "n": 100},
        "gaussian_nll": {"value": gaussian, "unit": "nats", "n": 5000},
        "parameters": {"value": 9_154, "unit": "count", "n": 1},
    }
    if dimensions == 64:
        for name in ("test", "gaussian"):
            bits = found[f"{name}_nll"]["value"] / (dimensions * math.log(2))
            found[f"{name}_bits_per_dim"] = {"value": bits, "unit": "bits/dim", "n": 5000}
    return found


def timing(trial: Trial, rng: np.random.Generator) -> dict[str, Any]:
    step = (0.021 if trial.backend == "torch" else 0.013) * float(rng.uniform(0.95, 1.05))
    return {
        "import_s": 1.9,
        "build_s": 0.04,
        "compile_s": None if trial.backend == "torch" else 2.4 - trial.seed,
        "compiled_anew": None if trial.backend == "torch" else 3 - 3 * trial.seed,
        "first_step_s": 0.05,
        "step_s": {"median": step, "q25": step * 0.97, "q75": step * 1.06, "n": 990},
        "train_s": step * 1000,
        "val_s": 0.9,
        "test_s": 0.4,
        "lost_s": 0.0,
        "mode": "exclusive" if trial.dataset.name == "8gaussians" else "shared",
    }


def nfe(trial: Trial, rng: np.random.Generator) -> Mapping[str, Any]:
    mean = 32.0 if isinstance(trial.solver, FixedSolver) else float(rng.uniform(38, 45))
    most = 32 if isinstance(trial.solver, FixedSolver) else 62
    return {
        "train": {
            "forward": {"mean": mean, "max": most, "n": 1000},
            "backward": {"mean": mean * 1.1, "max": most, "n": 1000},
        },
        "test": {"forward": {"mean": mean, "max": most, "n": 5}},
        "sample": {"forward": {"mean": mean, "max": most, "n": 1}},
        "train_rejected": 12,
    }


def environment(trial: Trial) -> dict[str, Any]:
    versions = {"torch": "2.13.0", "torchdiffeq": "0.2.5"}
    if trial.backend == "jax":
        versions = {"jax": "0.10.2", "diffrax": "0.7.2"}
    return {
        "harness": "0.1.0",
        "python": "3.11.2",
        "numpy": "2.4.1",
        "cpu_model": "Invented CPU @ 2.00 GHz",
        "cores_total": 4,
        "cores": 2,
        "threads": 2,
        "variables": {"OMP_NUM_THREADS": "2"},
        "device": "cpu",
        "device_kind": "cpu",
        "git_dirty": True,
        "hardware_fingerprint": "c0ffee12c0ff",
        **versions,
    }


def samples(trial: Trial, rng: np.random.Generator) -> dict[str, np.ndarray]:
    if trial.dataset.name == "digits":
        y, x = np.mgrid[0:8, 0:8]
        centres = rng.uniform(1.5, 5.5, (100, 2, 1, 1))
        radius = np.hypot(y - centres[:, 0], x - centres[:, 1])
        pictures = 16 * np.exp(-((radius - 2) ** 2))
        return {"samples": pictures.reshape(100, 64).astype(np.float32)}
    angles = np.arange(8) * math.pi / 4
    centres = 4 / math.sqrt(2) * np.stack([np.cos(angles), np.sin(angles)], 1)
    axis = np.linspace(-4, 4, 100)
    grid = np.stack(np.meshgrid(axis, axis), -1)
    width = 0.4
    squares = ((grid[:, :, None] - centres) ** 2).sum(-1) / (2 * width**2)
    log_prob = np.log(np.exp(-squares).mean(-1) / (2 * math.pi * width**2) + 1e-30)
    points = centres[rng.integers(0, 8, 1000)] + width * rng.standard_normal((1000, 2))
    return {
        "samples": points.astype(np.float32),
        "grid_axis_x": axis.astype(np.float32),
        "grid_axis_y": axis.astype(np.float32),
        "grid_log_prob": log_prob.astype(np.float32),
    }
