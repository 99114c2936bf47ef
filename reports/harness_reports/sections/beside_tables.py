"""The tables of published values with ours beside them: cells, footnotes, sources."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from harness_reports.page.elements import Cell, Column, Link, Row, Table, Tone
from harness_reports.page.numbers import common
from harness_reports.published.beside import Line, Standing
from harness_reports.published.library import sources
from harness_reports.published.values import METRICS, PublishedValue, Source
from harness_reports.published.verdict import Verdict

__all__ = ["LETTERS", "PublishedTables"]

_SOURCES = "sources"
LETTERS = "ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖʳˢᵗᵘᵛʷˣʸᶻ"
_ARROWS = {"lower": "\u00a0↓", "higher": "\u00a0↑", "neither": ""}
_NAMES: Mapping[str, str] = {
    "test_nll": "test NLL",
    "gaussian_nll": "test NLL",
    "test_bits_per_dim": "test NLL",
    "test_neg_elbo": "negative ELBO",
    "test_neg_elbo_bits_per_dim": "negative ELBO",
    "cd": "CD",
    "min_cd": "least CD",
    "emd_3d_reading_approximate": "EMD in 3-D",
    "min_emd_3d_reading_approximate": "least EMD in 3-D",
    "mmd_l2_recon": "MMD-L2",
    "cov_l2_recon": "COV-L2",
}
_MARKS: Mapping[str, str] = {
    "R": "mark R: read in a secondary source, the original was not seen",
    "D": "mark D: derived from what the source says",
    "M+": "mark M+: recalled from memory; independent checks agree, but it judges nothing",
}


class PublishedTables:
    """Tables that number their sources alike.

    Arguments:
        backends: In the order of the plan.
        cited: All lines of all tables, in order.
    """

    def __init__(self, backends: Sequence[str], cited: Iterable[Line]) -> None:
        self._backends = backends
        names = dict.fromkeys(value.source for line in cited for value in line.row)
        self._numbers = {name: number for number, name in enumerate(names, 1)}

    def verdicts(self, held: Mapping[str, Sequence[Line]]) -> Table:
        """What the trials are held against, by dataset."""
        notes = _Notes()
        columns = (
            Column("dataset", heading=True),
            Column("quantity", heading=True),
            Column("model"),
            *self._columns("published"),
        )
        found: list[Row] = []
        for members in held.values():
            for index, line in enumerate(members):
                value = line.value
                trainer = [f"trained by {value.trained_by}"] if value.trained_by else []
                head = (
                    Cell(line.configuration.dataset),
                    Cell(f"{_NAMES.get(value.metric, value.metric)}, {_unit(value.metric)}"),
                    Cell(notes.after(value.model, [*trainer, *_remarks(value)])),
                )
                cells = self._cells(line, members)
                found.append(Row((*head, *cells), opens_group=bool(found) and index == 0))
        return Table("verdicts", "Verdicts", columns, tuple(found), notes.text())

    def all_models(self, dataset: str, metric: str, members: Sequence[Line]) -> Table:
        """One quantity of one dataset: all published models, the target first."""
        notes = _Notes()
        columns = (
            Column("model", heading=True, wide=True),
            *self._columns("published", _unit(metric)),
        )
        ours = [line.value.setup is not None for line in members]
        found = tuple(
            Row(
                (
                    Cell(notes.after(_model(line.value), _remarks(line.value))),
                    *self._cells(line, members),
                ),
                opens_group=index > 0 and ours[index - 1] and not ours[index],
            )
            for index, line in enumerate(members)
        )
        caption = f"{dataset}: {_NAMES.get(metric, metric)}, all published models"
        return Table(f"published-{dataset}-{metric}", caption, columns, found, notes.text())

    def sources(self) -> Table:
        """Where the printed values were read."""
        columns = (
            Column("no.", numeric=True),
            Column("source", heading=True),
            Column("what of it was seen"),
        )
        known = sources()
        found = tuple(
            Row((Cell(f"[{number}]"), Cell(_reference(known[name])), Cell(_seen(known[name]))))
            for name, number in self._numbers.items()
        )
        return Table(_SOURCES, "Sources", columns, found)

    def _columns(self, name: str, unit: str | None = None) -> tuple[Column, ...]:
        return (
            Column(name, unit, numeric=True),
            Column("source", narrow=True),
            *(Column(backend, "mean ± sd (n)", numeric=True) for backend in self._backends),
            Column("verdict", wide=True),
        )

    def _cells(self, line: Line, members: Sequence[Line]) -> tuple[Cell, ...]:
        return (
            Cell(str(line.value)),
            self._source(line.row),
            *(_ours(standing, line.value) for standing in line.standings.values()),
            _verdict(line, several=_has_rivals(line, members)),
        )

    def _source(self, row: Sequence[PublishedValue]) -> Cell:
        """`Table 6 [1]`; where the table has no number, the name the quantity has in it."""
        where = row[0].table if re.fullmatch(r"Table \d+", row[0].table) else row[0].published_as
        numbers = dict.fromkeys(self._numbers[value.source] for value in row)
        return Cell(where, links=tuple(Link(f"[{number}]", _SOURCES) for number in numbers))


class _Notes:
    """Footnotes of one table, lettered in the order of their first use."""

    def __init__(self) -> None:
        self._letters: dict[str, str] = {}

    def after(self, name: str, texts: Iterable[str]) -> str:
        """The name and the letters of the texts."""
        found = [self._letters.setdefault(t, LETTERS[len(self._letters)]) for t in texts]
        return f"{name}\u00a0{''.join(sorted(found, key=LETTERS.index))}" if found else name

    def text(self) -> str | None:
        """All of them, in one paragraph; None if there are none."""
        notes = (f"{letter}\u00a0{_sentence(text)}" for text, letter in self._letters.items())
        return " ".join(notes) or None


def _ours(standing: Standing, value: PublishedValue) -> Cell:
    summary = standing.summary
    if summary is None:
        return Cell(standing.absence, tone="muted")
    n = str(summary.n) if summary.n == standing.planned else f"{summary.n} of {standing.planned}"
    return Cell(f"{common(summary, value.decimals + 1)}\u00a0({n})")


def _has_rivals(line: Line, members: Sequence[Line]) -> bool:
    """True if other settings on the same dataset stand beside the same value."""
    own = line.configuration
    return any(
        other.row is line.row
        and other.configuration.dataset == own.dataset
        and other.configuration.name != own.name
        for other in members
    )


def _verdict(line: Line, *, several: bool) -> Cell:
    """One text where the backends agree; the settings where several stand beside one value."""
    verdicts = {backend: standing.verdict for backend, standing in line.standings.items()}
    texts = {backend: str(verdict) for backend, verdict in verdicts.items()}
    tones = {_tone(verdict) for verdict in verdicts.values()}
    tone = tones.pop() if len(tones) == 1 else ""
    text = "; ".join(f"{backend} {text}" for backend, text in texts.items())
    if len(set(texts.values())) == 1:
        text = next(iter(texts.values()))
    return Cell(f"{text} ({line.configuration.name})" if several else text, tone=tone)


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


def _unit(metric: str) -> str:
    definition = METRICS[metric]
    return f"{definition.unit}{_ARROWS[definition.better]}"


def _remarks(value: PublishedValue) -> Iterator[str]:
    """What must be known of a value before comparing."""
    if value.spread_kind == "sd_over_runs":
        runs = f"{value.runs} runs" if value.runs else "runs"
        yield f"±: standard deviation over {runs}"
    if value.spread_kind == "two_sd_over_test_points":
        yield "±: two standard deviations of the mean over test points"
    if value.flipped:
        yield "published with the other sign"
    if value.mark in _MARKS:
        yield _MARKS[value.mark]
    yield from value.notes


def _reference(source: Source) -> str:
    parts = (source.venue, source.arxiv and f"arXiv {source.arxiv}")
    return f"{source.authors}: {source.title}. {', '.join(part for part in parts if part)}"


def _seen(source: Source) -> str:
    return _sentence(source.seen)


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:].rstrip('.')}."
