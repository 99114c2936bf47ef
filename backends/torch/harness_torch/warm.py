"""First steps `warm`: each solve of a training step starts with the largest step that the same
solve accepted in the step before (docs/numerics.md, section 1).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from harness.errors import BackendError
from harness.interface import Array, Arrays
from harness.trial import AdaptiveSolver, Trial
from harness_torch.solve.blocks import BlockCounts
from harness_torch.solve.engines import FirstSteps

__all__ = ["WarmSteps", "power_of_two"]


class WarmSteps:
    """The warm first steps of a model, in units of each block's s; 0 before the first.

    Arguments:
        trial: The trial; in mode `adjoint` the backward solve has steps of its own.
        blocks: How many blocks there are.
    """

    def __init__(self, trial: Trial, blocks: int) -> None:
        solver = trial.solver
        warm = isinstance(solver, AdaptiveSolver) and solver.first_step == "warm"
        directions = ["forward"] + ["backward"] * (trial.gradient == "adjoint")
        self._blocks = blocks
        self._steps = {name: np.zeros(blocks) for name in directions if warm}

    def steps(self) -> list[FirstSteps]:
        """By block; None where nothing is known yet."""
        unknown = np.zeros(self._blocks)
        forward, backward = (
            [h or None for h in self._steps.get(name, unknown).tolist()]
            for name in ("forward", "backward")
        )
        return [FirstSteps(*steps) for steps in zip(forward, backward, strict=True)]

    def record(self, counts: Sequence[BlockCounts]) -> None:
        """Keeps what the solves of a training step accepted."""
        for direction, steps in self._steps.items():
            name = "largest" if direction == "forward" else "largest_backward"
            steps[:] = [power_of_two(block.largest(name)) for block in counts]

    def state(self) -> Arrays:
        """Returns `warm/forward` and `warm/backward`, float64 [blocks], where there are any."""
        return {f"warm/{direction}": steps.copy() for direction, steps in self._steps.items()}

    def load_state(self, state: Mapping[str, Array]) -> None:
        """Restores what `state` returned.

        Raises:
            BackendError: They are missing.
        """
        if missing := [name for name in self.state() if name not in state]:
            raise BackendError(f"the state lacks {', '.join(missing)}")
        for direction, steps in self._steps.items():
            steps[:] = state[f"warm/{direction}"]


def power_of_two(step: float) -> float:
    """The largest power of two that is at most `step`; 0 for 0."""
    return math.ldexp(0.5, math.frexp(step)[1]) if step else 0.0
