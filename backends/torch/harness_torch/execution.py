"""Whether a trial compiles: only if its training is long enough to repay it."""

from __future__ import annotations

import math
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import replace

from harness.architecture.transforms import blocks_of
from harness.interface import DataInfo
from harness.trial import FixedSolver, FlowMatching, LibrarySolver, Trial

__all__ = ["choose_execution"]

COMPILE_S = 30.0
"""Processor time of compiling a field and its product with empty caches; like the two below a
rough figure, of which the choice needs no more than its size."""

SAVED_S = 1.3e-3
SAVED_PER_UNIT_S = 5e-9
"""What compiling saves an evaluation and its product: for each of them, and on one core for every
hidden unit of every example."""

USUAL_EVALUATIONS = 18
"""Of an adaptive solve: three steps of an FSAL pair of order 5."""


def choose_execution(trial: Trial, data: DataInfo, cores: int) -> Mapping[str, str]:
    """Returns `execution`, `compiled` or `eager`, and why."""
    if trial.engine == "library" or isinstance(trial.solver, LibrarySolver):
        return {"execution": "eager", "because": "torchdiffeq takes the steps"}
    if isinstance(trial.objective, FlowMatching):
        return {"execution": "eager", "because": "training solves nothing"}
    if _compiler() is None:
        return {"execution": "eager", "because": "there is no C++ compiler"}
    # Equal blocks share what is compiled, whatever their place.
    blocks = [replace(block, index=0) for block in blocks_of(trial.model, data.event_shape)]
    evaluations = USUAL_EVALUATIONS
    if isinstance(trial.solver, FixedSolver):
        evaluations = trial.solver.steps
    saved = 0.0
    for block in blocks:
        units = sum(math.prod(layer.outputs) for layer in block.layers[:-1])
        saved += SAVED_S + SAVED_PER_UNIT_S / cores * trial.training.batch * units
    saved *= evaluations * trial.training.iterations
    compiles = saved > COMPILE_S * len(set(blocks))
    return {
        "execution": "compiled" if compiles else "eager",
        "because": f"compiling saves about {saved:.0f} s of training",
    }


def _compiler() -> str | None:
    """The compiler that inductor would use."""
    usual = "clang++" if sys.platform == "darwin" else "g++"
    return shutil.which(os.environ.get("CXX") or usual)
