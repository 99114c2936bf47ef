"""The pytest plugin of the kit: the options and the fixtures.

A plugin and not a conftest file: pytest reads a conftest inside a package named by --pyargs too
late for its options.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from harness.backends import get_backend, require
from harness.conformance.cases import Case, all_cases, covering_cases, data_of, make_trial
from harness.conformance.oracle.flow import Oracle
from harness.errors import HarnessError
from harness.interface import Arrays, Backend, Model
from harness.trial import Trial

OpenModel = Callable[[Trial], Model]

_SKIPPED = pytest.StashKey[Counter[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("conformance")
    group.addoption("--backend", help="name of the backend under test, e.g. torch")
    group.addoption("--all", action="store_true", help="full product of cases, not a covering set")
    group.addoption(
        "--choice", action="append", default=[], help="a choice of the backend's own, KEY=VALUE"
    )
    group.addoption("--share", default="1/1", help="2/3 runs the second of three parts of the kit")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_SKIPPED] = Counter()
    config.addinivalue_line("markers", "modes(*names): only cases with these gradient modes")


def pytest_report_header(config: pytest.Config) -> str:
    cases = _cases(config)
    total = len(all_cases())
    return f"conformance: backend {config.getoption('--backend')}, {len(cases)} of {total} cases"


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    terminalreporter.write_line(str(pytest_report_header(config)))
    skipped = config.stash[_SKIPPED]
    terminalreporter.write_line(f"combinations the backend does not support: {skipped.total()}")
    for reason, count in skipped.most_common():
        terminalreporter.write_line(f"  {count} x {reason}")


def _cases(config: pytest.Config) -> list[Case]:
    return all_cases() if config.getoption("--all") else covering_cases()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keeps a share of the tests; those of one case stay together, for they have one model."""
    part, parts = map(int, config.getoption("--share").split("/"))
    groups: dict[str, list[pytest.Item]] = {}
    for item in items:
        callspec = getattr(item, "callspec", None)
        case = callspec.params.get("case") if callspec else None
        groups.setdefault(str(case or item.nodeid), []).append(item)
    kept = [item for group in list(groups.values())[part - 1 :: parts] for item in group]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept


def pytest_collection_finish() -> None:
    """Keeps the garbage collector off what lives until the end: it took an eighth of a run."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "opened_subject" in metafunc.fixturenames:
        # Session scope groups all tests of a case, so that its model is opened and compiled once.
        cases = _cases(metafunc.config)
        marker = metafunc.definition.get_closest_marker("modes")
        if marker:
            cases = [case for case in cases if case.gradient in marker.args]
        metafunc.parametrize("case", cases, ids=str, scope="session")


@pytest.fixture(scope="session")
def backend(request: pytest.FixtureRequest) -> Backend:
    """The backend under test, prepared for float64 on one core."""
    name = request.config.getoption("--backend")
    if not name:
        pytest.exit("the conformance kit needs --backend NAME", returncode=2)
    try:
        backend = get_backend(name)
        require(backend)
    except HarnessError as error:
        pytest.exit(str(error), returncode=2)
    backend.prepare(make_trial(covering_cases()[0], name), 1)
    return backend


def open_or_skip(backend: Backend, trial: Trial, config: pytest.Config) -> Model:
    """Opens the model of a trial, or skips with the backend's reason."""
    unsupported = backend.supports(trial)
    if unsupported:
        config.stash[_SKIPPED][unsupported.reason] += 1
        pytest.skip(unsupported.reason)
    data = data_of(trial)
    given = dict(choice.split("=", 1) for choice in config.getoption("--choice"))
    choices = {**backend.choose(trial, data, "cpu", 1), **given} if given else None
    return backend.open(trial, data, "cpu", choices)


@pytest.fixture
def open_model(backend: Backend, request: pytest.FixtureRequest) -> Iterator[OpenModel]:
    """Opens models and closes them after the test."""
    opened: list[Model] = []

    def open_one(trial: Trial) -> Model:
        opened.append(open_or_skip(backend, trial, request.config))
        return opened[-1]

    yield open_one
    for model in opened:
        model.close()


@dataclass(frozen=True)
class Subject:
    """The model of a case, in its initial state, and what it is compared with.

    Arguments:
        case: The case.
        trial: Its trial.
        model: Its model.
        oracle: What the model is to compute.
        arrays: Its initial arrays.
        state: Its initial optimiser state.
    """

    case: Case
    trial: Trial
    model: Model
    oracle: Oracle
    arrays: Arrays
    state: Arrays


@pytest.fixture(scope="session")
def opened_subject(
    case: Case, backend: Backend, request: pytest.FixtureRequest
) -> Iterator[Subject]:
    """Opens the model of a case once for all tests of the case."""
    trial = make_trial(case, backend.name)
    model = open_or_skip(backend, trial, request.config)
    oracle = Oracle(trial, data_of(trial))
    yield Subject(case, trial, model, oracle, model.arrays(), model.state())
    model.close()


@pytest.fixture
def subject(opened_subject: Subject) -> Subject:
    """The subject, whatever an earlier test did to it."""
    opened_subject.model.load_arrays(opened_subject.arrays)
    opened_subject.model.load_state(opened_subject.state)
    return opened_subject
