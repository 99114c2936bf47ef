"""What a shell completes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from fakes import fake_trial

from harness.cli import app
from harness.commands.completion import complete_filter, complete_suite, complete_trial
from harness.records.folder import TrialFolder
from harness.specs.resources import Resources


def test_suites_are_built_in_or_files_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    for name in ("quick-own.yaml", "notes.txt", "sub/deep.yml"):
        (tmp_path / name).write_text("", encoding="utf-8")
    names = [each if isinstance(each, str) else each[0] for each in complete_suite("qui")]
    assert names == ["quickstart", "quick-own.yaml"]
    assert complete_suite("sub/") == ["sub/deep.yml"]
    assert complete_suite("su") == ["sub/"]


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("datas", ["dataset="]),
        ("backend=ja", ["backend=jax"]),
        ("backend=jax & !(solver!=dop", ["backend=jax & !(solver!=dopri5"]),
        ("state=to", ["state=to_run", "state=to_score"]),
        ("seed=", []),
        ("nonsense", []),
    ],
)
def test_filters(written: str, found: list[str]) -> None:
    completed = [each for each in complete_filter(written) if "dopri8" not in each]
    assert [each for each in completed if "dopri5_" not in each] == found


def test_ids_of_trials_say_what_they_are(tmp_path: Path) -> None:
    trial = fake_trial()
    TrialFolder(tmp_path, trial.id).write_spec(trial, Resources(), "toy")
    context = typer.Context(typer.main.get_command(app))
    context.params["root"] = str(tmp_path)
    assert complete_trial(context, trial.id[:4]) == [
        (trial.id, "moons fake euler steps=4 none seed 0")
    ]
    assert complete_trial(context, "xyz") == []
    context.params["root"] = str(tmp_path / "absent")
    assert complete_trial(context, "") == []


def test_a_shell_is_answered_by_the_command_itself(tmp_path: Path) -> None:
    asked = {"_HARNESS_COMPLETE": "complete_bash", "COMP_WORDS": "harness run quicks"}
    done = subprocess.run(
        [sys.executable, "-c", "from harness.cli import main; main()"],
        env={**os.environ, **asked, "COMP_CWORD": "2"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["quickstart"], done.stderr
