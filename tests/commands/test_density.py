"""`harness density` and `harness sample`, by the fake backend."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fake_backend import FakeBackend
from fakes import fake_trial, result_of, run_fake, write_spec

from harness.commands.density import density, sample
from harness.commands.views import density_text
from harness.datasets.registry import load
from harness.errors import AnswerError, InputError

pytestmark = pytest.mark.usefixtures("process_unchanged")

TRIAL = fake_trial(iterations=10, validate_every=5)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root with a trained model."""
    monkeypatch.setattr("harness.models.opening.get_backend", lambda name: FakeBackend())
    write_spec(tmp_path / "runs", TRIAL)
    run_fake(tmp_path / "runs", TRIAL)
    return tmp_path / "runs"


def test_points_of_a_file(root: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", load("moons").rows("test", 100).x)
    out = tmp_path / "log_prob.csv"
    found = density(TRIAL.id[:8], tmp_path / "x.npz", root, out=out)
    value = result_of(root, TRIAL)["metrics"]["test_nll"]["value"]
    assert -found.mean == value
    np.testing.assert_array_equal(np.loadtxt(out, skiprows=1), found.values)
    assert found.sem is not None
    text = density_text(found)
    assert ["points", "100"] in [line.split() for line in text.splitlines()]
    assert f"{-value:.6g}" in text
    assert found.evaluations == 16
    finer = density(TRIAL.id, tmp_path / "x.npz", root, settings=["evaluation.batch=10"])
    assert finer.evaluations == 80


def test_samples_are_points(root: Path, tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    drawn = sample(TRIAL.id, 30, file, root, seed=2)
    assert drawn is not None
    found = density(TRIAL.id, file, root)
    np.testing.assert_allclose(found.values, drawn.values, rtol=1e-4, atol=1e-4)
    other = sample(TRIAL.id, 30, file, root, seed=3)
    assert other is not None
    assert other.mean != drawn.mean


def test_mistakes_name_the_file(root: Path, tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    file.write_text("1,2,3\n")
    with pytest.raises(AnswerError) as caught:
        density(TRIAL.id, file, root)
    assert str(caught.value) == f"{file}: has shape [1, 3]; 'moons' needs [n, 2]"
    with pytest.raises(InputError, match=r"evaluation\.tracee"):
        density(TRIAL.id, file, root, settings=["evaluation.tracee=exact"])
