"""What a backend makes of a case, beside what the released code made of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from cases import Case

from harness.interface import Arrays, Backend, Control, Model, Quantity
from harness.trial import AdaptiveSolver

__all__ = ["Difference", "differences"]

BETA1 = 0.9
GROUPED = frozenset({"gradient", "gradient_matched", "regularizers", "buffers", "arrays"})
"""Quantities that have a value for each of several names."""
RELEASED = frozenset({"gradient", "backward"})
"""What an adjoint solve gives that starts with a step of its own, as released."""


class Difference(NamedTuple):
    """How far a quantity is from the released code's.

    Arguments:
        call: `evaluate`, `train`, `steps` or `sample`.
        quantity: Its name; all arrays of a kind are one quantity.
        size: Of values the largest absolute difference over max(1, largest value); of gradients
            the largest over the largest entry of any array's; of counts the largest.
        bar: The largest that is allowed; None if the quantity is not judged.
    """

    call: str
    quantity: str
    size: float
    bar: float | None


def differences(case: Case, backend: Backend) -> Iterator[Difference]:
    """Every recorded quantity of a case."""
    solver = case.trial.solver
    for call in case.calls:
        ours = _made(case, backend, call)
        if call != "train" or not isinstance(solver, AdaptiveSolver):
            yield from _compared(case, call, ours)
            continue
        yield from (each for each in _compared(case, call, ours) if each.quantity not in RELEASED)
        # Once more, with the adjoint solve that finds a first step of its own.
        anew = replace(solver, backward_first_step="heuristic")
        ours = _made(replace(case, trial=replace(case.trial, solver=anew)), backend, call)
        yield from (each for each in _compared(case, call, ours) if each.quantity in RELEASED)


def _made(case: Case, backend: Backend, call: str) -> dict[str, Any]:
    model = backend.open(case.trial, case.data, "cpu")
    try:
        model.load_arrays(case.arrays)
        return _CALLS[call](case, model)
    finally:
        model.close()


def _compared(case: Case, call: str, ours: Mapping[str, Any]) -> Iterator[Difference]:
    theirs: dict[str, Arrays] = {}
    for name, value in case.expected.items():
        where, _, quantity = name.partition("/")
        if where == call:
            kind, _, rest = quantity.partition("/")
            key, rest = (kind, rest) if kind in GROUPED else (quantity, "")
            theirs.setdefault(key, {})[rest] = value
    bars = case.bars.get(call, {})
    for quantity, values in theirs.items():
        mine = ours.get(quantity.removesuffix("_matched"))
        if mine is None:
            assert quantity not in bars, f"nothing gives {call}/{quantity}, which has a bar"
            continue
        of = mine if isinstance(mine, Mapping) else {"": mine}
        pairs = [(np.asarray(of[name]), np.asarray(value)) for name, value in values.items()]
        # The file's bars for the released adjoint are as wide as the tolerance; those for the
        # matched one hold for both.
        bar = bars.get(f"{quantity}_matched", bars.get(quantity)) if quantity in bars else None
        yield Difference(call, quantity, _size(quantity, pairs), bar)


def _size(quantity: str, pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    gaps = [float(np.abs(mine - value).max(initial=0)) for mine, value in pairs]
    if quantity.startswith("gradient"):
        largest = max(float(np.abs(value).max(initial=0)) for _, value in pairs)
        return max(gaps) / largest
    if quantity.removesuffix("_matched") in ("forward", "backward"):
        return max(gaps)
    scales = [max(1.0, float(np.abs(value).max(initial=0))) for _, value in pairs]
    return max(gap / scale for gap, scale in zip(gaps, scales, strict=True))


def _evaluate(case: Case, model: Model) -> dict[str, Any]:
    density = case.data.likelihood == "density"
    quantities: tuple[Quantity, ...] = ("log_prob", "encode") if density else ("elbo_terms",)
    if "evaluate/reconstruct" in case.expected:
        quantities = (*quantities, "reconstruct")
    trial = case.trial
    control = Control(trial.evaluation_solver, trial.evaluation.trace)
    report = model.evaluate(case.batch(), control, quantities)
    assert report.failure is None, report.failure
    found: dict[str, Any] = {**report.values, "forward": report.nfe.forward}
    if density:
        found["z"] = found.pop("encode")
        found["log_prob"] = found["log_prob"] + case.log_volume
        per_dim = found["log_prob"].mean() / math.prod(case.data.event_shape)
        found["bits_per_dim"] = -(per_dim - math.log(256)) / math.log(2)
    return found


def _control(case: Case) -> Control:
    trial = case.trial
    return Control(
        trial.solver,
        trial.training.trace,
        trial.gradient,
        lr=case.control.get("lr", 1e-3),
        kl_weight=case.control.get("kl_weight", 1.0),
    )


def _train(case: Case, model: Model) -> dict[str, Any]:
    report = model.train_step(case.batch(), _control(case)).fetch()
    assert report.failure is None, report.failure
    moments = model.state()
    gradient = {
        name: moments[f"adam/m/{name}"] / (1 - BETA1)
        for name in case.arrays
        if f"adam/m/{name}" in moments
    }
    shift = float(np.mean(case.log_volume))
    return {
        "loss": report.loss - shift,
        "nll": report.nll - shift,
        "regularizers": report.regularizers,
        "forward": report.nfe.forward,
        "backward": report.nfe.backward,
        "gradient": {
            k: v.ravel()[:: case.strides[k]] if k in case.strides else v
            for k, v in gradient.items()
        },
        "buffers": model.arrays(),
    }


def _steps(case: Case, model: Model) -> dict[str, Any]:
    losses, forward = [], []
    for step in range(case.steps):
        report = model.train_step(case.batch(step), _control(case)).fetch()
        assert report.failure is None, report.failure
        losses.append(report.loss)
        forward.append(report.nfe.forward)
    return {"loss": losses, "forward": forward, "arrays": model.arrays()}


def _sample(case: Case, model: Model) -> dict[str, Any]:
    control = Control(case.trial.evaluation_solver, case.trial.evaluation.trace)
    report = model.sample(case.batch(), control)
    assert report.failure is None, report.failure
    return {"sample": report.values["sample"], "forward": report.nfe.forward}


_CALLS = {"evaluate": _evaluate, "train": _train, "steps": _steps, "sample": _sample}
