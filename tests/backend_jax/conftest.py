"""Small float64 models for the tests of the jax backend."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import pytest
from harness_jax import JaxBackend
from harness_jax.model import JaxModel

from harness.architecture.arrays import array_specs
from harness.architecture.noise import draw, noise_slots
from harness.architecture.transforms import Block, Shape, blocks_of
from harness.interface import Batch, Control, DataInfo
from harness.streams.stream import Stream
from harness.trial import AdaptiveSolver, DatasetRef, EndTime, EngineName, ModelSpec, Trial

BASE = Trial(
    DatasetRef("none", "none"),
    "jax",
    AdaptiveSolver("dopri5", rtol=1e-9, atol=1e-9),
    model=ModelSpec("concatsquash", (7, 6), "tanh", 2, EndTime(0.7, "trained")),
    precision="float64",
)


@pytest.fixture(scope="session", autouse=True)
def prepared() -> None:
    JaxBackend().prepare(BASE, 1)


@pytest.fixture
def base_trial() -> Trial:
    """Two blocks of a 7-6 net with a trained end time, in float64, at tolerance 1e-9."""
    return BASE


@pytest.fixture
def block_arrays() -> Callable[[ModelSpec, Shape], tuple[Block, dict[str, jax.Array]]]:
    """(model, event shape) -> its first block and float64 arrays for it, none of them zero."""

    def make(model: ModelSpec, shape: Shape) -> tuple[Block, dict[str, jax.Array]]:
        block = blocks_of(model, shape)[0]
        arrays = {
            spec.name.removeprefix("block0/"): 0.5 * Stream(3, spec.name).normal(spec.shape)
            for spec in array_specs(model, DataInfo("none", shape))
            if spec.name.startswith("block0/layer") or spec.name == "swish_beta"
        }
        return block, {name: jnp.asarray(array) for name, array in arrays.items()}

    return make


@pytest.fixture
def open_model() -> Callable[..., JaxModel]:
    """(trial, dim, engine) -> its model on the processor."""

    def make(trial: Trial, dim: int, engine: EngineName = "native") -> JaxModel:
        return JaxModel(trial, DataInfo("none", (dim,)), jax.devices("cpu")[0], engine)

    return make


@pytest.fixture
def make_inputs() -> Callable[..., tuple[Batch, Control]]:
    """(trial, dim, size, step) -> a training batch with its noise, and its control."""

    def make(trial: Trial, dim: int, size: int = 5, step: int = 0) -> tuple[Batch, Control]:
        x = Stream(trial.seed, "test/x", step).normal((size, dim)).astype(trial.precision)
        noise = draw(noise_slots(trial, (dim,), "train", size), trial.seed, step, trial.dtype)
        control = Control(trial.solver, trial.training.trace, trial.gradient, step, lr=1e-2)
        return Batch(x, noise), control

    return make
