"""A backend in numpy that needs no framework: an affine flow with momentum.

What it does beside computing is read from the environment variable FAKE_BEHAVIOUR, JSON:
`sleep_s` seconds a step; `fail` one of the names in `_FAILURES` at training step `at`, in as many
processes as `times` says (counted in the folder `marks`); `choices` is what `choose` answers
(`{"rounding": "up"}` changes the numbers), `unsupported` names gradient modes; `seeds` gives other
values by seed. A set of `nan_in_sampling_of` samples has three that are not numbers. `twin` has
what the backend of that name does otherwise. With `no_float64` no model of that precision opens.
`preload` is `thread` or `raise`: what importing ahead of a trial does.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np

from harness.interface import (
    Array,
    Arrays,
    Backend,
    Batch,
    Control,
    DataInfo,
    EvaluationReport,
    Model,
    Nfe,
    Pending,
    Quantity,
    StepReport,
    Unsupported,
)
from harness.trial import Trial

__all__ = ["FakeBackend", "TwinBackend"]


@final
class FakeBackend(Backend):
    """An affine flow z = (x - m) exp(-s)."""

    name = "fake"
    framework = ("numpy",)

    def supports(self, trial: Trial) -> Unsupported | None:
        wrong = _behaviour().get("unsupported", ())
        return Unsupported(trial.gradient) if trial.gradient in wrong else None

    def preload(self, cores: int) -> None:
        match _behaviour().get("preload"):
            case "thread":
                threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
            case "raise":
                raise ImportError("no such library")

    def prepare(self, trial: Trial, cores: int) -> Mapping[str, Any]:
        return {"threads": cores, "engine": "numpy"}

    def choose(self, trial: Trial, data: DataInfo, device: str, cores: int) -> Mapping[str, str]:
        assert trial.gradient != "auto"
        choices: Mapping[str, str] = _behaviour().get("choices", {})
        return choices

    def open(
        self, trial: Trial, data: DataInfo, device: str, choices: Mapping[str, str] | None = None
    ) -> Model:
        assert trial.gradient != "auto"
        if trial.precision == "float64" and _behaviour().get("no_float64"):
            raise MemoryError("no float64")
        return _FakeModel(trial, data, choices or {})


@final
class TwinBackend(Backend):
    """The same under another name."""

    name = "twin"
    framework = ("numpy",)

    def supports(self, trial: Trial) -> Unsupported | None:
        return FakeBackend().supports(trial)

    def prepare(self, trial: Trial, cores: int) -> Mapping[str, Any]:
        return FakeBackend().prepare(trial, cores)

    def open(
        self, trial: Trial, data: DataInfo, device: str, choices: Mapping[str, str] | None = None
    ) -> Model:
        return FakeBackend().open(trial, data, device, choices)


def _behaviour() -> dict[str, Any]:
    behaviour: dict[str, Any] = json.loads(os.environ.get("FAKE_BEHAVIOUR", "{}"))
    return behaviour


class _FakeModel(Model):
    def __init__(self, trial: Trial, data: DataInfo, choices: Mapping[str, str]) -> None:
        shape, kind = data.event_shape, trial.dtype
        self._arrays: Arrays = {"m": np.zeros(shape, kind), "s": np.ones(shape, kind)}
        self._velocity: Arrays = {name: np.zeros(shape, kind) for name in ("m", "s")}
        behaviour = _behaviour()
        own = behaviour.get("seeds", {}).get(str(trial.seed), {})
        if trial.backend == "twin":
            own = {**own, **behaviour.get("twin", {})}
        self._behaviour = {**behaviour, **own}
        self._seed = trial.seed
        self._factor = 1.5 if choices.get("rounding") == "up" else 1.0
        self._warm: Array | None = None
        if getattr(trial.solver, "first_step", None) == "warm":
            self._warm = np.zeros(1)

    def arrays(self) -> Arrays:
        return {name: array.copy() for name, array in self._arrays.items()}

    def load_arrays(self, arrays: Mapping[str, Array]) -> None:
        self._arrays = {name: arrays[name].copy() for name in self._arrays}

    def state(self) -> Arrays:
        state = {f"velocity/{name}": array.copy() for name, array in self._velocity.items()}
        return state if self._warm is None else {**state, "warm/forward": self._warm.copy()}

    def load_state(self, state: Mapping[str, Array]) -> None:
        self._velocity = {name: state[f"velocity/{name}"].copy() for name in self._velocity}
        if self._warm is not None:
            self._warm = state["warm/forward"].copy()

    def compile(self, batch: Batch, control: Control) -> None:
        return

    def train_step(self, batch: Batch, control: Control) -> Pending:
        time.sleep(self._behaviour.get("sleep_s", 0.0))
        failure = None
        fail = self._behaviour.get("fail")
        if fail and control.step == self._behaviour["at"] and self._fails_now():
            failure = _FAILURES[fail]()
        z, log_prob = self._transform(batch.x)
        nll = -float(np.mean(log_prob, dtype=np.float64))
        # The probe makes the step depend on the noise that it was given.
        slot = next(s for s in ("posterior", "probe/0", "point/0") if s in batch.noise)
        probe = np.resize(np.mean(batch.noise[slot], axis=0), self._arrays["m"].shape)
        gradients = {
            "m": -np.mean(z * np.exp(-self._arrays["s"]), axis=0)
            + 0.01 * control.kl_weight * probe,
            "s": 1 - np.mean(z * z, axis=0),
        }
        if self._warm is not None:
            # The step before decides what this one finds.
            gradients["m"] = gradients["m"] + 0.1 * self._warm.astype(z.dtype)
            self._warm = np.array([2.0 ** -(control.step % 4)])
        rate = self._factor * control.lr
        for name, gradient in gradients.items():
            self._velocity[name] = (0.9 * self._velocity[name] + gradient).astype(gradient.dtype)
            self._arrays[name] = self._arrays[name] - rate * self._velocity[name]
        # No gradient mode has all four; here every one can be told apart.
        nfe = Nfe((7 + control.step % 3,), (6,), (2,), (control.step % 2,), (5,), (4,))
        likelihood = None if "point/0" in batch.noise else nll
        return _Done(StepReport(nll, likelihood, {}, nfe, failure))

    def evaluate(
        self, batch: Batch, control: Control, quantities: Sequence[Quantity]
    ) -> EvaluationReport:
        if quantities == ("reconstruct",):
            shift = np.mean(batch.noise["posterior"], axis=-1).reshape(-1, 1, 1, 1)
            return EvaluationReport({"reconstruct": batch.x + 0.01 * shift}, Nfe((8,)))
        z, log_prob = self._transform(batch.x)
        if quantities == ("encode",):
            return EvaluationReport({"encode": z}, Nfe((8,)))
        if quantities == ("log_prob",):
            return EvaluationReport({"log_prob": log_prob}, Nfe((8,)))
        noise = np.mean(batch.noise["posterior"], axis=-1)
        terms = {"elbo_terms/reconstruction": -log_prob, "elbo_terms/kl": noise * noise}
        return EvaluationReport(terms, Nfe((8,)))

    def sample(self, batch: Batch, control: Control, *, density: bool = False) -> EvaluationReport:
        base = batch.noise["base"]
        if len(base) == self._behaviour.get("nan_in_sampling_of"):
            base = np.where(np.arange(len(base))[:, None] < 3, np.nan, base)
        if base.shape[1:] != self._arrays["m"].shape:
            # The latent of an autoencoder; every image is the mean.
            base = np.zeros((len(base), *self._arrays["m"].shape), base.dtype)
        x = base * np.exp(self._arrays["s"]) + self._arrays["m"]
        values = {"sample": x}
        if density:
            values["log_prob"] = self._transform(x)[1]
        return EvaluationReport(values, Nfe((9,)))

    def synchronize(self) -> None:
        return

    def _transform(self, x: Array) -> tuple[Array, Array]:
        z = (x - self._arrays["m"]) * np.exp(-self._arrays["s"])
        constant = 0.5 * math.log(2 * math.pi)
        terms = -0.5 * z * z - constant - self._arrays["s"]
        return z, np.sum(terms.reshape(len(x), -1), axis=-1)

    def _fails_now(self) -> bool:
        """Counts failures across processes in a folder of marks."""
        for number in range(self._behaviour.get("times", 1)):
            try:
                mark = Path(self._behaviour["marks"]) / f"{self._seed}-{number}"
                mark.touch(exist_ok=False)
            except FileExistsError:
                continue
            return True
        return False


class _Done(Pending):
    def __init__(self, report: StepReport) -> None:
        self._report = report

    def fetch(self) -> StepReport:
        return self._report


def _raise(error: Exception) -> str:
    error.add_note("a note, as jax adds one to what its user's code raises")
    raise error


def _hang() -> str:
    # A sleep in C would let signal handlers run; this does not end before SIGKILL.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    while True:
        time.sleep(60)


def _kill() -> str:
    os.kill(os.getpid(), signal.SIGKILL)
    return "unreachable"


_FAILURES: Mapping[str, Callable[[], str | None]] = {
    "diverge": lambda: "non-finite",
    "raise": lambda: _raise(RuntimeError(f"no such file {Path.home()}/secret")),
    "memory": lambda: _raise(MemoryError("out of memory")),
    "exit": lambda: sys.exit(3),
    "hang": _hang,
    "kill": _kill,
    "stop": lambda: os.kill(os.getpid(), signal.SIGTERM),
}
