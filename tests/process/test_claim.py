"""Of two processes one works at a trial."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import time
from pathlib import Path

import pytest

from harness.process.claim import claimed


class Stopped(Exception):
    pass


def _stop() -> None:
    raise Stopped


def _hold(folder: str, ready: str) -> None:
    with claimed(Path(folder), _stop):
        Path(ready).touch()
        time.sleep(60)


def test_whoever_comes_second_waits_and_can_be_stopped(tmp_path: Path) -> None:
    folder = tmp_path / "trial"
    with claimed(folder, _stop):
        with pytest.raises(Stopped), claimed(folder, _stop):
            pytest.fail("both have it")
        with claimed(tmp_path / "another", _stop):
            pass
    with claimed(folder, _stop):
        pass


def test_a_killed_process_lets_go(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    process = multiprocessing.get_context("spawn").Process(
        target=_hold, args=(str(tmp_path / "trial"), str(ready))
    )
    process.start()
    while not ready.exists():
        time.sleep(0.02)
    with pytest.raises(Stopped), claimed(tmp_path / "trial", _stop):
        pass
    process.kill()
    process.join()
    with claimed(tmp_path / "trial", _stop):
        pass


def test_without_locks_nobody_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refused)
    with claimed(tmp_path, _stop), claimed(tmp_path, _stop):
        pass
