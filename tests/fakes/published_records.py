"""Invented records of datasets that published tables cover: one case for each verdict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
from harness_reports.published.library import published
from harness_reports.published.values import PublishedValue

from harness.metrics.definitions import DEFINITIONS
from harness.planning.plan import Plan, PlannedTrial, Resources
from harness.records.columns import row
from harness.records.frame import frame_of
from harness.trial import (
    AdaptiveSolver,
    DatasetRef,
    EndTime,
    Evaluation,
    FixedSolver,
    ModelSpec,
    NonlinearityName,
    Optimizer,
    Patience,
    Posterior,
    Schedule,
    Training,
    Trial,
)

BACKENDS = ("torch", "jax")
SEEDS = (0, 1, 2)
SPREAD = (-0.01, 0.0, 0.01)
"""Added to the value of each seed: a standard deviation of 0.01."""

DOPRI5 = AdaptiveSolver("dopri5", rtol=1e-6, atol=1e-8)
STOPPED = Patience(drops=(10, 20), stop=30)
LONG = 100_000


def tabular(
    dataset: str, hidden: tuple[int, ...], blocks: int, batch: int, nonlinearity: NonlinearityName
) -> Trial:
    """A trial as the FFJORD paper describes it (Table 4)."""
    return Trial(
        dataset=DatasetRef(dataset, f"sha256:{dataset}"),
        backend="torch",
        solver=DOPRI5,
        model=ModelSpec("concat", hidden, nonlinearity, blocks),
        training=Training(iterations=LONG, batch=batch, patience=STOPPED),
        evaluation=Evaluation(trace="exact", batch=1000),
    )


POWER = tabular("power", (60, 60, 60), 5, 10_000, "tanh")
GAS = tabular("gas", (160, 160, 160), 5, 1000, "tanh")
HEPMASS = tabular("hepmass", (210, 210), 10, 10_000, "softplus")
MINIBOONE = tabular("miniboone", (860, 860), 1, 1000, "softplus")
BSDS300 = tabular("bsds300", (1260, 1260, 1260), 2, 10_000, "softplus")
MNIST = replace(
    tabular("mnist", (64, 64, 64), 2, 900, "softplus"),
    solver=AdaptiveSolver("dopri5"),
    model=ModelSpec("concat", (64, 64, 64), "softplus", 2, strides=(1, 1, 1, 1), scales=3),
    evaluation=Evaluation(trace="hutchinson"),
)
FREY = Trial(
    dataset=DatasetRef("freyfaces", "sha256:freyfaces"),
    backend="torch",
    solver=AdaptiveSolver("dopri5"),
    model=ModelSpec(
        "concat", (512, 512), "softplus", 2, EndTime(0.5), posterior=Posterior(rank=20)
    ),
    training=Training(
        iterations=20_000,
        batch=100,
        optimizer=Optimizer("adamax", 5e-4),
        schedule=Schedule(kl_warmup=1600),
        patience=Patience(stop=35),
    ),
)


@dataclass(frozen=True)
class Case:
    """A trial, the metrics of its middle seed, and how many seeds ended ok.

    Arguments:
        trial: Its backend and seed are replaced.
        metrics: By name; None means not run.
        ok: Seeds that ended ok; the others diverged.
        n: Rows or samplings behind each metric.
    """

    trial: Trial
    metrics: Mapping[str, float] | None
    ok: int = len(SEEDS)
    n: int = 100


def reduced(trial: Trial) -> Trial:
    """PaddingFlow's FFJORD of POWER."""
    model = replace(trial.model, layer="concatsquash", hidden=(120, 120), nonlinearity="softplus")
    training = replace(trial.training, batch=1000)
    return replace(trial, model=replace(model, blocks=1), training=training)


CASES = (
    Case(POWER, {"test_nll": -0.455, "gaussian_nll": 7.74, "emd": 0.5, "mmd_kernel": 0.01}),
    Case(reduced(POWER), {"cd": 0.158, "min_cd": 0.2, "emd_3d_reading_approximate": 0.117}),
    Case(GAS, {"test_nll": -8.2, "gaussian_nll": 3.58}, ok=2),
    Case(HEPMASS, {"test_nll": 17.1, "gaussian_nll": 27.93}, ok=0),
    Case(
        replace(MINIBOONE, training=replace(MINIBOONE.training, iterations=500)),
        {"test_nll": 11.3, "gaussian_nll": 37.24, "emd_3d_reading": 0.22},
    ),
    Case(
        replace(MINIBOONE, solver=FixedSolver("rk4_38", 8), regularizer={"rnode.kinetic": 0.01}),
        {"test_nll": 10.9, "gaussian_nll": 37.24},
    ),
    Case(replace(BSDS300, dataset=DatasetRef("bsds300", "d")), None),
    Case(MNIST, {"test_bits_per_dim": 0.99}),
    Case(FREY, {"test_neg_elbo_bits_per_dim": 4.51, "mmd_l2_recon": 0.84, "cov_l2_recon": 99.99}),
    Case(replace(POWER, dataset=DatasetRef("power-partial", "d")), {"test_nll": -0.46}),
    Case(replace(BSDS300, dataset=DatasetRef("bsds300-rederived", "d")), {"test_nll": -157.4}),
    Case(replace(POWER, dataset=DatasetRef("8gaussians", "d")), {"test_nll": 2.9}),
)


def target(dataset: str, metric: str) -> PublishedValue | None:
    """The published value that a reproduction must match, None if there is none."""
    return next((value for value in published(dataset, metric) if value.is_target), None)


def plan_of(cases: tuple[Case, ...] = CASES) -> Plan:
    """All backends and seeds of the cases."""
    planned = tuple(
        PlannedTrial(trial, "to_run" if case.metrics is None else "finished", None, Resources())
        for case in cases
        for _, _, trial in _trials(case)
    )
    return Plan("beside", "Invented records of published datasets.", planned)


def frame(cases: tuple[Case, ...] = CASES) -> pd.DataFrame:
    """Their records."""
    return frame_of(
        row(trial, _result(case, trial, index))
        for case in cases
        if case.metrics is not None
        for _, index, trial in _trials(case)
    )


def _trials(case: Case) -> Iterator[tuple[str, int, Trial]]:
    for backend in BACKENDS:
        for index, seed in enumerate(SEEDS):
            yield backend, index, replace(case.trial, backend=backend, seed=seed)


def _result(case: Case, trial: Trial, index: int) -> dict[str, Any]:
    ok = index < case.ok
    return {
        "trial_id": trial.id,
        "status": "ok" if ok else "diverged",
        "message": None if ok else "the loss left the finite numbers at step 412",
        "metrics": {
            # The Gaussian is in closed form, the same for all seeds.
            name: {
                "value": value + (0.0 if name == "gaussian_nll" else SPREAD[index]),
                "unit": DEFINITIONS[name].unit,
                "n": case.n,
            }
            for name, value in (case.metrics or {}).items()
            if ok
        },
        "attempts": 1,
        "attempt_id": f"{index:08x}",
        "finished_ms": 0,
    }
