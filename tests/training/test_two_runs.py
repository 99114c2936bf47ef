"""Two runs of one trial at once train it once."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

import pytest
from fakes import environment, fake_trial, result_of, run_process, until, write_spec

from harness.process.claim import claimed
from harness.records.folder import TrialFolder


def test_the_second_waits_and_finds_the_result(tmp_path: Path) -> None:
    trial = fake_trial(iterations=20)
    spec, env = write_spec(tmp_path / "runs", trial), environment(tmp_path, sleep_s=0.05)
    both = [run_process(spec, env, "--root", str(tmp_path / "runs")) for _ in range(2)]
    for process in both:
        assert process.wait(120) == 0, process.communicate()[0].decode()
    assert result_of(tmp_path / "runs", trial)["attempts"] == 1
    assert len(TrialFolder(tmp_path / "runs", trial.id).attempts()) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="looks at open files")
def test_a_request_to_stop_reaches_who_waits(tmp_path: Path) -> None:
    trial = fake_trial(iterations=20)
    spec, env = write_spec(tmp_path / "runs", trial), environment(tmp_path)
    folder = TrialFolder(tmp_path / "runs", trial.id)
    with claimed(folder.path, lambda: pytest.fail("it is free")):
        process = run_process(spec, env, "--root", str(tmp_path / "runs"))
        until(lambda: _asks(process.pid, folder.path / ".claim"), process)
        process.terminate()
        assert process.wait(60) == 130
    assert folder.attempts() == []


def _asks(pid: int, path: Path) -> bool:
    """Whether a process has a file open."""
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            if descriptor.readlink() == path:
                return True
    return False
