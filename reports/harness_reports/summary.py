"""What a suite found, before anything is drawn: the answers and the table of results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.planning.plan import Plan
from harness_reports.page.elements import Answer
from harness_reports.page.terminal import render_answers, render_table
from harness_reports.sections.answers import answers
from harness_reports.sections.published_verdicts import PublishedVerdicts, published_verdicts
from harness_reports.sections.results import results_table
from harness_reports.sections.speed import step_time_sentences
from harness_reports.trials.comparisons import Comparison, compare
from harness_reports.trials.entries import Entry, entries_of
from harness_reports.trials.speed import speed_sentences, timings_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Summary", "results_text", "summarize"]

_NO_ROOM = ("NFE train, forward", "NFE train, backward")


@dataclass(frozen=True)
class Summary:
    """The trials of a plan and what follows from them.

    Arguments:
        entries: The trials with their records.
        verdicts: How they stand against the published tables.
        comparisons: How the backends compare.
        answers: The same in sentences.
    """

    entries: tuple[Entry, ...]
    verdicts: PublishedVerdicts
    comparisons: tuple[Comparison, ...]
    answers: tuple[Answer, ...]


def summarize(
    plan: Plan,
    records: pd.DataFrame | Sequence[Mapping[str, Any]],
    command: str,
    timed: Sequence[str] = (),
) -> Summary:
    """Judges the trials of a plan.

    Arguments:
        plan: The trials.
        records: The frame of `harness.load`, or the rows it is made of.
        command: The command that runs the suite.
        timed: What is known of the backends' speed from measurements made for that, in sentences;
            without any the steps of the trials are compared, where they ran alone.
    """
    entries = entries_of(plan, records)
    verdicts, comparisons = published_verdicts(entries), compare(entries)
    # A suite that times backends side by side does so after its trials.
    how = "--exclusive --rerun" if plan.timing is None else "--timing"
    speed = tuple(timed) or step_time_sentences(entries, f"{command} {how}")
    return Summary(entries, verdicts, comparisons, answers(entries, verdicts, comparisons, speed))


def results_text(
    plan: Plan,
    records: Sequence[Mapping[str, Any]],
    command: str,
    root: Path | None,
    *,
    width: int,
    colour: bool = False,
) -> str:
    """The table of results and the answers, for a terminal.

    Arguments:
        plan: The trials.
        records: Rows as `harness.records.columns.row` makes them.
        command: The command that runs the suite.
        root: The run root, where measurements of speed lie; None has none.
        width: Characters in a line.
        colour: True if the terminal understands colours.
    """
    summary = summarize(plan, records, command, speed_sentences(timings_of(plan, root)))
    table = results_table(summary.entries, summary.comparisons)
    parts = [render_answers(summary.answers)]
    if table.rows:
        parts.insert(0, render_table(table, width, colour=colour, left_out=_NO_ROOM))
    return "\n\n".join(parts)
