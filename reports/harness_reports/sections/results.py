"""The results: one row per dataset, solver, regularizer and backend, beside the Gaussian."""

from __future__ import annotations

from collections.abc import Iterable

from harness_reports.page.elements import Cell, Column, Link, Row, Table
from harness_reports.page.numbers import common, fixed, spread, table_digits
from harness_reports.trials.entries import Entry, anchor, settings_note
from harness_reports.trials.groups import Group, groups_of, varying
from harness_reports.trials.quantities import Quantity, quantity_of

__all__ = ["RESULTS_NOTE", "identity", "results_table", "trial_links"]

RESULTS_NOTE = (
    "Mean ± standard deviation over seeds (n − 1 in the denominator); what is printed without ± "
    "was the same for all seeds, or there is one seed. ★ marks the lowest mean of a table as "
    "printed, which is no test: the section “Backends compared” has those. Gaussian: that of the "
    "training rows’ mean and full covariance, on the same test rows. NFE: mean number of "
    "evaluations of the dynamics per solve, summed over blocks; backward counts the adjoint ODE "
    "only. Each seed links to its trial; failed trials do not count."
)


def results_table(entries: Iterable[Entry]) -> Table:
    """The results of one dataset; the command line prints the same table.

    Arguments:
        entries: All trials of one dataset.
    """
    members = tuple(entries)
    dataset = members[0].labels["dataset"]
    groups = groups_of(members)
    extra = varying(groups)
    quantity = quantity_of(members)
    summaries = [group.summary(quantity.column) for group in groups]
    digits = table_digits(summary for summary in summaries if summary is not None)
    means = [fixed(summary.mean, digits) for summary in summaries if summary is not None]
    lowest = min((s.mean for s in summaries if s is not None), default=0.0)
    # Where all print the same, a mark would distinguish nothing.
    best = fixed(lowest, digits) if len(set(means)) > 1 else None
    rows, above = [], None
    for group in groups:
        opens = above is not None and group.counterpart() != above
        cells = (*identity(group, extra), *_numbers(group, quantity, digits, best))
        rows.append(Row(cells, opens_group=opens))
        above = group.counterpart()
    columns = (
        *(Column(name, heading=True) for name in ("solver", "regularizer", *extra, "backend")),
        Column(
            quantity.name,
            "↓" if quantity.unit in quantity.name else f"{quantity.unit}, ↓",
            numeric=True,
        ),
        *((Column("Gaussian", quantity.unit, numeric=True),) if quantity.gaussian else ()),
        Column("NFE train, forward", numeric=True),
        Column("NFE train, backward", numeric=True),
        Column("NFE test", numeric=True),
        Column("seeds", narrow=True),
    )
    return Table(f"results-{dataset}", dataset, columns, tuple(rows), settings_note(members))


def identity(group: Group, extra: Iterable[str]) -> tuple[Cell, ...]:
    """The cells that name a group: solver, regularizer, what else varies, backend."""
    names = ("solver", "regularizer", *extra, "backend")
    return tuple(Cell(group.labels.get(name, "")) for name in names)


def trial_links(group: Group) -> Cell:
    """The seeds that count, each linked to its trial, with their number."""
    ok = [entry for entry in group.entries if entry.ok]
    links = tuple(Link(str(entry.seed), anchor(entry.id)) for entry in ok)
    planned = len(group.entries)
    words = f"n = {len(ok)}" if len(ok) == planned else f"n = {len(ok)} of {planned}"
    return Cell(f"{words}:" if links else words, links=links)


def _numbers(group: Group, quantity: Quantity, digits: int, best: str | None) -> tuple[Cell, ...]:
    summary = group.summary(quantity.column)
    if summary is None:
        absent = Cell(group.absence, tone="bad" if group.failed else "muted")
        blanks = 4 if quantity.gaussian else 3
        return (
            absent,
            *(Cell("not run", tone="muted") for _ in range(blanks)),
            trial_links(group),
        )
    return (
        Cell(spread(summary, digits), best=fixed(summary.mean, digits) == best),
        *((_gaussian(group, quantity.gaussian, digits),) if quantity.gaussian else ()),
        _evaluations(group, "nfe.train.forward.mean"),
        _evaluations(group, "nfe.train.backward.mean"),
        _evaluations(group, "nfe.test.forward.mean"),
        trial_links(group),
    )


def _gaussian(group: Group, column: str, digits: int) -> Cell:
    summary = group.summary(column)
    return Cell(common(summary, digits)) if summary else Cell("not run", tone="muted")


def _evaluations(group: Group, column: str) -> Cell:
    summary = group.summary(column)
    if summary is not None:
        return Cell(common(summary, 1))
    if "backward" in column and group.labels["gradient"] != "adjoint":
        return Cell("no adjoint", tone="muted")
    return Cell("not run", tone="muted")
