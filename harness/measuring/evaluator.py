"""Evaluating a model: likelihood or ELBO of a split, samples, the density of a plane.

The evaluation batch is part of a trial's identity, since all rows of a batch share their steps;
the last, shorter batch is kept. Probes come from streams keyed by split and batch, so the same
rows meet the same probes at every validation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from harness.architecture.noise import draw, noise_slots
from harness.datasets.base import Dataset, Float, Rows, Split
from harness.interface import (
    Array,
    Arrays,
    Batch,
    Control,
    EvaluationReport,
    Model,
    Quantity,
)
from harness.trial import TraceName, Trial

__all__ = ["Evaluator", "Score", "SolveFailed"]

GRID = 100
"""Points a side of the density picture."""
_MARGIN = 0.1


class SolveFailed(Exception):
    """A solve did not finish; the message says which and why."""


@dataclass(frozen=True)
class Score:
    """Likelihood of a split; of an autoencoder its bound.

    Arguments:
        nll: Mean negative log-likelihood in nats per example, log-volume included; of an
            autoencoder the mean negative ELBO, one draw an example.
        sem: Its standard error over the rows; None for one row.
        n: Number of rows.
        forward: Evaluations of each batch, summed over blocks.
    """

    nll: float
    sem: float | None
    n: int
    forward: tuple[int, ...]


@dataclass(frozen=True)
class Evaluator:
    """Evaluates the model of a trial.

    Arguments:
        trial: The trial.
        model: Its model.
        dataset: Its data.
        check: Called between batches; raises to stop.
    """

    trial: Trial
    model: Model
    dataset: Dataset
    check: Callable[[], None]

    @property
    def quantity(self) -> str:
        """What `score` gives: `nll`, or `neg_elbo` of an autoencoder; as in names of metrics."""
        return "nll" if self.trial.model.posterior is None else "neg_elbo"

    def chunks(self, split: Split, limit: int | None) -> list[Rows]:
        """The first `limit` rows of a split in evaluation batches."""
        return list(self.dataset.chunks(split, self.trial.evaluation.batch, limit))

    def warm_up(self) -> None:
        """Evaluates one batch of every size that validation and test have."""
        batch, limits = (
            self.trial.evaluation.batch,
            {
                "val": self.trial.training.validation_rows,
                "test": self.trial.evaluation.rows,
            },
        )
        sizes: set[int] = set()
        for split, rows in self.dataset.sizes().items():
            if split in limits:
                limit = limits[split]
                n = rows if limit is None else min(limit, rows)
                sizes |= {min(n, batch), n % batch} - {0}
        for size in sorted(sizes):
            x = self.dataset.rows("test", size).x
            x = np.resize(x, (size, *self.dataset.info.event_shape))
            # Training will say the same of these arrays, with a step number.
            with suppress(SolveFailed):
                self._values(x, "warm-up/")

    def score(self, name: str, chunks: Sequence[Rows]) -> Score:
        """Scores the rows of a split.

        Raises:
            SolveFailed: A solve did not finish or the score is not finite.
        """
        parts, forward = [], []
        for index, rows in enumerate(chunks):
            found, evaluations = self._values(rows.x, f"{name}/{index}/")
            parts.append(found + rows.log_volume)
            forward.append(evaluations)
        values = np.concatenate(parts)
        nll = -float(np.mean(values))
        if not math.isfinite(nll):
            raise SolveFailed(f"the {self.quantity} of '{name}' is not finite")
        n = len(values)
        sem = float(np.std(values, ddof=1)) / math.sqrt(n) if n > 1 else None
        return Score(nll, sem, n, tuple(forward))

    def sample(self, count: int) -> tuple[Float, tuple[int, ...]]:
        """Draws from the model with the base sample that all trials share.

        Returns:
            [count, *event_shape] in model space, and the evaluations of each batch.

        Raises:
            SolveFailed: A solve did not finish.
        """
        base = self._base(count, 0, 0, "sample/")
        return self._sampled(base, self.trial.evaluation.batch)

    def sampling(self, index: int, count: int) -> tuple[Float, int]:
        """Draws set `index` of samples, all of them in one solve: they share its steps.

        Returns:
            [count, *event_shape] in model space, and the evaluations.

        Raises:
            SolveFailed: A solve did not finish.
        """
        base = self._base(count, self.trial.seed, index, "samplings/")
        samples, forward = self._sampled(base, count)
        return samples, sum(forward)

    def prior(self, count: int) -> Float:
        """Decodes draws of an autoencoder's prior, [count, *event_shape].

        Raises:
            SolveFailed: A solve did not finish.
        """
        base = self._base(count, self.trial.seed, 0, "prior/")
        return self._sampled(base, self.trial.evaluation.batch)[0]

    def reconstructions(self, chunks: Sequence[Rows]) -> Float:
        """Encodes and decodes rows with one draw of the posterior each, [n, *event_shape].

        Raises:
            SolveFailed: A solve did not finish.
        """
        reports = (
            self._evaluated(rows.x, f"reconstruct/{index}/", "reconstruct")
            for index, rows in enumerate(chunks)
        )
        return np.concatenate([np.asarray(r.values["reconstruct"], np.float64) for r in reports])

    def log_weights(self, chunks: Sequence[Rows], index: int) -> Float:
        """Log-weight of draw `index` of the posterior for every row, [n] nats.

        log w = log p(x | z) + log p(z) - log q(z | x), whose mean over draws is the ELBO and whose
        logmeanexp bounds log p(x) more tightly (Burda et al., arXiv 1509.00519, eq. 8).

        Raises:
            SolveFailed: A solve did not finish.
        """
        return np.concatenate(
            [
                self._values(rows.x, f"importance/{number}/", index=index)[0] + rows.log_volume
                for number, rows in enumerate(chunks)
            ]
        )

    def _base(self, count: int, seed: int, index: int, prefix: str) -> Array:
        slots = noise_slots(self.trial, self.dataset.info.event_shape, "sample", count)
        return draw(slots, seed, index, self.trial.dtype, prefix)["base"]

    def _sampled(self, base: Array, size: int) -> tuple[Float, tuple[int, ...]]:
        """Maps base samples to model space, `size` a solve; and the evaluations of each."""
        control = Control(self.trial.evaluation_solver, self.trial.evaluation.trace)
        nothing = np.empty((0, *self.dataset.info.event_shape), self.trial.dtype)
        parts, forward = [], []
        for start in range(0, len(base), size):
            self.check()
            batch = Batch(nothing, {"base": base[start : start + size]})
            report = self.model.sample(batch, control)
            if report.failure:
                raise SolveFailed(f"a solve for samples did not finish: {report.failure}")
            parts.append(np.asarray(report.values["sample"], dtype=np.float64))
            forward.append(sum(report.nfe.forward))
        return np.concatenate(parts), tuple(forward)

    def grid(self, test: Sequence[Rows]) -> Arrays:
        """Log-density of 2-D data on a grid over the box of its test rows, exact trace.

        Returns:
            `grid_axis_x`, `grid_axis_y` [g] and `grid_log_prob` [g, g] (rows are y) in data space.

        Raises:
            SolveFailed: A solve did not finish.
        """
        x = np.concatenate([rows.x for rows in test])
        low, high = x.min(axis=0), x.max(axis=0)
        margin = _MARGIN * (high - low)
        axes = [np.linspace(a, b, GRID) for a, b in zip(low - margin, high + margin, strict=True)]
        points = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)
        size = self.trial.evaluation.batch
        parts = [
            self._values(points[start : start + size], "grid/", "exact")[0]
            for start in range(0, len(points), size)
        ]
        # Preprocessing of 2-D data is a shift and a scale per axis, so axes map to axes.
        data_axes = self.dataset.to_data(np.stack(axes, axis=-1))
        stretch = (data_axes[-1] - data_axes[0]) / [axis[-1] - axis[0] for axis in axes]
        log_prob = np.concatenate(parts) - float(np.sum(np.log(np.abs(stretch))))
        return {
            "grid_axis_x": data_axes[:, 0].astype(np.float32),
            "grid_axis_y": data_axes[:, 1].astype(np.float32),
            "grid_log_prob": log_prob.reshape(GRID, GRID).astype(np.float32),
        }

    def _values(
        self, x: Float, prefix: str, trace: TraceName | None = None, index: int = 0
    ) -> tuple[Float, int]:
        """Log-likelihood, or ELBO, of each row [n]; and evaluations, summed over blocks."""
        density = self.trial.model.posterior is None
        quantity: Quantity = "log_prob" if density else "elbo_terms"
        report = self._evaluated(x, prefix, quantity, trace, index)
        names = ("log_prob",) if density else ("elbo_terms/reconstruction", "elbo_terms/kl")
        terms = [np.asarray(report.values[name], dtype=np.float64) for name in names]
        values: Float = np.sum(terms, axis=0)
        return (values if density else -values), sum(report.nfe.forward)

    def _evaluated(
        self,
        x: Float,
        prefix: str,
        quantity: Quantity,
        trace: TraceName | None = None,
        index: int = 0,
    ) -> EvaluationReport:
        """A quantity of rows, with noise `index` of the slots of a prefix."""
        self.check()
        shape = self.dataset.info.event_shape
        noise: Arrays = {}
        if trace is None:
            slots = noise_slots(self.trial, shape, "evaluate", len(x))
            noise = draw(slots, self.trial.seed, index, self.trial.dtype, prefix)
        control = Control(self.trial.evaluation_solver, trace or self.trial.evaluation.trace)
        report = self.model.evaluate(
            Batch(x.astype(self.trial.dtype), noise), control, (quantity,)
        )
        if report.failure:
            name = prefix.rstrip("/")
            raise SolveFailed(f"a solve for '{name}' did not finish: {report.failure}")
        return report
