"""The pytest plugin of the kit: the options `--backend` and `--all`, and the fixtures.

A plugin and not a conftest file: pytest reads a conftest inside a package named by --pyargs too
late for its options.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from harness.backends import get_backend, require
from harness.conformance.cases import Case, all_cases, covering_cases, make_trial
from harness.errors import HarnessError
from harness.interface import Backend, DataInfo, Model
from harness.trial import Trial

OpenModel = Callable[[Trial], Model]


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("conformance")
    group.addoption("--backend", help="name of the backend under test, e.g. torch")
    group.addoption("--all", action="store_true", help="full product of cases, not a covering set")


def pytest_report_header(config: pytest.Config) -> str:
    cases = _cases(config)
    total = len(all_cases())
    return f"conformance: backend {config.getoption('--backend')}, {len(cases)} of {total} cases"


def _cases(config: pytest.Config) -> list[Case]:
    return all_cases() if config.getoption("--all") else covering_cases()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames:
        metafunc.parametrize("case", _cases(metafunc.config), ids=str)


@pytest.fixture(scope="session")
def backend(request: pytest.FixtureRequest) -> Backend:
    """The backend under test, prepared for float64 on one core."""
    name = request.config.getoption("--backend")
    if not name:
        pytest.exit("the conformance kit needs --backend NAME", returncode=2)
    try:
        found = get_backend(name)
        require(found)
    except HarnessError as error:
        pytest.exit(str(error), returncode=2)
    found.prepare(make_trial(covering_cases()[0], name), 1)
    return found


@pytest.fixture
def open_model(backend: Backend) -> Iterator[OpenModel]:
    """Opens the model of a trial, or skips with the backend's reason; closes it after the test."""
    opened: list[Model] = []

    def open_one(trial: Trial) -> Model:
        unsupported = backend.supports(trial)
        if unsupported:
            pytest.skip(unsupported.reason)
        from harness.conformance.cases import DIM

        opened.append(backend.open(trial, DataInfo("conformance", (DIM,)), "cpu"))
        return opened[-1]

    yield open_one
    for model in opened:
        model.close()
