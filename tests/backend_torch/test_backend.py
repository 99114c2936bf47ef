"""The entry point: lazy import, support, preparation."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from harness_torch import TorchBackend
from harness_torch import backend as backend_module

from harness.errors import BackendError
from harness.interface import Batch, Control, DataInfo
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
        "from harness_torch import TorchBackend\n"
        "from harness.trial import *\n"
        "trial = Trial(DatasetRef('a', 'b'), 'torch', AdaptiveSolver('dopri5'))\n"
        "assert TorchBackend().supports(trial) is None\n"
        "assert not {'torch', 'torchdiffeq'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_an_unknown_solver_is_unsupported_with_the_reason(base_trial: Trial) -> None:
    solver = cast(Any, SimpleNamespace(name="dopri9"))
    unsupported = TorchBackend().supports(replace(base_trial, solver=solver))
    assert unsupported is not None
    assert "'dopri9'" in unsupported.reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"solver": LibrarySolver("diffrax:Tsit5")}, "no solver of torchdiffeq"),
        ({"solver": LibrarySolver("torchdiffeq:rk45")}, "has no solver 'rk45'; it has"),
        ({"solver": LibrarySolver("torchdiffeq:heun3")}, "say how many with 'steps'"),
        ({"solver": LibrarySolver("torchdiffeq:bosh3", steps=4)}, "takes no 'steps'"),
        ({"solver": AdaptiveSolver("tsit5", end="interpolate")}, "has no tsit5"),
        ({"engine": "library", "gradient": "checkpoint"}, "never 'checkpoint'"),
        (
            {"solver": LibrarySolver("torchdiffeq:bosh3"), "gradient": "checkpoint"},
            "never 'checkpoint'",
        ),
        (
            {"solver": LibrarySolver("torchdiffeq:scipy_solver"), "gradient": "direct"},
            "use 'adjoint'",
        ),
    ],
)
def test_what_is_unsupported_says_why(
    changes: dict[str, Any], reason: str, base_trial: Trial
) -> None:
    unsupported = TorchBackend().supports(replace(base_trial, **changes))
    assert unsupported is not None
    assert reason in unsupported.reason


@pytest.mark.parametrize(
    ("engine", "gradient", "reason"),
    [
        ("library", "checkpoint", "never 'checkpoint'"),
        ("library", "symplectic", "of the native engine"),
        ("native", "reversible", "equal steps"),
    ],
)
def test_the_error_of_a_gradient_needs_one_of_the_evaluation(
    engine: EngineName, gradient: GradientName, reason: str, base_trial: Trial
) -> None:
    solver, accuracy = AdaptiveSolver("dopri5"), Accuracy(gradient=True)
    evaluation = replace(base_trial.evaluation, solver=solver, engine=engine, accuracy=accuracy)
    trial = replace(
        base_trial, solver=FixedSolver("rk4_38", 4), gradient=gradient, evaluation=evaluation
    )
    unsupported = TorchBackend().supports(trial)
    assert unsupported is not None
    assert reason in unsupported.reason
    without = replace(evaluation, accuracy=Accuracy())
    assert TorchBackend().supports(replace(trial, evaluation=without)) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"solver": LibrarySolver("torchdiffeq:adaptive_heun"), "gradient": "direct"},
        {"solver": LibrarySolver("torchdiffeq:implicit_adams", steps=9)},
        {"solver": AdaptiveSolver("dopri8", end="interpolate"), "gradient": "checkpoint"},
        {"engine": "library", "gradient": "adjoint"},
    ],
)
def test_what_is_supported(changes: dict[str, Any], base_trial: Trial) -> None:
    assert TorchBackend().supports(replace(base_trial, **changes)) is None


@pytest.mark.parametrize("mode", ["direct", "adjoint"])
@pytest.mark.parametrize("solver", [None, LibrarySolver("torchdiffeq:bosh3", 1e-9, 1e-9)])
def test_the_library_trains_like_the_native_engine(
    solver: SolverSpec | None,
    mode: GradientName,
    base_trial: Trial,
    make_inputs: Callable[..., tuple[Batch, Control]],
) -> None:
    native = replace(base_trial, gradient=mode)
    library = replace(native, engine="library", solver=solver or base_trial.solver)
    reports = []
    for trial in (native, library):
        model = TorchBackend().open(trial, DataInfo("none", (3,)), "cpu")
        batch, control = make_inputs(trial, 3)
        model.train_step(batch, control).fetch()
        reports.append(model.train_step(batch, control).fetch())
    assert reports[0].loss == pytest.approx(reports[1].loss, rel=1e-6)
    if solver is None:
        assert reports[0].nfe.forward == reports[1].nfe.forward
        assert reports[0].nfe.backward == reports[1].nfe.backward
    else:
        assert sum(reports[1].nfe.forward) > sum(reports[0].nfe.forward)


def test_tf32_needs_a_gpu(base_trial: Trial) -> None:
    with pytest.raises(BackendError, match="needs a GPU"):
        TorchBackend().open(replace(base_trial, precision="tf32"), DataInfo("none", (2,)), "cpu")


def test_a_missing_gpu_is_named(base_trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BackendError, match=r"finds no GPU here\. Run the trial with 'gpus: 0'"):
        TorchBackend().open(base_trial, DataInfo("none", (2,)), "gpu")


def test_prepare_says_what_it_set(base_trial: Trial) -> None:
    found = TorchBackend().prepare(base_trial, 1)
    assert found["torch"] == torch.__version__
    assert found["threads"] == torch.get_num_threads() == 1
    assert found["deterministic"] is True
    assert found["float32_matmul_precision"] == "highest"


def test_without_a_cache_folder_inductor_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    monkeypatch.setattr(backend_module, "made_cache", lambda name: None)
    assert backend_module._compilation_cache() is None
    assert "TORCHINDUCTOR_CACHE_DIR" not in os.environ
