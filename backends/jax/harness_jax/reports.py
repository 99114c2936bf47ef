"""From device arrays to the plain numbers of the interface."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from harness.interface import Array, EvaluationReport, Nfe, Pending, StepReport
from harness_jax.control import FAILURES, NON_FINITE, Stats
from harness_jax.programs import Outcome

__all__ = ["PendingStep", "evaluation_report"]


class PendingStep(Pending):
    """A training step that may still be running.

    Arguments:
        outcome: What it leaves on the device.
        names: The regularizers, in the order of the outcome's means.
        adjoint: Whether there were backward solves to count.
    """

    def __init__(self, outcome: Outcome, names: Sequence[str], adjoint: bool) -> None:
        self._outcome = outcome
        self._names = names
        self._adjoint = adjoint

    def fetch(self) -> StepReport:
        """Waits for the step."""
        done = jax.device_get(self._outcome)
        backward = done.ledger.astype(int) if self._adjoint else np.zeros((0, 3), int)
        codes = [*done.stats.failure, *backward[:, 1]]
        if not np.isfinite(done.loss):
            codes.append(NON_FINITE)
        return StepReport(
            loss=float(done.loss),
            nll=float(done.nll),
            regularizers={k: float(v) for k, v in zip(self._names, done.means, strict=True)},
            nfe=_counts(done.stats, backward[:, 0]),
            failure=_failure(codes),
        )


def evaluation_report(values: Mapping[str, Array], stats: Stats) -> EvaluationReport:
    """The report of an evaluation; no values if a solve failed."""
    reason = _failure(stats.failure)
    return EvaluationReport({} if reason else values, _counts(stats), reason)


def _counts(stats: Stats, backward: Iterable[Any] = ()) -> Nfe:
    """The counts of a call; `stats` has entries [blocks]."""
    return Nfe(
        forward=_integers(stats.evaluations),
        backward=_integers(backward),
        accepted=_integers(stats.accepted),
        rejected=_integers(stats.rejected),
    )


def _failure(codes: Iterable[Any]) -> str | None:
    """The reason of the first solve that failed, or None."""
    return next((FAILURES[code] for code in _integers(codes) if code), None)


def _integers(values: Iterable[Any]) -> tuple[int, ...]:
    return tuple(int(value) for value in values)
