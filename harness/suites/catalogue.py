"""What a suite can name: datasets, backends, solvers, all words of the spec, built-in suites."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness import backends
from harness.datasets import registry as datasets
from harness.errors import HarnessError
from harness.metrics.definitions import DEFINITIONS, Better
from harness.solvers import LIBRARY_SOLVERS, TABLEAUX, Tableau
from harness.suites.builtin import suite_files
from harness.suites.glossary import GLOSSARY

__all__ = ["DataFacts", "Entry", "catalogue", "data", "dataset_entries"]


@dataclass(frozen=True)
class Entry:
    """One name and what it means; `ready` is False where something is missing on this machine."""

    name: str
    summary: str
    ready: bool = True


@dataclass(frozen=True)
class DataFacts:
    """What is known of a dataset once it is loaded.

    Arguments:
        name: Its name.
        summary: One line.
        digest: The digest in the identity of trials.
        event_shape: Shape of one example.
        sizes: Rows by split; 0 means an endless training stream.
        gaussian_nll: Of the test rows under a Gaussian fitted to the training rows, nats; None for
            discrete pixels and degenerate data.
        gaussian_rows: Number of those test rows.
        gaussian_bits_per_dim: The same in bits/dim; None where the dataset has no such unit.
        degenerate: Features, counted from 0, that are constant or follow from those before them:
            no density on such data has a bound.
    """

    name: str
    summary: str
    digest: str
    event_shape: tuple[int, ...]
    sizes: Mapping[str, int]
    gaussian_nll: float | None
    gaussian_rows: int
    gaussian_bits_per_dim: float | None
    degenerate: tuple[int, ...] = ()


def data(name: str) -> DataFacts:
    """Loads a dataset and describes it.

    Raises:
        InputError: There is no dataset of that name.
        DataError: It is absent, incomplete or corrupt.
    """
    from harness.metrics.bits import bits_per_dim
    from harness.metrics.gaussian import remembered_baseline

    declared, dataset = datasets.declare(name), datasets.load(name)
    density = dataset.info.likelihood == "density"
    baseline = remembered_baseline(dataset, declared.digest) if density else None
    nll = None if baseline is None or baseline.dependent else baseline.nll
    shape = dataset.info.event_shape
    return DataFacts(
        name=name,
        summary=declared.summary,
        digest=declared.digest,
        event_shape=shape,
        sizes={str(split): count for split, count in dataset.sizes().items()},
        gaussian_nll=nll,
        gaussian_rows=baseline.rows if baseline else 0,
        gaussian_bits_per_dim=(
            None if nll is None or not dataset.bits_per_dim else bits_per_dim(nll, shape)
        ),
        degenerate=baseline.dependent if baseline else (),
    )


def catalogue() -> dict[str, list[Entry]]:
    """Returns all known names by kind; imports no framework."""
    return {
        "datasets": dataset_entries(),
        "backends": [_backend(name) for name in backends.backend_names()],
        "solvers": [*(_solver(tableau) for tableau in TABLEAUX.values()), *_LIBRARY_SOLVERS],
        **{
            kind: [Entry(name, line) for name, line in lines.items()]
            for kind, lines in GLOSSARY.items()
        },
        "metrics": [
            Entry(name, f"{one.summary}; {one.unit}, {_BETTER[one.better]}")
            for name, one in DEFINITIONS.items()
        ],
        "suites": [_suite(name, path) for name, path in suite_files().items()],
    }


def dataset_entries() -> list[Entry]:
    """Returns the known datasets, and which of them are here."""
    return [_dataset(name) for name in datasets.names()]


def _dataset(name: str) -> Entry:
    try:
        declared = datasets.declare(name)
    except HarnessError as error:
        return Entry(name, str(error), ready=False)
    if declared.available:
        return Entry(name, declared.summary)
    return Entry(name, f"{declared.summary}; not here: {declared.reason}", ready=False)


def _backend(name: str) -> Entry:
    try:
        backend = backends.get_backend(name)
    except HarnessError as error:
        return Entry(name, str(error), ready=False)
    needs = ", ".join(backend.framework)
    missing = backends.missing_distribution(backend)
    if missing is None:
        return Entry(name, needs)
    return Entry(name, f"{needs}; {missing} is not installed", ready=False)


def _solver(tableau: Tableau) -> Entry:
    kind = "fixed steps" if tableau.error is None else "adaptive"
    return Entry(tableau.name, f"order {tableau.order}, {kind}; {tableau.source}")


def _of_library(library: str, form: str, backend: str) -> Entry:
    known = ", ".join(LIBRARY_SOLVERS[library])
    return Entry(f"{library}:{form}", f"{{library: ...}}, in {backend} alone: {known}")


_LIBRARY_SOLVERS = (
    _of_library("torchdiffeq", "<name>", "torch"),
    _of_library("diffrax", "<Name>", "jax"),
)


_BETTER: Mapping[Better, str] = {
    "lower": "lower is better",
    "higher": "higher is better",
    "neither": "no direction",
}


def _suite(name: str, path: Path) -> Entry:
    from harness.reading.yaml import read_yaml

    try:
        node = read_yaml(path)
    except HarnessError as error:
        return Entry(name, str(error).splitlines()[0], ready=False)
    description = node.items().get("description")
    return Entry(name, str(description.value) if description else "")
