"""`harness run`: what it prints last and its exit codes, with an executor that commits at once."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from fakes import result_json

from harness.cli import main
from harness.commands import run as command
from harness.errors import HarnessError
from harness.executors.run import Execution
from harness.planning.plan import Plan
from harness.records.estimates import read_estimates
from harness.records.folder import TrialFolder

SUITE = """\
name: toy
trials: [{dataset: moons, backend: torch, solver: dopri5, seed: [0, 1]}]
gates: [{when: dataset=moons, metric: test_nll, below: 3}]
"""

Run = Callable[..., bool]


class Bench:
    """Runs the command with a pretended executor and report."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys
        self.asked: dict[str, Any] = {}
        self.reported: list[tuple[int, str | None]] = []
        monkeypatch.setattr(command, "report", self._report)
        monkeypatch.setattr(command, "results", self._results)

    def _results(self, plan: Plan, root: Path) -> str:
        return f"results of {len(plan.trials)}"

    def _report(
        self, plan: Plan, root: Path, command: str | None = None, *, again: bool = True
    ) -> Path:
        assert not again
        self.reported.append((len(plan.trials), command))
        return root / "reports" / plan.suite / "index.html"

    def __call__(self, executor: Run, *arguments: str) -> tuple[int, list[str], str]:
        def run_trials(plan: Plan, root: Path, how: Execution) -> bool:
            self.asked = {"root": root, **asdict(how)}
            return executor(plan, root)

        self._monkeypatch.setattr(command, "run_trials", run_trials)
        self._monkeypatch.setattr(sys, "argv", ["harness", "run", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        out, err = self._capsys.readouterr()
        assert isinstance(caught.value.code, int)
        return caught.value.code, out.splitlines(), err


@pytest.fixture
def bench(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Bench:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HARNESS_ROOT", raising=False)
    Path("toy.yaml").write_text(SUITE, encoding="utf-8")
    return Bench(monkeypatch, capsys)


def committing(nll: float, failing: int = 0) -> Run:
    """Commits a result for each trial to run; the first `failing` ones fail."""

    def execute(plan: Plan, root: Path) -> bool:
        waiting = [planned for planned in plan.trials if planned.state == "to_run"]
        for number, planned in enumerate(waiting):
            ok = number >= failing
            folder = TrialFolder(root, planned.trial.id)
            folder.write_spec(planned.trial, planned.resources)
            folder.commit_result(
                result_json(
                    planned.trial.id,
                    status="ok" if ok else "timeout",
                    message=None if ok else "Killed at its time limit.",
                    metrics={"test_nll": {"value": nll, "unit": "nats", "n": 1}} if ok else {},
                )
            )
        return True

    return execute


def test_the_last_line_names_the_report(bench: Bench) -> None:
    code, lines, _ = bench(committing(2.0), "toy.yaml")
    assert code == 0
    assert lines == [
        "suite toy: 2 trials: 2 to run",
        "results of 2",
        "",
        "2 ok",
        "report: runs/reports/toy/index.html",
    ]
    assert bench.asked == {
        "root": Path("runs"),
        "executor": "ray",
        "address": None,
        "cpus": None,
        "exclusive": False,
        "mirror": True,
    }


def test_options_reach_the_executor(bench: Bench) -> None:
    code, _, _ = bench(
        committing(2.0),
        *("toy.yaml", "--root", "elsewhere", "--executor", "inline", "--cpus", "3"),
        *("--address", "ray://head:10001", "--exclusive", "--no-report"),
    )
    assert code == 0
    assert bench.asked == {
        "root": Path("elsewhere"),
        "executor": "inline",
        "address": "ray://head:10001",
        "cpus": 3,
        "exclusive": True,
        "mirror": True,
    }
    assert bench.reported == []


def test_a_failed_trial_is_exit_code_1_with_the_command_that_runs_it_alone(bench: Bench) -> None:
    code, lines, _ = bench(committing(2.0, failing=1), "toy.yaml")
    assert code == 1
    assert lines[3] == "1 ok, 1 failed"
    gate, failure, command = lines[4:]
    assert gate.endswith("nothing was measured")
    assert failure.endswith("seed 0) timeout: Killed at its time limit.")
    trial_id = failure.split()[0]
    assert command == f"  harness run toy.yaml -k id={trial_id} --executor inline"


def test_a_gate_that_is_not_kept_is_exit_code_3(bench: Bench) -> None:
    code, lines, _ = bench(committing(3.5), "toy.yaml")
    assert code == 3
    assert [line.startswith("gate test_nll < 3") for line in lines] == [
        *(False, False, False, False, True, True, False)
    ]
    assert lines[-1].startswith("report: ")


def test_without_the_packages_of_the_report_the_exit_code_is_that_of_the_trials(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object, **__: object) -> Path:
        raise HarnessError("the report needs altair")

    monkeypatch.setattr(command, "report", missing)
    code, lines, err = bench(committing(2.0), "toy.yaml")
    assert (code, lines[-1], err) == (0, "2 ok", "the report needs altair\n")


def test_a_filter_runs_a_part_and_reports_the_whole(bench: Bench) -> None:
    code, lines, _ = bench(committing(2.0), "toy.yaml", "-k", "seed=0")
    assert (code, lines[0]) == (0, "suite toy: 1 trial: 1 to run")
    assert bench.reported == [(2, "harness run toy.yaml")]


def test_an_interrupted_run_is_exit_code_130_and_reports_nothing(bench: Bench) -> None:
    code, lines, _ = bench(lambda plan, root: False, "toy.yaml")
    assert (code, lines) == (130, ["suite toy: 2 trials: 2 to run"])
    assert bench.reported == []


def test_ctrl_c_elsewhere_is_130_as_well(bench: Bench) -> None:
    def interrupted(plan: Plan, root: Path) -> bool:
        raise KeyboardInterrupt

    assert bench(interrupted, "toy.yaml")[0] == 130


def test_a_suite_of_which_nothing_can_run_is_exit_code_2(bench: Bench) -> None:
    Path("toy.yaml").write_text(
        SUITE + "exclude: [{when: dataset=moons, reason: no}]\n", encoding="utf-8"
    )
    code, lines, err = bench(committing(2.0), "toy.yaml")
    assert (code, lines) == (2, [])
    assert err == "toy.yaml: nothing can run, all 2 trials are skipped: no\n"


def test_a_run_above_its_budget_does_not_start_without_yes(bench: Bench) -> None:
    limited = SUITE + "budget: {hours: 0.5}\n"
    Path("toy.yaml").write_text(limited, encoding="utf-8")
    code, _, err = bench(committing(2.0), "toy.yaml")
    assert code == 2
    assert "'budget.hours', 0.5" in err
    assert bench.asked == {}
    code, lines, _ = bench(committing(2.0), "toy.yaml", "--yes")
    assert code == 0
    assert "2 ok" in lines
    # Nothing waits any more.
    assert bench(committing(2.0), "toy.yaml")[0] == 0


def test_a_run_keeps_what_it_was_expected_to_take(bench: Bench) -> None:
    Path("one.yaml").write_text(SUITE.replace("[0, 1]", "0"), encoding="utf-8")

    def timed(plan: Plan, root: Path) -> bool:
        for planned in plan.trials:
            folder = TrialFolder(root, planned.trial.id)
            folder.write_spec(planned.trial, planned.resources)
            steps = planned.trial.training.iterations - 1
            timing = {"train_s": 100.0, "step_s": {"median": 0.1, "n": steps}}
            folder.commit_result(result_json(planned.trial.id, timing=timing))
        return True

    bench(timed, "one.yaml")
    assert read_estimates(Path("runs"), "toy") == {}
    bench(committing(2.0), "toy.yaml")
    (found,) = read_estimates(Path("runs"), "toy").values()
    assert found.seconds == pytest.approx(100.0)
    assert found.basis == "records"


def test_the_report_goes_into_mlflow_when_something_has_run(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[tuple[Path, str, Path]] = []

    def log_report(root: Path, suite: str, report: Path) -> bool:
        logged.append((root, suite, report))
        raise HarnessError("no answer")

    monkeypatch.setattr("harness.records.mlflow_report.log_report", log_report)
    code, _, err = bench(committing(2.0), "toy.yaml")
    assert code == 0
    assert logged == [(Path("runs"), "toy", Path("runs/reports/toy/index.html"))]
    assert "report not in MLflow: no answer" in err
    bench(committing(2.0), "toy.yaml")
    assert len(logged) == 1


def test_the_jobs_of_an_array_run_all_trials_once_and_leave_the_rest_to_one_command(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> bool:
        raise AssertionError("timings are of the whole suite")

    Path("toy.yaml").write_text(f"{SUITE}timing: {{rounds: 6}}\n", encoding="utf-8")
    monkeypatch.setattr(command, "run_timings", never)
    for number in (1, 2):
        code, lines, _ = bench(committing(2.0), "toy.yaml", "--shard", f"{number}/2")
        assert code == 0
        assert lines == [
            f"suite toy, shard {number}/2: 1 trial: 1 to run",
            "1 ok",
            f"shard {number}/2: no timings, MLflow or report; after the last one: "
            "harness run toy.yaml",
        ]
        assert bench.asked["mirror"] is False
    assert bench.reported == []
    code, lines, _ = bench(committing(2.0), "toy.yaml", "--shard", "3/3")
    assert (code, lines[:2]) == (0, ["suite toy, shard 3/3: 0 trials", "0 ok"])


def test_the_command_after_an_array_has_its_filter_and_root(bench: Bench) -> None:
    options = ("-k", "seed=1", "--root", "a b")
    code, lines, _ = bench(committing(2.0, failing=1), "toy.yaml", "--shard", "1/1", *options)
    assert code == 1
    assert lines[-1].endswith("; after the last one: harness run toy.yaml -k seed=1 --root 'a b'")


def test_an_interrupted_part_is_exit_code_130(bench: Bench) -> None:
    code, lines, _ = bench(lambda plan, root: False, "toy.yaml", "--shard", "1/2")
    assert code == 130
    assert len(lines) == 2


def test_the_budget_is_of_all_parts(bench: Bench) -> None:
    Path("toy.yaml").write_text(f"{SUITE}budget: {{hours: 1.5}}\n", encoding="utf-8")
    code, _, err = bench(committing(2.0), "toy.yaml", "--shard", "1/2")
    assert code == 2
    assert "more than 'budget.hours', 1.5" in err


def test_a_shard_that_is_none_runs_nothing(bench: Bench) -> None:
    code, lines, err = bench(committing(2.0), "toy.yaml", "--shard", "3/2")
    assert (code, lines) == (2, [])
    assert err.startswith("--shard: found '3/2', expected i/n with 1 <= i <= n")
