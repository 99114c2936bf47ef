"""What `plan` and `status` say of timings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from timing_records import timing_record

from harness.cli import main
from harness.commands.timing_text import timing_json, timing_lines
from harness.planning.plan import Plan, PlannedTrial, Timing
from harness.planning.settings import settings_of
from harness.records.timings import TimingFolder
from harness.specs.resources import Resources
from harness.timing.states import hardware_of
from harness.trial import AdaptiveSolver, DatasetRef, Trial

A = Trial(dataset=DatasetRef("moons", "none"), backend="a", solver=AdaptiveSolver("dopri5"))
TRIALS = [replace(trial, backend=name) for trial in (A, replace(A, seed=1)) for name in "ab"] + [
    replace(A, backend=name, gradient="direct") for name in "ab"
]
PLANNED = tuple(PlannedTrial(trial, "to_run", None, Resources()) for trial in TRIALS)
PLAN = Plan("fakes", "", PLANNED, timing=Timing(8, 90.0))


def test_settings_are_counted_by_their_state(tmp_path: Path) -> None:
    assert timing_lines(PLAN, tmp_path) == [
        "timing of 2 settings after the trials: 2 waiting for trials (8 rounds each, 90 s a run)"
    ]
    first, second = settings_of(PLAN)
    hardware = hardware_of(first)
    assert hardware is not None
    for setting, status in ((first, "ok"), (second, "error")):
        record = timing_record(setting.id, TRIALS[:2], (1.0,), hardware=hardware, status=status)
        TimingFolder(tmp_path, setting.id, hardware).commit(record)
    assert timing_lines(PLAN, tmp_path) == [
        "timing of 2 settings after the trials: 1 timed, 1 failed (8 rounds each, 90 s a run)"
    ]
    found = timing_json(PLAN, tmp_path)
    assert found == {
        "timing": {
            "rounds": 8,
            "budget_seconds": 90.0,
            "settings": [
                {"id": first.id, "trials": [t.id for t in TRIALS[:4]], "state": "timed"},
                {"id": second.id, "trials": [t.id for t in TRIALS[4:]], "state": "failed"},
            ],
        }
    }


def test_a_suite_without_the_key_says_nothing(tmp_path: Path) -> None:
    assert timing_lines(replace(PLAN, timing=None), tmp_path) == []
    assert timing_json(replace(PLAN, timing=None), tmp_path) == {}
    alone = replace(PLAN, trials=PLANNED[:1])
    assert timing_lines(alone, tmp_path) == ["timing: no two backends share a setting"]


@pytest.mark.parametrize("verb", ["plan", "status"])
def test_the_commands_say_what_is_timed(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["harness", verb, "quickstart", "--root", str(tmp_path)])
    with pytest.raises(SystemExit):
        main()
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("timing of 8 settings after the trials: 8 waiting for trials (")
