"""What others took of a machine, from counters with known answers and from this process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.process import machine
from harness.process.machine import Meter, Usage, counting_stops

linux = pytest.mark.skipif(sys.platform != "linux", reason="counters of Linux")


def usage(**values: float | None) -> Usage:
    """Ten quiet seconds of one busy core, and changes."""
    quiet = {"cpu_s": 10.0, "waited_s": 0.0, "busy_s": 10.0, "stolen_s": 0.0, "load": 1.0}
    return Usage(wall_s=10.0, **{**quiet, **values})  # type: ignore[arg-type]


def test_a_quiet_span_is_not_disturbed() -> None:
    assert usage().disturbance(1) is None
    assert usage().others == 0.0


def test_a_process_that_waited_for_its_core_was_disturbed() -> None:
    found = usage(cpu_s=7.0, waited_s=3.0)
    assert found.lost(1) == pytest.approx(0.3)
    assert found.disturbance(1) == "it waited for its cores 30 % of the time"


def test_threads_that_wait_for_each_other_are_no_disturbance() -> None:
    assert usage(cpu_s=10.0, waited_s=25.0).disturbance(1) is None


def test_a_process_that_was_idle_lost_nothing() -> None:
    assert usage(cpu_s=4.0, waited_s=0.1, busy_s=4.0).disturbance(1) is None


def test_other_processes_disturb_from_other_cores() -> None:
    found = usage(busy_s=24.0)
    assert found.others == pytest.approx(1.4)
    assert found.disturbance(1) == "other processes used 1.4 cores"


def test_the_hypervisor_disturbs() -> None:
    assert usage(stolen_s=1.2).disturbance(1) == "the hypervisor took 0.12 cores"


def test_a_quota_that_stops_the_process_disturbs() -> None:
    found = usage(throttled=255, throttled_s=4.5)
    assert found.disturbance(1) == (
        "the CPU quota of its control group stopped it in 255 periods, for 4.5 s"
    )
    assert found.summary()["throttled"] == 255
    assert usage(throttled=2, throttled_s=0.1).disturbance(1) is None


@pytest.mark.parametrize(
    ("kinds", "said"),
    [
        ("", "nr_periods 317\nnr_throttled {}\nthrottled_usec {}000000\n"),
        ("cpu", "nr_periods 317\nnr_throttled {}\nthrottled_time {}000000000\n"),
        ("cpu,cpuacct", "nr_periods 317\nnr_throttled {}\nthrottled_time {}000000000\n"),
    ],
)
def test_the_quota_may_be_that_of_a_group_above(
    kinds: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Path.read_text
    (tmp_path / kinds / "batch" / "job").mkdir(parents=True)
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)

    def shown(self: Path, *rest: str, **named: str) -> str:
        asked = self == Path("/proc/self/cgroup")
        return f"7:{kinds}:/batch/job\n3:memory:/x\n" if asked else read(self, *rest, **named)

    monkeypatch.setattr(Path, "read_text", shown)
    (tmp_path / kinds / "batch" / "job" / "cpu.stat").write_text(said.format(0, 0))
    (tmp_path / kinds / "batch" / "cpu.stat").write_text(said.format(40, 3))
    meter = Meter()
    (tmp_path / kinds / "batch" / "cpu.stat").write_text(said.format(295, 20))
    found = meter.read()
    assert (found.throttled, found.throttled_s) == (255, 17.0)
    assert "stopped it in 255 periods" in str(found.disturbance(1))


def test_a_stop_is_seen() -> None:
    with counting_stops():
        meter = Meter()
        assert meter.read().stops == 0
        # What follows a stop; the stop itself would hang the tests.
        os.kill(os.getpid(), signal.SIGCONT)
        found = meter.read()
    assert found.stops == 1
    assert found.disturbance(1) == "it was stopped and went on, 1 x"


def test_what_the_system_does_not_say_is_no_disturbance() -> None:
    unknown = usage(waited_s=None, busy_s=None, stolen_s=None, load=None)
    assert unknown.disturbance(1) is None
    assert unknown.summary()["others"] is None


def test_processes_that_work_in_turn_are_one_span() -> None:
    driver = usage(cpu_s=0.5, busy_s=10.5)
    turns = [usage(cpu_s=4.0, waited_s=0.1), usage(cpu_s=6.0, waited_s=0.2)]
    both = driver.with_processes(turns)
    assert (both.cpu_s, both.wall_s, both.others) == (10.5, 10.0, 0.0)
    assert both.waited_s == pytest.approx(0.3)
    assert driver.with_processes([usage(waited_s=None)]).waited_s is None


@linux
def test_a_neighbour_on_the_same_core_is_seen() -> None:
    kept = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(kept)})
    neighbour = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        meter = Meter()
        end = time.perf_counter() + 1.0
        while time.perf_counter() < end:
            pass
        found = meter.read()
    finally:
        neighbour.kill()
        neighbour.wait()
        os.sched_setaffinity(0, kept)
    assert found.wall_s >= 1.0
    assert found.cpu_s < 0.9 * found.wall_s
    lost, others = found.lost(1), found.others
    assert lost is not None
    assert others is not None
    assert lost > 0.1
    assert others > 0.1
    assert found.disturbance(1) is not None
