"""From arrays on the device to the plain numbers of a report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from harness.interface import Array, EvaluationReport, Nfe, Pending, StepReport
from harness.trial import GradientName
from harness_jax.programs import Outcome
from harness_jax.solve.adjoint import EVALUATIONS, FAILURE
from harness_jax.solve.counts import FAILURES, NON_FINITE, Stats

__all__ = ["PendingStep", "evaluation_report"]


def evaluation_report(
    values: Mapping[str, Array], stats: Stats | None, blocks: int = 0
) -> EvaluationReport:
    """The report of an evaluation; no values if a solve failed or one is not finite. Without
    `stats` none of the blocks was solved.
    """
    reason = None if stats is None else _failure(stats.failure)
    if not all(np.isfinite(value).all() for value in values.values()):
        reason = reason or FAILURES[NON_FINITE]
    nfe = Nfe((0,) * blocks) if stats is None else _nfe(stats)
    return EvaluationReport({} if reason else values, nfe, reason)


class PendingStep(Pending):
    """A training step that may still be running.

    Arguments:
        outcome: What it leaves on the device.
        names: The regularizers, in the order of the outcome's means.
        gradient: Gradient mode.
    """

    def __init__(self, outcome: Outcome, names: Sequence[str], gradient: GradientName) -> None:
        self._outcome = outcome
        self._names = names
        self._gradient = gradient

    def fetch(self) -> StepReport:
        """Waits for the step."""
        done = jax.device_get(self._outcome)
        backward = done.ledger.astype(int)
        codes = [*done.stats.failure, *backward[..., FAILURE].ravel()]
        if not np.isfinite(done.loss):
            codes.append(NON_FINITE)
        nfe = _nfe(done.stats)
        if self._gradient == "adjoint":
            nfe = replace(nfe, backward=_integers(backward[..., EVALUATIONS].sum(1)))
        else:
            vjp, again = _integers(done.stats.vjp), _integers(done.stats.recompute)
            nfe = replace(nfe, vjp=vjp, recompute=again)
        return StepReport(
            loss=float(done.loss),
            nll=float(done.nll),
            regularizers={k: float(v) for k, v in zip(self._names, done.means, strict=True)},
            nfe=nfe,
            failure=_failure(codes),
        )


def _nfe(stats: Stats) -> Nfe:
    """The counts of forward solves; `stats` has entries [blocks]."""
    return Nfe(
        forward=_integers(stats.evaluations),
        accepted=_integers(stats.accepted),
        rejected=_integers(stats.rejected),
    )


def _failure(codes: Iterable[Any]) -> str | None:
    """The reason of the first solve that failed, or None."""
    return next((FAILURES[code] for code in _integers(codes) if code), None)


def _integers(values: Iterable[Any]) -> tuple[int, ...]:
    return tuple(int(value) for value in values)
