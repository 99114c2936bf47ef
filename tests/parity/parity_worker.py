"""Runs the parity trials in one backend and writes what the comparison needs.

    python parity_worker.py BACKEND PRECISION FOLDER

Writes FOLDER/BACKEND-PRECISION.npz, waits for that of the other backend, evaluates the arrays
which that one trained and writes FOLDER/BACKEND-PRECISION-ported.npz.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import cast

import numpy as np
from parity_cases import STEPS, Case, cases

from harness.architecture.matching import matched
from harness.architecture.noise import draw, noise_slots
from harness.backends import get_backend
from harness.conformance.inputs import examples
from harness.interface import Batch, Control, Model
from harness.specs.solver import carries_log_volume
from harness.streams.stream import Stream
from harness.trial import PrecisionName

Out = dict[str, np.ndarray]


def _batch(case: Case, step: int) -> Batch:
    trial, shape = case.trial, case.data.event_shape
    size = trial.training.batch
    x = examples(case.data, Stream(trial.seed, "parity/x", step), size)
    noise = draw(noise_slots(trial, shape, "train", size), trial.seed, step, trial.dtype)
    log_volume = None
    if carries_log_volume(trial.solver):
        log_volume = 100 * Stream(trial.seed, "parity/log_volume", step).normal((size,))
    return matched(trial, Batch(x.astype(trial.precision), noise, log_volume))


def _evaluate(model: Model, case: Case) -> np.ndarray:
    """The log-likelihood of each example by the exact trace, or its bound."""
    control, batch = Control(case.trial.solver, "exact"), _batch(case, 1000)
    density = case.data.likelihood == "density"
    report = model.evaluate(batch, control, ("log_prob",) if density else ("elbo_terms",))
    assert report.failure is None
    if density:
        return np.asarray(report.values["log_prob"])
    return -report.values["elbo_terms/reconstruction"] - report.values["elbo_terms/kl"]


def _train(model: Model, case: Case) -> Out:
    trial = case.trial
    out: Out = {f"initial/{name}": value for name, value in model.arrays().items()}
    out["log_prob"] = _evaluate(model, case)
    losses, forward, backward = [], [], []
    for step in range(STEPS):
        said = trial.training
        estimate = said.probes, said.draws
        control = Control(trial.solver, said.trace, trial.gradient, step, 1e-2, 0.7, *estimate)
        report = model.train_step(_batch(case, step), control).fetch()
        assert report.failure is None, report.failure
        losses.append(report.loss)
        forward.append(report.nfe.forward)
        backward.append(report.nfe.backward)
        if step == 0:
            # The first moment after one step is a tenth of the gradient that the optimiser saw.
            out |= {f"gradient/{k}": v for k, v in model.state().items() if "adam/m" in k}
    out["loss"] = np.array(losses)
    out["nfe_forward"] = np.array(forward)
    out["nfe_backward"] = np.array(backward)
    out["trained_log_prob"] = _evaluate(model, case)
    warm = {k: v for k, v in model.state().items() if k.startswith("warm/")}
    return out | warm | {f"trained/{name}": value for name, value in model.arrays().items()}


def _store(out: Path, results: Out) -> None:
    """Whole or not at all: the other process waits for the file."""
    partial = out.with_suffix(".partial.npz")
    np.savez(partial, **results)  # type: ignore[arg-type]
    partial.replace(out)


def _wait_for(path: Path) -> Out:
    while not path.exists():
        time.sleep(0.2)
    with np.load(path) as stored:
        return {key: stored[key] for key in stored.files}


def _ported(models: dict[str, Model], todo: dict[str, Case], other: Out) -> Out:
    """Evaluates the arrays that the other backend trained."""
    out: Out = {}
    for key, model in models.items():
        prefix = f"{key}:trained/"
        model.load_arrays(
            {k.removeprefix(prefix): v for k, v in other.items() if k.startswith(prefix)}
        )
        out[f"{key}:log_prob"] = _evaluate(model, todo[key])
    return out


def main(name: str, precision: str, folder: Path) -> None:
    backend = get_backend(name)
    todo = cases(name, cast(PrecisionName, precision))
    backend.prepare(next(iter(todo.values())).trial, 1)
    models: dict[str, Model] = {}
    results: dict[str, np.ndarray] = {}
    for key, case in todo.items():
        assert backend.supports(case.trial) is None
        models[key] = backend.open(case.trial, case.data, "cpu")
        found = _train(models[key], case)
        results |= {f"{key}:{name}": value for name, value in found.items()}
    _store(folder / f"{name}-{precision}.npz", results)
    other = "jax" if name == "torch" else "torch"
    theirs = _wait_for(folder / f"{other}-{precision}.npz")
    _store(folder / f"{name}-{precision}-ported.npz", _ported(models, todo, theirs))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
