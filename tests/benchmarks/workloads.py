"""What is timed: training steps, an evaluation and samples, weights frozen.

Frozen, because trained weights make the ODE stiffer and the number of evaluations drift; each
training step still runs the whole update, with learning rate 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from harness.architecture.noise import draw, noise_slots
from harness.interface import Batch, DataInfo
from harness.streams.stream import Stream
from harness.trial import (
    AdaptiveSolver,
    DatasetRef,
    EndTime,
    Evaluation,
    GradientName,
    ModelSpec,
    NonlinearityName,
    Posterior,
    PrecisionName,
    TraceName,
    Training,
    Trial,
)

__all__ = ["WORKLOADS", "FirstStep", "Workload", "largest_error"]

FirstStep = Literal["heuristic", "warm", "whole"]


@dataclass(frozen=True)
class Workload:
    """One configuration.

    Arguments:
        model: The architecture, of concatsquash layers.
        data: Shape and likelihood of an example.
        batch: Examples a step.
        rounds: Timed steps of each contender.
        repeats: Evaluations of the bare field that one of its timings averages.
        task: A training step, an evaluation of log p, or samples.
        trace: How the trace is computed.
        tolerance: Both rtol and atol of dopri5.
    """

    model: ModelSpec
    data: DataInfo
    batch: int
    rounds: int
    repeats: int = 1
    task: Literal["evaluate", "sample", "train"] = "train"
    trace: TraceName = "hutchinson"
    tolerance: float = 1e-5

    @property
    def dim(self) -> int:
        """D."""
        return math.prod(self.data.event_shape)

    @property
    def has_original(self) -> bool:
        """True if the original approach is written for it: the log p of tables."""
        plain = self.model.posterior is None and self.model.strides is None
        return plain and self.task != "sample"

    @property
    def has_peers(self) -> bool:
        """True if the peers and the bare field are written for it."""
        return self.has_original and self.trace == "hutchinson"

    @property
    def yardstick(self) -> str:
        """The contender that each of the others is set against."""
        return "original" if self.has_original else "torch-eager-direct-heuristic"

    def trial(
        self,
        backend: str,
        gradient: GradientName,
        precision: PrecisionName,
        first_step: FirstStep = "heuristic",
    ) -> Trial:
        """The trial whose step is timed."""
        tolerance = self.tolerance
        return Trial(
            dataset=DatasetRef("benchmark", "none"),
            backend=backend,
            solver=AdaptiveSolver("dopri5", tolerance, tolerance, first_step, norm="mixed"),
            model=self.model,
            training=Training(batch=self.batch, trace=self.trace),
            evaluation=Evaluation(batch=self.batch, trace=self.trace),
            gradient=gradient,
            precision=precision,
        )

    def inputs(self, precision: PrecisionName) -> Batch:
        """Standard normal data, or random levels of pixels, and one fixed draw of all noise."""
        trial = self.trial("none", "direct", precision)
        shape = (self.batch, *self.data.event_shape)
        slots = noise_slots(trial, self.data.event_shape, self.task, self.batch)
        noise = draw(slots, 0, 0, precision)
        levels = {"bernoulli": 2, "categorical": 256}.get(self.data.likelihood)
        if self.task == "sample":
            x = np.zeros((0, *self.data.event_shape))
        elif levels is None:
            x = Stream(0, "benchmark/x").normal(shape)
        else:
            x = np.floor(levels * Stream(0, "benchmark/x").uniform(shape)) / (levels - 1)
        return Batch(x.astype(precision), noise)


def _table(dim: int) -> DataInfo:
    return DataInfo("benchmark", (dim,))


def _posterior(hidden: tuple[int, ...], nonlinearity: NonlinearityName, blocks: int) -> ModelSpec:
    posterior = Posterior(rank=20)
    return ModelSpec(
        "concatsquash", hidden, nonlinearity, blocks, EndTime(0.5), posterior=posterior
    )


_TOY = ModelSpec("concatsquash", (64, 64, 64), "tanh")
_MULTISCALE = ModelSpec(
    "concatsquash", (64, 64, 64), "softplus", 2, strides=(1, 1, 1, 1), scales=3
)
_MINIBOONE = ModelSpec("concatsquash", (860, 860), "softplus")

WORKLOADS: dict[str, Workload] = {
    # The 2-D toys of the released code.
    "W1": Workload(_TOY, _table(2), 512, rounds=25, repeats=20),
    # MINIBOONE and POWER of the paper's Table 4, at tolerance 1e-5.
    "W2b": Workload(_MINIBOONE, _table(43), 1000, rounds=4, repeats=3),
    "W3b": Workload(
        ModelSpec("concatsquash", (60, 60, 60), "tanh", 5), _table(6), 10_000, rounds=4, repeats=5
    ),
    # The autoencoders of Frey Faces and Caltech 101 Silhouettes.
    "W4": Workload(
        _posterior((512, 512), "softplus", blocks=2),
        DataInfo("benchmark", (1, 28, 20), "categorical"),
        100,
        rounds=5,
    ),
    "W5": Workload(
        _posterior((2048,), "tanh", blocks=1),
        DataInfo("benchmark", (1, 28, 28), "bernoulli"),
        100,
        rounds=5,
    ),
    # The multiscale model of MNIST, a small batch.
    "W6": Workload(_MULTISCALE, DataInfo("benchmark", (1, 28, 28)), 4, rounds=5),
    # The toy of suites/quickstart.yaml.
    "W7": Workload(
        ModelSpec("concatsquash", (64, 64, 64), "tanh", end_time=EndTime(0.5)),
        _table(2),
        100,
        rounds=25,
        trace="exact",
    ),
    # BSDS300's net, evaluated under the exact trace; a small batch.
    "W8": Workload(
        ModelSpec("concatsquash", (1260, 1260, 1260), "softplus"),
        _table(63),
        10,
        rounds=5,
        task="evaluate",
        trace="exact",
    ),
    "samples": Workload(_MINIBOONE, _table(43), 1000, rounds=10, task="sample"),
}


def largest_error(found: np.ndarray, reference: np.ndarray) -> float:
    """Largest absolute difference of log p, nats; of samples of a coordinate."""
    return float(np.max(np.abs(found - reference)))
