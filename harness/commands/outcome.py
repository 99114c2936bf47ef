"""What came out of a run: failed trials, and gates that were not kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.labels import trial_name
from harness.planning.gates import check_gates
from harness.planning.plan import Plan
from harness.records.folder import TrialFolder
from harness.records.status import Status
from harness.trial import Trial

__all__ = ["Failure", "Outcome", "gate_failures", "outcome"]


@dataclass(frozen=True)
class Failure:
    """A trial that did not end ok.

    Arguments:
        trial: The trial.
        status: Its status; None if there is no record.
        message: The record's sentence.
    """

    trial: Trial
    status: Status | None
    message: str

    @property
    def sentence(self) -> str:
        """Status and message."""
        status = self.status.value if self.status else "not run"
        return f"{status}: {self.message}" if self.message else status


@dataclass(frozen=True)
class Outcome:
    """What came out of a plan.

    Arguments:
        ok: Number of trials that ended ok.
        skipped: Number of trials the plan skips.
        failures: The others.
        gates: A sentence for each gate that was not kept.
    """

    ok: int
    skipped: int
    failures: tuple[Failure, ...]
    gates: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """1 if a trial failed, otherwise 3 if a gate was not kept, otherwise 0."""
        return 1 if self.failures else 3 if self.gates else 0


def outcome(plan: Plan, root: Path) -> Outcome:
    """Reads what came out of the trials of a plan.

    Raises:
        RecordError: A record is damaged.
    """
    results = {}
    failures = []
    for trial in (planned.trial for planned in plan.wanted):
        result = TrialFolder(root, trial.id).read_result()
        if result is None:
            failures.append(Failure(trial, None, ""))
            continue
        results[trial.id] = result
        status = Status(result["status"])
        if status is not Status.OK:
            failures.append(Failure(trial, status, str(result.get("message") or "")))
    return Outcome(
        ok=len(plan.wanted) - len(failures),
        skipped=len(plan.trials) - len(plan.wanted),
        failures=tuple(failures),
        gates=tuple(gate_failures(plan, results)),
    )


def gate_failures(plan: Plan, results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Returns one sentence for each gate and trial that did not keep it.

    Arguments:
        plan: A plan with its gates; the trials it skips are not judged.
        results: What `result.json` holds, by trial id.
    """
    trials = {planned.trial.id: planned.trial for planned in plan.wanted}
    values = [(trial, _metrics(results.get(name))) for name, trial in trials.items()]
    sentences = []
    for result in check_gates(plan.gates, values):
        gate = result.gate
        bound = f"{gate.metric} < {gate.below}" + (f" - {gate.margin:g}" if gate.margin else "")
        for check in result.checks:
            if check.kept:
                continue
            if check.value is None or check.bound is None:
                measured = "nothing was measured"
            else:
                measured = f"{gate.metric} = {check.value:.4g}, the bound is {check.bound:.4g}"
            sentences.append(
                f"gate {bound} ({gate.when}) not kept by {check.trial_id} "
                f"({trial_name(trials[check.trial_id])}): {measured}"
            )
    return sentences


def _metrics(result: Mapping[str, Any] | None) -> dict[str, float]:
    """Values of the metrics of a trial that ended ok."""
    if result is None or Status(result["status"]) is not Status.OK:
        return {}
    metrics: Mapping[str, Any] = result.get("metrics") or {}
    return {
        name: float(entry["value"])
        for name, entry in metrics.items()
        if entry is not None and entry["value"] is not None
    }
