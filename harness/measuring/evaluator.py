"""Evaluating a model: likelihood or ELBO of rows, samples, reconstructions.

The evaluation batch is part of a trial's identity, since all rows of a batch share their steps;
the last, shorter batch is kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from harness.architecture.noise import draw, noise_slots
from harness.datasets.base import Dataset, Float, Rows, Split
from harness.interface import (
    Array,
    Batch,
    Control,
    EvaluationReport,
    Model,
    Quantity,
)
from harness.specs.solver import carries_log_volume
from harness.trial import EngineName, SolverSpec, TraceName, Trial

__all__ = ["Evaluator", "NoiseKey", "Score", "Scoring", "SolveFailed", "evaluation_call"]


class SolveFailed(Exception):
    """A solve did not finish; the message says which and why."""


class NoiseKey(NamedTuple):
    """Names the noise of one call; equal keys give equal noise, in every attempt and backend.

    So the rows of a split meet the same probes at every validation.

    Arguments:
        purpose: What the noise is for: a split, `reconstruct`, `importance`, `sample`, ...
        chunk: Number of the batch of rows; None where the purpose has one batch.
        draw: Number of the draw, where the same rows get several.
        row: Number of the first row, where the noise is of the rows and not of their batch.
    """

    purpose: str
    chunk: int | None = None
    draw: int = 0
    row: int = 0

    @property
    def name(self) -> str:
        """Name of the batch, which the names of its streams begin with."""
        return self.purpose if self.chunk is None else f"{self.purpose}/{self.chunk}"


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


class Scoring(NamedTuple):
    """How rows are scored: in validation as the training says, otherwise as the evaluation does.

    Arguments:
        solver: Method and tolerances.
        trace: How the divergence is computed.
        batch: Rows of one solve.
        probes: Over which an estimated trace is averaged.
        draws: Times of a solve at which there are other probes.
        engine: Who takes the steps; None: who takes those of the training.
    """

    solver: SolverSpec
    trace: TraceName
    batch: int
    probes: int = 1
    draws: int = 1
    engine: EngineName | None = None

    @staticmethod
    def of(trial: Trial, split: str) -> Scoring:
        """That of `val`, which the training asks for; of all else, which the evaluation does."""
        training, evaluation = trial.training, trial.evaluation
        if split == "val":
            trace = training.validation_trace or training.trace
            batch = training.validation_batch
            return Scoring(trial.solver, trace, batch, training.probes, training.draws)
        solver, batch = trial.evaluation_solver, evaluation.batch
        engine = trial.evaluation_engine
        return Scoring(
            solver, evaluation.trace, batch, evaluation.probes, evaluation.draws, engine
        )

    @property
    def control(self) -> Control:
        """What a model is called with."""
        return Control(
            self.solver, self.trace, probes=self.probes, draws=self.draws, engine=self.engine
        )


def evaluation_call(
    trial: Trial,
    x: Float,
    key: NoiseKey,
    scoring: Scoring | None = None,
    log_volume: Float | None = None,
) -> tuple[Batch, Control]:
    """What `Model.evaluate` is called with for rows.

    Arguments:
        trial: The trial.
        x: [n, *event_shape] in model space.
        key: The noise.
        scoring: Solver and trace; None means those of the test.
        log_volume: Of the rows, [n], for a solver that carries it; None if there is none.
    """
    scoring = scoring or Scoring.of(trial, "test")
    estimate = scoring.trace, scoring.probes, scoring.draws
    slots = noise_slots(trial, x.shape[1:], "evaluate", len(x), *estimate)
    noise = draw(slots, trial.seed, key.draw, trial.dtype, f"{key.name}/", key.row)
    carried = log_volume if carries_log_volume(scoring.solver) else None
    return Batch(x.astype(trial.dtype), noise, carried), scoring.control


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
        """The first `limit` rows of a split in the batches in which they are scored."""
        return list(self.dataset.chunks(split, Scoring.of(self.trial, split).batch, limit))

    def warm_up(self, splits: Sequence[Split] = ("val", "test")) -> None:
        """Evaluates one batch of every size that the splits have when they are scored."""
        for scoring, size in dict.fromkeys(self._batches(splits)):
            x = self.dataset.rows("test", size).x
            # Where there are fewer rows, resize repeats them: the shape is what counts here, the
            # values are thrown away.
            x = np.resize(x, (size, *self.dataset.info.event_shape))
            # Training will say the same of these arrays, with a step number.
            with suppress(SolveFailed):
                self.log_likelihood(x, NoiseKey("warm-up"), scoring, np.zeros(size))

    def _batches(self, splits: Sequence[Split]) -> Iterator[tuple[Scoring, int]]:
        """How the batches of splits are scored, without their number, and sizes."""
        rows = self.dataset.sizes()
        limits: dict[Split, int | None] = {
            "val": self.trial.training.validation_rows,
            "test": self.trial.evaluation.rows,
        }
        for split in splits:
            if split in rows:
                limit = limits[split]
                n = rows[split] if limit is None else min(limit, rows[split])
                scoring = Scoring.of(self.trial, split)
                for size in sorted({min(n, scoring.batch), n % scoring.batch} - {0}):
                    yield scoring._replace(batch=0), size

    def score(self, name: str, chunks: Sequence[Rows]) -> Score:
        """Scores the rows of a split.

        Raises:
            SolveFailed: A solve did not finish or the score is not finite.
        """
        scoring = Scoring.of(self.trial, name)
        parts: list[Float] = []
        forward = []
        row = 0
        for chunk, rows in enumerate(chunks):
            # Validation chooses the arrays that are kept: its noise, batch by batch, is a part of
            # the training. A score afterwards depends on no batch but by the steps of the solver.
            key = NoiseKey(name, chunk) if name == "val" else NoiseKey(name, row=row)
            log_likelihood, evaluations = self.log_likelihood(
                rows.x, key, scoring, rows.log_volume
            )
            parts.append(log_likelihood + rows.log_volume)
            forward.append(evaluations)
            row += len(rows.x)
        values = np.concatenate(parts)
        nll = -float(np.mean(values))
        if not math.isfinite(nll):
            raise SolveFailed(f"the {self.quantity} of '{name}' is not finite")
        n = len(values)
        sem = float(np.std(values, ddof=1)) / math.sqrt(n) if n > 1 else None
        return Score(nll, sem, n, tuple(forward))

    def probe_variance(self, name: str, rows: Rows) -> float | None:
        """Variance of log p of a row over the probes of an estimated trace, nats^2: the mean over
        the rows, from two draws of the probe for each; None where there is no probe.

        Raises:
            SolveFailed: A solve did not finish.
        """
        scoring = Scoring.of(self.trial, name)
        if scoring.trace == "exact" or self.trial.model.posterior is not None:
            return None
        first, second = (
            self.log_likelihood(rows.x, NoiseKey(name, draw=draw), scoring, rows.log_volume)[0]
            for draw in (0, 1)
        )
        return float(np.mean((first - second) ** 2)) / 2

    def sample(self, count: int) -> tuple[Float, tuple[int, ...]]:
        """Draws from the model with the base sample that all trials share.

        Returns:
            [count, *event_shape] in model space, and the evaluations of each batch.

        Raises:
            SolveFailed: A solve did not finish.
        """
        base = self._base(count, 0, NoiseKey("sample"))
        return self._sampled(base, self.trial.evaluation.batch)

    def sampling(self, index: int, count: int) -> tuple[Float, int]:
        """Draws set `index` of samples, all of them in one solve: they share its steps.

        Returns:
            [count, *event_shape] in model space, and the evaluations.

        Raises:
            SolveFailed: A solve did not finish.
        """
        base = self._base(count, self.trial.seed, NoiseKey("samplings", draw=index))
        samples, forward = self._sampled(base, count)
        return samples, sum(forward)

    def prior(self, count: int) -> Float:
        """Decodes draws of an autoencoder's prior, [count, *event_shape].

        Raises:
            SolveFailed: A solve did not finish.
        """
        base = self._base(count, self.trial.seed, NoiseKey("prior"))
        return self._sampled(base, self.trial.evaluation.batch)[0]

    def reconstructions(self, chunks: Sequence[Rows]) -> Float:
        """Encodes and decodes rows with one draw of the posterior each, [n, *event_shape].

        Raises:
            SolveFailed: A solve did not finish.
        """
        reports = (
            self._evaluated(rows.x, NoiseKey("reconstruct", chunk), "reconstruct")
            for chunk, rows in enumerate(chunks)
        )
        return np.concatenate([np.asarray(r.values["reconstruct"], np.float64) for r in reports])

    def log_weights(self, chunks: Sequence[Rows], index: int) -> Float:
        """Log-weight of draw `index` of the posterior for every row, [n] nats.

        log w = log p(x | z) + log p(z) - log q(z | x), whose mean over draws is the ELBO and whose
        logmeanexp bounds log p(x) more tightly (Burda et al., arXiv 1509.00519, eq. 8).

        Raises:
            SolveFailed: A solve did not finish.
        """
        parts = []
        for chunk, rows in enumerate(chunks):
            log_weights, _ = self.log_likelihood(rows.x, NoiseKey("importance", chunk, index))
            parts.append(log_weights + rows.log_volume)
        return np.concatenate(parts)

    def log_likelihood(
        self,
        x: Float,
        key: NoiseKey,
        scoring: Scoring | None = None,
        log_volume: Float | None = None,
    ) -> tuple[Float, int]:
        """Log-likelihood of rows, of an autoencoder their ELBO; and the evaluations.

        Arguments:
            x: [n, *event_shape] in model space.
            key: The noise; an exact trace needs none.
            scoring: Solver and trace; None means those of the test.
            log_volume: Of the rows, [n], for a solver that carries it; None if there is none.

        Returns:
            [n] nats, log-volume left out; evaluations summed over blocks.

        Raises:
            SolveFailed: The solve did not finish.
        """
        density = self.trial.model.posterior is None
        quantity: Quantity = "log_prob" if density else "elbo_terms"
        report = self._evaluated(x, key, quantity, scoring, log_volume)
        names = ("log_prob",) if density else ("elbo_terms/reconstruction", "elbo_terms/kl")
        terms = [np.asarray(report.values[name], dtype=np.float64) for name in names]
        values: Float = np.sum(terms, axis=0)
        return (values if density else -values), sum(report.nfe.forward)

    def _base(self, count: int, seed: int, key: NoiseKey) -> Array:
        slots = noise_slots(self.trial, self.dataset.info.event_shape, "sample", count)
        return draw(slots, seed, key.draw, self.trial.dtype, f"{key.name}/")["base"]

    def _sampled(self, base: Array, size: int) -> tuple[Float, tuple[int, ...]]:
        """Maps base samples to model space, `size` a solve; and the evaluations of each."""
        control = Scoring.of(self.trial, "sample").control
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

    def _evaluated(
        self,
        x: Float,
        key: NoiseKey,
        quantity: Quantity,
        scoring: Scoring | None = None,
        log_volume: Float | None = None,
    ) -> EvaluationReport:
        self.check()
        batch, control = evaluation_call(self.trial, x, key, scoring, log_volume)
        report = self.model.evaluate(batch, control, (quantity,))
        if report.failure:
            raise SolveFailed(f"a solve for '{key.name}' did not finish: {report.failure}")
        return report
