"""What is timed, by name, each behind one training step and one log p."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple, cast

import numpy as np
from workloads import FirstStep, Workload

from harness.backends import get_backend
from harness.interface import Control, DataInfo, Model
from harness.trial import AdaptiveSolver, GradientName, PrecisionName

__all__ = ["ALL", "CORES", "DEFAULT", "Contender", "Step", "build"]

CORES = len(os.sched_getaffinity(0))

_PEERS = ("original", "zuko", "torchdyn")
_EXECUTIONS = ("torch-eager", "torch-compiled", "jax")
_MODES = ("adjoint", "checkpoint", "direct")
_FIRST = ("heuristic", "warm", "whole")

ALL = [*_PEERS, *(f"{e}-{m}-{f}" for e in _EXECUTIONS for m in _MODES for f in _FIRST)]
"""Peers, and the product of execution, gradient mode and first step."""

DEFAULT = [
    name
    for name in ALL
    if name in _PEERS
    or name.endswith("-heuristic")
    or ("direct" in name and "eager" not in name)
    or name in ("jax-checkpoint-warm", "jax-checkpoint-whole")
]
"""Every mode from the heuristic, every first step in each backend's fastest mode."""


class Step(NamedTuple):
    """What a training step reports; `nfe` sums over the blocks, by the names of `Nfe`."""

    loss: float
    nfe: Mapping[str, int]


class Contender(NamedTuple):
    """A ready contender: compilation, one training step, and log p of its solver."""

    compile: Callable[[], None]
    step: Callable[[], Step]
    log_prob: Callable[[], np.ndarray]


class NotBuilt(Exception):
    """The backend does not offer this; the message is its reason."""


def build(name: str, workload: Workload, precision: PrecisionName = "float32") -> Contender:
    """Returns the contender of that name, its net at the initial arrays."""
    if name in _PEERS:
        return _torch_contender(name, workload, precision)
    return _backend_contender(name, workload, precision)


def _backend_contender(name: str, workload: Workload, precision: PrecisionName) -> Contender:
    execution, gradient, first_step = name.rsplit("-", 2)
    trial = workload.trial(
        execution.partition("-")[0],
        cast(GradientName, gradient),
        precision,
        cast(FirstStep, first_step),
    )
    backend = get_backend(trial.backend)
    unsupported = backend.supports(trial)
    if unsupported:
        raise NotBuilt(unsupported.reason)
    backend.prepare(trial, CORES)
    data = DataInfo("benchmark", (workload.dim,))
    choices = dict(backend.choose(trial, data, "cpu", CORES))
    if trial.backend == "torch":
        if "execution" not in choices:
            raise NotBuilt("the torch backend does not offer the choice of its execution")
        choices["execution"] = execution.partition("-")[2]
        # What cannot be compiled runs eagerly, under a warning; here it has failed.
        warnings.filterwarnings("error", message="not compiled")
    model = backend.open(trial, data, "cpu", choices)
    batch = workload.inputs(precision)
    control = Control(trial.solver, "hutchinson", trial.gradient, lr=0.0)

    def step() -> Step:
        report = model.train_step(batch, control).fetch()
        model.synchronize()
        if report.failure:
            raise RuntimeError(report.failure)
        kinds = ("forward", "backward", "vjp", "recompute")
        return Step(report.loss, {kind: sum(getattr(report.nfe, kind)) for kind in kinds})

    def log_prob() -> np.ndarray:
        at = replace(control, solver=_as_trained(cast(AdaptiveSolver, trial.solver), model))
        report = model.evaluate(batch, at, ("log_prob",))
        if report.failure:
            raise RuntimeError(report.failure)
        return np.asarray(report.values["log_prob"])

    return Contender(lambda: model.compile(batch, control), step, log_prob)


def _as_trained(solver: AdaptiveSolver, model: Model) -> AdaptiveSolver:
    """The solver of an evaluation with the first step of the training steps.

    An evaluation never starts warm, but the error of a warm start is what is to be known. Of
    blocks with unequal steps the largest counts, which makes the error no smaller.
    """
    if solver.first_step != "warm":
        return solver
    return replace(solver, first_step=float(np.max(model.state()["warm/forward"])))


def _torch_contender(name: str, workload: Workload, precision: PrecisionName) -> Contender:
    import torch
    from original import original
    from peers import PEERS
    from plain_net import block_nets, nfe_of

    torch.set_num_threads(CORES)
    nets = block_nets(workload, precision)
    optimizer = torch.optim.Adam([p for net in nets for p in net.parameters()], lr=0.0)
    batch = workload.inputs(precision)
    x = torch.tensor(batch.x)
    make = {"original": original, **PEERS}[name]
    blocks = [
        make(net, torch.tensor(batch.noise[f"probe/{block}"]), workload.tolerance)
        for block, net in enumerate(nets)
    ]

    def log_prob() -> Any:  # noqa: ANN401
        z, log_det = x, torch.zeros(len(x), dtype=x.dtype)
        for solve in blocks:
            z, gained = solve(z)
            log_det = log_det + gained
        return -0.5 * (z**2 + np.log(2 * np.pi)).sum(1) + log_det

    def step() -> Step:
        for net in nets:
            net.reset()
        optimizer.zero_grad()
        loss = -log_prob().mean()
        forward = sum(net.evaluations for net in nets)
        for net in nets:
            net.in_backward = True
        loss.backward()
        optimizer.step()
        return Step(loss.item(), nfe_of(nets, forward))

    return Contender(lambda: None, step, lambda: np.asarray(log_prob().detach().numpy()))
