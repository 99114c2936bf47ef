"""What a published value is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from harness.metrics.definitions import DEFINITIONS, Better, Definition
from harness_reports.published.setups import Setup

__all__ = [
    "DATASETS",
    "METRICS",
    "VARIANTS",
    "Mark",
    "PublishedEffect",
    "PublishedValue",
    "Source",
    "SpreadKind",
]


Mark = Literal["V", "V2", "R", "D", "M+", "M"]


SpreadKind = Literal["none", "sd_over_runs", "two_sd_over_test_points"]


FROM_MEMORY: frozenset[str] = frozenset({"M", "M+"})


_NEVER_PRINTED = "M"


DATASETS = (
    *("power", "gas", "hepmass", "miniboone", "bsds300", "mnist", "cifar10"),
    *("mnist-static", "omniglot", "freyfaces", "caltech-silhouettes"),
)
"""Datasets that papers print results of, by the harness's names."""


VARIANTS: Mapping[str, str] = {
    "mnist-alpha1e-5": "mnist",
    "mnist-heldout": "mnist",
    "cifar10-alpha5e-2": "cifar10",
    "cifar10-heldout": "cifar10",
    "freyfaces-321": "freyfaces",
    "freyfaces-231": "freyfaces",
}
"""Datasets that may be compared with values of another: set-ups name the one a paper used."""


METRICS: Mapping[str, Definition] = {
    **DEFINITIONS,
    **{
        definition.name: definition
        for definition in (
            Definition("fid", "1", "lower", "Fréchet inception distance"),
            Definition("iterations", "thousands", "neither", "optimiser steps"),
            Definition("nfe_sample", "count", "lower", "evaluations of the dynamics per sample"),
            Definition("nfe_train", "count", "lower", "evaluations per training solve"),
            Definition("seconds_per_iteration", "s", "lower", "wall clock of a training step"),
            Definition("test_seconds", "s", "lower", "wall clock of the test"),
            Definition("train_hours", "hours", "lower", "wall clock of the training"),
        )
    },
}
"""Metrics of records, and quantities that only papers print: those compare with no record."""


@dataclass(frozen=True)
class Source:
    """A publication.

    Arguments:
        name: Its file's name.
        title: Its title.
        authors: Its authors.
        venue: Where it appeared; None if on arXiv only.
        arxiv: Number on arXiv.
        seen: What of it was read, and where.
    """

    name: str
    title: str
    authors: str
    venue: str | None
    arxiv: str | None
    seen: str


@dataclass(frozen=True)
class PublishedValue:
    """One cell of a published table.

    Arguments:
        source: Name of the source.
        table: Table, or what it shows where its number is not known.
        model: The model the value belongs to.
        trained_by: Who trained it, if not the model's authors.
        setup: What a trial must be to be the same experiment; None for another model than any
            trial here, or one whose set-up is not known.
        dataset: The harness's name of the dataset.
        metric: The harness's name of the quantity, or one that only papers print (`METRICS`).
        published_as: Name printed in the table.
        flipped: True if the table prints the value with the other sign.
        value: The value, in `unit`.
        spread: Half-width printed after ±.
        spread_kind: What the spread is.
        runs: Trained models behind the value, where known.
        decimals: Decimals printed.
        unit: Unit.
        direction: Which way is better.
        mark: Confidence.
        notes: What a reader must know before comparing.
        is_target: True for the value that a reproduction of the benchmark must match.
    """

    source: str
    table: str
    model: str
    trained_by: str | None
    setup: Setup | None
    dataset: str
    metric: str
    published_as: str
    flipped: bool
    value: float
    spread: float | None
    spread_kind: SpreadKind
    runs: int | None
    decimals: int
    unit: str
    direction: Better
    mark: Mark
    notes: tuple[str, ...]
    is_target: bool

    @property
    def printable(self) -> bool:
        """False for values that nothing but memory supports."""
        return self.mark != _NEVER_PRINTED

    @property
    def from_memory(self) -> bool:
        """True if the value was seen in no source."""
        return self.mark in FROM_MEMORY

    @property
    def half_digit(self) -> float:
        """Half a unit of the last printed digit, which bounds how well the value is known."""
        return 0.5 * 10.0**-self.decimals

    def __str__(self) -> str:
        text = f"{self.value:.{self.decimals}f}"
        if self.spread is not None:
            text += f" ± {self.spread:.{self.decimals}f}"
        return text.replace("-", "−")


@dataclass(frozen=True)
class PublishedEffect:
    """A published effect size that is no table cell.

    Arguments:
        source: Name of the source.
        effect: What changes.
        scope: On which data or models.
        against: Compared with what.
        low: Lower end of the range.
        high: Upper end; equal to `low` for a single number.
        unit: `x` or `%`.
        mark: Confidence.
        notes: What a reader must know.
    """

    source: str
    effect: str
    scope: str
    against: str
    low: float
    high: float
    unit: str
    mark: Mark
    notes: tuple[str, ...]

    @property
    def printable(self) -> bool:
        """False for values that nothing but memory supports."""
        return self.mark != _NEVER_PRINTED
