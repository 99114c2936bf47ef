"""Ten thousand trials are planned in less than two seconds of processor time."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from harness.planning.plan import plan


def test_ten_thousand_trials(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "big.yaml"
    path.write_text(
        "name: big\ntrials:\n"
        "  - dataset: [8gaussians, moons, circles, rings, pinwheel]\n"
        "    backend: [torch, jax]\n"
        "    solver: [{name: dopri5, rtol: 1e-5}, {name: rk4_38, steps: 8}]\n"
        "    regularizer: [none, {rnode.kinetic: 0.01}]\n"
        "    gradient: [direct, adjoint]\n"
        f"    seed: [{', '.join(map(str, range(125)))}]\n"
        "exclude: [{when: seed=3 & backend=jax, reason: an exclusion costs time too}]\n",
        encoding="utf-8",
    )
    plan("quickstart", tmp_path)  # Imports are not the matter here.
    start = time.process_time()
    made = plan(path, tmp_path, check_backends=False)
    spent = time.process_time() - start
    with capsys.disabled():
        print(f"\nplanned {len(made.trials):,} trials in {spent:.2f} s of processor time")
    assert len(made.trials) == 10_000
    assert sum(planned.state == "skipped" for planned in made.trials) == 40
    assert spent < 2
