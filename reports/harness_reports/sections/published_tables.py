"""The tables of published values and our results: cells, footnotes, sources."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from harness_reports.page.elements import Cell, Column, Link, Row, Table, Tone, absent
from harness_reports.page.numbers import common
from harness_reports.published.judgement import BackendVerdict, Judgement
from harness_reports.published.library import sources
from harness_reports.published.values import METRICS, PublishedValue, Source
from harness_reports.published.verdict import Verdict
from harness_reports.sections.footnotes import Footnotes, remarks, sentence
from harness_reports.trials.quantities import Quantity

__all__ = ["PublishedTables", "is_run"]

_SOURCES = "sources"


class PublishedTables:
    """Tables that give a source the same number.

    Arguments:
        backends: In the order of the plan.
        printed: What all tables print, in order.
    """

    def __init__(self, backends: Sequence[str], printed: Iterable[Judgement]) -> None:
        self._backends = backends
        names = dict.fromkeys(value.source for judgement in printed for value in judgement.row)
        self._numbers = {name: number for number, name in enumerate(names, 1)}

    def verdicts(self, judged: Mapping[str, Sequence[Judgement]]) -> Table:
        """The verdicts on the trials, by dataset."""
        notes = Footnotes()
        columns = (
            Column("dataset", heading=True),
            Column("quantity", heading=True),
            Column("model"),
            *self._columns("published"),
        )
        rows: list[Row] = []
        for dataset, members in judged.items():
            for index, judgement in enumerate(members):
                value = judgement.value
                trainer = [f"trained by {value.trained_by}"] if value.trained_by else []
                head = (
                    Cell(judgement.configuration.dataset),
                    Cell(_quantity(value.metric)),
                    Cell(notes.after(value.model, [*trainer, *remarks(value)])),
                )
                cells = self._cells(judgement, members)
                opens, id_ = bool(rows) and index == 0, _row_id(dataset, index)
                rows.append(Row((*head, *cells), opens_group=opens, id=id_))
        return Table("verdicts", "Verdicts", columns, tuple(rows), notes.text())

    def strip(self, judged: Mapping[str, Sequence[Judgement]]) -> Table:
        """All verdicts at a glance, datasets by published tables; each links to its row."""
        names = dict.fromkeys(
            _table_name(judgement) for members in judged.values() for judgement in members
        )
        rows = tuple(
            Row((Cell(dataset), *(_strip_cell(dataset, members, name) for name in names)))
            for dataset, members in judged.items()
        )
        columns = (Column("dataset", heading=True), *(Column(name) for name in names))
        return Table("strip", "Verdicts at a glance", columns, rows)

    def all_models(self, dataset: str, metric: str, members: Sequence[Judgement]) -> Table:
        """One quantity of one dataset: all published models, the target first."""
        notes = Footnotes()
        quantity = Quantity(METRICS[metric])
        columns = (
            Column("model", heading=True, wide=True),
            *self._columns("published", _joined(quantity.unit, quantity.arrow)),
        )
        known = [judgement.value.setup is not None for judgement in members]
        rows = tuple(
            Row(
                (
                    Cell(notes.after(_model(judgement.value), remarks(judgement.value))),
                    *self._cells(judgement, members),
                ),
                opens_group=index > 0 and known[index - 1] and not known[index],
            )
            for index, judgement in enumerate(members)
        )
        caption = f"{dataset}: {quantity.name}, all published models"
        return Table(f"published-{dataset}-{metric}", caption, columns, rows, notes.text())

    def sources(self) -> Table:
        """Where the printed values were read."""
        columns = (
            Column("no.", numeric=True),
            Column("source", heading=True),
            Column("what of it was seen"),
        )
        known = sources()
        rows = tuple(
            Row(
                (
                    Cell(f"[{number}]"),
                    Cell(_reference(known[name])),
                    Cell(sentence(known[name].seen)),
                )
            )
            for name, number in self._numbers.items()
        )
        return Table(_SOURCES, "Sources", columns, rows)

    def _columns(self, name: str, unit: str | None = None) -> tuple[Column, ...]:
        return (
            Column(name, unit, numeric=True),
            Column("source", narrow=True),
            *(Column(backend, "mean ± sd (n)", numeric=True) for backend in self._backends),
            Column("verdict", wide=True),
        )

    def _cells(self, judgement: Judgement, members: Sequence[Judgement]) -> tuple[Cell, ...]:
        return (
            Cell(str(judgement.value)),
            self._source(judgement.row),
            *(_ours(own, judgement.value) for own in judgement.verdicts.values()),
            _verdict(judgement, several=_has_rivals(judgement, members)),
        )

    def _source(self, row: Sequence[PublishedValue]) -> Cell:
        """`Table 6 [1]`; where the table has no number, the name the quantity has in it."""
        where = row[0].table if re.fullmatch(r"Table \d+", row[0].table) else row[0].published_as
        numbers = dict.fromkeys(self._numbers[value.source] for value in row)
        return Cell(where, links=tuple(Link(f"[{number}]", _SOURCES) for number in numbers))


def is_run(judgement: Judgement) -> bool:
    """True if a backend has a result that the judgement is about."""
    return any(own.verdict.kind != "not run" for own in judgement.verdicts.values())


def _row_id(dataset: str, index: int) -> str:
    return f"verdict-{dataset}-{index}"


def _table_name(judgement: Judgement) -> str:
    return f"{judgement.value.source}, {judgement.value.table}"


def _strip_cell(dataset: str, members: Sequence[Judgement], name: str) -> Cell:
    """`test NLL: reproduced`, a link for each value of the table; muted if nothing is known."""
    links, tones = [], set()
    run = any(map(is_run, members))
    own = [(i, one) for i, one in enumerate(members) if _table_name(one) == name]
    if not own:
        return absent("no value")
    if not run:
        return absent()
    for index, judgement in own:
        kinds = {backend: each.verdict.kind for backend, each in judgement.verdicts.items()}
        words = ", ".join(f"{backend} {kind}" for backend, kind in kinds.items())
        if len(set(kinds.values())) == 1:
            words = next(iter(kinds.values()))
        tones |= {_tone(each.verdict) for each in judgement.verdicts.values()}
        text = f"{Quantity(METRICS[judgement.value.metric]).name}: {words}"
        links.append(Link(text, _row_id(dataset, index)))
    return Cell("", links=tuple(links), tone=tones.pop() if len(tones) == 1 else "")


def _ours(own: BackendVerdict, value: PublishedValue) -> Cell:
    summary = own.summary
    if summary is None:
        return absent(own.absence)
    n = str(summary.n) if summary.n == own.planned else f"{summary.n} of {own.planned}"
    return Cell(f"{common(summary, value.decimals + 1)}\u00a0({n})")


def _has_rivals(judgement: Judgement, members: Sequence[Judgement]) -> bool:
    """True if the same value judges other settings on the same dataset."""
    own = judgement.configuration
    return any(
        other.row is judgement.row
        and other.configuration.dataset == own.dataset
        and other.configuration.name != own.name
        for other in members
    )


def _verdict(judgement: Judgement, *, several: bool) -> Cell:
    """One text where the backends agree; with the settings where one value judges several."""
    verdicts = {backend: own.verdict for backend, own in judgement.verdicts.items()}
    texts = {backend: str(verdict) for backend, verdict in verdicts.items()}
    tones = {_tone(verdict) for verdict in verdicts.values()}
    tone = tones.pop() if len(tones) == 1 else ""
    text = "; ".join(f"{backend} {text}" for backend, text in texts.items())
    if len(set(texts.values())) == 1:
        text = next(iter(texts.values()))
    return Cell(f"{text} ({judgement.configuration.name})" if several else text, tone=tone)


def _tone(verdict: Verdict) -> Tone:
    match verdict.kind:
        case "reproduced":
            return "good"
        case "differs":
            return "" if verdict.better else "bad"
        case _:
            return "muted"


def _model(value: PublishedValue) -> str:
    return value.model if value.trained_by is None else f"{value.model}, run by {value.trained_by}"


def _quantity(metric: str) -> str:
    """`test NLL, nats ↓`."""
    quantity = Quantity(METRICS[metric])
    if quantity.further_unit:
        return f"{quantity.name}, {_joined(quantity.further_unit, quantity.arrow)}"
    return _joined(quantity.name, quantity.arrow)


def _joined(text: str, arrow: str) -> str:
    """With a blank that never breaks a line."""
    return f"{text}\u00a0{arrow}" if arrow else text


def _reference(source: Source) -> str:
    parts = (source.venue, source.arxiv and f"arXiv {source.arxiv}")
    return f"{source.authors}: {source.title}. {', '.join(part for part in parts if part)}"
