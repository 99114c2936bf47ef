"""Validation in training: when it is due, what its line says, and what follows from it."""

from __future__ import annotations

import time

from harness.interface import Arrays
from harness.measuring.evaluator import Evaluator, SolveFailed
from harness.metrics.bits import bits_name, bits_per_dim
from harness.training.schedule import drops_made
from harness.training.totals import Totals

__all__ = ["Validation"]


class Validation:
    """Scores the validation rows, keeps the best arrays, and counts what patience counts.

    Arguments:
        evaluator: The model, its trial and its data.
        totals: Of the training; what a validation changes is changed here.
        best: Arrays of the best validation so far; empty if none is kept.
    """

    def __init__(self, evaluator: Evaluator, totals: Totals, best: Arrays) -> None:
        self.best = best
        self._evaluator, self._totals = evaluator, totals
        self._training = evaluator.trial.training
        self._chunks = evaluator.chunks("val", self._training.validation_rows)

    def is_due(self) -> bool:
        """True if there are validation rows, and this step is one to score them after."""
        step, every = self._totals.step, self._training.validate_every
        wanted = step == self._training.iterations or (
            every > 0 and step > 0 and step % every == 0
        )
        return bool(self._chunks) and wanted and self._totals.val_step != step

    def run(self) -> dict[str, float]:
        """Validates; returns the values of its line.

        Raises:
            SolveFailed: A solve did not finish or the score is not finite.
        """
        evaluator, totals = self._evaluator, self._totals
        evaluator.model.synchronize()
        start = time.perf_counter()
        try:
            score = evaluator.score("val", self._chunks)
        except SolveFailed as error:
            raise SolveFailed(f"validation failed at step {totals.step}: {error}") from error
        evaluator.model.synchronize()
        totals.val_s += time.perf_counter() - start
        totals.val_nll, totals.val_step, totals.val_rows = score.nll, totals.step, score.n
        self._judge(score.nll)
        name = f"val_{evaluator.quantity}"
        line = {name: score.nll}
        if evaluator.dataset.bits_per_dim:
            shape = evaluator.dataset.info.event_shape
            line[bits_name(name)] = bits_per_dim(score.nll, shape)
        return line

    def _judge(self, val_nll: float) -> None:
        """Keeps the best arrays; what a validation without gain leads to, patience says."""
        patience, totals = self._training.patience, self._totals
        if totals.best_val_nll is None or val_nll < totals.best_val_nll:
            totals.best_val_nll, totals.best_step, totals.stale = val_nll, totals.step, 0
            if self._training.keep == "best":
                self.best = self._evaluator.model.arrays()
        elif totals.step >= patience.after:
            totals.stale += 1
            totals.lr_drops = drops_made(patience, totals.stale, totals.lr_drops)
