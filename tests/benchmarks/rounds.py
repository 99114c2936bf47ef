"""Interleaved rounds: every contender steps once a round, beside the original and bare fields.

Each in a process of its own, one at a time. A ratio is that of two steps of one round, so a
machine whose speed drifts does not decide it.
"""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workloads import WORKLOADS

__all__ = ["Failure", "Measured", "measure"]

_WORKER = Path(__file__).parent / "bench_worker.py"
_PATIENCE_S = 600
_GROUP = 5
"""Contenders in memory at once: what one keeps for its backward pass can be gigabytes."""

Answer = dict[str, Any]


class NotBuilt(Exception):
    """The backend does not offer the contender."""


@dataclass(frozen=True)
class Failure:
    """Why a contender has no numbers: not built yet, or what it died of."""

    reason: str
    built: bool


@dataclass(frozen=True)
class Measured:
    """What a contender did, one entry a round, and what it said when it was ready.

    Arguments:
        step_s: Seconds of its training steps.
        yardstick_s: Those of the yardstick (`Workload.yardstick`) in the same rounds.
        field_s: Seconds of the bare field, the better framework of each round; empty without one.
        vjp_s: The same of the field with its vector-Jacobian product.
        cold_s: Seconds of a first step with an empty compilation cache; None where nothing is
            compiled or the cache was not empty.
        ready: First step with the cache filled, counts, memory, error.
    """

    step_s: list[float]
    yardstick_s: list[float]
    field_s: list[float]
    vjp_s: list[float]
    cold_s: float | None
    ready: Answer


class _Process:
    """A worker and its answers."""

    def __init__(self, cache: Path, *arguments: str) -> None:
        cache.mkdir(parents=True, exist_ok=True)
        environment = os.environ | {
            "JAX_PLATFORMS": "cpu",
            "HARNESS_CACHE_DIR": str(cache),
            "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"),
        }
        self._errors = cache / "stderr.txt"
        with self._errors.open("w") as errors:
            self._process = subprocess.Popen(
                [sys.executable, str(_WORKER), *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=environment,
            )
        self.ready = self._read()

    def step(self) -> Answer:
        assert self._process.stdin is not None
        self._process.stdin.write("step\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> Answer:
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], _PATIENCE_S)[0]:
            self.close()
            raise RuntimeError(f"no answer in {_PATIENCE_S} s")
        line = self._process.stdout.readline()
        if not line:
            self.close()
            said = self._errors.read_text().strip().splitlines()
            errors = [line for line in said if re.match(r"[\w.]+(Error|Exception)\b", line)]
            reason = (errors or said or [f"exit {self._process.returncode}"])[-1]
            raise RuntimeError(reason[:300])
        answer: Answer = json.loads(line)
        if "not_built" in answer:
            self.close()
            raise NotBuilt(answer["not_built"])
        return answer

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


@contextmanager
def _running(cache: Path, *arguments: str) -> Iterator[_Process]:
    process = _Process(cache, *arguments)
    try:
        yield process
    finally:
        process.close()


def measure(workload: str, names: Sequence[str], folder: Path) -> dict[str, Failure | Measured]:
    """Measures contenders in groups; `folder` receives the reference and compilation caches."""
    reference = folder / "reference.npy"
    command = [sys.executable, str(_WORKER), "reference", workload, str(reference)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    found: dict[str, Failure | Measured] = {}
    for start in range(0, len(names), _GROUP):
        found |= _measure_group(workload, names[start : start + _GROUP], folder, reference)
    return found


def _measure_group(
    workload: str, names: Sequence[str], folder: Path, reference: Path
) -> dict[str, Failure | Measured]:
    found: dict[str, Failure | Measured] = {}
    with ExitStack() as stack:
        processes: dict[str, _Process] = {}
        cold: dict[str, float | None] = {}
        fields = ("field-torch", "field-jax") if WORKLOADS[workload].has_peers else ()
        yardstick = WORKLOADS[workload].yardstick
        for name in dict.fromkeys((yardstick, *fields, *names)):
            # One cache for all first steps of a mode, which may share what they compile.
            cache = folder / name.rpartition("-")[0] if name.count("-") > 1 else folder / name
            try:
                cold[name] = _cold_start(name, workload, cache)
                arguments = (name, workload, str(reference))
                processes[name] = stack.enter_context(_running(cache, *arguments))
            except (NotBuilt, RuntimeError) as error:
                if name not in names:
                    raise
                found[name] = Failure(str(error), built=isinstance(error, RuntimeError))
        answers: dict[str, list[Answer]] = {name: [] for name in processes}
        for number in range(-1, WORKLOADS[workload].rounds):
            for name in [name for name in processes if name not in found]:
                try:
                    answer = processes[name].step()
                except RuntimeError as error:
                    found[name] = Failure(str(error), built=True)
                    continue
                if number >= 0:  # the first round warms up
                    answers[name].append(answer)
    for name in names:
        if name not in found:
            found[name] = _measured((name, yardstick), answers, cold[name], processes[name].ready)
    return found


def _cold_start(name: str, workload: str, cache: Path) -> float | None:
    """Fills the compilation cache; the seconds if it was empty."""
    if not name.startswith(("jax", "torch-compiled")):
        return None
    empty = not cache.exists()
    with _running(cache, name, workload) as process:
        return float(process.ready["first_step_s"]) if empty else None


def _measured(
    names: tuple[str, str], answers: dict[str, list[Answer]], cold: float | None, ready: Answer
) -> Measured:
    name, yardstick = names
    fields = []
    if "field-jax" in answers:
        fields = list(zip(answers["field-torch"], answers["field-jax"], strict=True))
    return Measured(
        [answer["step_s"] for answer in answers[name]],
        [answer["step_s"] for answer in answers[yardstick]],
        [min(answer["f_s"] for answer in both) for both in fields],
        [min(answer["vjp_s"] for answer in both) for both in fields],
        cold,
        ready,
    )
