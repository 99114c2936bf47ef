"""Plans: the state of every trial, what is read and what is not."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import result_json

from harness import backends
from harness.commands.plan_text import plan_text
from harness.errors import BackendNotInstalled, InputError, RecordError
from harness.interface import Backend, DataInfo, Model, Unsupported
from harness.metrics.paddingflow import protocol_cost
from harness.planning.plan import (
    Plan,
    PlannedTrial,
    plan,
    plan_json,
    plan_suite,
    require_runnable,
    select,
)
from harness.records.version import __version__
from harness.trial import SampleMetrics, Trial, decode

SUITE = """\
name: toy
description: for tests
trials:
  - {dataset: moons, backend: [torch, jax], solver: dopri5, seed: [0, 1]}
exclude: [{when: backend=jax & seed=1, reason: too slow}]
gates: [{when: backend=torch, metric: test_nll, below: gaussian_nll}]
resources: {cpus: 2, timeout_minutes: 30}
"""


class Fake(Backend):
    """A backend that needs a framework nobody has, and supports seed 0 only."""

    name = "torch"
    framework = ("no-such-framework",)

    def supports(self, trial: Trial) -> Unsupported | None:
        return None if trial.seed == 0 else Unsupported("only seed 0")

    def prepare(self, trial: Trial, cores: int) -> dict[str, Any]:
        raise AssertionError("planning prepares nothing")

    def open(
        self, trial: Trial, data: DataInfo, device: str, choices: Mapping[str, str] | None = None
    ) -> Model:
        raise AssertionError("planning opens nothing")


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("HARNESS_DATA_DIR", raising=False)
    path = tmp_path / "toy.yaml"
    path.write_text(SUITE, encoding="utf-8")
    return path


def record(root: Path, trial: Trial, status: str, version: str = __version__) -> Path:
    folder = root / "trials" / trial.id
    folder.mkdir(parents=True, exist_ok=True)
    result = result_json(trial.id, status=status, environment={"harness": version})
    path = folder / "result.json"
    path.write_text(json.dumps(result), encoding="utf-8")
    return path


def states(made: Plan) -> list[tuple[str, str | None]]:
    return [(planned.state, planned.reason) for planned in made.trials]


def test_a_fresh_plan(suite: Path, tmp_path: Path) -> None:
    made = plan(suite, tmp_path / "runs")
    assert (made.suite, made.description, made.source) == ("toy", "for tests", str(suite))
    assert states(made) == [("to_run", None)] * 3 + [("skipped", "too slow")]
    assert [gate.metric for gate in made.gates] == ["test_nll"]
    assert {(p.resources.cpus, p.resources.timeout_minutes) for p in made.trials} == {(2, 30.0)}
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("ok", ("finished", None)),
        ("diverged", ("finished", "diverged")),
        ("timeout", ("to_run", "failed before: timeout")),
        ("out_of_memory", ("to_run", "failed before: out_of_memory")),
        ("error", ("to_run", "failed before: error")),
        ("killed", ("to_run", "failed before: killed")),
    ],
)
def test_records_decide(
    suite: Path, tmp_path: Path, status: str, expected: tuple[str, str | None]
) -> None:
    first = plan(suite, tmp_path).trials[0].trial
    record(tmp_path, first, status)
    assert states(plan(suite, tmp_path))[:2] == [expected, ("to_run", None)]


def test_rerun_and_other_versions(suite: Path, tmp_path: Path) -> None:
    first, second = (planned.trial for planned in plan(suite, tmp_path).trials[:2])
    record(tmp_path, first, "ok", version="0.0.9")
    record(tmp_path, second, "ok")
    assert states(plan(suite, tmp_path))[:2] == [
        ("finished", "by version 0.0.9"),
        ("finished", None),
    ]
    again = states(plan(suite, tmp_path, rerun=True))
    assert again[0] == ("to_run", "runs again; recorded status: ok")
    assert again[3] == ("skipped", "too slow")


def test_a_selection_leaves_the_whole_as_it_is(suite: Path, tmp_path: Path) -> None:
    whole = plan_suite(suite, tmp_path)
    record(tmp_path, whole.trials[0].trial, "ok")
    whole = plan_suite(suite, tmp_path)
    again = select(whole, tmp_path, "backend=torch & state=to_run", rerun=True)
    assert [planned.state for planned in again.trials] == ["to_run", "to_run"]
    assert [planned.state for planned in whole.trials] == [
        *("finished", "to_run", "to_run", "skipped")
    ]
    assert again == plan(suite, tmp_path, "backend=torch & state=to_run", rerun=True)
    assert select(whole, tmp_path) == whole


def test_a_folder_without_a_result_is_to_run(suite: Path, tmp_path: Path) -> None:
    first = plan(suite, tmp_path).trials[0].trial
    (tmp_path / "trials" / first.id / "attempt-x").mkdir(parents=True)
    assert states(plan(suite, tmp_path))[0] == ("to_run", None)


def test_a_damaged_record_is_an_error(suite: Path, tmp_path: Path) -> None:
    path = record(tmp_path, plan(suite, tmp_path).trials[0].trial, "ok")
    path.write_text("{", encoding="utf-8")
    with pytest.raises(RecordError, match=r"result\.json"):
        plan(suite, tmp_path)


def test_filters_see_the_state(suite: Path, tmp_path: Path) -> None:
    record(tmp_path, plan(suite, tmp_path).trials[0].trial, "ok")
    assert len(plan(suite, tmp_path, "state=finished").trials) == 1
    assert len(plan(suite, tmp_path, "state=to_run & backend=jax").trials) == 1
    with pytest.raises(InputError, match="no trial of the suite 'toy' matches"):
        plan(suite, tmp_path, "dataset=rings")


def test_unsupported_trials_are_skipped_and_absent_frameworks_are_errors(
    suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = backends.get_backend
    monkeypatch.setattr(
        backends, "get_backend", lambda name: Fake() if name == "torch" else genuine(name)
    )
    with pytest.raises(BackendNotInstalled, match=r"pip install 'cnf-harness\[torch\]'"):
        plan(suite, tmp_path)
    made = plan(suite, tmp_path, check_backends=False)
    assert states(made)[:2] == [
        ("to_run", None),
        ("skipped", "torch does not support it: only seed 0"),
    ]
    # What does not run needs no framework.
    assert states(plan(suite, tmp_path, "backend=jax"))[0] == ("to_run", None)
    for planned in made.trials[:1]:
        record(tmp_path, planned.trial, "ok")
    assert states(plan(suite, tmp_path))[0] == ("finished", None)


def test_absent_data_is_skipped_with_the_file_and_found_when_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HARNESS_DATA_DIR", raising=False)
    path = tmp_path / "s.yaml"
    path.write_text(
        "name: s\ntrials: [{dataset: power-partial, backend: torch, solver: dopri5}]\n",
        encoding="utf-8",
    )
    (absent,) = plan(path, tmp_path).trials
    assert absent.state == "skipped"
    assert absent.reason is not None
    assert "power-partial.npz" in absent.reason
    with pytest.raises(InputError, match=r"nothing can run.*power-partial\.npz"):
        require_runnable(plan(path, tmp_path))
    (tmp_path / "power-partial.npz").touch()
    monkeypatch.setenv("HARNESS_DATA_DIR", str(tmp_path))
    (present,) = plan(path, tmp_path).trials
    assert present.state == "to_run"
    assert present.trial.id == absent.trial.id


def test_a_file_of_the_user_is_a_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "mine.npz", data=np.zeros((20, 2)))
    monkeypatch.setenv("HARNESS_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("HARNESS_CACHE_DIR", str(tmp_path / "cache"))
    path = tmp_path / "s.yaml"
    path.write_text(
        "name: s\ntrials: [{dataset: mine, backend: torch, solver: dopri5}]\n", encoding="utf-8"
    )
    assert states(plan(path, tmp_path)) == [("to_run", None)]


def test_json_has_the_published_shape(suite: Path, tmp_path: Path) -> None:
    made = plan(suite, tmp_path)
    found: Any = json.loads(json.dumps(plan_json(made)))
    assert found.keys() == {"suite", "trials"}
    for entry, planned in zip(found["trials"], made.trials, strict=True):
        assert list(entry) == [
            *("id", "dataset", "backend", "solver", "regularizer", "seed", "state", "reason"),
            "spec",
        ]
        assert decode(Trial, entry["spec"]) == planned.trial
        assert entry["id"] == planned.trial.id
    assert found["trials"][3]["reason"] == "too slow"


def test_text_shows_every_trial_and_the_axes_that_tell_them_apart(
    suite: Path, tmp_path: Path
) -> None:
    suite.write_text(
        SUITE.replace("seed: [0, 1]", "seed: [0, 1], precision: [float32, float64]")
        + "budget: {cpu_hours: 2, gpu_hours: 1}\n",
        encoding="utf-8",
    )
    made = plan(suite, tmp_path)
    header, *lines = plan_text(made).splitlines()
    assert header.split() == [
        *("id", "state", "dataset", "backend", "solver", "regularizer", "precision", "seed"),
        "reason",
    ]
    assert [line.split()[0] for line in lines[:8]] == [p.trial.id for p in made.trials]
    assert lines[8:] == [
        "suite toy: 8 trials: 6 to run, 2 skipped",
        "CPU hours: at most 6.0 by the timeouts, budget 2 (the timeouts do not keep the budget)",
        "GPU hours: at most 0.0 by the timeouts, budget 1",
    ]


def test_text_has_what_the_metrics_of_samples_cost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez(tmp_path / "mine.npz", data=np.sin(np.arange(40.0)).reshape(20, 2))
    monkeypatch.setenv("HARNESS_DATA_DIR", str(tmp_path))
    path = tmp_path / "s.yaml"
    path.write_text(
        "name: s\nresources: {timeout_minutes: 600}\n"
        "defaults: {backend: torch, solver: dopri5}\ntrials:\n"
        "  - {dataset: moons}\n"
        "  - {dataset: mine, evaluation: {sample_metrics: {}}}\n"
        "  - {dataset: standin-8d, seed: [0, 1], evaluation: {sample_metrics: {rows: 4000}}}\n"
        "  - {dataset: moons, evaluation: {sample_metrics: {rows: 10, samplings: 1}}}\n",
        encoding="utf-8",
    )
    *_, totals, metrics = plan_text(plan(path, tmp_path / "runs")).splitlines()
    assert totals == "suite s: 5 trials: 5 to run"
    eight, two = (
        protocol_cost(SampleMetrics(4000), 8, 4000),
        protocol_cost(SampleMetrics(10, 1), 2),
    )
    assert 2 < eight.seconds / 60 < 100
    assert two.seconds < 1
    assert metrics == (
        f"sample metrics of 4 trials: about 1 s to {eight.seconds / 60:.0f} min of one core each, "
        f"{(two.seconds + 2 * eight.seconds) / 60:.0f} min in all, up to {eight.bytes / 1e9:.2g} "
        "GB of host memory, unknown for 1 trial of unread data"
    )


def test_a_plan_of_skipped_trials_cannot_run(suite: Path, tmp_path: Path) -> None:
    made = plan(suite, tmp_path)
    require_runnable(made)
    skipped = PlannedTrial(made.trials[3].trial, "skipped", "too slow", made.trials[3].resources)
    with pytest.raises(InputError, match="nothing can run, all 1 trials are skipped: too slow"):
        require_runnable(Plan("toy", "", (skipped,), source="toy.yaml"))


def test_planning_imports_no_framework_and_the_command_line_no_reader() -> None:
    code = (
        "import sys\n"
        "import harness, harness.cli\n"
        "heavy = {'torch', 'jax', 'ray', 'mlflow', 'pandas', 'altair', 'sklearn', 'scipy'}\n"
        "light = {'pydantic', 'ruamel', 'rich'} & set(sys.modules)\n"
        "assert not light, light\n"
        "import harness.planning.plan\n"
        "made = harness.planning.plan.plan('quickstart', 'no-such-folder')\n"
        "assert len(made.trials) == 32, len(made.trials)\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
