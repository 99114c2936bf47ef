"""Options of the comparison with the released code, and the table that it leaves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cases import read

from harness.backends import get_backend
from harness.interface import Backend

HERE = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("original")
    group.addoption("--original-values", type=Path, default=HERE / "values.npz")
    group.addoption("--original-backend", default="torch")
    group.addoption("--original-table", type=Path, help="JSON file that gets all differences")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames:
        option = metafunc.config.getoption
        cases = read(option("--original-values"), option("--original-backend"))
        metafunc.parametrize("case", cases, ids=lambda case: case.id)


@pytest.fixture(scope="session")
def backend(request: pytest.FixtureRequest) -> Backend:
    return get_backend(request.config.getoption("--original-backend"))


@pytest.fixture(scope="session")
def table(request: pytest.FixtureRequest) -> Iterator[list[dict[str, Any]]]:
    """One row a quantity of a case."""
    rows: list[dict[str, Any]] = []
    yield rows
    path: Path | None = request.config.getoption("--original-table")
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(rows, indent=0))
