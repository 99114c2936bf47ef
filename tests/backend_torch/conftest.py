"""Small float64 models for the tests of the torch backend."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from harness_torch import TorchBackend
from harness_torch.dynamics import Dynamics
from harness_torch.model import TorchModel
from torch import Tensor

from harness.architecture import initial_arrays
from harness.interface import Batch, Control, DataInfo
from harness.noise import draw, noise_slots
from harness.streams import Stream
from harness.trial import AdaptiveSolver, DatasetRef, EndTime, ModelSpec, Trial

MakeArrays = Callable[..., dict[str, Tensor]]


@pytest.fixture(scope="session", autouse=True)
def prepared() -> None:
    trial = Trial(DatasetRef("none", "none"), "torch", AdaptiveSolver("dopri5"))
    TorchBackend().prepare(trial, 1)


@pytest.fixture
def base_trial() -> Trial:
    """Two blocks of a 7-6 net with a trained end time, in float64, at tolerance 1e-9."""
    return Trial(
        DatasetRef("none", "none"),
        "torch",
        AdaptiveSolver("dopri5", rtol=1e-9, atol=1e-9),
        model=ModelSpec("concatsquash", (7, 6), "tanh", 2, EndTime(0.7, "trained")),
        precision="float64",
    )


@pytest.fixture
def block_arrays() -> MakeArrays:
    """(model, dim) -> the float64 arrays of block 0, by name without the block."""

    def make(model: ModelSpec, dim: int) -> dict[str, Tensor]:
        trial = Trial(
            DatasetRef("none", "none"),
            "torch",
            AdaptiveSolver("dopri5"),
            model,
            precision="float64",
        )
        return {
            name.removeprefix("block0/"): torch.tensor(value)
            for name, value in initial_arrays(trial, (dim,)).items()
            if name.startswith("block0/layer")
        }

    return make


@pytest.fixture
def make_dynamics(block_arrays: MakeArrays) -> Callable[[ModelSpec, int], Dynamics]:
    """(model, dim) -> dynamics of its first block."""
    return lambda model, dim: Dynamics(model.layer, model.nonlinearity, block_arrays(model, dim))


@pytest.fixture
def open_model() -> Callable[[Trial, int], TorchModel]:
    """(trial, dim) -> its model on the processor."""
    return lambda trial, dim: TorchModel(trial, DataInfo("none", (dim,)), "cpu")


@pytest.fixture
def make_inputs() -> Callable[..., tuple[Batch, Control]]:
    """(trial, dim, size, step) -> a training batch with its noise, and its control."""

    def make(trial: Trial, dim: int, size: int = 5, step: int = 0) -> tuple[Batch, Control]:
        x = Stream(trial.seed, "test/x", step).normal((size, dim)).astype(trial.precision)
        noise = draw(noise_slots(trial, (dim,), "train", size), trial.seed, step, trial.precision)
        control = Control(trial.solver, trial.training.trace, trial.gradient, step, lr=1e-2)
        return Batch(x, noise), control

    return make


@pytest.fixture
def rng_torch() -> torch.Generator:
    return torch.Generator().manual_seed(7)
