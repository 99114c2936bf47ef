"""Gates: bounds that a suite states for its own results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from harness.planning.plan import Gate
from harness.suites.filters import fields_of, parse_filter
from harness.trial import Trial

__all__ = ["GateCheck", "GateResult", "check_gates"]


@dataclass(frozen=True)
class GateCheck:
    """One trial that a gate binds.

    Arguments:
        trial_id: The trial.
        value: Its metric; None if it has none, because it failed or was not run.
        bound: What the metric must stay below, the margin already taken off; None if it is
            another metric that the trial does not have.
    """

    trial_id: str
    value: float | None
    bound: float | None

    @property
    def kept(self) -> bool | None:
        """True or False, None if nothing was measured."""
        if self.value is None or self.bound is None:
            return None
        return self.value < self.bound

    @property
    def slack(self) -> float | None:
        """By how much the bound was kept; negative if it was broken."""
        if self.value is None or self.bound is None:
            return None
        return self.bound - self.value


@dataclass(frozen=True)
class GateResult:
    """A gate and all trials it binds."""

    gate: Gate
    checks: tuple[GateCheck, ...]

    @property
    def verdict(self) -> Literal["pass", "fail", "incomplete"]:
        """`fail` if a trial broke the bound, `incomplete` if one is missing or none is bound."""
        kept = [check.kept for check in self.checks]
        if False in kept:
            return "fail"
        return "pass" if kept and all(kept) else "incomplete"


def check_gates(
    gates: Iterable[Gate], trials: Iterable[tuple[Trial, Mapping[str, float]]]
) -> tuple[GateResult, ...]:
    """Holds each gate against the trials it binds.

    Arguments:
        gates: The gates of a suite.
        trials: Trials with the values of their metrics by name; none for one that did not end ok.
            Trials that the plan skips do not belong here.

    Raises:
        InputError: A gate's filter is malformed.
    """
    known = [(trial, values, fields_of(trial)) for trial, values in trials]
    results = []
    for gate in gates:
        binds = parse_filter(gate.when, "gates.when")
        checks = tuple(
            GateCheck(trial.id, values.get(gate.metric), _bound(gate, values))
            for trial, values, fields in known
            if binds.matches({**fields, "id": (trial.id,), "state": ()})
        )
        results.append(GateResult(gate, checks))
    return tuple(results)


def _bound(gate: Gate, values: Mapping[str, float]) -> float | None:
    if isinstance(gate.below, str):
        other = values.get(gate.below)
        return None if other is None else other - gate.margin
    return gate.below - gate.margin
