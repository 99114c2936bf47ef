"""One contender in a process of its own: takes a training step for each line on standard input.

    python bench_worker.py CONTENDER WORKLOAD REFERENCE.npy

Prints a JSON line when ready (set-up and compile time, error of log p against float64, memory) and
one a step. A process each, because torch and jax do not share one and memory is to be told apart.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from workloads import WORKLOADS, Workload, relative_error

from harness.backends import get_backend
from harness.interface import Control, DataInfo
from harness.trial import AdaptiveSolver, GradientName, PrecisionName

CORES = len(os.sched_getaffinity(0))


class Step(NamedTuple):
    """What a step reports."""

    loss: float
    nfe_forward: int
    nfe_backward: int


class Contender(NamedTuple):
    """A ready contender: its training step and its log p."""

    step: Callable[[], Step]
    log_prob: Callable[[], np.ndarray]


def backend_contender(name: str, workload: Workload, precision: PrecisionName) -> Contender:
    """`<backend>-<gradient>[-<first step>]`, e.g. `jax-direct-whole`."""
    backend_name, gradient, *first_step = name.split("-")
    trial = workload.trial(backend_name, cast(GradientName, gradient), precision)
    solver = cast(AdaptiveSolver, trial.solver)
    if first_step:
        solver = replace(solver, first_step=cast(Any, first_step[0]))
    backend = get_backend(backend_name)
    backend.prepare(trial, CORES)
    model = backend.open(trial, DataInfo("benchmark", (workload.dim,)), "cpu")
    batch = workload.inputs(precision)
    control = Control(solver, "hutchinson", trial.gradient, lr=0.0)
    model.compile(batch, control)

    def step() -> Step:
        report = model.train_step(batch, control).fetch()
        model.synchronize()
        if report.failure:
            raise RuntimeError(report.failure)
        return Step(report.loss, sum(report.nfe.forward), sum(report.nfe.backward))

    def log_prob() -> np.ndarray:
        return np.asarray(model.evaluate(batch, control, ("log_prob",)).values["log_prob"])

    return Contender(step, log_prob)


def original_contender(workload: Workload) -> Contender:
    """The released code's computation."""
    import torch
    from original import OriginalFlow

    torch.set_num_threads(CORES)
    flow = OriginalFlow(workload)
    batch = workload.inputs("float32")

    def log_prob() -> np.ndarray:
        return np.asarray(flow.log_prob(batch).detach().numpy())

    return Contender(lambda: Step(*flow.step(batch)), log_prob)


def reference_log_prob(workload: Workload, out: Path) -> None:
    """Writes log p in float64 at tolerance 1e-10, what every error is measured against."""
    tight = replace(workload, tolerance=1e-10)
    contender = backend_contender("torch-direct", tight, "float64")
    np.save(out, contender.log_prob())


def resident_bytes() -> int:
    """Highest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def serve(name: str, workload: Workload, reference: np.ndarray) -> None:
    """Sets up a contender and answers each line of standard input with one step."""
    start = time.perf_counter()
    if name == "original":
        contender = original_contender(workload)
    else:
        contender = backend_contender(name, workload, "float32")
    built = time.perf_counter()
    before = resident_bytes()
    step = contender.step()
    ready = {
        "setup_s": built - start,
        "first_step_s": time.perf_counter() - built,
        "error_nats": relative_error(contender.log_prob().astype(np.float64), reference),
        "memory_bytes": resident_bytes() - before,
        **step._asdict(),
    }
    print(json.dumps(ready), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        step = contender.step()
        print(json.dumps({"step_s": time.perf_counter() - start, **step._asdict()}), flush=True)


def main() -> None:
    name, workload, reference = sys.argv[1], WORKLOADS[sys.argv[2]], Path(sys.argv[3])
    if name == "reference":
        reference_log_prob(workload, reference)
    else:
        serve(name, workload, np.load(reference))


if __name__ == "__main__":
    main()
