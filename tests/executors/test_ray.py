from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import ray
from fakes import (
    environment,
    fake_trial,
    reached,
    result_of,
    run_plan,
    timeless,
    until,
    write_spec,
)

from harness.errors import HarnessError
from harness.executors.ray import open_cluster, require_room
from harness.planning.plan import PlannedTrial
from harness.records.folder import TrialFolder
from harness.specs.resources import Resources
from harness.trial import Trial

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, Any]]:
    """Records of undisturbed runs, by seed."""
    place = tmp_path_factory.mktemp("calm")
    trials = [_trial(seed) for seed in range(5)]
    for trial in trials:
        write_spec(place / "runs", trial)
    process = run_plan(place / "runs", environment(place / "site"), "--executor", "inline")
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output.decode()
    return {trial.seed: timeless(result_of(place / "runs", trial)) for trial in trials}


def _trial(seed: int) -> Trial:
    return fake_trial(seed=seed, iterations=100, validate_every=25)


def _worker(trial: Trial) -> int | None:
    """Process id of the Ray worker that runs a trial: Ray sets its title to the task's name."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            title = path.read_bytes()
        except OSError:
            continue
        if title.startswith(f"ray::trial-{trial.id}".encode()):
            return int(path.parent.name)
    return None


def _recorded(root: Path, trial: Trial) -> dict[str, Any]:
    """What of a record does not depend on who ran the trial."""
    found = result_of(root, trial)
    message = (found["message"] or "").replace(found["attempt_id"], "ATTEMPT")
    return {**timeless(found), "attempts": found["attempts"], "message": message}


def test_a_grid_with_every_way_to_fail_has_the_same_records_under_both_executors(
    tmp_path: Path, calm: dict[int, dict[str, Any]]
) -> None:
    expected = [("kill", 2, "ok", 3), ("memory", 1, "ok", 2), ("stop", 1, "ok", 2)]
    expected += [("memory", 9, "out_of_memory", 2), ("kill", 9, "killed", 4)]
    expected += [("raise", 9, "error", 1), ("exit", 9, "error", 1), ("diverge", 9, "diverged", 1)]
    expected += [("hang", 1, "timeout", 1)]
    trials = [_trial(seed) for seed in range(len(expected))]
    seeds = {str(k): {"fail": e[0], "times": e[1]} for k, e in enumerate(expected)}
    # Long before its time is over, which it would notice itself.
    seeds[str(len(expected) - 1)]["at"] = 2
    outputs = {}
    for executor in ("inline", "ray"):
        root, marks = tmp_path / executor, tmp_path / f"{executor}-marks"
        marks.mkdir()
        for trial in trials:
            write_spec(root, trial, minutes=0.1 if trial is trials[-1] else 5.0)
        env = environment(tmp_path / "site", marks=str(marks), at=40, seeds=seeds)
        env["HARNESS_CHECKPOINT_SECONDS"] = "0"
        cpus = ("--cpus", "2") if executor == "ray" else ()
        process = run_plan(root, env, "--executor", executor, *cpus, "--grace", "1")
        outputs[executor] = process.communicate(timeout=200)[0].decode()
        assert process.returncode == 1, outputs[executor]
    output = outputs["ray"]
    for trial, (fail, *_) in zip(trials, expected, strict=True):
        assert _recorded(root, trial) == _recorded(tmp_path / "inline", trial), fail
    for trial, (fail, _, status, attempts) in zip(trials, expected, strict=True):
        found = result_of(root, trial)
        assert (found["status"], found["attempts"]) == (status, attempts), fail
        if status == "ok":
            assert timeless(found) == calm[trial.seed]
            assert found["environment"]["cores"] == 1
    assert "(raylet)" not in output
    assert f"{trials[0].id}: its process or node died (SIGKILL); it is resumed" in output
    with closing(sqlite3.connect(root / "mlflow.db")) as base:
        statuses = base.execute("select status from runs").fetchall()
    assert sorted(statuses) == [("FAILED",)] * 6 + [("FINISHED",)] * 3


@pytest.mark.parametrize("how", ["ask", "notice", "kill"])
def test_the_same_command_again_goes_on(
    tmp_path: Path, calm: dict[int, dict[str, Any]], how: str
) -> None:
    root = tmp_path / "runs"
    trials = [_trial(seed) for seed in (0, 1)]
    for trial in trials:
        write_spec(root, trial)
    slow = environment(tmp_path / "site", sleep_s=0.1) | {"HARNESS_CHECKPOINT_SECONDS": "0.5"}
    process = run_plan(root, slow, "--cpus", "2")
    until(lambda: all(reached(root, trial) >= 20 for trial in trials), process)
    if how != "kill":
        # As a terminal does it: to the whole group; and as a batch system does.
        if how == "ask":
            os.killpg(process.pid, signal.SIGINT)
        else:
            process.send_signal(signal.SIGTERM)
        output = process.communicate(timeout=60)[0].decode()
        assert process.returncode == 130, output
        assert "stopping" in output
        assert not any(TrialFolder(root, trial.id).result.exists() for trial in trials)
    else:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    again = run_plan(root, environment(tmp_path / "site"), "--cpus", "2")
    output = again.communicate(timeout=120)[0].decode()
    assert again.returncode == 0, output
    for trial in trials:
        found = result_of(root, trial)
        assert timeless(found) == calm[trial.seed]
        assert found["attempts"] == 2
        assert found["environment"]["resumed"] == "bitwise"
        if how == "ask":
            assert found["timing"]["lost_s"] < 1.0


@pytest.mark.parametrize("address", [None, "somewhere:6379"])
def test_a_cluster_that_does_not_start_is_one_line(
    address: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def init(**options: object) -> None:
        raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(ray, "init", init)
    place = "a local Ray cluster" if address is None else f"the Ray cluster at {address}"
    with (
        pytest.raises(HarnessError, match=f"^{place} cannot be reached: .* timed out"),
        open_cluster(address, 1),
    ):
        pass


def test_a_trial_that_asks_for_too_much_is_refused_at_once() -> None:
    small = PlannedTrial(_trial(0), "to_run", None, Resources(2, 0.5))
    large = PlannedTrial(_trial(1), "to_run", None, Resources(2, 2.0))
    require_room({"CPU": 2.0, "GPU": 1.0}, [small])
    with pytest.raises(HarnessError, match="asks for 2 GPUs but this run has 1;"):
        require_room({"CPU": 2.0, "GPU": 1.0}, [small, large])
    with pytest.raises(HarnessError, match=r"asks for 0\.5 GPUs but this run has 0;"):
        require_room({"CPU": 2.0}, [small])


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Two nodes with a fake GPU each, and a head that runs nothing."""
    env = environment(tmp_path / "site", sleep_s=0.1) | {"HARNESS_CHECKPOINT_SECONDS": "0.5"}
    for name in ("PYTHONPATH", "FAKE_BEHAVIOUR", "HARNESS_CHECKPOINT_SECONDS"):
        monkeypatch.setenv(name, env[name])
    for name in ("RAY_USAGE_STATS_ENABLED", "RAY_enable_metrics_collection"):
        monkeypatch.setenv(name, "0")
    from ray.cluster_utils import Cluster

    made: Any = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
    )
    try:
        yield made
    finally:
        made.shutdown()


