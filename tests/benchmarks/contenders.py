"""What is timed, by name, each behind one step and what its solver gives."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, cast

import numpy as np
from workloads import FirstStep, Workload

from harness.backends import get_backend
from harness.interface import Control, EvaluationReport, Model, Quantity
from harness.trial import AdaptiveSolver, GradientName, PrecisionName

__all__ = ["ALL", "CORES", "DEFAULT", "Contender", "Step", "build", "contenders_of"]

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


def contenders_of(workload: Workload, names: Sequence[str]) -> list[str]:
    """Those of the names that the workload knows, without modes that are one for its task."""
    peers = [
        name
        for name in names
        if (workload.has_original if name == "original" else workload.has_peers)
        or name not in _PEERS
    ]
    if workload.task == "train":
        return peers
    return [name for name in peers if name in _PEERS or name.endswith("-direct-heuristic")]


class Step(NamedTuple):
    """What a training step reports; `nfe` sums over the blocks, by the names of `Nfe`."""

    loss: float
    nfe: Mapping[str, int]


class Contender(NamedTuple):
    """A ready contender: compilation, one step, what its solver gives: log p, ELBO, samples."""

    compile: Callable[[], None]
    step: Callable[[], Step]
    values: Callable[[], np.ndarray]


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
    data = workload.data
    choices = dict(backend.choose(trial, data, "cpu", CORES))
    if trial.backend == "torch":
        if "execution" not in choices:
            raise NotBuilt("the torch backend does not offer the choice of its execution")
        choices["execution"] = execution.partition("-")[2]
        # What cannot be compiled runs eagerly, under a warning; here it has failed.
        warnings.filterwarnings("error", message="not compiled")
    model = backend.open(trial, data, "cpu", choices)
    batch = workload.inputs(precision)
    control = Control(trial.solver, workload.trace, trial.gradient, lr=0.0)

    kinds = ("forward", "backward", "vjp", "recompute")

    def train() -> Step:
        report = model.train_step(batch, control).fetch()
        model.synchronize()
        if report.failure:
            raise RuntimeError(report.failure)
        return Step(report.loss, {kind: sum(getattr(report.nfe, kind)) for kind in kinds})

    def evaluated(at: Control) -> EvaluationReport:
        if workload.task == "sample":
            report = model.sample(batch, at)
        else:
            quantity: Quantity = "log_prob" if workload.model.posterior is None else "elbo_terms"
            report = model.evaluate(batch, at, (quantity,))
        if report.failure:
            raise RuntimeError(report.failure)
        return report

    def evaluate() -> Step:
        report = evaluated(control)
        loss = float(np.mean(sum(report.values.values())))
        return Step(loss, {kind: sum(getattr(report.nfe, kind)) for kind in kinds})

    def values() -> np.ndarray:
        at = replace(control, solver=_as_trained(cast(AdaptiveSolver, trial.solver), model))
        # The parts of an ELBO add up to it.
        return np.asarray(sum(evaluated(at).values.values()))

    if workload.task == "train":
        return Contender(lambda: model.compile(batch, control), train, values)
    return Contender(lambda: None, evaluate, values)


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
    make: Any = {"original": original, **PEERS}[name]
    probes = [batch.noise.get(f"probe/{block}") for block in range(len(nets))]
    blocks = [
        make(net, None if probe is None else torch.tensor(probe), workload.tolerance)
        for net, probe in zip(nets, probes, strict=True)
    ]

    def log_prob() -> Any:  # noqa: ANN401
        z, log_det = x, torch.zeros(len(x), dtype=x.dtype)
        for solve in blocks:
            z, gained = solve(z)
            log_det = log_det + gained
        return -0.5 * (z**2 + np.log(2 * np.pi)).sum(1) + log_det

    def evaluate() -> Step:
        for net in nets:
            net.reset()
        with torch.no_grad():
            loss = -log_prob().mean()
        return Step(loss.item(), nfe_of(nets, sum(net.evaluations for net in nets)))

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

    return Contender(
        lambda: None,
        step if workload.task == "train" else evaluate,
        lambda: np.asarray(log_prob().detach().numpy()),
    )
