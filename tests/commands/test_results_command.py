"""`harness results`, and when `harness run` leaves a report as it is."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from fakes import result_json
from harness_reports.page.terminal import render_answers

from harness.cli import main
from harness.commands.report import report
from harness.commands.results import recorded_plan, results, run_command
from harness.errors import InputError
from harness.planning.plan import Plan, plan
from harness.records.folder import TrialFolder

SUITE = """\
name: toy
trials: [{dataset: moons, backend: [torch, jax], solver: dopri5, seed: [0, 1]}]
"""


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """A plan whose trials all ended ok, in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HARNESS_ROOT", raising=False)
    Path("toy.yaml").write_text(SUITE, encoding="utf-8")
    found = plan("toy.yaml", Path("runs"))
    for planned in found.trials:
        record(planned.trial.id, found, 2.0 + planned.trial.seed / 100)
    return plan("toy.yaml", Path("runs"))


def record(trial_id: str, of: Plan, nll: float) -> None:
    (planned,) = (p for p in of.trials if p.trial.id == trial_id)
    folder = TrialFolder(Path("runs"), trial_id)
    folder.write_spec(planned.trial, planned.resources)
    metrics = {"test_nll": {"value": nll, "unit": "nats", "n": 1}}
    folder.commit_result(result_json(trial_id, status="ok", metrics=metrics))


def test_results_are_the_table_and_the_answers(made: Plan) -> None:
    text = results(made, Path("runs"))
    assert "torch\u00a0=\u00a0jax" in text
    assert "torch against jax: the same: moons within" in text
    assert "4 trials: 4 ok." in text


def test_without_a_suite_all_that_is_recorded(
    made: Plan, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["harness", "results", "-k", "seed=0"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 0
    assert "2 trials: 2 ok." in capsys.readouterr().out
    with pytest.raises(InputError, match="no trial has been recorded here"):
        recorded_plan(Path("elsewhere"))


def test_commands_name_the_root_unless_it_is_the_usual_one(made: Plan) -> None:
    assert run_command(made, Path("runs")) == "harness run toy.yaml"
    assert run_command(made, Path("a b")) == "harness run toy.yaml --root 'a b'"


def test_a_report_is_written_again_only_if_something_changed(made: Plan) -> None:
    root = Path("runs")
    written = report(made, root, again=False)
    assert (root / "reports" / "index.html").is_file()
    kept = written.stat().st_mtime_ns
    assert report(made, root, again=False).stat().st_mtime_ns == kept
    one = made.trials[0].trial.id
    (root / "trials" / one / "result.json").unlink()
    record(one, made, 3.0)
    text = report(made, root, again=False).read_text(encoding="utf-8")
    assert written.stat().st_mtime_ns > kept
    assert "undecided" in text
    again = written.stat().st_mtime_ns
    assert report(made, root).stat().st_mtime_ns > again


def test_the_summary_beside_a_report_has_the_answers_of_the_terminal(made: Plan) -> None:
    root = Path("runs")
    summary = json.loads((report(made, root).parent / "summary.json").read_text())
    said = results(made, root)
    for answer in summary["answers"]:
        assert " ".join(answer["sentences"]) in said
    assert render_answers(()) == ""
