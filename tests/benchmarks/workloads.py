"""The training steps that are timed: three FFJORD configurations, weights frozen.

Frozen, because trained weights make the ODE stiffer and the number of evaluations drift; each step
still runs the whole update, with learning rate 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from harness.interface import Batch
from harness.streams.stream import Stream
from harness.trial import (
    AdaptiveSolver,
    DatasetRef,
    GradientName,
    ModelSpec,
    NonlinearityName,
    PrecisionName,
    Training,
    Trial,
)

__all__ = ["WORKLOADS", "FirstStep", "Workload"]

FirstStep = Literal["heuristic", "warm", "whole"]


@dataclass(frozen=True)
class Workload:
    """One configuration.

    Arguments:
        dim: Data dimension D.
        batch: Examples a step.
        hidden: Hidden widths.
        nonlinearity: Between the layers.
        blocks: Stacked blocks.
        rounds: Timed steps of each contender.
        repeats: Evaluations of the bare field that one of its timings averages.
        tolerance: Both rtol and atol of dopri5.
    """

    dim: int
    batch: int
    hidden: tuple[int, ...]
    nonlinearity: NonlinearityName
    blocks: int
    rounds: int
    repeats: int
    tolerance: float = 1e-5

    def trial(
        self,
        backend: str,
        gradient: GradientName,
        precision: PrecisionName,
        first_step: FirstStep = "heuristic",
    ) -> Trial:
        """The trial whose training step is timed."""
        tolerance = self.tolerance
        return Trial(
            dataset=DatasetRef("benchmark", "none"),
            backend=backend,
            solver=AdaptiveSolver("dopri5", tolerance, tolerance, first_step, norm="mixed"),
            model=ModelSpec("concatsquash", self.hidden, self.nonlinearity, self.blocks),
            training=Training(batch=self.batch),
            gradient=gradient,
            precision=precision,
        )

    def inputs(self, precision: PrecisionName) -> Batch:
        """Standard normal data and one fixed probe a block."""
        shape = (self.batch, self.dim)
        noise = {
            f"probe/{block}": Stream(0, f"probe/{block}").normal(shape).astype(precision)
            for block in range(self.blocks)
        }
        return Batch(Stream(0, "benchmark/x").normal(shape).astype(precision), noise)


WORKLOADS: dict[str, Workload] = {
    # The 2-D toys of the released code.
    "W1": Workload(2, 512, (64, 64, 64), "tanh", 1, rounds=25, repeats=20),
    # MINIBOONE and POWER of the paper's Table 4, at tolerance 1e-5.
    "W2b": Workload(43, 1000, (860, 860), "softplus", 1, rounds=4, repeats=3),
    "W3b": Workload(6, 10_000, (60, 60, 60), "tanh", 5, rounds=4, repeats=5),
}


def largest_error(found: np.ndarray, reference: np.ndarray) -> float:
    """Largest absolute difference of log p, nats."""
    return float(np.max(np.abs(found - reference)))
