"""Gates: the bounds that a suite states for its own results, and whether they were kept."""

from __future__ import annotations

from collections.abc import Sequence

from harness.planning.gates import GateResult, check_gates
from harness.planning.plan import Gate, Plan
from harness.records.columns import metric_of
from harness_reports.page.elements import (
    Cell,
    Column,
    Link,
    Paragraph,
    Row,
    Section,
    Table,
    Tone,
    absent,
)
from harness_reports.page.numbers import fixed
from harness_reports.trials.entries import Entry, anchor

__all__ = ["gate_results", "gates"]

_TONES: dict[str, Tone] = {"pass": "good", "fail": "bad", "incomplete": "muted"}


def gate_results(plan: Plan, entries: Sequence[Entry]) -> tuple[GateResult, ...]:
    """Checks the gates of the plan on its trials, except for those that the plan skips."""
    bound = [entry for entry in entries if not entry.skipped]
    return check_gates(plan.gates, [(entry.planned.trial, _metrics(entry)) for entry in bound])


def gates(results: Sequence[GateResult]) -> Section:
    """One row a gate, with the trial that is nearest to its bound or farthest above it."""
    if not results:
        text = "The suite states no bounds for its results."
        return Section("gates", "Gates", (Paragraph(text, "muted"),))
    columns = (
        Column("gate", heading=True),
        Column("trials bound by it"),
        Column("kept", numeric=True),
        Column("broken", numeric=True),
        Column("no result", numeric=True),
        Column("closest", numeric=True),
        Column("verdict"),
    )
    note = (
        "Closest: the smallest distance of a metric from its bound, in the metric’s unit, margin "
        "taken off; negative if the bound is broken. Incomplete: no bound is broken, but a trial "
        "has no result."
    )
    rows = tuple(_row(result) for result in results)
    return Section("gates", "Gates", (Table("gates-table", "Bounds", columns, rows, note),))


def _row(result: GateResult) -> Row:
    kept = [check.kept for check in result.checks]
    measured = [
        (check.slack, check.trial_id) for check in result.checks if check.slack is not None
    ]
    closest = absent()
    if measured:
        slack, trial_id = min(measured)
        closest = Cell(fixed(slack, 3), links=(Link(trial_id[:8], anchor(trial_id)),))
    return Row(
        (
            Cell(_words(result.gate)),
            Cell(result.gate.when, code=True),
            Cell(str(kept.count(True))),
            Cell(str(kept.count(False))),
            Cell(str(kept.count(None))),
            closest,
            Cell(result.verdict, tone=_TONES[result.verdict]),
        )
    )


def _words(gate: Gate) -> str:
    bound = gate.below if isinstance(gate.below, str) else f"{gate.below:g}"
    return f"{gate.metric} < {bound}" + (f" − {gate.margin:g}" if gate.margin else "")


def _metrics(entry: Entry) -> dict[str, float]:
    if not entry.ok:
        return {}
    return {
        metric: value
        for column in entry.record
        if (metric := metric_of(column)) and (value := entry.number(column)) is not None
    }
