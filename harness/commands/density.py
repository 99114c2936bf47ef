"""`harness density` and `harness sample`: what a trained model says of points, and its samples."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from harness.commands.evaluate import reevaluated
from harness.commands.show import show
from harness.errors import AnswerError
from harness.models.points import read_points, write_table
from harness.models.trained import Trained, trained

__all__ = ["Density", "density", "sample"]


@dataclass(frozen=True)
class Density:
    """What a model says of points.

    Arguments:
        trial_id: The trial.
        name: `log_prob`, or `bound` of an autoencoder.
        values: [n] nats.
        space: What the numbers of a point are.
        evaluations: Of the dynamics, in all solves.
    """

    trial_id: str
    name: str
    values: npt.NDArray[np.float64]
    space: str
    evaluations: int

    @property
    def mean(self) -> float:
        """Mean over the points; NaN for none."""
        return float(np.mean(self.values)) if len(self.values) else math.nan

    @property
    def sem(self) -> float | None:
        """Its standard error; None for fewer than two."""
        n = len(self.values)
        return float(np.std(self.values, ddof=1)) / math.sqrt(n) if n > 1 else None


def density(
    trial: str,
    points: Path,
    root: Path,
    *,
    settings: Sequence[str] = (),
    backend: str | None = None,
    draws: int = 1,
    out: Path | None = None,
) -> Density:
    """Computes log p of points from a file; of an autoencoder a bound on it.

    Arguments:
        trial: Id of a trial, or its beginning.
        points: A csv, npz or parquet file (`harness.models.points`).
        root: The run root.
        settings: Changes of the evaluation, as `harness evaluate --set` takes them.
        backend: Who computes; None: the one that trained.
        draws: Draws of an autoencoder's posterior.
        out: File for the values; None: none.

    Raises:
        HarnessError: The trial, the points or a setting is not what it should be.
    """
    x = read_points(points)
    model = _opened(trial, root, settings, backend)
    name = "log_prob" if model.spec.model.posterior is None else "bound"
    with _naming(points):
        values = model.log_prob(x) if name == "log_prob" else model.bound(x, draws)
    if out is not None:
        write_table(out, {name: values})
    return Density(model.spec.id, name, values, model.space, sum(model.nfe))


def sample(
    trial: str,
    count: int,
    out: Path,
    root: Path,
    *,
    seed: int = 0,
    settings: Sequence[str] = (),
    backend: str | None = None,
) -> Density | None:
    """Draws samples and writes them, with their log p, to a file.

    Returns:
        What the model says of them; None of an autoencoder, whose samples have no density.

    Raises:
        HarnessError: The trial or a setting is not what it should be.
    """
    model = _opened(trial, root, settings, backend)
    x, log_prob = model.sample(count, seed)
    if log_prob is None:
        write_table(out, {"x": x})
        return None
    write_table(out, {"x": x, "log_prob": log_prob})
    return Density(model.spec.id, "log_prob", log_prob, model.space, sum(model.nfe))


@contextmanager
def _naming(points: Path) -> Iterator[None]:
    """Names the file in what is refused of its rows, which Python calls x."""
    try:
        yield
    except AnswerError as error:
        raise AnswerError(
            [
                replace(problem, place=re.sub(r"^x\b", lambda _: str(points), problem.place))
                for problem in error.problems
            ]
        ) from error


def _opened(trial: str, root: Path, settings: Sequence[str], backend: str | None) -> Trained:
    evaluation = reevaluated(show(trial, root), settings)
    return trained(root, trial, backend=backend, evaluation=evaluation)
