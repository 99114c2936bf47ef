"""The script of a trial prints the number of its record, without the harness, on a page."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from fakes import fake_trial, write_spec
from script_records import cases, printed, record

from harness.commands.script import script
from harness.errors import AnswerError
from harness.models.script import page
from harness.trial import (
    AdaptiveSolver,
    BatchNorm,
    Evaluation,
    FixedSolver,
    LayerName,
    LibrarySolver,
    ModelSpec,
    NonlinearityName,
    Posterior,
    SolverSpec,
    Trial,
)

WORKER = Path(__file__).parents[1] / "fakes" / "script_records.py"
LINES = 50


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_it_prints_the_number_of_the_record(backend: str, tmp_path: Path) -> None:
    """To 1e-9 in float64, the same adaptive steps included, and to 1e-5 in float32."""
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false "
        "--xla_cpu_parallel_codegen_split_count=1",
    }
    done = subprocess.run(
        [sys.executable, str(WORKER), backend, str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == 12
    for name, said, expected, lines in found:
        bound = 1e-5 if "float32" in name else 1e-9
        assert said == pytest.approx(expected, rel=bound), name
        assert lines <= LINES, name


def test_every_trial_of_linear_layers_fits_on_a_page() -> None:
    solvers: tuple[SolverSpec, ...] = (
        AdaptiveSolver("dopri5"),
        AdaptiveSolver("bosh3", norm="rms_all", first_step=0.1),
        FixedSolver("rk4_38", 8),
        FixedSolver("rk4_classic", 8),
    )
    layers = itertools.product(get_args(LayerName), get_args(NonlinearityName), solvers)
    for layer, nonlinearity, solver in layers:
        model = ModelSpec(layer, (4, 4), nonlinearity, batch_norm=BatchNorm(), residual=True)
        trial = replace(fake_trial(), model=model, solver=solver)
        for backend in ("torch", "jax"):
            if (backend, solver.name) == ("torch", "rk4_classic"):
                continue
            text = page(trial, backend, rows=100_000, file="'arrays'", record=-1.25)
            compile(text, "mwe.py", "exec")
            assert len(text.splitlines()) <= LINES
            assert "$" not in text


def test_it_is_written_where_the_framework_is_not_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    text = page(fake_trial(), "jax", rows=3, file="'arrays'", record=0.5)
    assert "diffrax (any version)" in text


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "an estimate": ({"evaluation": Evaluation("hutchinson")}, "torch", "evaluation.trace=exact"),
    "an image": ({"model": ModelSpec(hidden=(4,), strides=(1, 1))}, "torch", "linear layers"),
    "an autoencoder": ({"model": ModelSpec(posterior=Posterior(2))}, "jax", "linear layers"),
    "a method": ({"solver": AdaptiveSolver("tsit5")}, "torch", "torchdiffeq has no 'tsit5'"),
    "an end": ({"solver": AdaptiveSolver("dopri5", end="interpolate")}, "jax", "lands on the end"),
    "a log-volume": (
        {"solver": AdaptiveSolver("dopri5", log_volume_in_state=True)},
        "torch",
        "do not start at a log-volume",
    ),
    "a library": ({"solver": LibrarySolver("diffrax:Kvaerno5")}, "jax", "own control"),
    "a backend": ({}, "fake", "no script for the backend 'fake'"),
    "no test": ({}, "torch", "no trained model yet"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_no_page_can_hold_is_refused(case: str, tmp_path: Path) -> None:
    changes, backend, message = REFUSED[case]
    trial: Trial = replace(fake_trial(), **changes)
    write_spec(tmp_path, trial)
    with pytest.raises(AnswerError) as caught:
        script(trial.id, tmp_path, backend=backend)
    assert message in str(caught.value)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_it_reads_its_arrays_where_they_were_written(tmp_path: Path) -> None:
    """Printed alone it names a path in the root; into a folder it can be sent away with them."""
    trial = cases("torch")["squash heun2"]
    value = record(trial, tmp_path / "runs")
    alone = tmp_path / "alone.py"
    alone.write_text(script(trial.id[:6], tmp_path / "runs"))
    script(trial.id, tmp_path / "runs", out=tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / "elsewhere")
    for path in (alone, tmp_path / "elsewhere" / "mwe.py"):
        np.testing.assert_allclose(float(printed(path).split()[1]), value, rtol=1e-9)
