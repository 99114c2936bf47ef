"""Reads `papers/*.yaml`: published tables in the shape of tables, under strict rules.

A cell is the printed text, `"-0.46 ± 0.01"`, so that digits survive. What a table says holds for
its rows unless a row says otherwise; a row with its own `spread` has its own `runs`. Unknown keys,
wrong units or directions, unknown datasets and metrics, cells given twice and two targets for one
quantity are errors, all reported in one pass with their places.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from harness.reading.nodes import Node
from harness.reading.validation import Problems, validate
from harness.reading.yaml import read_yaml
from harness_reports.published.paper_forms import Effect, Paper, Row, Table
from harness_reports.published.setup_files import SetupReader
from harness_reports.published.setups import Setup
from harness_reports.published.values import (
    DATASETS,
    FROM_MEMORY,
    METRICS,
    Mark,
    PublishedEffect,
    PublishedValue,
    Source,
)

__all__ = ["read_papers"]

_CELL = re.compile(r"(-?\d+(?:\.(\d+))?)(?: ± (\d*(?:\.\d+)?))?")
_LOG_LIKELIHOOD = "log-likelihood"


def read_papers(
    folder: Path,
) -> tuple[Mapping[str, Source], tuple[PublishedValue, ...], tuple[PublishedEffect, ...]]:
    """Reads all files of a folder, in the order of their names.

    Raises:
        InputError: With every mistake in every file.
    """
    problems = Problems()
    papers: dict[str, Source] = {}
    values: list[PublishedValue] = []
    effects: list[PublishedEffect] = []
    targets: set[tuple[str, str]] = set()
    for path in sorted(folder.glob("*.yaml")):
        node = read_yaml(path, path.name)
        paper: Paper | None = validate(Paper, node, "the file", problems)
        if paper is None:
            continue
        if paper.source != path.stem:
            problems.add(node.items()["source"].place, f"the file of '{paper.source}' is {path}")
        papers[paper.source] = Source(
            paper.source, paper.title, paper.authors, paper.venue, paper.arxiv, paper.seen
        )
        setups = SetupReader(paper.setups, node, problems)
        reader = _Reader(paper.source, problems, targets, setups)
        for table, table_node in zip(paper.tables, _items(node, "tables"), strict=True):
            values += reader.table(table, table_node)
        for effect, effect_node in zip(paper.effects, _items(node, "effects"), strict=True):
            effects += reader.effect(effect, effect_node)
        setups.note_unused()
    problems.raise_if_any()
    return papers, tuple(values), tuple(effects)


def _items(node: Node, key: str) -> tuple[Node, ...]:
    below = node.items().get(key)
    return below.value if below is not None and isinstance(below.value, tuple) else ()


class _Reader:
    """Turns the tables of one source into values; notes what is wrong with them."""

    def __init__(
        self,
        source: str,
        problems: Problems,
        targets: set[tuple[str, str]],
        setups: SetupReader,
    ) -> None:
        self._source, self._problems, self._targets = source, problems, targets
        self._setups = setups
        self._cells: set[tuple[str | None, ...]] = set()

    def table(self, table: Table, node: Node) -> Iterator[PublishedValue]:
        entries = node.items()
        definition = METRICS.get(table.metric)
        if definition is None:
            self._problems.add(
                entries["metric"].place,
                f"unknown metric '{table.metric}'",
                known=sorted(METRICS),
                found=table.metric,
            )
            return
        if table.unit != definition.unit:
            message = f"{table.metric} is in {definition.unit}, found '{table.unit}'"
            self._problems.add(entries["unit"].place, message)
        if table.direction != definition.better:
            message = f"{table.metric}: {definition.better} is better, found '{table.direction}'"
            self._problems.add(entries["direction"].place, message)
        if table.flipped != (table.published_as == _LOG_LIKELIHOOD):
            message = f"what is published as {_LOG_LIKELIHOOD} is flipped, and nothing else"
            self._problems.add(entries["published_as"].place, message)
        for row, row_node in zip(table.rows, _items(node, "rows"), strict=True):
            yield from self._row(table, row, row_node)

    def _row(self, table: Table, row: Row, node: Node) -> Iterator[PublishedValue]:
        kind, runs = (row.spread, row.runs) if row.spread else (table.spread, table.runs)
        mark = row.mark or table.mark
        self._datasets(row, node)
        for dataset, text in row.values.items():
            place = node.items()["values"].items()[dataset].place
            match = _CELL.fullmatch(text)
            if match is None or match[3] == "":
                self._problems.add(place, f"not a value such as '-0.46 ± 0.01': '{text}'")
                continue
            if (match[3] is None) != (kind == "none"):
                self._problems.add(place, f"spread '{kind}', but the cell is '{text}'")
            key = (table.table, row.model, row.trained_by, dataset, table.metric)
            if key in self._cells:
                message = f"{table.metric} of {row.model} on {dataset} is in {table.table} already"
                self._problems.add(place, message)
            self._cells.add(key)
            yield PublishedValue(
                source=self._source,
                table=table.table,
                model=row.model,
                trained_by=row.trained_by,
                setup=self._setup(row, dataset, node),
                dataset=dataset,
                metric=table.metric,
                published_as=table.published_as,
                flipped=table.flipped,
                value=float(match[1]),
                spread=None if match[3] is None else float(match[3]),
                spread_kind=kind,
                runs=runs,
                decimals=len(match[2] or ""),
                unit=table.unit,
                direction=table.direction,
                mark=mark,
                notes=(
                    *table.notes,
                    *row.notes,
                    *((row.cell_notes[dataset],) if dataset in row.cell_notes else ()),
                ),
                is_target=self._target(table, row, dataset, mark, node),
            )

    def _datasets(self, row: Row, node: Node) -> None:
        """Checks that datasets are known, and that notes and targets name cells that exist."""
        for dataset in row.values:
            if dataset not in DATASETS:
                place = node.items()["values"].keys[dataset]
                message = f"unknown dataset '{dataset}'"
                self._problems.add(place, message, known=DATASETS, found=dataset)
        for key, datasets in (("cell_notes", row.cell_notes), ("targets", row.targets)):
            for dataset in datasets:
                if dataset not in row.values:
                    message = f"the row has no value of '{dataset}'"
                    self._problems.add(node.items()[key].place, message)

    def _setup(self, row: Row, dataset: str, node: Node) -> Setup | None:
        if row.setup is None:
            return None
        return self._setups.conditions(row.setup, dataset, node.items()["setup"].place)

    def _target(self, table: Table, row: Row, dataset: str, mark: Mark, node: Node) -> bool:
        if dataset not in row.targets:
            return False
        place = node.items()["targets"].place
        if mark in FROM_MEMORY:
            self._problems.add(place, f"a value from memory (mark {mark}) is no target")
        if (dataset, table.metric) in self._targets:
            self._problems.add(place, f"{table.metric} on {dataset} has a target already")
        self._targets.add((dataset, table.metric))
        return True

    def effect(self, effect: Effect, node: Node) -> Iterator[PublishedEffect]:
        for key, text in (("low", effect.low), ("high", effect.high)):
            if re.fullmatch(r"\d+(\.\d+)?", text) is None:
                self._problems.add(node.items()[key].place, f"not a number: '{text}'")
                return
        if float(effect.low) > float(effect.high):
            self._problems.add(node.items()["low"].place, "low exceeds high")
        yield PublishedEffect(
            self._source,
            effect.effect,
            effect.scope,
            effect.against,
            float(effect.low),
            float(effect.high),
            effect.unit,
            effect.mark,
            effect.notes,
        )
