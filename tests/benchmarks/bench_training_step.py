"""Seconds, memory and error of a step, each contender beside a yardstick.

    make bench                                  everything, about a quarter of an hour on 2 cores
    make bench SELECT='-k "W1 and direct"'      some of them
    make bench SELECT=--all                     every gradient mode with every first step
    make bench-compare A=COMMIT B=COMMIT        two stored runs

Every run is stored under .benchmarks with its commit. Never part of the tests.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from contenders import CORES
from pytest_benchmark.fixture import BenchmarkFixture
from rounds import Failure, Measured, measure
from table import ROWS, quantities
from workloads import WORKLOADS

Found = dict[str, Failure | Measured]


class Clock:
    """Counts the seconds that the contenders measured in their own processes."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


CLOCK = Clock()


@pytest.fixture(scope="module")
def measured(
    workload: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Found:
    """All selected contenders of a workload, measured together in interleaved rounds."""
    parameters = [getattr(item, "callspec").params for item in request.session.items]  # noqa: B009
    names = [p["contender"] for p in parameters if p["workload"] == workload]
    return measure(workload, names, tmp_path_factory.mktemp(workload))


@pytest.mark.benchmark(timer=CLOCK)
def bench_training_step(
    workload: str,
    contender: str,
    measured: Found,
    request: pytest.FixtureRequest,
) -> None:
    found = measured[contender]
    rows = request.config.stash[ROWS].setdefault(workload, [])
    if isinstance(found, Failure):
        rows.append((contender, f"{'failed' if found.built else 'not built'}: {found.reason}"))
        if found.built:
            pytest.fail(found.reason)
        pytest.skip(found.reason)
    row = quantities(found)
    rows.append((contender, row))
    benchmark: BenchmarkFixture = request.getfixturevalue("benchmark")
    seconds = iter(found.step_s)
    replay: Callable[[], None] = lambda: CLOCK.advance(next(seconds))  # noqa: E731
    benchmark.group = workload
    benchmark.extra_info |= {**row, "cores": CORES}
    benchmark.pedantic(replay, rounds=len(found.step_s))  # type: ignore[no-untyped-call]
    # All contenders compute one thing; the log p of an image adds up many pixels.
    assert found.ready["error_nats"] < 1e-2 * max(1, WORKLOADS[workload].dim / 50)
