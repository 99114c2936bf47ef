"""Recorded values of the paper's released code: small fixed weights, batches and probes, and what
that code makes of them. README.md beside this file says how they were made and what the form is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from harness.interface import Arrays, Batch, DataInfo
from harness.trial import AdaptiveSolver, Trial

__all__ = ["Case", "read"]

RELEASED = {"ffjord.jdiag": "released.jdiag", "ffjord.joffdiag": "released.joffdiag"}
"""The file's names of the released regularizers that have names of their own here."""

_ADJOINT = {"gradient": 1e-9, "gradient_matched": 1e-9, "backward": 0.0, "backward_matched": 0.0}
_POSTERIOR = {"elbo_terms/kl": 1e-9, "elbo_terms/reconstruction": 1e-9, "reconstruct": 1e-9}
_DENSITY = {"bits_per_dim": 1e-9, "log_prob": 1e-9, "z": 1e-9}
TIGHTER: Mapping[str, Mapping[str, Mapping[str, float]]] = {
    "multiscale-logit-1e-6": {
        "evaluate": {**_DENSITY, "forward": 0.0},
        "train": {**_ADJOINT, "loss": 1e-9, "nll": 1e-9, "forward": 0.0},
    },
    "vae-hyper-tanh-released": {
        "evaluate": {**_POSTERIOR, "forward": 0.0},
        "train": {**_ADJOINT, "loss": 1e-9, "nll": 1e-9, "forward": 0.0},
    },
    **{
        f"regularizer-{name}": {"train": _ADJOINT}
        for name in ("l1-dopri5", "l1-released", "l2-dl2-dopri5", "jfrob-released")
    },
}
"""Bars over those of the file, by case and call. The file's are of a time when the released
hypernetwork, the regularizers in the adjoint's norm and the log-volume in the state could not be
asked for by name.
"""


@dataclass(frozen=True)
class Case:
    """One model, its inputs and the released code's values.

    Arguments:
        id: Its name.
        kind: What it is an example of.
        trial: The trial that the spec means, but for its backend.
        data: What the model must know of its data.
        arrays: All arrays by portable name.
        x: The batch, [batch, *event_shape]; with steps [steps, batch, ...]; None for samples.
        noise: Arrays by slot, with steps [steps, ...].
        calls: `evaluate`, `train`, `steps`, `sample`.
        control: `kl_weight` of the loss, `lr` of steps.
        steps: Number of training steps.
        alpha: Of the logit that comes before the flow; None if there is none.
        strides: Of arrays whose gradients are recorded in part.
        bars: Call -> quantity -> largest difference.
        expected: `<call>/<quantity>` -> value.
    """

    id: str
    kind: str
    trial: Trial
    data: DataInfo
    arrays: Arrays
    x: np.ndarray | None
    noise: Arrays
    calls: tuple[str, ...]
    control: Mapping[str, float]
    steps: int
    alpha: float | None
    strides: Mapping[str, int]
    bars: Mapping[str, Mapping[str, float]]
    expected: Arrays

    def batch(self, step: int | None = None) -> Batch:
        """The inputs of a call, or of one training step, pixels through the logit."""
        x = np.zeros((0, *self.data.event_shape)) if self.x is None else self.x
        noise = self.noise
        if step is not None:
            x, noise = x[step], {slot: value[step] for slot, value in noise.items()}
        if self.alpha is not None:
            squeezed = self._squeezed(x)
            x = np.log(squeezed) - np.log1p(-squeezed)
        return Batch(x, noise, None if self.alpha is None else self.log_volume)

    @property
    def log_volume(self) -> np.ndarray:
        """What the logit adds to log p of each example, [batch]; 0 without one."""
        if self.alpha is None or self.x is None:
            return np.zeros(1)
        squeezed = self._squeezed(self.x)
        terms = np.log1p(-2 * self.alpha) - np.log(squeezed) - np.log1p(-squeezed)
        return np.asarray(terms.reshape(len(self.x), -1).sum(axis=1))

    def _squeezed(self, x: np.ndarray) -> np.ndarray:
        assert self.alpha is not None
        return np.asarray(self.alpha + (1 - 2 * self.alpha) * x)


def read(path: Path, backend: str) -> list[Case]:
    """The cases of a file, their trials for a backend."""
    with np.load(path, allow_pickle=False) as file:
        found = json.loads(str(file["index"]))
        assert found["form"] == 1, f"{path}: this reader knows form 1, found {found['form']}"
        return [_case(entry, file, backend) for entry in found["cases"]]


def _case(entry: Mapping[str, Any], file: Mapping[str, np.ndarray], backend: str) -> Case:
    alpha = entry["data"].get("logit", {}).get("alpha")
    data = {key: value for key, value in entry["data"].items() if key != "logit"}
    x = entry["x"]
    expected = {name: file[f"{entry['id']}/{name}"] for name in entry["expected"]}
    return Case(
        entry["id"],
        entry["kind"],
        _trial(entry["spec"], backend, adapted="adapted" in entry),
        DataInfo("original", tuple(data["event_shape"]), data["likelihood"]),
        {name: np.array(file[key]) for name, key in entry["arrays"].items()},
        None if x is None else np.array(file[x]),
        {slot: np.array(file[key]) for slot, key in entry["noise"].items()},
        tuple(entry["calls"]),
        entry.get("control") or {},
        entry.get("steps") or 0,
        alpha,
        entry.get("strides") or {},
        _bars(entry),
        {_released(name): value for name, value in expected.items()},
    )


def _bars(entry: Mapping[str, Any]) -> Mapping[str, Mapping[str, float]]:
    tighter = TIGHTER.get(entry["id"], {})
    return {call: {**bars, **tighter.get(call, {})} for call, bars in entry["bars"].items()}


def _released(name: str) -> str:
    call, _, last = name.rpartition("/")
    return f"{call}/{RELEASED[last]}" if last in RELEASED else name


def _trial(spec: Mapping[str, Any], backend: str, *, adapted: bool) -> Trial:
    regularizer = {RELEASED.get(k, k): v for k, v in spec.get("regularizer", {}).items()}
    whole = {
        **spec,
        "dataset": {"name": "original", "digest": "none"},
        "backend": backend,
        "regularizer": regularizer,
    }
    trial: Trial = TypeAdapter(Trial).validate_json(json.dumps(whole))
    if isinstance(trial.solver, AdaptiveSolver):
        # As the preset of the released code has it.
        trial = replace(trial, solver=replace(trial.solver, regularizers_in_norm=True))
    posterior = trial.model.posterior
    if posterior is not None and posterior.amortization == "hyper" and not adapted:
        posterior = replace(posterior, nonlinear_output=True)
        trial = replace(trial, model=replace(trial.model, posterior=posterior))
    return trial
