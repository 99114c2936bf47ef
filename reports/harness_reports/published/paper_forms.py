"""What a file of `papers/` may hold, enforced by `harness.reading.validation`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from harness.metrics.definitions import Better
from harness.trial import Bound
from harness_reports.published.values import Mark, SpreadKind

__all__ = ["ConditionForm", "Effect", "Paper", "Row", "SetupForm", "Table"]

_STRICT: dict[str, Any] = {"extra": "forbid", "strict": True}

_Runs = Annotated[int, Bound(at_least=1)] | None


@dataclass(frozen=True)
class ConditionForm:
    """A condition that is no single value; see `setups.Condition`."""

    __pydantic_config__ = _STRICT

    any_of: tuple[Any, ...] = ()
    at_least: float | None = None
    at_most: float | None = None
    otherwise: str | None = None


@dataclass(frozen=True)
class SetupForm:
    """Conditions by dotted name: those of all datasets, and those of single ones."""

    __pydantic_config__ = _STRICT

    common: dict[str, Any] = field(default_factory=dict)
    datasets: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """Cells of one model, by dataset."""

    __pydantic_config__ = _STRICT

    model: str
    values: dict[str, str]
    trained_by: str | None = None
    mark: Mark | None = None
    spread: SpreadKind | None = None
    runs: _Runs = None
    setup: str | None = None
    notes: tuple[str, ...] = ()
    cell_notes: dict[str, str] = field(default_factory=dict)
    targets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """One quantity of a published table."""

    __pydantic_config__ = _STRICT

    table: str
    metric: str
    published_as: str
    unit: str
    direction: Better
    mark: Mark
    rows: tuple[Row, ...]
    spread: SpreadKind = "none"
    runs: _Runs = None
    flipped: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Effect:
    """An effect size; see `PublishedEffect`."""

    __pydantic_config__ = _STRICT

    effect: str
    scope: str
    against: str
    low: str
    high: str
    unit: str
    mark: Mark
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Paper:
    """A file."""

    __pydantic_config__ = _STRICT

    source: str
    title: str
    authors: str
    seen: str
    venue: str | None = None
    arxiv: str | None = None
    setups: dict[str, SetupForm] = field(default_factory=dict)
    tables: tuple[Table, ...] = ()
    effects: tuple[Effect, ...] = ()
