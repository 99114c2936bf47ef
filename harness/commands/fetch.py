"""`harness data --fetch SUITE`: all data of a suite, on the node that has the network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.datasets import registry as datasets
from harness.errors import HarnessError
from harness.suites.builtin import find_suite
from harness.suites.grid import expand
from harness.suites.suite import load_suite
from harness.text import columns

__all__ = ["Fetched", "fetch", "fetched_text"]


@dataclass(frozen=True)
class Fetched:
    """A dataset of a suite.

    Arguments:
        name: Its name.
        problem: Why it cannot be loaded; None if it can.
        rows: Rows by split; an endless split has none.
    """

    name: str
    problem: str | None
    rows: dict[str, int | None]


def fetch(suite: str) -> Iterator[Fetched]:
    """Loads every dataset of a suite once, which brings here what is not here.

    One that cannot be had does not keep the others from coming.

    Arguments:
        suite: Name of a built-in suite, or a file.

    Raises:
        InputError: The suite is invalid.
    """
    points = expand(load_suite(find_suite(suite)))
    for dataset in dict.fromkeys(point.trial.dataset for point in points if not point.excluded):
        try:
            sizes = datasets.load(dataset.name, dataset.digest).sizes()
        except (HarnessError, OSError) as error:
            yield Fetched(dataset.name, str(error), {})
            continue
        yield Fetched(dataset.name, None, {str(split): n for split, n in sizes.items()})


def fetched_text(found: Sequence[Fetched]) -> str:
    """A line for each dataset."""
    rows = []
    for each in found:
        sizes = (
            f"{split} {'endless' if n is None else f'{n:,}'}" for split, n in each.rows.items()
        )
        mark = "MISSING" if each.problem else "ok"
        rows.append((each.name, mark, each.problem or ", ".join(sizes)))
    return columns(rows)
