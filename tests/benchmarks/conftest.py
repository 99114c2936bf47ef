"""The option `--all`, and the tables at the end of a run of benchmarks."""

from __future__ import annotations

import pytest
from contenders import ALL, DEFAULT, contenders_of
from table import LEGEND, ROWS, format_table
from workloads import WORKLOADS


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="the whole product of contenders")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[ROWS] = {}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "contender" in metafunc.fixturenames:
        names = ALL if metafunc.config.getoption("--all") else DEFAULT
        metafunc.parametrize("contender", names)
        metafunc.parametrize("workload", WORKLOADS, scope="module")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what a workload does not know."""
    known = {key: contenders_of(workload, ALL) for key, workload in WORKLOADS.items()}
    left_out = [
        item
        for item in items
        if (call := getattr(item, "callspec", None)) is not None
        and "contender" in call.params
        and call.params["contender"] not in known[call.params["workload"]]
    ]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    tables = config.stash[ROWS]
    for workload, rows in tables.items():
        terminalreporter.write_sep("-", workload)
        terminalreporter.write_line(format_table(rows))
    if tables:
        terminalreporter.write_line(LEGEND)