def test_a_worker_and_a_node_die_and_nothing_is_lost(
    tmp_path: Path,
    cluster: Any,  # noqa: ANN401
    calm: dict[int, dict[str, Any]],
) -> None:
    nodes = [cluster.add_node(num_cpus=1, num_gpus=1) for _ in range(2)]
    root = tmp_path / "runs"
    trials = [_trial(seed) for seed in range(4)]
    for trial in trials:
        write_spec(root, trial, gpus=1.0)
    env = environment(tmp_path / "site")
    process = run_plan(root, env, "--address", cluster.address)
    try:
        until(lambda: any(reached(root, trial) >= 20 for trial in trials), process)
        victim = next(trial for trial in trials if reached(root, trial) >= 20)
        pid = _worker(victim)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        until(lambda: len(TrialFolder(root, victim.id).attempts()) > 1, process)
        cluster.remove_node(nodes[0], allow_graceful=False)
        output = process.communicate(timeout=120)[0].decode()
    finally:
        process.kill()
    assert process.returncode == 0, output
    results = {trial.seed: result_of(root, trial) for trial in trials}
    assert {seed: timeless(found) for seed, found in results.items()} == {
        seed: calm[seed] for seed in range(4)
    }
    assert output.count("it is resumed") >= 2, output
    assert sum(found["attempts"] for found in results.values()) >= 6
    assert "(raylet)" not in output
