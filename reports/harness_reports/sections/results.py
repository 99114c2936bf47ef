"""The results: one row for each setting and backend, with the Gaussian on the same test rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from harness.text import counted
from harness_reports.page.elements import Cell, Column, Link, Row, Table, absent
from harness_reports.page.numbers import common, fixed, spread, table_digits
from harness_reports.trials.entries import Entry, anchor, settings_note
from harness_reports.trials.groups import Group, groups_of, setting_names
from harness_reports.trials.quantities import NLL, Quantity, quantity_of

__all__ = ["RESULTS_NOTE", "group_rows", "identity_columns", "results_table", "trial_links"]

RESULTS_NOTE = (
    "Mean ± standard deviation over seeds (n − 1 in the denominator); what is printed without ± "
    "was the same for all seeds, or there is one seed. ★ marks the lowest mean of a table as "
    "printed, which is no test: the section “Backends compared” has those. Gaussian: that of the "
    "training rows’ mean and full covariance, on the same test rows. NFE: mean number of "
    "evaluations of the dynamics per solve, summed over blocks; backward counts the adjoint ODE "
    "only. Each seed links to its trial; failed trials do not count."
)


def results_table(entries: Iterable[Entry]) -> Table:
    """The results of one dataset: mean and spread over seeds, the Gaussian, evaluations.

    Arguments:
        entries: All trials of one dataset.
    """
    members = tuple(entries)
    dataset = members[0].labels["dataset"]
    groups = groups_of(members)
    names = setting_names(groups)
    quantity = quantity_of(members)
    summaries = [group.summary(quantity.column) for group in groups]
    digits = table_digits(summary for summary in summaries if summary is not None)
    means = [fixed(summary.mean, digits) for summary in summaries if summary is not None]
    lowest = min((s.mean for s in summaries if s is not None), default=0.0)
    # Where all print the same, a mark would distinguish nothing.
    best = fixed(lowest, digits) if len(set(means)) > 1 else None
    unit = ", ".join(part for part in (quantity.further_unit, quantity.arrow) if part)
    columns = (
        *identity_columns(names),
        Column(quantity.name, unit, numeric=True),
        *((Column("Gaussian", quantity.unit, numeric=True),) if quantity.baseline else ()),
        Column("NFE train, forward", numeric=True),
        Column("NFE train, backward", numeric=True),
        Column("NFE test", numeric=True),
        Column("seeds", narrow=True),
    )
    rows = group_rows(groups, lambda group: _numbers(group, quantity, digits, best))
    note = f"{settings_note(members)}{_estimates(members)}"
    return Table(f"results-{dataset}", dataset, columns, rows, note)


def _estimates(entries: Iterable[Entry]) -> str:
    """A sentence on likelihoods whose trace is estimated; empty if all are exact."""
    column = f"{NLL.column}.probe_sem"
    found = [value for entry in entries if (value := entry.number(column)) is not None]
    if not found:
        return ""
    return (
        f" Test NLL by Hutchinson’s trace in {counted(len(found), 'trial')}: its standard error "
        f"over probes is at most {max(found):.2g} nats."
    )


def identity_columns(names: Iterable[str]) -> tuple[Column, ...]:
    """The columns that name a group: its settings (`setting_names`), then the backend."""
    return tuple(Column(name, heading=True) for name in (*names, "backend"))


def group_rows(
    groups: Sequence[Group], numbers: Callable[[Group], Sequence[Cell]]
) -> tuple[Row, ...]:
    """One row a group under `identity_columns`; counterparts of the backends stand together.

    Arguments:
        groups: The groups of one dataset, in order.
        numbers: The cells that follow those of the identity.
    """
    names = (*setting_names(groups), "backend")
    rows: list[Row] = []
    above = None
    for group in groups:
        own = group.counterpart()
        cells = (*map(Cell, group.settings(names)), *numbers(group))
        rows.append(Row(cells, opens_group=above not in (None, own)))
        above = own
    return tuple(rows)


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
        reason = Cell(group.absence, tone="bad" if group.failed else "muted")
        blanks = 4 if quantity.baseline else 3
        return (reason, *(absent() for _ in range(blanks)), trial_links(group))
    return (
        Cell(spread(summary, digits), best=fixed(summary.mean, digits) == best),
        *((_gaussian(group, column, digits),) if (column := quantity.baseline_column) else ()),
        _evaluations(group, "nfe.train.forward.mean"),
        _evaluations(group, "nfe.train.backward.mean"),
        _evaluations(group, "nfe.test.forward.mean"),
        trial_links(group),
    )


def _gaussian(group: Group, column: str, digits: int) -> Cell:
    summary = group.summary(column)
    return Cell(common(summary, digits)) if summary else absent()


def _evaluations(group: Group, column: str) -> Cell:
    summary = group.summary(column)
    if summary is not None:
        return Cell(common(summary, 1))
    if "backward" in column and group.labels["gradient"] != "adjoint":
        return absent("no adjoint")
    return absent()
