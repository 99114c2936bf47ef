"""What a warm first step saves while the weights train, and what it does to the result.

    python bench_warm_training.py [BACKEND [STEPS]]      or make bench-warm

Two models of one backend, one starting its solves by the heuristic and one warm, take their
training steps in turn, on the same fresh batches and probes, at the paper's learning rate. Both
are evaluated by one tight solve from the heuristic. miniboone-partial needs HARNESS_DATA_DIR.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np
from contenders import CORES
from workloads import FirstStep

from harness.architecture.noise import draw, noise_slots
from harness.backends import get_backend
from harness.datasets.base import Batching, Dataset
from harness.datasets.registry import declare, load
from harness.errors import HarnessError
from harness.interface import Batch, Control, Model
from harness.measuring.tally import quartiles
from harness.trial import (
    AdaptiveSolver,
    DatasetRef,
    EndTime,
    ModelSpec,
    Optimizer,
    Training,
    Trial,
)

FIRST_STEPS: tuple[FirstStep, ...] = ("heuristic", "warm")
TEST_ROWS = 1000


@dataclass
class Run:
    """A model in training and what its steps reported."""

    trial: Trial
    model: Model
    seconds: list[float] = field(default_factory=list)
    nll: list[float] = field(default_factory=list)
    forward: list[int] = field(default_factory=list)
    vjp: list[int] = field(default_factory=list)
    rejected: list[int] = field(default_factory=list)

    def step(self, dataset: Dataset, number: int) -> None:
        trial, size = self.trial, self.trial.training.batch
        x = dataset.training_batch(trial.seed, number, Batching(size)).x.astype(trial.precision)
        slots = noise_slots(trial, dataset.info.event_shape, "train", size)
        batch = Batch(x, draw(slots, trial.seed, number, trial.dtype))
        lr = trial.training.optimizer.lr
        control = Control(trial.solver, "hutchinson", trial.gradient, number, lr)
        start = time.perf_counter()
        report = self.model.train_step(batch, control).fetch()
        self.seconds.append(time.perf_counter() - start)
        if report.failure:
            raise RuntimeError(f"step {number}: {report.failure}")
        self.nll.append(report.nll)
        self.forward.append(sum(report.nfe.forward))
        self.vjp.append(sum(report.nfe.vjp))
        self.rejected.append(sum(report.nfe.rejected))

    def test_nll(self, dataset: Dataset) -> float:
        """Mean NLL of the test rows with the exact trace, nats."""
        solver = AdaptiveSolver("dopri5", rtol=1e-6, atol=1e-6)
        x = dataset.rows("test", TEST_ROWS).x.astype(self.trial.precision)
        report = self.model.evaluate(Batch(x), Control(solver, "exact"), ("log_prob",))
        return -float(np.mean(report.values["log_prob"]))


def trials(backend: str) -> dict[str, Trial]:
    """FFJORD's toy and MINIBOONE settings at tolerance 1e-5, by dataset."""
    toy = Trial(
        dataset=DatasetRef("8gaussians", declare("8gaussians").digest),
        backend=backend,
        solver=AdaptiveSolver("dopri5", 1e-5, 1e-5),
        model=ModelSpec(hidden=(64, 64, 64), end_time=EndTime(0.5, "inert")),
        training=Training(batch=100, optimizer=Optimizer(lr=1e-3)),
        gradient="direct",
    )
    table = replace(
        toy,
        dataset=DatasetRef("miniboone-partial", declare("miniboone-partial").digest),
        model=ModelSpec(hidden=(860, 860), nonlinearity="softplus"),
        training=Training(batch=1000, optimizer=Optimizer(lr=1e-3)),
    )
    return {"8gaussians": toy, "miniboone-partial": table}


def train(trial: Trial, dataset: Dataset, steps: int) -> dict[str, Run]:
    """Trains one model from each first step, step by step in turn."""
    backend = get_backend(trial.backend)
    backend.prepare(trial, CORES)
    runs: dict[str, Run] = {}
    for first_step in FIRST_STEPS:
        own = replace(cast(AdaptiveSolver, trial.solver), first_step=first_step)
        of = replace(trial, solver=own)
        choices = backend.choose(of, dataset.info, "cpu", CORES)
        runs[first_step] = Run(of, backend.open(of, dataset.info, "cpu", choices))
    for number in range(steps):
        for run in runs.values():
            run.step(dataset, number)
    return runs


def describe(name: str, dataset: Dataset, runs: dict[str, Run]) -> list[str]:
    """A table of the two runs and their ratio."""
    steps = len(runs["warm"].nll)
    last = max(1, steps // 10)
    lines = [
        f"{name}: {steps} steps, batch {runs['warm'].trial.training.batch}",
        f"{'first step':12}{'NFE f':>8}{'vjp':>8}{'rejected':>10}{'of steps':>10}{'ms':>8}"
        f"{'last nll':>10}{'test nll':>10}",
    ]
    for first_step, run in runs.items():
        # A rejected step of any size costs a whole attempt; warm steps risk it.
        having = np.mean(np.array(run.rejected) > 0)
        lines.append(
            f"{first_step:12}{np.mean(run.forward):>8.1f}{np.mean(run.vjp):>8.1f}"
            f"{sum(run.rejected):>10}{having:>10.1%}{1e3 * np.median(run.seconds):>8.1f}"
            f"{np.mean(run.nll[-last:]):>10.4f}{run.test_nll(dataset):>10.4f}"
        )
    slow, fast = runs["heuristic"].seconds[5:], runs["warm"].seconds[5:]
    found = quartiles([a / b for a, b in zip(slow, fast, strict=True)])
    lines.append(
        f"heuristic / warm, median of paired steps {found['median']:.2f} "
        f"[{found['q25']:.2f}, {found['q75']:.2f}], n {found['n']}"
    )
    return lines


def main(backend: str = "jax", steps: str | None = None) -> None:
    for (name, trial), usual in zip(trials(backend).items(), (400, 200), strict=True):
        try:
            dataset = load(name)
        except HarnessError as error:
            print(f"{name}: not run: {error}")
            continue
        runs = train(trial, dataset, int(steps or usual))
        print("\n".join(describe(name, dataset, runs)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
