"""What the runs cost: compilation, first and steady steps, totals and memory."""

from __future__ import annotations

from collections.abc import Iterable

from harness_reports.page.elements import Cell, Column, Table, absent
from harness_reports.page.numbers import bytes_mib, fixed, seconds, spread
from harness_reports.sections.results import group_rows, identity_columns, trial_links
from harness_reports.trials.entries import Entry
from harness_reports.trials.groups import Group, groups_of, setting_names

__all__ = ["COST_NOTE", "STEP", "cost_table"]

COST_NOTE = (
    "Mean ± standard deviation over seeds. Step: the median training step, averaged over seeds, "
    "and in brackets its quartiles within a trial, likewise averaged. Timings of mode shared were "
    "taken while other trials used the machine: they say what this run took, not how fast a "
    "backend is."
)
STEP = "timing.step_s.median"
"""Column of the median training step of a trial, in seconds."""


def cost_table(dataset: str, entries: Iterable[Entry]) -> Table:
    """Time and memory of the trials of one dataset."""
    groups = groups_of(entries)
    columns = (
        *identity_columns(setting_names(groups)),
        Column("compile", "s", numeric=True),
        Column("first step", "s", numeric=True),
        Column("step", "ms", numeric=True),
        Column("training", "s", numeric=True),
        Column("host memory", "MiB, peak", numeric=True),
        Column("device memory", "MiB, peak", numeric=True),
        Column("timing", narrow=True),
        Column("seeds", narrow=True),
    )
    rows = group_rows(groups, _numbers)
    return Table(f"cost-{dataset}", f"{dataset}: time and memory", columns, rows)


def _numbers(group: Group) -> tuple[Cell, ...]:
    if not any(entry.ok for entry in group.entries):
        return (*(absent() for _ in range(7)), trial_links(group))
    modes = {entry.text("timing.mode") or "not run" for entry in group.entries if entry.ok}
    return (
        _time(group, "timing.compile_s", "none"),
        _time(group, "timing.first_step_s"),
        _step(group),
        _time(group, "timing.train_s"),
        _memory(group, "memory.peak_host_bytes", "not run"),
        _memory(group, "memory.peak_device_bytes", "no device"),
        Cell(modes.pop() if len(modes) == 1 else "mixed"),
        trial_links(group),
    )


def _time(group: Group, column: str, otherwise: str = "not run") -> Cell:
    summary = group.summary(column)
    if summary is None:
        return absent(otherwise)
    return Cell(spread(summary, seconds(summary.mean)))


def _step(group: Group) -> Cell:
    columns = (STEP, "timing.step_s.q25", "timing.step_s.q75")
    parts = [group.summary(column) for column in columns]
    median, low, high = [None if part is None else 1000 * part.mean for part in parts]
    if median is None:
        return absent()
    digits = seconds(median)
    text = fixed(median, digits)
    if low is not None and high is not None:
        text += f" ({fixed(low, digits)}–{fixed(high, digits)})"
    return Cell(text)


def _memory(group: Group, column: str, otherwise: str) -> Cell:
    summary = group.summary(column)
    if summary is None:
        return absent(otherwise)
    text = bytes_mib(summary.mean)
    return Cell(text if summary.sd is None else f"{text} ± {bytes_mib(summary.sd)}")
