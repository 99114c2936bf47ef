from __future__ import annotations

import io
from dataclasses import asdict
from pathlib import Path

import pytest
from fakes import fake_trial, result_json
from rich.console import Console

from harness.executors import board as module
from harness.executors.board import Board
from harness.planning.plan import PlannedTrial
from harness.process.watch import Progress, lost_seconds, read_progress
from harness.records.files import dumps
from harness.records.folder import TrialFolder
from harness.records.status import Status
from harness.specs.resources import Resources


def _planned(seed: int) -> PlannedTrial:
    return PlannedTrial(fake_trial(seed=seed), "to_run", None, Resources())


def _attempt(folder: Path, **changes: object) -> Path:
    folder.mkdir()
    values = asdict(Progress("training", 30, 40, 1.2345, 52.0, 0.5)) | changes
    (folder / "progress.json").write_bytes(dumps(values))
    return folder


def test_a_line_for_each_running_trial_and_the_totals(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)
    trials = [_planned(seed) for seed in range(4)]
    with Board(trials, tmp_path, console) as board:
        board.submitted(trials[0], _attempt(tmp_path / "a"))
        board.submitted(trials[1], _attempt(tmp_path / "b", phase="compiling", step_s=None))
        board.submitted(trials[2], tmp_path / "waits")
        board.ended(trials[3], Status.DIVERGED)
        board.refresh()
        shown = console.file.getvalue()  # type: ignore[attr-defined]
    lines = shown.splitlines()
    (first,) = [line.split() for line in lines if "none s0" in line]
    assert first[5:] == ["training", "30/40", "1.234", "52", "0:05"]
    assert any("none s1" in line and "compiling" in line for line in lines)
    assert not any("none s2" in line for line in lines)
    assert any("1 of 4 trials ended, 1 not ok" in line for line in lines)
    assert any("1/4  diverged: moons fake euler none s3" in line for line in lines)


def test_plain_lines_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(file=io.StringIO(), width=80)
    trials = [_planned(seed) for seed in range(2)]
    monkeypatch.setattr(module, "_PLAIN_EVERY_S", -1.0)
    with Board(trials, tmp_path, console) as board:
        board.submitted(trials[0], _attempt(tmp_path / "a"))
        board.submitted(trials[1], _attempt(tmp_path / "b", step=40, alive_s=75.0))
        folder = TrialFolder(tmp_path, trials[1].trial.id)
        folder.path.mkdir(parents=True)
        metrics = {"test_nll": {"value": 3.14159, "unit": "nats", "n": 100}}
        folder.result.write_bytes(
            dumps(result_json(trials[1].trial.id, status="ok", metrics=metrics))
        )
        board.ended(trials[1], Status.OK)
        board.refresh()
        board.stopped(trials[0])
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    id = trials[1].trial.id
    assert lines[0] == f"1/2  ok in 1:15: moons fake euler none s1, test_nll 3.142 nats  ({id})"
    assert lines[1].startswith("1 of 2 trials ended, after 0:0")
    # The other, alike but for the seed, is expected to take as long.
    assert lines[1].endswith("about 1:15 left")
    assert lines[2] == "  moons fake euler none s0 training 30/40"
    assert len(lines) == 3


def test_a_torn_or_absent_progress_is_none(tmp_path: Path) -> None:
    assert read_progress(tmp_path) is None
    (tmp_path / "progress.json").write_text('{"phase": "trai')
    assert read_progress(tmp_path) is None


def test_a_progress_of_an_old_run_root_is_read(tmp_path: Path) -> None:
    values = asdict(Progress("training", 30, 40, alive_s=9.0, saved_s=7.0))
    values["stage"] = values.pop("phase")
    (tmp_path / "progress.json").write_bytes(dumps(values))
    assert read_progress(tmp_path) == Progress("training", 30, 40, alive_s=9.0, saved_s=7.0)
    assert lost_seconds(tmp_path) == 2.0


class _Closed(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


@pytest.mark.parametrize("live", [True, False])
def test_a_reader_that_goes_away_ends_nothing(tmp_path: Path, live: bool) -> None:
    planned = _planned(0)
    with Board([planned], tmp_path, Console(file=_Closed()), live) as board:
        board.submitted(planned, _attempt(tmp_path / "a"))
        board.note("to nobody")
        board.refresh()
        board.ended(planned, Status.OK)
