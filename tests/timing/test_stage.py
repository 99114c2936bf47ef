"""The timing stage with two fake backends in processes of their own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fake_backend import FakeBackend, TwinBackend
from fakes import environment, fake_trial

from harness.executors.inline import _settings_restored
from harness.interface import Backend
from harness.planning.plan import Plan, PlannedTrial
from harness.planning.settings import Setting, settings_of
from harness.process.machine import Usage
from harness.process.watch import Interrupted
from harness.records.status import Status
from harness.records.timings import POINTS, TimingFolder, TimingRecord
from harness.specs.resources import Resources
from harness.suites.limits import Timing
from harness.timing.stage import run_timings
from harness.timing.states import hardware_of, timing_state
from harness.training.run_trial import RunOptions, run_trial
from harness.trial import Trial

BACKENDS: dict[str, Backend] = {"fake": FakeBackend(), "twin": TwinBackend()}
QUICK = Timing(rounds=6, budget_seconds=300.0)


@pytest.fixture(autouse=True)
def _own_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Trials of other tests do not keep these waiting, and these pin no later test."""
    place = tmp_path / "tmp"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    with _settings_restored():
        yield


@pytest.fixture
def behave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Registers the fake backends for processes that are started, and says how they behave."""

    def set_up(**behaviour: object) -> None:
        for name, value in environment(tmp_path / "site", **behaviour).items():
            monkeypatch.setenv(name, value)

    return set_up


def trained(root: Path, *trials: Trial) -> Plan:
    """Runs trials; their plan, in which the next state is finished."""
    for trial in trials:
        options = RunOptions(backend=BACKENDS[trial.backend])
        assert run_trial(trial, root, Resources(), options) is Status.OK
    planned = tuple(PlannedTrial(trial, "finished", None, Resources()) for trial in trials)
    return Plan("fakes", "", planned, timing=QUICK)


def pair(seed: int = 0, iterations: int = 10) -> tuple[Trial, Trial]:
    trial = fake_trial(seed=seed, iterations=iterations)
    return trial, replace(trial, backend="twin")


def record_of(root: Path, setting: Setting) -> TimingRecord | None:
    hardware = hardware_of(setting)
    assert hardware is not None
    return TimingFolder(root, setting.id, hardware).read()


def test_a_setting_is_what_differs_in_backend_and_seed_only() -> None:
    trials = (*pair(0), *pair(1), fake_trial(iterations=11))
    planned = tuple(PlannedTrial(trial, "to_run", None, Resources()) for trial in trials)
    (setting,) = settings_of(Plan("fakes", "", planned))
    assert setting.backends == ("fake", "twin")
    assert len(setting.members) == 4


def test_the_first_setting_of_every_dataset_comes_first() -> None:
    trials = (*pair(iterations=10), *pair(iterations=11))
    circles = [replace(trial, dataset=replace(trial.dataset, name="circles")) for trial in trials]
    planned = [PlannedTrial(trial, "to_run", None, Resources()) for trial in (*trials, *circles)]
    found = [setting.trial for setting in settings_of(Plan("fakes", "", tuple(planned)))]
    assert [(trial.dataset.name, trial.training.iterations) for trial in found] == [
        ("moons", 10),
        ("circles", 10),
        ("moons", 11),
        ("circles", 11),
    ]


def test_both_backends_are_timed_on_the_same_arrays(
    tmp_path: Path, behave: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    behave(sleep_s=0.01, twin={"sleep_s": 0.1})
    monkeypatch.setattr(Usage, "disturbance", lambda self, cores: None)
    root, trials = tmp_path / "runs", pair()
    plan = trained(root, *trials)
    (setting,) = settings_of(plan)
    assert timing_state(setting, root) == "to time"
    said: list[str] = []
    assert run_timings(plan, root, said.append)
    assert timing_state(setting, root) == "timed"
    record = record_of(root, setting)
    assert record is not None
    assert (record.ok, record.message, record.trained_by) == (True, None, trials[0].id)
    assert list(record.backends) == ["fake", "twin"]
    for point in POINTS:
        assert len(record.of(point)[0]) == 6
        found = record.ratio(point, "train_step", "twin", "fake")
        assert found is not None
        assert found.low is not None
        # Ten times the sleep, on a machine that may be busy.
        assert found.estimate > 2
    for backend in record.backends.values():
        assert backend.gradient == "adjoint"
        # A step counts 7 to 9, (0 + 1 + 2 + 0 + 1 + 2) / 6 more than 7 over six rounds.
        assert backend.nfe["trained"]["train_step"]["forward"] == pytest.approx(8.0)
        assert backend.nfe["trained"]["evaluation"] == {"forward": 8.0}
        assert backend.nfe["initial"]["sampling"] == {"forward": 9.0}
        for error in backend.error_nats.values():
            assert error is not None
            assert 0 < error < 1e-4
        assert backend.cold_s > 0
        assert backend.warm_s > 0
        assert backend.peak_host_bytes > 1e6
        assert backend.environment["cores"] == 1
        assert backend.environment["hardware_fingerprint"] == record.hardware
    assert said == [
        "timing 1/1 moons euler none (fake, twin): training step of twin "
        f"{record.ratio('trained', 'train_step', 'twin', 'fake').estimate:.2f}x "  # type: ignore[union-attr]
        "of fake's time (6 rounds)"
    ]

    before = TimingFolder(root, setting.id, record.hardware).record.read_bytes()
    assert run_timings(plan, root, said.append)
    assert len(said) == 1
    assert TimingFolder(root, setting.id, record.hardware).record.read_bytes() == before


def test_disturbed_rounds_are_repeated_and_marked(
    tmp_path: Path, behave: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    behave()
    numbers = iter(range(1000))

    def disturbance(usage: Usage, cores: int) -> str | None:
        return "other processes used 1.4 cores" if next(numbers) % 4 == 0 else None

    root = tmp_path / "runs"
    plan = trained(root, *pair())
    monkeypatch.setattr(Usage, "disturbance", disturbance)
    run_timings(plan, root, lambda line: None)
    record = record_of(root, settings_of(plan)[0])
    assert record is not None
    rounds, taken = record.of("trained")
    assert (len(rounds), taken) == (6, 8)
    assert not record.disturbed("trained")


def test_a_contender_that_fails_is_a_record_and_is_tried_again_on_request(
    tmp_path: Path, behave: Callable[..., None]
) -> None:
    root = tmp_path / "runs"
    behave()
    plan = trained(root, *pair())
    (setting,) = settings_of(plan)
    behave(twin={"fail": "diverge", "at": 2, "marks": str(tmp_path)})
    said: list[str] = []
    assert run_timings(plan, root, said.append)
    record = record_of(root, setting)
    assert record is not None
    assert record.status == "error"
    assert record.message == "twin: a training step did not finish: non-finite"
    assert timing_state(setting, root) == "failed"
    assert said == [f"timing 1/1 moons euler none (fake, twin): failed: {record.message}"]
    behave()
    assert run_timings(plan, root, said.append)
    assert timing_state(setting, root) == "failed"
    assert run_timings(plan, root, said.append, rest=True)
    assert timing_state(setting, root) == "timed"


def test_a_contender_that_is_killed_says_so(tmp_path: Path, behave: Callable[..., None]) -> None:
    root = tmp_path / "runs"
    behave()
    plan = trained(root, *pair())
    behave(twin={"fail": "kill", "at": 1, "marks": str(tmp_path)})
    run_timings(plan, root, lambda line: None)
    record = record_of(root, settings_of(plan)[0])
    assert record is not None
    assert record.message is not None
    assert record.message.startswith("twin: its process ended with exit code -9")


def test_without_a_reference_there_are_ratios_and_no_errors(
    tmp_path: Path, behave: Callable[..., None]
) -> None:
    root = tmp_path / "runs"
    behave()
    plan = trained(root, *pair())
    behave(no_float64=True)
    run_timings(plan, root, lambda line: None)
    record = record_of(root, settings_of(plan)[0])
    assert record is not None
    assert (record.status, record.reference) == ("ok", None)
    assert record.message is not None
    assert record.message.startswith("no reference: fake reference: MemoryError: no float64; ")
    assert record.backends["twin"].error_nats == dict.fromkeys(POINTS)
    assert record.ratio("initial", "sampling", "twin", "fake") is not None


def test_an_interrupted_setting_leaves_nothing(
    tmp_path: Path, behave: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    behave()
    root = tmp_path / "runs"
    plan = trained(root, *pair())

    def interrupt(*arguments: object) -> None:
        raise Interrupted

    monkeypatch.setattr("harness.timing.contest._turns", interrupt)
    assert not run_timings(plan, root, lambda line: None)
    assert record_of(root, settings_of(plan)[0]) is None
    assert not (root / "timings").exists()


def test_what_the_budget_does_not_reach_is_recorded_and_left_to_a_request(
    tmp_path: Path, behave: Callable[..., None]
) -> None:
    behave()
    root = tmp_path / "runs"
    plan = trained(root, *pair(), *pair(iterations=11))
    said: list[str] = []
    run_timings(replace(plan, timing=Timing(12, 0.3)), root, said.append)
    states = [timing_state(setting, root) for setting in settings_of(plan)]
    assert states == ["timed", "not timed"]
    assert said[-1] == (
        "timing: the budget of 0.3 s is spent, 1 setting not timed; --timing goes on with them"
    )
    # The same command again has nothing to do.
    assert run_timings(plan, root, lambda line: pytest.fail(line))
    record = record_of(root, settings_of(plan)[0])
    assert record is not None
    assert [record.of(point)[1] for point in POINTS] == [6, 6]
    assert run_timings(plan, root, said.append, rest=True)
    assert [timing_state(setting, root) for setting in settings_of(plan)] == ["timed", "timed"]


def test_one_backend_or_no_key_times_nothing(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    plan = trained(root, pair()[0])
    assert settings_of(plan) == ()
    assert run_timings(replace(plan, timing=None), root, lambda line: pytest.fail(line))
    assert json.dumps([path.name for path in root.iterdir()]).count("timings") == 0


def test_a_setting_waits_for_two_finished_trials_of_one_seed(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    a, b = pair(0)[0], pair(1)[1]
    plan = trained(root, a, b)
    (setting,) = settings_of(plan)
    assert setting.contenders(root) == ()
    assert timing_state(setting, root) == "waiting for trials"
    assert run_timings(plan, root, lambda line: pytest.fail(line))
