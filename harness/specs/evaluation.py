"""What a trial is measured on and how."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from harness.specs.bounds import LATER, STRICT, Bound, Count
from harness.specs.solver import EngineName, SolverSpec
from harness.specs.training import TraceName

__all__ = [
    "Accuracy",
    "DatasetRef",
    "Evaluation",
    "SampleMetrics",
]


@dataclass(frozen=True)
class DatasetRef:
    """A dataset by name, pinned to the digest of its raw bytes and loader version."""

    name: str
    digest: str


@dataclass(frozen=True)
class SampleMetrics:
    """Distances of samples from test rows, PaddingFlow's (`harness.metrics.paddingflow`).

    Arguments:
        rows: Rows of each sampling and of the references, or all test rows if there are fewer;
            20,000 as published.
        samplings: Sets of samples; published minima are over 100.
        exact_emd_rows: The two exact earth mover's distances are of the first so many rows of both
            sets; 0 leaves them out.
    """

    __pydantic_config__ = STRICT

    rows: Annotated[int, Bound(at_least=1, at_most=20_000)] = 20_000
    samplings: Count = 100
    exact_emd_rows: Annotated[int, Bound(at_least=0, at_most=20_000)] = 2_000


@dataclass(frozen=True)
class Accuracy:
    """Errors of the solver on the first test rows, against the same weights in float64 under
    dopri5 at 1e-10; and what a solve of the batch takes.

    Arguments:
        gradient: The error of the gradient of the training loss, too.
        repeats: Solves of the first batch of the test that are timed.
    """

    __pydantic_config__ = STRICT

    gradient: bool = False
    repeats: Count = 5


@dataclass(frozen=True)
class Evaluation:
    """How a trial is evaluated.

    Arguments:
        trace: How the divergence is computed.
        batch: Rows a solve; part of the identity, since all rows of a batch share their steps.
        rows: At most so many test rows are used; null means all.
        solver: Solver of the evaluation; null means the training solver.
        samples: Number of model samples drawn for the report.
        sample_metrics: Distances of samples from test rows, of tables and 2-D data; null: none.
        image_metrics: Coverage and matching distance of an autoencoder's reconstructions and of
            its prior samples, against the same test rows as the ELBO.
        importance_samples: Draws of the posterior for an autoencoder's importance-weighted NLL;
            0: none.
        probes: Probes of an estimated trace, as in training.
        draws: Times of a solve at which there are other probes: 1 fixes them in it.
        engine: Who takes the steps of the test; null means who takes those of the training.
        accuracy: Errors of log p against a reference, and the time of a solve; null: none.
    """

    __pydantic_config__ = STRICT

    trace: TraceName = "exact"
    batch: Count = 1000
    rows: Count | None = None
    solver: SolverSpec | None = None
    samples: Annotated[int, Bound(at_least=0)] = 1000
    sample_metrics: SampleMetrics | None = None
    image_metrics: bool = False
    importance_samples: Annotated[int, Bound(at_least=0)] = 0
    probes: Count = field(default=1, metadata=LATER)
    draws: Count = field(default=1, metadata=LATER)
    engine: EngineName | None = field(default=None, metadata=LATER)
    accuracy: Accuracy | None = field(default=None, metadata=LATER)
