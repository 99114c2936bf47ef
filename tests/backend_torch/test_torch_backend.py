"""The entry point: lazy import, support, preparation."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from harness_torch import TorchBackend

from harness.errors import BackendError
from harness.interface import DataInfo
from harness.trial import Trial


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
