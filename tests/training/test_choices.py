"""What the first attempt at a trial decides, every later one keeps."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_backend import FakeBackend
from fakes import fake_trial, result_of, run_fake, timeless

from harness.errors import RecordError
from harness.interface import DataInfo
from harness.records.folder import TrialFolder
from harness.records.status import Status
from harness.specs.resources import Resources
from harness.training.choices import settle
from harness.training.lines import Cadence
from harness.trial import Trial

TRIAL = replace(fake_trial(), gradient="auto")


pytestmark = pytest.mark.usefixtures("process_unchanged")


def _settled(root: Path, trial: Trial = TRIAL) -> tuple[Trial, dict[str, str]]:
    folder = TrialFolder(root, trial.id)
    folder.path.mkdir(parents=True, exist_ok=True)
    data = DataInfo("moons", (2,))
    found = settle(folder, trial, FakeBackend(), data, "cpu", Resources(), 1)
    return found.trial, dict(found.backend)


def _memory(monkeypatch: pytest.MonkeyPatch, at_hand: int) -> None:
    monkeypatch.setattr("harness.training.choices.memory_at_hand", lambda *_: at_hand)


def _behave(monkeypatch: pytest.MonkeyPatch, **behaviour: object) -> None:
    monkeypatch.setenv("FAKE_BEHAVIOUR", json.dumps(behaviour))


def test_auto_is_resolved_once_and_the_id_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _memory(monkeypatch, 10**12)
    _behave(monkeypatch, choices={"rounding": "up"})
    trial, choices = _settled(tmp_path)
    assert (trial.gradient, trial.id, choices) == ("direct", TRIAL.id, {"rounding": "up"})
    _memory(monkeypatch, 0)
    _behave(monkeypatch, choices={"rounding": "down"})
    assert _settled(tmp_path) == (trial, choices)
    assert _settled(tmp_path / "other")[0].gradient == "checkpoint"
    written = json.loads((TrialFolder(tmp_path, TRIAL.id).path / "choices.json").read_text())
    assert written.keys() == {
        *("schema_version", "gradient", "kept_bytes", "memory_bytes", "backend")
    }
    assert written["memory_bytes"] == 10**12


@pytest.mark.parametrize(
    ("at_hand", "unsupported", "expected"),
    [
        (10**12, ["direct"], "checkpoint"),
        (10**12, ["direct", "checkpoint"], "adjoint"),
        (0, ["checkpoint"], "adjoint"),
        (0, ["checkpoint", "adjoint"], "direct"),
    ],
)
def test_auto_passes_over_what_the_backend_does_not_support(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    at_hand: int,
    unsupported: list[str],
    expected: str,
) -> None:
    _memory(monkeypatch, at_hand)
    _behave(monkeypatch, unsupported=unsupported)
    assert _settled(tmp_path)[0].gradient == expected


def test_auto_avoids_direct_where_it_does_not_pay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _memory(monkeypatch, 10**12)
    monkeypatch.setattr(FakeBackend, "direct_pays", False)
    assert _settled(tmp_path)[0].gradient == "checkpoint"


def test_a_mode_that_is_named_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _memory(monkeypatch, 0)
    direct = replace(TRIAL, gradient="direct")
    assert _settled(tmp_path, direct)[0] == direct


def test_damaged_choices_are_an_error(tmp_path: Path) -> None:
    _settled(tmp_path)
    TrialFolder(tmp_path, TRIAL.id).choices.write_text("{")
    with pytest.raises(RecordError, match=r"choices\.json: cannot be read"):
        _settled(tmp_path)


def _run(root: Path, **options: Any) -> Status:  # noqa: ANN401
    return run_fake(root, TRIAL, cadence=Cadence(checkpoint_s=0.0), **options)


def test_a_resumed_trial_goes_on_with_the_choices_of_its_first_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _memory(monkeypatch, 10**12)
    up = {"rounding": "up"}
    _behave(monkeypatch, choices=up)
    assert _run(tmp_path / "calm") is Status.OK
    marks = str(tmp_path)
    _behave(monkeypatch, choices=up, fail="memory", at=22, marks=marks, times=1)
    assert _run(tmp_path / "cut", may_retry=True) is Status.OUT_OF_MEMORY
    _memory(monkeypatch, 0)
    _behave(monkeypatch, choices={})
    assert _run(tmp_path / "cut") is Status.OK
    calm, cut = (result_of(tmp_path / name, TRIAL) for name in ("calm", "cut"))
    assert timeless(cut) == timeless(calm)
    # The environment variable that steers the fake backend is no part of a fingerprint.
    assert cut["environment"]["resumed"] == "bitwise"
    assert cut["environment"]["gradient"] == "direct"
    assert cut["environment"]["choices"] == up


def test_a_rerun_decides_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _memory(monkeypatch, 10**12)
    assert _run(tmp_path) is Status.OK
    folder = TrialFolder(tmp_path, TRIAL.id)
    folder.set_aside(attempts=False)
    assert folder.choices.exists()
    folder.set_aside(attempts=True)
    assert not folder.choices.exists()
    _memory(monkeypatch, 0)
    assert _run(tmp_path) is Status.OK
    assert result_of(tmp_path, TRIAL)["environment"]["gradient"] == "checkpoint"
