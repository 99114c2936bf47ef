"""The entry point: lazy import, support, preparation, the compilation cache."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import diffrax
import jax
import pytest
from harness_jax import JaxBackend, libraries
from harness_jax.solve.library_engine import library_solver

from harness.errors import BackendError
from harness.interface import DataInfo
from harness.solvers import LIBRARY_ADAPTIVE, LIBRARY_SOLVERS
from harness.trial import (
    Accuracy,
    AdaptiveSolver,
    EngineName,
    FixedSolver,
    GradientName,
    LibrarySolver,
    SolverSpec,
    Trial,
)


def test_importing_and_asking_imports_no_framework() -> None:
    program = (
        "import sys\n"
        "from harness_jax import JaxBackend\n"
        "from harness.trial import *\n"
        "trial = Trial(DatasetRef('a', 'b'), 'jax', AdaptiveSolver('dopri5'))\n"
        "assert JaxBackend().supports(trial) is None\n"
        "assert not {'jax', 'diffrax', 'equinox'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_shards_are_unsupported_with_the_reason(base_trial: Trial) -> None:
    unsupported = JaxBackend().supports(replace(base_trial, shards=2))
    assert unsupported is not None
    assert "2 shards" in unsupported.reason


@pytest.mark.parametrize(
    ("solver", "reason"),
    [
        (LibrarySolver("diffrax:Kvaerno5"), None),
        (LibrarySolver("diffrax:Euler", steps=3), None),
        (LibrarySolver("diffrax:Euler"), "how many with 'steps'"),
        (LibrarySolver("diffrax:KenCarp4"), "no solver 'KenCarp4'"),
        (LibrarySolver("torchdiffeq:rk4", steps=3), "no solver of diffrax"),
        (AdaptiveSolver("dopri8", end="interpolate"), None),
        (AdaptiveSolver("tsit5", end="interpolate"), "has no tsit5"),
    ],
)
def test_solvers_are_unsupported_with_the_reason(
    solver: SolverSpec, reason: str | None, base_trial: Trial
) -> None:
    evaluated = replace(base_trial.evaluation, solver=solver)
    for trial in (replace(base_trial, solver=solver), replace(base_trial, evaluation=evaluated)):
        unsupported = JaxBackend().supports(trial)
        if reason is None:
            assert unsupported is None
        else:
            assert unsupported is not None
            assert reason in unsupported.reason


def test_the_library_engine_stops_on_the_end(base_trial: Trial) -> None:
    solver = AdaptiveSolver("dopri5", end="interpolate")
    unsupported = JaxBackend().supports(replace(base_trial, solver=solver, engine="library"))
    assert unsupported is not None
    assert "needs 'engine: native'" in unsupported.reason


@pytest.mark.parametrize(
    ("engine", "gradient", "reason"),
    [("library", "symplectic", "of the native engine"), ("native", "reversible", "equal steps")],
)
def test_the_error_of_a_gradient_needs_one_of_the_evaluation(
    engine: EngineName, gradient: GradientName, reason: str, base_trial: Trial
) -> None:
    solver, accuracy = AdaptiveSolver("dopri5"), Accuracy(gradient=True)
    evaluation = replace(base_trial.evaluation, solver=solver, engine=engine, accuracy=accuracy)
    trial = replace(
        base_trial, solver=FixedSolver("rk4_38", 4), gradient=gradient, evaluation=evaluation
    )
    unsupported = JaxBackend().supports(trial)
    assert unsupported is not None
    assert reason in unsupported.reason
    without = replace(evaluation, accuracy=Accuracy())
    assert JaxBackend().supports(replace(trial, evaluation=without)) is None


def test_every_solver_that_is_named_is_one_of_diffrax() -> None:
    for name in LIBRARY_SOLVERS["diffrax"]:
        solver = library_solver(LibrarySolver(f"diffrax:{name}", steps=3))
        adaptive = isinstance(solver, diffrax.AbstractAdaptiveSolver)
        assert adaptive == (name in LIBRARY_ADAPTIVE["diffrax"]), name


def test_prepare_says_what_it_set(base_trial: Trial) -> None:
    found = JaxBackend().prepare(base_trial, 1)
    assert found["jax"] == jax.__version__
    assert found["precision"] == "float64"
    assert found["float32_matmul_precision"] == "highest"
    assert "--xla_gpu_deterministic_ops=true" in found["xla_flags"]
    assert found["engine"] == "native"


def test_one_precision_a_process(base_trial: Trial) -> None:
    single = replace(base_trial, precision="float32")
    with pytest.raises(BackendError, match="one precision"):
        JaxBackend().open(single, DataInfo("none", (2,)), "cpu")
    with pytest.raises(BackendError, match="no device 'abacus'"):
        JaxBackend().open(base_trial, DataInfo("none", (2,)), "abacus")


_TRAIN = """
import hashlib, sys
import numpy as np
from harness.architecture.noise import draw, noise_slots
from harness.interface import Batch, Control, DataInfo
from harness.trial import *
from harness_jax import JaxBackend

solver, model = FixedSolver("midpoint", 2), ModelSpec(hidden=(8,))
trial = Trial(DatasetRef("none", "none"), "jax", solver, model)
backend = JaxBackend()
backend.prepare(trial, 1)
import jax
events = []
jax.monitoring.register_event_listener(lambda event, **_: events.append(event))
model = backend.open(trial, DataInfo("none", (2,)), "cpu")
x = np.linspace(-1, 1, 10, dtype=np.float32).reshape(5, 2)
for step in range(3):
    noise = draw(noise_slots(trial, (2,), "train", 5), 0, step, "float32")
    control = Control(trial.solver, "hutchinson", "adjoint", step, 1e-2)
    model.train_step(Batch(x, noise), control).fetch()
found = {**model.arrays(), **model.state()}
bits = b"".join(found[name].tobytes() for name in sorted(found))
missed = "/jax/compilation_cache/cache_misses" in events
print(hashlib.sha256(bits).hexdigest(), "miss" if missed else "hit")
"""


def test_cold_and_warm_compilation_cache_give_the_same_bits(tmp_path: Path) -> None:
    """A second process compiles nothing, though it has the package from elsewhere."""
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(Path(libraries.__file__).parent, elsewhere / "harness_jax")
    environment = os.environ | {"HARNESS_CACHE_DIR": str(tmp_path), "JAX_PLATFORMS": "cpu"}
    paths: list[dict[str, str]] = [{}, {"PYTHONPATH": str(elsewhere)}]
    lines = [
        subprocess.run(
            [sys.executable, "-c", _TRAIN],
            env=environment | path,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        for path in paths
    ]
    assert [line[1] for line in lines] == ["miss", "hit"]
    assert lines[0][0] == lines[1][0]
    assert any((tmp_path / "xla").iterdir())
