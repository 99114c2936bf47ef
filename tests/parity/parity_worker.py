"""Runs the parity trials in one backend and writes everything the comparison needs to one npz.

    python parity_worker.py BACKEND PRECISION OUT.npz [ARRAYS.npz]

With ARRAYS the trained arrays found there are evaluated instead; nothing is trained.
"""

from __future__ import annotations

import sys

import numpy as np
from parity_cases import DIM, STEPS, trials

from harness.backends import get_backend
from harness.interface import Batch, Control, DataInfo, Model
from harness.noise import draw, noise_slots
from harness.streams import Stream
from harness.trial import Trial

Out = dict[str, np.ndarray]


def _batch(trial: Trial, step: int) -> Batch:
    x = Stream(trial.seed, "parity/x", step).normal((32, DIM)).astype(trial.precision)
    noise = draw(noise_slots(trial, (DIM,), "train", 32), trial.seed, step, trial.precision)
    return Batch(x, noise)


def _evaluate(model: Model, trial: Trial) -> np.ndarray:
    control = Control(trial.solver, "exact")
    report = model.evaluate(Batch(_batch(trial, 1000).x), control, ("log_prob",))
    assert report.failure is None
    return np.asarray(report.values["log_prob"])


def _train(model: Model, trial: Trial) -> Out:
    out: Out = {f"initial/{name}": value for name, value in model.arrays().items()}
    out["log_prob"] = _evaluate(model, trial)
    losses, forward, backward = [], [], []
    for step in range(STEPS):
        control = Control(trial.solver, trial.training.trace, trial.gradient, step, lr=1e-2)
        report = model.train_step(_batch(trial, step), control).fetch()
        assert report.failure is None, report.failure
        losses.append(report.loss)
        forward.append(report.nfe.forward)
        backward.append(report.nfe.backward)
        if step == 0:
            # The first moment of Adam after one step is a tenth of the gradient.
            out |= {f"gradient/{k}": v for k, v in model.state().items() if "adam/m" in k}
    out["loss"] = np.array(losses)
    out["nfe_forward"] = np.array(forward)
    out["nfe_backward"] = np.array(backward)
    out["trained_log_prob"] = _evaluate(model, trial)
    return out | {f"trained/{name}": value for name, value in model.arrays().items()}


def main(name: str, precision: str, out: str, arrays: str | None = None) -> None:
    backend = get_backend(name)
    todo = trials(name, "float64" if precision == "float64" else "float32")
    backend.prepare(next(iter(todo.values())), 1)
    given = np.load(arrays) if arrays else None
    results: Out = {}
    for case, trial in todo.items():
        assert backend.supports(trial) is None
        model = backend.open(trial, DataInfo("parity", (DIM,)), "cpu")
        if given is None:
            found = _train(model, trial)
        else:
            prefix = f"{case}:trained/"
            model.load_arrays(
                {k.removeprefix(prefix): given[k] for k in given.files if k.startswith(prefix)}
            )
            found = {"trained_log_prob": _evaluate(model, trial)}
        results |= {f"{case}:{key}": value for key, value in found.items()}
        model.close()
    np.savez(out, **results)  # type: ignore[arg-type]


if __name__ == "__main__":
    main(*sys.argv[1:])
