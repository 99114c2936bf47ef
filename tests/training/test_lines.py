"""When a line is due, and the pace of training between lines, by a clock that tests set."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from harness.errors import InputError
from harness.records.readers import read_lines
from harness.training.lines import Cadence, Lines


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return now


def test_a_line_is_due_by_steps_by_the_clock_and_at_the_end(
    tmp_path: Path, clock: list[float]
) -> None:
    lines = Lines(tmp_path, Cadence(log_s=5.0, lines=100), iterations=2003, step=0)
    # 2003 steps in about 100 lines.
    assert [step for step in range(1, 70) if lines.due(step)] == [21, 42, 63]
    assert lines.due(2003)
    clock[0] += 5.5
    assert lines.due(1)
    short = Lines(tmp_path, Cadence(), iterations=25, step=0)
    assert [step for step in range(1, 26) if short.due(step)] == [10, 20, 25]


def test_the_pace_leaves_pauses_out(tmp_path: Path, clock: list[float]) -> None:
    lines = Lines(tmp_path, Cadence(log_s=5.0), iterations=100, step=30)
    clock[0] += 4.0
    with lines.paused():
        clock[0] += 60.0
    assert not lines.due(31)
    assert lines.pace(40) == 0.4
    clock[0] += 3.0
    assert lines.pace(42) == 1.5


def test_lines_of_an_earlier_attempt_stay_and_absent_values_are_left_out(tmp_path: Path) -> None:
    for step in (1, 2):
        lines = Lines(tmp_path, Cadence(), iterations=10, step=0)
        lines.write(step, {"loss": 0.5, "nfe_backward": None, "nll": float("nan")})
        lines.sync()
        lines.close()
    found = read_lines(tmp_path / "metrics.jsonl")
    assert [line["step"] for line in found] == [1, 2]
    assert all(line.keys() == {"step", "timestamp_ms", "loss", "nll"} for line in found)
    assert found[0]["nll"] is None


def test_a_cadence_that_is_no_number_is_an_input_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CHECKPOINT_SECONDS", "2.5")
    assert Cadence.from_environment() == Cadence(checkpoint_s=2.5)
    monkeypatch.setenv("HARNESS_CHECKPOINT_SECONDS", "often")
    with pytest.raises(InputError, match="'often' is not a number of seconds"):
        Cadence.from_environment()
