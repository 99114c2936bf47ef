"""Small float64 models for the tests of the torch backend."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from harness_torch import TorchBackend
from harness_torch.model import TorchModel
from harness_torch.net.net import Net
from torch import Tensor

from harness.architecture.arrays import initial_arrays
from harness.architecture.noise import draw, noise_slots
from harness.architecture.transforms import Block, blocks_of
from harness.interface import Batch, Control, DataInfo
from harness.streams.stream import Stream
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
    """(model, event shape or dimension) -> the float64 arrays of the dynamics of block 0."""

    def make(model: ModelSpec, event: int | tuple[int, ...]) -> dict[str, Tensor]:
        trial = Trial(
            DatasetRef("none", "none"),
            "torch",
            AdaptiveSolver("dopri5"),
            model,
            precision="float64",
        )
        shape = (event,) if isinstance(event, int) else event
        return {
            name.removeprefix("block0/"): torch.tensor(value)
            for name, value in initial_arrays(trial, DataInfo("none", shape)).items()
            if name.startswith("block0/layer") or name == "swish_beta"
        }

    return make


@pytest.fixture
def first_block() -> Callable[[ModelSpec, int | tuple[int, ...]], Block]:
    """(model, event shape or dimension) -> its first block."""

    def find(model: ModelSpec, event: int | tuple[int, ...]) -> Block:
        return blocks_of(model, (event,) if isinstance(event, int) else event)[0]

    return find


@pytest.fixture
def make_net(
    block_arrays: MakeArrays, first_block: Callable[..., Block]
) -> Callable[[ModelSpec, int | tuple[int, ...]], Net]:
    """(model, event shape or dimension) -> the net of its first block."""
    return lambda model, event: Net(model, first_block(model, event), block_arrays(model, event))


@pytest.fixture
def open_model() -> Callable[[Trial, int], TorchModel]:
    """(trial, dim) -> its model on the processor."""
    return lambda trial, dim: TorchModel(trial, DataInfo("none", (dim,)), "cpu")


@pytest.fixture
def make_inputs() -> Callable[..., tuple[Batch, Control]]:
    """(trial, dim, size, step) -> a training batch with its noise, and its control."""

    def make(trial: Trial, dim: int, size: int = 5, step: int = 0) -> tuple[Batch, Control]:
        x = Stream(trial.seed, "test/x", step).normal((size, dim)).astype(trial.precision)
        noise = draw(noise_slots(trial, (dim,), "train", size), trial.seed, step, trial.dtype)
        control = Control(trial.solver, trial.training.trace, trial.gradient, step, lr=1e-2)
        return Batch(x, noise), control

    return make


@pytest.fixture
def rng_torch() -> torch.Generator:
    return torch.Generator().manual_seed(7)
