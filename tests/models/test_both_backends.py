"""Models that one backend has trained, used in the other; and the README's example."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fakes import fake_trial

from harness.records.folder import TrialFolder
from harness.specs.resources import Resources
from harness.trial import AdaptiveSolver, EndTime, Evaluation, ModelSpec, Trial

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

README = Path(__file__).parents[2] / "README.md"
Run = Callable[..., str]


def _trial(backend: str) -> Trial:
    return replace(
        fake_trial(iterations=10),
        backend=backend,
        solver=AdaptiveSolver("dopri5", 1e-5, 1e-5),
        model=ModelSpec("concatsquash", (8, 8), "tanh", end_time=EndTime(0.5)),
        evaluation=Evaluation(rows=100, batch=64, samples=0),
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs Python in a folder whose `runs` has a model of each backend."""
    folder = tmp_path_factory.mktemp("both")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu"}

    def run_python(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    for backend in ("torch", "jax"):
        record = TrialFolder(folder / "runs", _trial(backend).id)
        record.write_spec(_trial(backend), Resources())
        run_python("-m", "harness.training", str(record.spec))
    return run_python


def _harness(run: Run, *arguments: str) -> str:
    return run("-c", "from harness.cli import main; main()", *arguments)


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_the_other_backend_says_the_same(backend: str, run: Run, tmp_path: Path) -> None:
    """To 1e-5 relative, what docs/numerics.md, section 11, holds float32 to."""
    other = {"torch": "jax", "jax": "torch"}[backend]
    trial, points = _trial(backend).id, tmp_path / "x.npz"
    said = _harness(run, "sample", trial[:8], "-n", "70", "--out", str(points))
    assert f"trial          {trial}" in said
    own = np.load(points)
    found = {}
    for name in (backend, other):
        out = tmp_path / f"{name}.csv"
        asked = ("density", trial, str(points), "--backend", name, "--out", str(out))
        assert "points         70" in _harness(run, *asked)
        found[name] = np.loadtxt(out, skiprows=1)
    np.testing.assert_allclose(found[other], found[backend], rtol=1e-5, atol=1e-5)
    # From the base and from the data, at tolerance 1e-5.
    np.testing.assert_allclose(found[backend], own["log_prob"], rtol=1e-3, atol=1e-3)
    lines = _harness(run, "density", trial, str(points)).split()
    np.testing.assert_array_equal([float(line) for line in lines], found[backend])


def test_the_readme_example_runs(run: Run) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(example.strip().splitlines()) <= 15
    said = run("-c", example.replace("TRIAL_ID", _trial("torch").id[:10]))
    assert "nats by the tolerance" in said
