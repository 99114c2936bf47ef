"""Seconds of a training step, each contender beside the original approach.

Every timed step of a contender follows directly on one step of the original, both in processes of
their own; the ratio is the median of the paired ratios, so a machine whose speed drifts does not
decide it. Run by `make bench`; never part of the tests.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from workloads import WORKLOADS

_WORKER = Path(__file__).parent / "bench_worker.py"
CONTENDERS = [
    "original",
    "torch-adjoint",
    "torch-direct",
    "torch-direct-whole",
    "jax-adjoint",
    "jax-direct",
    "jax-direct-whole",
]


class Process:
    """A contender in its own process."""

    def __init__(self, name: str, workload: str, reference: Path) -> None:
        environment = os.environ | {"JAX_PLATFORMS": "cpu"}
        self.process = subprocess.Popen(
            [sys.executable, str(_WORKER), name, workload, str(reference)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.ready = self._read()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the contender ended"
        found: dict[str, Any] = json.loads(line)
        return found

    def step(self) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write("step\n")
        self.process.stdin.flush()
        return self._read()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module", params=sorted(WORKLOADS))
def setting(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Path, Process]]:
    """The workload, its float64 reference, and the original approach running it."""
    workload: str = request.param
    reference = tmp_path_factory.mktemp(workload) / "reference.npy"
    command = [sys.executable, str(_WORKER), "reference", workload, str(reference)]
    subprocess.run(command, check=True)
    original = Process("original", workload, reference)
    yield workload, reference, original
    original.close()


@pytest.mark.parametrize("name", CONTENDERS)
def bench_training_step(
    name: str, setting: tuple[str, Path, Process], benchmark: BenchmarkFixture
) -> None:
    workload, reference, original = setting
    contender = Process(name, workload, reference)
    pairs: list[tuple[float, float]] = []
    before: list[float] = []
    benchmark.group = workload
    try:
        benchmark.pedantic(  # type: ignore[no-untyped-call]
            lambda: pairs.append((before[-1], contender.step()["step_s"])),
            setup=lambda: before.append(original.step()["step_s"]),
            rounds=WORKLOADS[workload].rounds,
            warmup_rounds=1,
        )
    finally:
        contender.close()
    ratios = [old / new for old, new in pairs[1:]]
    quartiles = np.quantile(ratios, (0.25, 0.75)) if len(ratios) > 1 else (ratios[0], ratios[0])
    benchmark.extra_info |= {
        "speedup_median": statistics.median(ratios),
        "speedup_q25": float(quartiles[0]),
        "speedup_q75": float(quartiles[1]),
        "n": len(ratios),
        **contender.ready,
        "cores": len(os.sched_getaffinity(0)),
    }
    assert np.isfinite(contender.ready["loss"])
    assert contender.ready["loss"] == pytest.approx(original.ready["loss"], rel=1e-3)
