"""Several suites on one page: what of each has run, and what its backends say of each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.planning.plan import Plan
from harness.text import counted
from harness_reports.page.elements import Cell, Column, Row, Table
from harness_reports.page.markdown import render_table, render_text
from harness_reports.page.numbers import fixed, spread, table_digits
from harness_reports.sections.answers import agreement_sentences
from harness_reports.sections.results import results_table
from harness_reports.summary import Summary, summarize
from harness_reports.trials.lines import lines_of
from harness_reports.trials.quantities import likelihood_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Recorded", "render_overview", "render_suites"]


@dataclass(frozen=True)
class Recorded:
    """A suite and what is recorded of it.

    Arguments:
        folder: Its folder.
        plan: Its trials.
        records: The frame of `harness.load`.
        history: The curves of its trials, as `harness.records.frame.history` gives them.
    """

    folder: Path
    plan: Plan
    records: pd.DataFrame
    history: pd.DataFrame

    def summary(self) -> Summary:
        """What follows from the records."""
        return summarize(self.plan, self.records, f"harness run {self.plan.source}")


def render_overview(suites: Sequence[Recorded]) -> str:
    """One row a suite of which a trial has ended, in Markdown; the others in a sentence below.

    Arguments:
        suites: The suites, in order.
    """
    lines = [
        "| suite | trials ended | means, lowest to highest | do the backends agree? |",
        "|---|---|---|---|",
    ]
    waiting = []
    for suite in suites:
        summary = suite.summary()
        ended = sum(bool(entry.record) for entry in summary.entries)
        words = f"{ended} of {len(summary.entries)}"
        if begun := _begun(suite, summary):
            words += f", {len(begun)} begun"
        link = f"[{suite.plan.suite}]({suite.folder.as_posix()}/report.md)"
        if not ended:
            waiting.append(f"{link} ({words})")
            continue
        said = " ".join(agreement_sentences(summary.comparisons))
        results = "; ".join(_results(summary)) or "none"
        lines.append(f"| {link} | {words} | {render_text(results)} | {render_text(said)} |")
    if waiting:
        lines += ["", f"No trial has ended of: {', '.join(waiting)}."]
    return "\n".join(lines) + "\n"


def render_suites(suites: Sequence[Recorded], place: Path) -> str:
    """A section a suite, in Markdown: what it is for, its results, and how far those trials have
    come that have not ended.

    Arguments:
        suites: The suites, in order.
        place: Folder of the page, which holds theirs.
    """
    parts: list[str] = []
    for suite in suites:
        summary = suite.summary()
        entries = summary.entries
        ended = sum(bool(entry.record) for entry in entries)
        parts += [f"## {suite.plan.suite}", render_text(suite.plan.description)]
        link = f"[Report]({suite.folder.relative_to(place).as_posix()}/report.md)"
        parts.append(f"{link}; {ended} of {counted(len(entries), 'trial')} ended.")
        if ended:
            parts.append(render_table(results_table(entries, summary.comparisons)))
        if rows := _begun(suite, summary):
            names = ("begun", "step", "of", "best validation", "at step")
            columns = tuple(Column(name, numeric=name != "begun") for name in names)
            parts.append(render_table(Table("begun", "Begun", columns, tuple(rows))))
    return "\n\n".join(parts) + "\n"


def _results(summary: Summary) -> Iterator[str]:
    """For each dataset the lowest and the highest mean of a setting, with spread and n."""
    for dataset, lines in lines_of(summary.entries, summary.comparisons).items():
        found = [s for line in lines if (s := line.summary(line.quantity.column)) is not None]
        if not found:
            continue
        found.sort(key=lambda one: one.mean)
        digits = table_digits(found)
        texts = " to ".join(
            dict.fromkeys(f"{spread(one, digits)} (n = {one.n})" for one in (found[0], found[-1]))
        )
        yield f"{dataset} {texts} {lines[0].quantity.unit}"


def _begun(suite: Recorded, summary: Summary) -> list[Row]:
    """A row for each trial that has a curve and no result."""
    rows = []
    for entry in summary.entries:
        mine = suite.history[suite.history["trial_id"] == entry.id]
        if entry.record or mine.empty:
            continue
        quantity = likelihood_of([entry])
        best = mine[mine["metric"] == f"val_{quantity.curve}"].sort_values("value").head(1)
        names = ("dataset", "backend", "solver", "regularizer", "seed")
        what = " ".join(str(entry.labels[name]) for name in names)
        cells = (
            Cell(what),
            Cell(f"{int(mine['step'].max()):,}"),
            Cell(f"{entry.planned.trial.training.iterations:,}"),
            Cell("none" if best.empty else f"{fixed(best['value'].iloc[0], 3)} {quantity.unit}"),
            Cell("" if best.empty else f"{int(best['step'].iloc[0]):,}"),
        )
        rows.append(Row(cells))
    return rows
