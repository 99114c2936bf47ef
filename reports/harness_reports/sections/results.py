"""The results: one table over all datasets, a row for each setting and backend."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from harness.statistics import Summary
from harness.text import counted
from harness_reports.page.elements import Block, Cell, Column, Link, Paragraph, Row, Table, absent
from harness_reports.page.numbers import common, fixed, spread, table_digits
from harness_reports.trials.comparisons import Comparison
from harness_reports.trials.entries import Entry, anchor
from harness_reports.trials.groups import Group, setting_names
from harness_reports.trials.lines import Line, best_lines, lines_of
from harness_reports.trials.quantities import NLL
from harness_reports.trials.versions import mixed_versions

__all__ = ["RESULTS_NOTE", "line_rows", "results_blocks", "results_table", "trial_links"]

RESULTS_NOTE = (
    "Mean ± standard deviation over seeds (n − 1 in the denominator); without ± all seeds agree, "
    "or there is one. Backends joined by = are the same within the margin stated above, and the "
    "row is their mean. ★ marks the lowest mean of a dataset among the rows that have all its "
    "seeds, which is no test: “Backends compared” has those. "
    "Gaussian: with the training rows’ mean and full covariance, on the same test rows. NFE: "
    "evaluations of the dynamics in a solve, summed over blocks; backward counts the adjoint ODE "
    "only. Seeds link to their trials; failed trials do not count."
)

_MIXED = (
    "Mixed versions: some means are over trials that ran under different versions ({}), and their "
    "rows say so. Run the suite again with --rerun under one version before comparing."
)

_NFE = (
    ("NFE test", "nfe.test.forward.mean"),
    ("NFE train, forward", "nfe.train.forward.mean"),
    ("NFE train, backward", "nfe.train.backward.mean"),
)


def results_blocks(entries: Sequence[Entry], comparisons: Sequence[Comparison]) -> list[Block]:
    """The table of what has run, and one line on what has not."""
    lines = lines_of(entries, comparisons)
    blocks: list[Block] = []
    if any(not line.waiting for members in lines.values() for line in members):
        blocks += [results_table(entries, comparisons), Paragraph(RESULTS_NOTE, "muted")]
    if text := _probe_words(entries):
        blocks.append(Paragraph(text, "muted"))
    every = [group for members in lines.values() for line in members for group in line.groups]
    if text := mixed_versions(every):
        blocks.append(Paragraph(_MIXED.format(text), "bad"))
    if text := _waiting_words(lines):
        blocks.append(Paragraph(text, "muted"))
    return blocks


def _probe_words(entries: Iterable[Entry]) -> str:
    """A sentence on likelihoods whose trace is estimated; empty if all are exact."""
    column = f"{NLL.column}.probe_sem"
    errors = [value for entry in entries if (value := entry.number(column)) is not None]
    if not errors:
        return ""
    return (
        f"Test NLL by an estimated trace in {counted(len(errors), 'trial')}: its standard error "
        f"over probes is at most {max(errors):.2g} nats."
    )


def results_table(entries: Sequence[Entry], comparisons: Sequence[Comparison]) -> Table:
    """The results of all datasets: mean and spread over seeds, the Gaussian, evaluations."""
    by_dataset = lines_of(entries, comparisons)
    shown = [line for lines in by_dataset.values() for line in lines if not line.waiting]
    names = setting_names([group for line in shown for group in line.groups])
    baseline = any(_gaussian(line) for line in shown)
    columns = (
        Column("dataset", heading=True),
        Column("result", "lower is better", numeric=True),
        Column("quantity"),
        *(Column(name) for name in (*names, "backend")),
        *((Column("Gaussian", numeric=True),) if baseline else ()),
        *(Column(name, numeric=True) for name, _ in _NFE),
        Column("seeds", narrow=True),
    )
    digits = {dataset: _digits(lines) for dataset, lines in by_dataset.items()}
    best = {
        id(line)
        for dataset, lines in by_dataset.items()
        for line in best_lines(lines, comparisons, digits[dataset])
    }

    def numbers(line: Line) -> tuple[Cell, ...]:
        own = digits[line.dataset]
        summary, gaussian = line.summary(line.quantity.column), _gaussian(line)
        failed = any(group.failed for group in line.groups)
        reason = Cell(line.groups[0].absence, tone="bad" if failed else "muted")
        return (
            reason
            if summary is None
            else Cell(spread(summary, own), best=id(line) in best, value=summary.mean),
            Cell(_quantity(line)),
            *(Cell(text) for text in line.groups[0].settings(names)),
            Cell(line.backends),
            *((_common(gaussian, own, "none"),) if baseline else ()),
            *(_evaluations(line, column) for _, column in _NFE),
            trial_links(line.groups),
        )

    return Table("results-table", "All results", columns, line_rows(shown, numbers), sortable=True)


def line_rows(lines: Sequence[Line], numbers: Callable[[Line], Sequence[Cell]]) -> tuple[Row, ...]:
    """One row a line after its dataset; datasets are set off from one another.

    Arguments:
        lines: Dataset by dataset.
        numbers: The cells that follow the name of the dataset.
    """
    rows: list[Row] = []
    above = None
    for line in lines:
        opens = above not in (None, line.dataset)
        rows.append(Row((Cell(line.dataset), *numbers(line)), opens_group=opens))
        above = line.dataset
    return tuple(rows)


def trial_links(groups: Iterable[Group]) -> Cell:
    """The seeds that count, each linked to its trial, with their number."""
    members = tuple(groups)
    ok = [entry for group in members for entry in group.entries if entry.ok]
    links = tuple(
        Link(f"{name} {entry.seed}" if len(members) > 1 else str(entry.seed), anchor(entry.id))
        for entry in ok
        for name in (entry.labels["backend"],)
    )
    n = len({entry.seed for entry in ok})
    planned = len({entry.seed for group in members for entry in group.entries})
    words = f"n = {n}" if n == planned else f"n = {n} of {planned}"
    words += ", mixed versions" if mixed_versions(members) else ""
    return Cell(f"{words}:" if links else words, links=links, value=n)


def _digits(lines: Iterable[Line]) -> int:
    summaries = (line.summary(line.quantity.column) for line in lines)
    return table_digits(summary for summary in summaries if summary is not None)


def _quantity(line: Line) -> str:
    unit = line.quantity.further_unit
    return f"{line.quantity.name}, {unit}" if unit else line.quantity.name


def _gaussian(line: Line) -> Summary | None:
    column = line.quantity.baseline_column
    return line.summary(column) if column else None


def _common(summary: Summary | None, digits: int, otherwise: str = "not run") -> Cell:
    if summary is None:
        return absent(otherwise)
    return Cell(common(summary, digits), value=summary.mean)


def _evaluations(line: Line, column: str) -> Cell:
    summary = line.summary(column)
    if summary is None and "backward" in column:
        adjoint = any(entry.gradient.endswith("adjoint") for entry in line.entries)
        return absent() if adjoint else absent("no adjoint")
    if summary is None:
        return absent()
    mean = fixed(summary.mean, 0 if summary.low == summary.high else 1)
    return Cell(mean if summary.mean % 1 else fixed(summary.mean, 0), value=summary.mean)


def _waiting_words(lines: Mapping[str, Sequence[Line]]) -> str:
    """`Not run yet: 4 settings of gas, 4 of power (24 trials).`; empty if everything has run."""
    waiting = {name: [line for line in members if line.waiting] for name, members in lines.items()}
    counts = {name: len(members) for name, members in waiting.items() if members}
    if not counts:
        return ""
    trials = sum(len(line.entries) for members in waiting.values() for line in members)
    parts = [f"{name} ({count} of {len(lines[name])})" for name, count in counts.items()]
    return f"Not run yet, by settings: {', '.join(parts)}; {counted(trials, 'trial')} in all."
