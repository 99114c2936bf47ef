"""The estimate that decides `gradient: auto`, by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.architecture.memory import SHARE, affordable_gradients, kept_bytes
from harness.process.memory import memory_at_hand
from harness.trial import (
    AdaptiveSolver,
    DatasetRef,
    FixedSolver,
    LibrarySolver,
    ModelSpec,
    RegularizerName,
    SolverSpec,
    TraceName,
    Training,
    Trial,
)

BASE = Trial(
    DatasetRef("x", "0"),
    "torch",
    FixedSolver("rk4_38", 8),
    ModelSpec("concat", (5, 7)),
    training=Training(batch=10),
)
# 8 steps of 4 evaluations; outputs of 5, 7 and 3 for 10 examples; weights of 3 x 5, 5 x 7, 7 x 3.
OUTPUTS, WEIGHTS = 10 * (5 + 7 + 3), 15 + 35 + 21


def test_fixed_steps_by_hand() -> None:
    assert kept_bytes(BASE, (3,)) == 32 * (OUTPUTS * 6 + WEIGHTS) * 4
    assert kept_bytes(replace(BASE, precision="float64"), (3,)) == 2 * kept_bytes(BASE, (3,))
    two = replace(BASE, model=replace(BASE.model, blocks=2))
    assert kept_bytes(two, (3,)) == 2 * kept_bytes(BASE, (3,))


@pytest.mark.parametrize(
    ("trace", "regularizer", "tangents"),
    [
        ("hutchinson", {}, 1),
        ("bottleneck", {}, 1),
        ("exact", {}, 3),
        ("hutchinson", {"rnode.kinetic": 1.0, "ffjord.l1": 1.0, "tpr": 1.0, "steer": 0.1}, 1),
        ("hutchinson", {"rnode.jacobian": 1.0, "rnode.directional": 1.0}, 3),
        ("exact", {"ffjord.jfrob": 1.0}, 3),
        ("hutchinson", {"ffjord.jdiag": 1.0, "rnode.total": 1.0}, 4),
        ("hutchinson", {"taylor_3": 1.0}, 4),
    ],
)
def test_every_product_with_the_jacobian_keeps_its_tangents(
    trace: TraceName, regularizer: dict[RegularizerName, float], tangents: int
) -> None:
    trial = replace(
        BASE,
        training=replace(BASE.training, trace=trace),
        regularizer=regularizer,
    )
    assert kept_bytes(trial, (3,)) == 32 * (OUTPUTS * (4 + 2 * tangents) + WEIGHTS) * 4


@pytest.mark.parametrize(
    ("solver", "evaluations"),
    [
        (AdaptiveSolver("dopri5"), 300),
        (AdaptiveSolver("dopri5", max_steps=10), 62),
        (LibrarySolver("diffrax:Kvaerno5"), 300),
        (LibrarySolver("torchdiffeq:explicit_adams", steps=10), 80),
    ],
)
def test_bounds_on_evaluations(solver: SolverSpec, evaluations: int) -> None:
    one = kept_bytes(BASE, (3,)) // 32
    assert kept_bytes(replace(BASE, solver=solver), (3,)) == evaluations * one


def test_images_count_every_pixel() -> None:
    model = ModelSpec("concat", (8,), strides=(2, -2))
    trial = replace(BASE, model=model)
    # [8, 2, 2] after the first layer, [1, 4, 4] after the last; kernels of 4 x 4.
    assert kept_bytes(trial, (1, 4, 4)) == 32 * (10 * (32 + 16) * 6 + 2 * 8 * 16) * 4


def test_direct_where_it_fits_its_share() -> None:
    kept = kept_bytes(BASE, (3,))
    assert affordable_gradients(BASE, (3,), int(kept / SHARE))[0] == "direct"
    assert affordable_gradients(BASE, (3,), int(kept / SHARE) - 1)[0] == "checkpoint"
    assert affordable_gradients(BASE, (3,), None)[0] == "checkpoint"


def test_memory_at_hand_follows_the_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.process.memory._host_bytes", lambda: 1000)
    monkeypatch.setattr("harness.process.memory._gpu_bytes", lambda: 800)
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    assert memory_at_hand("cpu", 0.0, 1) == 250
    assert memory_at_hand("cpu", 0.0, 8) == 1000
    assert memory_at_hand("gpu", 0.5, 1) == 400
    assert memory_at_hand("gpu", 2.0, 1) == 800
    monkeypatch.setattr("harness.process.memory._gpu_bytes", lambda: None)
    assert memory_at_hand("gpu", 1.0, 1) is None


def test_a_gpu_is_asked_of_its_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text('#!/bin/sh\n[ "$3 $4" = "-i 3" ] && echo 1000 || echo 2000\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,4")
    assert memory_at_hand("gpu", 1.0, 1) == 1000 * 2**20
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert memory_at_hand("gpu", 0.5, 1) == 1000 * 2**20
    program.write_text("#!/bin/sh\nexit 9\n")
    assert memory_at_hand("gpu", 1.0, 1) is None


def test_the_memory_of_this_host_is_found() -> None:
    found = memory_at_hand("cpu", 0.0, 10**6)
    assert found is not None
    assert found > 10**7
