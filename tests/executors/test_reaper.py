"""What a cluster leaves behind is killed when its driver is gone."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.executors.reaper import MARK, reaped

SLEEP = [sys.executable, "-c", "import time; time.sleep(120)"]
DRIVER = f"""
import os, subprocess, sys, time
from harness.executors.reaper import MARK, reaped
with reaped():
    # Of a session of its own, as Ray's processes are.
    left = subprocess.Popen({SLEEP!r}, start_new_session=True, stdout=subprocess.DEVNULL)
    del os.environ[MARK]
    other = subprocess.Popen({SLEEP!r}, start_new_session=True, stdout=subprocess.DEVNULL)
    print(left.pid, other.pid, flush=True)
    time.sleep(120)
"""

pytestmark = pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs /proc")


def _ends(process: int, seconds: float = 30.0) -> bool:
    end = time.monotonic() + seconds
    while Path(f"/proc/{process}").exists():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def test_what_a_killed_driver_leaves_ends_and_nothing_else() -> None:
    driver = subprocess.Popen([sys.executable, "-c", DRIVER], stdout=subprocess.PIPE)
    assert driver.stdout is not None
    left, other = map(int, driver.stdout.readline().split())
    driver.kill()
    driver.wait()
    try:
        assert _ends(left)
        assert not _ends(other, 0.0)
    finally:
        os.kill(other, 9)


def test_a_driver_that_ends_has_no_reaper_and_no_mark() -> None:
    began = time.monotonic()
    with reaped():
        assert MARK in os.environ
    assert MARK not in os.environ
    assert time.monotonic() - began < 30
