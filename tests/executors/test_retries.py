"""One policy of retries for all executors: when a trial is tried again, and what is said."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
from fakes import fake_trial, result_of

from harness.executors import retries as module
from harness.executors.ending import Cause, Ended
from harness.executors.observer import Stop
from harness.executors.retries import Again, Deadline, Failure, Retries
from harness.planning.plan import PlannedTrial
from harness.process.watch import Watch
from harness.records.folder import TrialFolder
from harness.records.result import Result
from harness.records.status import Status
from harness.specs.resources import Resources

PLANNED = PlannedTrial(fake_trial(), "to_run", None, Resources(timeout_minutes=2.5))


class _Events:
    """Remembers what it hears."""

    def __init__(self) -> None:
        self.heard: list[object] = []

    def submitted(self, planned: PlannedTrial, attempt: Path) -> None:
        raise AssertionError

    def ended(self, planned: PlannedTrial, status: Status) -> None:
        self.heard.append(status)

    def stopped(self, planned: PlannedTrial) -> None:
        self.heard.append("stopped")

    def note(self, text: str) -> None:
        self.heard.append(text)

    def refresh(self) -> None:
        raise AssertionError


def _decisions(cause: Cause, detail: str = "") -> list[Again | Failure]:
    """What is decided when the process of a trial ends the same way five times."""
    retries = Retries(Path(), _Events(), Stop())
    return [retries.decide(PLANNED, Ended(cause, detail)) for _ in range(5)]


@pytest.mark.parametrize(
    ("cause", "detail", "again", "failure"),
    [
        (Cause.DIED, "SIGKILL", 3, (Status.KILLED, "its process or node died again after")),
        (Cause.MEMORY, "", 1, (Status.OUT_OF_MEMORY, "its process was killed for want of memory")),
        (Cause.HUNG, "", 0, (Status.TIMEOUT, "killed: it hung beyond its 2.5 minutes")),
        (Cause.RAISED, "SystemExit: 3", 0, (Status.ERROR, "SystemExit: 3")),
    ],
)
def test_how_often_and_how_it_ends(
    cause: Cause, detail: str, again: int, failure: tuple[Status, str]
) -> None:
    decisions = _decisions(cause, detail)
    assert all(isinstance(decision, Again) for decision in decisions[:again])
    for decision in decisions[again:]:
        assert isinstance(decision, Failure)
        assert decision.status is failure[0]
        assert decision.message.startswith(failure[1])


def test_who_was_asked_to_stop_is_resumed_without_end() -> None:
    assert all(isinstance(decision, Again) for decision in _decisions(Cause.ASKED))


def test_memory_may_run_out_unrecorded_once_for_each_trial() -> None:
    retries = Retries(Path(), _Events(), Stop())
    assert retries.has_memory_retry(PLANNED.trial.id)
    retries.decide(PLANNED, Ended(Cause.DIED, ""))
    assert retries.has_memory_retry(PLANNED.trial.id)
    retries.decide(PLANNED, Ended(Cause.MEMORY, ""))
    assert not retries.has_memory_retry(PLANNED.trial.id)
    assert retries.has_memory_retry("another")


def test_a_result_counts_before_a_stop_and_a_stop_before_a_retry(tmp_path: Path) -> None:
    events, stop = _Events(), Stop()
    retries = Retries(tmp_path, events, stop)
    folder = TrialFolder(tmp_path, PLANNED.trial.id)
    folder.attempt("x").mkdir(parents=True)
    assert retries.settle(PLANNED, "x", Ended(Cause.DIED, "SIGKILL"))
    note = f"{PLANNED.trial.id}: its process or node died (SIGKILL); it is resumed"
    stop.request()
    assert not retries.settle(PLANNED, "x", Ended(Cause.DIED, "SIGKILL"))
    assert folder.read_result() is None
    Result(Status.DIVERGED).commit(folder, "x")
    assert not retries.settle(PLANNED, "x", Ended(Cause.DIED, "SIGKILL"))
    assert events.heard == [note, "stopped", Status.DIVERGED]


def test_a_record_that_is_damaged_meanwhile_ends_no_grid(tmp_path: Path) -> None:
    events = _Events()
    folder = TrialFolder(tmp_path, PLANNED.trial.id)
    folder.path.mkdir(parents=True)
    folder.result.write_text("{")
    ended = Ended(Cause.DIED, "SIGKILL")
    assert not Retries(tmp_path, events, Stop()).settle(PLANNED, "x", ended)
    assert str(folder.result) in str(events.heard[0])
    assert events.heard[1:] == [Status.ERROR]


def test_who_is_given_up_has_a_record(tmp_path: Path) -> None:
    events = _Events()
    folder = TrialFolder(tmp_path, PLANNED.trial.id)
    folder.attempt("x").mkdir(parents=True)
    (folder.attempt("x") / "environment.json").write_text('{"cores": 1}')
    retries = Retries(tmp_path, events, Stop())
    assert not retries.settle(PLANNED, "x", Ended(Cause.RAISED, "ValueError: no"))
    found = result_of(tmp_path, PLANNED.trial)
    assert (found["status"], found["message"]) == ("error", "ValueError: no")
    assert found["environment"] == {"cores": 1}
    assert found["timing"] == {"lost_s": 0.0, "mode": "shared"}
    assert events.heard == [Status.ERROR]


@pytest.mark.parametrize("cause", [Cause.DIED, Cause.RAISED])
def test_memory_is_named_where_only_the_log_or_the_kernel_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cause: Cause
) -> None:
    events, retries = _Events(), Retries(tmp_path, _Events(), Stop())
    attempt = TrialFolder(tmp_path, PLANNED.trial.id).attempt("x")
    attempt.mkdir(parents=True)
    said = "terminate called after throwing an instance of 'std::bad_alloc'\n"
    (attempt / "log.txt").write_text(said)
    for _ in range(2):
        retries.settle(PLANNED, "x", Ended(cause, "SIGABRT"))
    found = result_of(tmp_path, PLANNED.trial)
    assert found["status"] == "out_of_memory"
    assert "smaller batch" in found["message"]
    # A process that the kernel killed has said nothing.
    (attempt / "log.txt").unlink()
    kills = [0]
    monkeypatch.setattr(module, "oom_kills", lambda: kills[0])
    retries = Retries(tmp_path / "other", events, Stop())
    TrialFolder(tmp_path / "other", PLANNED.trial.id).attempt("x").mkdir(parents=True)
    kills[0] = 1
    assert retries.settle(PLANNED, "x", Ended(Cause.DIED, "SIGKILL"))
    assert retries.settle(PLANNED, "x", Ended(Cause.DIED, "SIGKILL"))
    assert [str(note).partition(": ")[2][:13] for note in events.heard] == [
        "out of memory",
        "its process o",
    ]


def test_a_message_of_the_driver_names_no_home(tmp_path: Path) -> None:
    retries = Retries(tmp_path, _Events(), Stop())
    TrialFolder(tmp_path, PLANNED.trial.id).attempt("x").mkdir(parents=True)
    said = f"OSError: {tmp_path.resolve()}/x and {Path.home()}/y"
    retries.settle(PLANNED, "x", Ended(Cause.RAISED, said))
    assert result_of(tmp_path, PLANNED.trial)["message"] == "OSError: <root>/x and ~/y"


def test_the_same_request_again_insists_and_another_does_not() -> None:
    with Stop() as stop:
        signal.raise_signal(signal.SIGUSR1)
        signal.raise_signal(signal.SIGTERM)
        assert stop.requested
        assert not stop.insisted
        signal.raise_signal(signal.SIGTERM)
        assert stop.insisted


def test_the_time_of_a_deadline_begins_with_the_first_progress(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    deadline = Deadline(PLANNED, tmp_path)
    clock[0] = 1e6
    assert not deadline.is_over()
    Watch(tmp_path, 1.0).report()
    assert not deadline.is_over()
    clock[0] += 150 + module.GRACE_S
    assert not deadline.is_over()
    clock[0] += 1.0
    assert deadline.is_over()
